"""What MLflow records of one run, from its inputs to its final status."""

import dataclasses
import logging
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.numpy_dataset import from_numpy
from mlflow.entities import Run

from fmnist.common.errors import ConfigError, one_line
from fmnist.config import recorded
from fmnist.config.schema import Config
from fmnist.data.datasets import Dataset
from fmnist.evidence.predictions import VALIDATION, Predictions
from fmnist.tracking import delivery_queue
from fmnist.tracking.delivery_queue import TRANSIENT_ERRORS, DeliveryQueue, UndeliveredError
from fmnist.tracking.heartbeat import process_tags, run_lock, send_heartbeat
from fmnist.tracking.job_context import JobContext
from fmnist.tracking.provenance import (
    CHANGES,
    ENVIRONMENT,
    REQUIREMENTS,
    code_digest,
    command,
    environment,
    installed,
    short_digest,
    signature,
    uncommitted,
)
from fmnist.tracking.store import Store
from fmnist.tracking.store_uri import environment_variables, unusable
from fmnist.tracking.tags import (
    COMMAND_TAG,
    DIGEST_TAG,
    REPRODUCES_TAG,
    RESUMED_TAG,
    SIGNATURE_TAG,
    TRIAL_TAG,
)
from fmnist.training import devices

DIGESTS = "digests.json"
"""Where a run keeps the SHA-256 of its weights and metrics, among its artifacts."""

QUICK_ANSWERS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
SHUTDOWN_TIMEOUT = 5.0  # seconds for a run that is stopped to say so

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tracked:
    """An open run, and the way to its store."""

    run: Run
    queue: DeliveryQueue

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return str(self.run.info.run_id)


@contextmanager
def tracked_run(
    store: Store,
    config: Config,
    dataset: Dataset,
    context: JobContext,
    earlier: Run | None = None,
    original: Run | None = None,
) -> Iterator[Tracked]:
    """Open a run that knows all its inputs, and close it with the status that is true.

    Under `mlflow run` it is the run that `mlflow run` opened; in a sweep each job is a child of
    the study's run. Ends as FINISHED, as KILLED on Ctrl-C and SIGTERM, or as
    FAILED with the error as a tag and its traceback as `error.txt`. If the store does not answer
    any more, it is left RUNNING there.

    Args:
        store: where it is tracked.
        config: of the run.
        dataset: which it trains on.
        context: of the job.
        earlier: the run itself, if it was begun and stopped before.
        original: the run that it shall reproduce.
    """
    study = context.study_run_id
    # In a sweep the first job would take the run of `mlflow run` for itself, its end forget it.
    own = {"MLFLOW_RUN_ID": None} if study else {}
    with (
        environment_variables(**QUICK_ANSWERS, **own),
        run_lock(config.output_dir),
        delivery_queue.opened(config.tracking.timeout) as queue,
    ):
        tags = process_tags(config.output_dir)
        if earlier:
            begin = partial(_reopen, earlier, tags)
        else:
            tags |= _origin(config, dataset, context)
            begin = partial(_start, store, config, tags, study, original)
        with _answering(store):
            run = queue.call_with_retry(begin) if study else begin()
        queue.heartbeat = partial(send_heartbeat, [run.info.run_id, *([study] if study else [])])
        tracked = Tracked(run, queue)
        with _ended(
            tracked, store, config.output_dir, resume_command(store, run, original), bool(study)
        ):
            if earlier is None or not earlier.data.params:
                queue.call_with_retry(partial(_log_params, config, context, run, original))
            if earlier is None or not (earlier.inputs and earlier.inputs.dataset_inputs):
                queue.call_with_retry(partial(_log_inputs, config, dataset))
            yield tracked


def resume_command(store: Store, run: Run, original: Run | None) -> str:
    """Say what to type when a run was stopped."""
    if original:
        return f"again: {store.variable}python -m fmnist reproduce {original.info.run_id}"
    return f"it goes on by: {store.variable}python train.py resume={run.info.run_id}"


@contextmanager
def _ended(
    tracked: Tracked, store: Store, folder: str, resume_command: str, in_sweep: bool
) -> Iterator[None]:
    """Close a run with the status that is true."""
    tell = partial(MlflowClient().set_terminated, tracked.run_id)
    status = "RUNNING"  # what MLflow takes it for where the store was not told
    try:
        yield
        tracked.queue.call_with_retry(partial(tell, "FINISHED"))
        status = "FINISHED"
    except UndeliveredError as reason:
        said = f"does not answer ({reason}); all is kept in {folder}; {resume_command}"
        raise UndeliveredError(str(unusable(store.uri, said))) from reason
    except KeyboardInterrupt as stop:
        if not in_sweep:  # else the whole of it goes on
            stop.add_note(resume_command)
        status = _ended_as("KILLED", tracked.queue, tell)
        raise
    except BaseException as error:
        if isinstance(error, OSError):
            error.add_note(f"when that is mended, {resume_command}")
        status = _ended_as("FAILED", tracked.queue, tell, error)
        raise
    finally:
        with suppress(*TRANSIENT_ERRORS):  # the store knows already; MLflow has to forget the run
            mlflow.end_run(status)


@contextmanager
def _answering(store: Store) -> Iterator[None]:
    """Make an error of the user's of a store that stops answering before it knows the run."""
    try:
        yield
    except TRANSIENT_ERRORS as error:
        raise unusable(store.uri, one_line(error)[:300]) from error


