"""What MLflow records of one run, from its inputs to its final status."""

import hashlib
import os
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.numpy_dataset import from_numpy
from mlflow.entities import Run

from fmnist.config import Config
from fmnist.data import Dataset
from fmnist.errors import ConfigError, one_line
from fmnist.predictions import VALIDATION, Predictions
from fmnist.provenance import choices, command, environment, installed, uncommitted
from fmnist.store import Store, environment_variables, study_of


@contextmanager
def tracked_run(store: Store, config: Config, dataset: Dataset) -> Iterator[Run]:
    """Open a run that knows all its inputs, and close it with the status that is true.

    Under `mlflow run` it is the run that `mlflow run` opened; in a sweep each job is a child of
    the study's run. Ends as FINISHED, as KILLED on Ctrl-C and SIGTERM, or as
    FAILED with the error as a tag and its traceback as `error.txt`.
    """
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    sweep = hydra.sweep.dir if hydra and hydra.mode is RunMode.MULTIRUN else None
    study = study_of(store, sweep) if sweep else None
    opened = None if sweep else os.environ.get("MLFLOW_RUN_ID")
    # In a sweep the first job would take the opened run for itself, and its end forget it.
    with environment_variables(**({"MLFLOW_RUN_ID": None} if sweep else {})):
        run = mlflow.start_run(
            experiment_id=store.experiment_id,
            run_name=None if opened else f"{config.model.name} seed {config.seed}",
            parent_run_id=study,
            nested=bool(study),
        )
        try:
            _log_params(config, run)
            _log_inputs(config, dataset)
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


def _log_params(config: Config, run: Run) -> None:
    params = config.params() | choices()
    for key, recorded in run.data.params.items():  # none, unless `mlflow run` opened the run
        if str(params.get(key, recorded)) != recorded:
            raise ConfigError(f"{key}={params[key]}: `mlflow run` has {recorded}; use -P {key}=")
    mlflow.log_params(params)


def _log_inputs(config: Config, dataset: Dataset) -> None:
    patch = uncommitted()
    machine = environment()
    tags = {
        "command": command(),
        "data.fingerprint": dataset.fingerprint,
        "git.dirty": str(bool(patch)).lower(),
        "processor": machine["processor"],
        "output_dir": config.output_dir,
    }
    if patch:
        tags["git.patch"] = hashlib.sha256(patch.encode()).hexdigest()[:16]
    mlflow.set_tags(tags)
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


def log_predictions(predictions: Predictions) -> None:
    """Log what the model said of the validation images."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, Path(VALIDATION).name)
        predictions.save(path)
        mlflow.log_artifact(str(path), str(Path(VALIDATION).parent))
