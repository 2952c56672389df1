"""The tracking room: one MLflow run, from opening its store to its final status."""

import logging
import os
import shlex
import sqlite3
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.numpy_dataset import from_numpy
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from fmnist import PROJECT
from fmnist.config import Config, Tracking
from fmnist.data import Dataset
from fmnist.errors import TrackingError, one_line
from fmnist.provenance import command, environment, installed, uncommitted

if TYPE_CHECKING:
    import keras

LOCK_TIMEOUT = 60.0  # seconds; the first use of a new database takes about three
INPUT_EXAMPLES = 2
SWEEP_TAG = "sweep"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Store:
    """An open tracking store."""

    uri: str
    experiment_id: str

    def ui_commands(self, run: Run) -> list[str]:
        """Return what to type, and where to look, to see `run` in MLflow's UI."""
        page = f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        if self.uri.startswith("http"):
            return [without_password(self.uri).rstrip("/") + page]
        start = "mlflow ui"
        if self.uri != default_uri() or Path.cwd() != PROJECT:
            start += f" --backend-store-uri {shlex.quote(without_password(self.uri))}"
        return [start, f"http://127.0.0.1:5000{page}"]


def default_uri() -> str:
    """Return the URI of the store beside train.py."""
    return f"sqlite:///{PROJECT / 'mlflow.db'}"


def without_password(uri: str) -> str:
    """Return `uri` without user name and password."""
    scheme, separator, rest = uri.partition("://")
    server, slash, path = rest.partition("/")
    return f"{scheme}{separator}{server.rpartition('@')[2]}{slash}{path}"


def open_store(config: Tracking) -> Store:
    """Make sure that the store answers and has the experiment, before anything is trained.

    A new SQLite database is set up by one process while others wait: MLflow's own set-up fails
    when it is raced. A server gets a few seconds to answer instead of MLflow's four minutes.

    Raises:
        TrackingError: if the store cannot be reached, read or written.
    """
    uri = config.uri or os.environ.get("MLFLOW_TRACKING_URI") or default_uri()
    try:
        with _patience(), _only_one(uri):
            mlflow.set_tracking_uri(uri)
            experiment_id = _experiment_of_project() or _experiment(uri, config.experiment)
    except (MlflowException, SQLAlchemyError, sqlite3.Error, ArgumentError, OSError) as error:
        reason = one_line(error)[:300]
        raise TrackingError(f"tracking store {without_password(uri)}: {reason}") from error
    return Store(uri, experiment_id)


def _experiment_of_project() -> str | None:
    """Under `mlflow run`, the experiment of the run that it opened."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    return str(mlflow.get_run(run_id).info.experiment_id) if run_id else None


def _experiment(uri: str, name: str) -> str:
    """Find the experiment, or create it."""
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return client.create_experiment(name, artifact_location=_artifact_location(uri))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)
            assert experiment is not None
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        raise TrackingError(
            f"tracking.experiment={name}: was deleted; choose another name, or restore it: "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        )
    return str(experiment.experiment_id)


def sweep_runs(store: Store, sweep: str) -> list[Run]:
    """Return the runs of the sweep that wrote to the folder `sweep`, in the order they started."""
    return mlflow.MlflowClient().search_runs(
        [store.experiment_id],
        filter_string=f"tags.{SWEEP_TAG} = '{sweep}'",
        order_by=["attributes.start_time ASC"],
    )


def _artifact_location(uri: str) -> str | None:
    """Artifacts lie beside a SQLite file; a server decides for itself."""
    if uri.startswith("http"):
        return None
    database = make_url(uri).database if uri.startswith("sqlite") else None
    folder = Path(database).resolve().parent if database else PROJECT
    return (folder / "mlartifacts").as_uri()


@contextmanager
def _only_one(uri: str) -> Iterator[None]:
    """Let one process at a time in, by a lock that SQLite keeps and that dies with its holder."""
    database = make_url(uri).database if uri.startswith("sqlite") else None
    if not database:
        yield
        return
    if not Path(database).resolve().parent.is_dir():
        raise TrackingError(f"tracking store {uri}: no such folder")
    lock = sqlite3.connect(f"{database}.lock", timeout=LOCK_TIMEOUT, isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        lock.close()


@contextmanager
def _environment(**variables: str | None) -> Iterator[None]:
    """Set (or, for None, unset) environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    try:
        _assign(variables)
        yield
    finally:
        _assign(before)


