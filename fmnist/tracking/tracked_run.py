"""A run in MLflow: opened, kept alive, and closed with its true status."""

import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from fmnist.common.errors import ConfigError, one_line
from fmnist.tracking import run_inputs, tag
from fmnist.tracking.delivery_queue import DeliveryQueue, UndeliveredError
from fmnist.tracking.heartbeat import process_tags, run_lock, send_heartbeat
from fmnist.tracking.retry import STORE_ERRORS
from fmnist.tracking.run_inputs import RunInputs
from fmnist.tracking.run_names import replace_generated_name
from fmnist.tracking.store import Run, create_run
from fmnist.tracking.store_uri import environment_variables, unusable

HTTP_SETTINGS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
SHUTDOWN_TIMEOUT = 5.0  # seconds that a stopped run takes to report its end

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackedRun:
    """An open run, and the way to its store."""

    run: Run
    queue: DeliveryQueue
    inputs: RunInputs

    @property
    def run_id(self) -> str:
        return str(self.run.info.run_id)

    @property
    def resume_command(self) -> str:
        variable = self.inputs.store.variable
        if original := self.inputs.original:
            return f"again: {variable}python -m fmnist reproduce {original.info.run_id}"
        return f"resume it: {variable}python train.py resume={self.run_id}"


@contextmanager
def tracked_run(inputs: RunInputs) -> Iterator[TrackedRun]:
    """Open a run that knows all its inputs, and close it with its true status.

    Under `mlflow run` it is the run that `mlflow run` opened; in a sweep each job is a child of
    the study's run. It ends as FINISHED, as KILLED on Ctrl-C and SIGTERM, or as FAILED with the
    error as a tag and its traceback as `error.txt`. If the store does not answer any more, it
    stays RUNNING there.
    """
    study, config, earlier = inputs.context.study_run_id, inputs.config, inputs.earlier
    # In a sweep the first job would take the run of `mlflow run` for itself, its end forget it.
    not_joined = {"MLFLOW_RUN_ID": None} if study else {}
    with (
        environment_variables(**HTTP_SETTINGS, **not_joined),
        run_lock(config.output_dir),
        closing(DeliveryQueue(config.tracking.timeout)) as queue,
    ):
        tracked = TrackedRun(_open(inputs, queue), queue, inputs)
        run_id = tracked.run_id
        queue.heartbeat = partial(send_heartbeat, [run_id, *([study] if study else [])])
        with _closing(tracked):
            if earlier is None or not earlier.data.params:
                queue.call(partial(run_inputs.log_params, inputs, tracked.run))
            if earlier is None or not (earlier.inputs and earlier.inputs.dataset_inputs):
                queue.call(partial(run_inputs.log_inputs, inputs, run_id))
            yield tracked


def _open(inputs: RunInputs, queue: DeliveryQueue) -> Run:
    """Open the run; a job of a sweep waits for its store, which was there when the sweep began."""
    tags = process_tags(inputs.config.output_dir)
    if inputs.earlier:
        open_run = partial(_reopen, inputs.earlier, tags)
    else:
        open_run = partial(_start, inputs, tags | run_inputs.origin_tags(inputs))
    try:
        return queue.call(open_run) if inputs.context.study_run_id else open_run()
    except (*STORE_ERRORS, UndeliveredError) as error:
        raise unusable(inputs.store.uri, one_line(error)[:300]) from error


def _reopen(earlier: Run, tags: dict[str, str]) -> Run:
    run_id = earlier.info.run_id
    if mlflow.get_run(run_id).info.status == "FINISHED":
        raise ConfigError(f"run {run_id}: another process has finished it meanwhile")
    times = int(earlier.data.tags.get(tag.RESUMED, 0)) + 1
    run = mlflow.start_run(run_id=run_id, tags=tags | {tag.RESUMED: times})
    if tag.ERROR in earlier.data.tags:
        mlflow.delete_tag(tag.ERROR)
    return run


def _start(inputs: RunInputs, tags: dict[str, str]) -> Run:
    study, config = inputs.context.study_run_id, inputs.config
    name = f"{config.model.name} seed {config.seed}"
    if inputs.original:
        name = f"reproduces {inputs.original.info.run_name}"
    opened_by_mlflow = None if study else os.environ.get("MLFLOW_RUN_ID")
    if study:
        tags[tag.PARENT] = study
    run_id = opened_by_mlflow or create_run(inputs.store.experiment_id, name, tags)
    try:
        replace_generated_name(run_id, name)
        return mlflow.start_run(run_id=run_id, tags=tags)
    except Exception:  # the run shall not seem to run
        MlflowClient().set_terminated(run_id, "FAILED")
        if not opened_by_mlflow:
            MlflowClient().delete_run(run_id)
        raise


@contextmanager
def _closing(tracked: TrackedRun) -> Iterator[None]:
    set_status = partial(MlflowClient().set_terminated, tracked.run_id)
    status = "RUNNING"  # that the store has
    try:
        with _naming_store(tracked):
            yield
            tracked.queue.call(partial(set_status, "FINISHED"))
        status = "FINISHED"
    except UndeliveredError:
        raise
    except KeyboardInterrupt as stop:
        if not tracked.inputs.context.study_run_id:  # else the whole sweep is resumed
            stop.add_note(tracked.resume_command)
        status = _report_end(tracked, "KILLED")
        raise
    except BaseException as error:
        if isinstance(error, OSError):
            error.add_note(f"when that is fixed, {tracked.resume_command}")
        status = _report_end(tracked, "FAILED", error)
        raise
    finally:
        with suppress(*STORE_ERRORS):  # the store knows already; MLflow has to forget the run
            mlflow.end_run(status)


@contextmanager
def _naming_store(tracked: TrackedRun) -> Iterator[None]:
    """Say in errors of the store which store it is, and what to do."""
    uri = tracked.inputs.store.uri
    try:
        yield
    except UndeliveredError as error:
        folder = tracked.inputs.config.output_dir
        reason = f"does not answer ({error}); all is kept in {folder}; {tracked.resume_command}"
        raise UndeliveredError(str(unusable(uri, reason))) from error
    except (MlflowException, SQLAlchemyError) as error:
        raise unusable(uri, one_line(error)[:300]) from error


def _report_end(tracked: TrackedRun, status: str, error: BaseException | None = None) -> str:
    """Report how a run ended; return the status that the store has now."""
    client = MlflowClient()
    try:
        _send_rest(tracked.queue, error)
        if error:
            summary = f"{type(error).__name__}: {one_line(error)}"[:500]
            client.set_tag(tracked.run_id, tag.ERROR, summary)
            full = "".join(traceback.format_exception(error))
            client.log_text(tracked.run_id, full, "error.txt")
        client.set_terminated(tracked.run_id, status)
    except (UndeliveredError, *STORE_ERRORS) as reason:
        text = one_line(reason)
        log.warning("the tracking store does not know that the run is %s: %s", status, text)
        return "RUNNING"
    return status


def _send_rest(queue: DeliveryQueue, error: BaseException | None) -> None:
    """Send what is left in the queue; tell of its failure if that is not what ended the run."""
    try:
        queue.flush(SHUTDOWN_TIMEOUT)
    except UndeliveredError:
        raise
    except Exception as failure:
        if error is None or failure not in (error, error.__cause__):
            bug = None if isinstance(failure, STORE_ERRORS) else failure
            log.error("what the run logged was not stored: %s", one_line(failure), exc_info=bug)