def _reopen(earlier: Run, tags: dict[str, str]) -> Run:
    """Open a run again that was stopped."""
    if mlflow.get_run(earlier.info.run_id).info.status == "FINISHED":
        raise ConfigError(f"run {earlier.info.run_id}: another process has finished it meanwhile")
    times = int(earlier.data.tags.get(RESUMED_TAG, 0)) + 1
    run = mlflow.start_run(run_id=earlier.info.run_id, tags=tags | {RESUMED_TAG: times})
    if "error" in earlier.data.tags:
        mlflow.delete_tag("error")
    return run


def _start(
    store: Store, config: Config, tags: dict[str, str], study: str | None, original: Run | None
) -> Run:
    name = f"{config.model.name} seed {config.seed}"
    if original:
        tags[REPRODUCES_TAG] = original.info.run_id
        tags[COMMAND_TAG] = f"python -m fmnist reproduce {original.info.run_id}"
        name = f"reproduces {original.info.run_name}"
    opened = None if study else os.environ.get("MLFLOW_RUN_ID")
    return mlflow.start_run(
        experiment_id=store.experiment_id,
        run_name=None if opened else name,
        parent_run_id=study,
        nested=bool(study),
        tags=tags,
    )


def _origin(config: Config, dataset: Dataset, context: JobContext) -> dict[str, str]:
    """Return the tags that say what is run, by which code, on which data."""
    patch = uncommitted()
    tags = {
        SIGNATURE_TAG: signature(config, dataset.fingerprint),
        COMMAND_TAG: command(config, context),
        "code.digest": code_digest(),
        "data.fingerprint": dataset.fingerprint,
        "git.dirty": str(bool(patch)).lower(),
        "processor": devices.processor(),
    }
    if patch:
        tags["git.patch"] = short_digest(patch)
    if context.trial is not None:
        tags[TRIAL_TAG] = str(context.trial)
    return tags


def _ended_as(
    status: str,
    opened: DeliveryQueue,
    tell: Callable[[str], object],
    error: BaseException | None = None,
) -> str:
    """Tell the store how a run ended; return what it takes it for if it does not answer."""
    try:
        if not opened.broken:
            opened.flush(SHUTDOWN_TIMEOUT)
        if error:
            mlflow.set_tag("error", f"{type(error).__name__}: {one_line(error)}"[:500])
            mlflow.log_text("".join(traceback.format_exception(error)), "error.txt")
        tell(status)
    except (*TRANSIENT_ERRORS, UndeliveredError) as reason:
        log.warning("the tracking store was not told that the run is %s: %s", status, reason)
        return "RUNNING"
    return status


def _log_params(config: Config, context: JobContext, run: Run, original: Run | None) -> None:
    params = (_choices(original) if original else dict(context.choices)) | config.params()
    for key, given in run.data.params.items():  # none, unless `mlflow run` opened the run
        if str(params.get(key, given)) != given:
            raise ConfigError(f"{key}={params[key]}: `mlflow run` has {given}; use -P {key}=")
    mlflow.log_params(params)


def _choices(run: Run) -> dict[str, str]:
    """Return what a run chose from each group of conf/."""
    groups = {field.name for field in dataclasses.fields(Config)}
    return {key: value for key, value in run.data.params.items() if key in groups}


def _log_inputs(config: Config, dataset: Dataset) -> None:
    """Log all that it takes to repeat the run; the data sets last, which tell that it is done."""
    mlflow.log_text(recorded.record(config), recorded.CONFIGURATION)
    mlflow.log_dict(environment(), ENVIRONMENT)
    mlflow.log_text(installed(), REQUIREMENTS)
    if patch := uncommitted():
        _log_file(CHANGES, lambda path: path.write_bytes(patch))
    hydra_folder = Path(config.output_dir, ".hydra")
    if hydra_folder.is_dir():
        mlflow.log_artifacts(str(hydra_folder), "config")
    _log_dataset(dataset)


def _log_dataset(dataset: Dataset) -> None:
    source = CodeDatasetSource(tags={"source": dataset.source})
    parts: list[Any] = [
        from_numpy(
            part.images,
            targets=part.labels,
            source=source,
            name=f"{dataset.name}-{name}",
            digest=dataset.fingerprint,
        )
        for name, part in dataset.parts.items()
    ]
    mlflow.log_inputs(parts, contexts=list(dataset.parts), tags_list=[None] * len(parts))


def log_predictions(predictions: Predictions) -> None:
    """Log what the model said of the validation images."""
    _log_file(VALIDATION, predictions.save)


def _log_file(name: str, write: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, Path(name).name)
        write(path)
        mlflow.log_artifact(str(path), str(Path(name).parent))


def log_digests(digests: Mapping[str, Any]) -> None:
    """Log the SHA-256 of weights and metrics; that of the weights as tags, too."""
    mlflow.log_dict(dict(digests), DIGESTS)
    weights = ("last", "best")
    mlflow.set_tags({f"{DIGEST_TAG}.{key}": digests[key] for key in weights if key in digests})


def log_missing_metrics(run_id: str, metrics: Mapping[str, float]) -> None:
    """Log metrics of a whole run, but none a second time."""
    there = mlflow.get_run(run_id).data.metrics
    mlflow.log_metrics({key: value for key, value in metrics.items() if key not in there})