def _assign(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _patience() -> Any:
    return _environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT="8")


@contextmanager
def tracked_run(store: Store, config: Config, dataset: Dataset) -> Iterator[Run]:
    """Open a run that knows all its inputs, and close it with the status that is true.

    Under `mlflow run` it is the run that `mlflow run` opened; in a sweep under `mlflow run`,
    each job is a child of that run. Ends as FINISHED, as KILLED on Ctrl-C and SIGTERM, or as
    FAILED with the error as a tag and its traceback as `error.txt`.
    """
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    sweep = hydra.sweep.dir if hydra and hydra.mode is RunMode.MULTIRUN else None
    opened = os.environ.get("MLFLOW_RUN_ID")
    # In a sweep the first job would take the opened run for itself, and its end forget it.
    with _environment(**({"MLFLOW_RUN_ID": None} if sweep else {})):
        run = mlflow.start_run(
            experiment_id=store.experiment_id,
            run_name=None if opened and not sweep else f"{config.model.name} seed {config.seed}",
            parent_run_id=opened if sweep else None,
            nested=bool(opened and sweep),
        )
        try:
            _log_inputs(config, dataset, sweep)
            yield run
        except KeyboardInterrupt:
            mlflow.end_run("KILLED")
            raise
        except BaseException as error:
            mlflow.set_tag("error", f"{type(error).__name__}: {one_line(error)}"[:500])
            mlflow.log_text(traceback.format_exc(), "error.txt")
            mlflow.end_run("FAILED")
            raise
        mlflow.end_run()


def _log_inputs(config: Config, dataset: Dataset, sweep: str | None) -> None:
    mlflow.log_params(config.params())
    patch = uncommitted()
    machine = environment()
    tags = {
        "command": command(),
        "data.fingerprint": dataset.fingerprint,
        "git.dirty": str(bool(patch)).lower(),
        "processor": machine["processor"],
        "output_dir": config.output_dir,
    }
    mlflow.set_tags(tags | ({SWEEP_TAG: sweep} if sweep else {}))
    mlflow.log_dict(machine, "environment/environment.json")
    mlflow.log_text(installed(), "environment/requirements.txt")
    if patch:
        mlflow.log_text(patch, "code/uncommitted.diff")
    hydra_folder = Path(config.output_dir, ".hydra")
    if hydra_folder.is_dir():
        mlflow.log_artifacts(str(hydra_folder), "config")
    _log_dataset(dataset)


def _log_dataset(dataset: Dataset) -> None:
    source = CodeDatasetSource(tags={"source": dataset.source})
    for name, part in dataset.parts.items():
        mlflow.log_input(
            from_numpy(
                part.images,
                targets=part.labels,
                source=source,
                name=f"{dataset.name}-{name}",
                digest=dataset.fingerprint,
            ),
            context=name,
        )


class KerasFlavor:
    """MLflow's Keras flavor; it forgets to make the folder for an input example (issue 16183)."""

    @staticmethod
    def save_model(path: str, **arguments: Any) -> None:
        """Save as `mlflow.keras.save_model` does."""
        del arguments["validate_serving_input"]  # meant for `Model.log` alone
        Path(path).mkdir()
        mlflow.keras.save_model(path=path, **arguments)


def log_model(model: "keras.Model", dataset: Dataset) -> None:
    """Log `model`, which takes raw uint8 images; MLflow links the scores logged before to it.

    The requirements are stated, not inferred: inferring starts a second TensorFlow and names the
    wrong packages.
    """
    import keras  # here, so that reading a store does not wait for TensorFlow
    import tensorflow as tf

    inputs = TensorSpec(np.dtype(np.uint8), (-1, *dataset.image_shape))
    outputs = TensorSpec(np.dtype(np.float32), (-1, len(dataset.class_names)))
    Model.log(
        artifact_path=None,
        name="model",
        flavor=KerasFlavor,
        model=model,
        signature=ModelSignature(Schema([inputs]), Schema([outputs])),
        validate_serving_input=False,  # our tests do; here it would load the model once more
        input_example=dataset.validation.images[:INPUT_EXAMPLES],
        pip_requirements=[
            f"tensorflow=={tf.__version__}",
            f"keras=={keras.__version__}",
            f"numpy=={np.__version__}",
        ],
        metadata={"class_names": list(dataset.class_names)},
    )
