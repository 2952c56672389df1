"""The model among a run's artifacts: how it is saved, and the digest that tells it was altered."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import numpy as np
from mlflow import pyfunc
from mlflow.entities import LoggedModel, Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.store.artifact.models_artifact_repo import REGISTERED_MODEL_META_FILE_NAME
from mlflow.types import ColSpec, Schema, TensorSpec

from fmnist.common.errors import ModelError, one_line
from fmnist.data.datasets import Dataset
from fmnist.tracking import tag
from fmnist.tracking.store import if_there
from fmnist.training import devices

LOADER = "served_model"  # the module of fmnist/training that is saved with each model
SHOWN = 12  # digits of a digest
REQUIRED = ("tensorflow", "keras", "numpy")


class NamedKerasFlavor:
    """MLflow's Keras flavor, but with the classes' names in the answers of `mlflow.pyfunc`."""

    @staticmethod
    def save_model(path: str, mlflow_model: Model, **arguments: Any) -> None:
        """Save as `mlflow.keras.save_model` does, then say what `mlflow.pyfunc` is to load."""
        del arguments["validate_serving_input"]  # meant for `Model.log` alone
        code = Path(path, "code")
        code.mkdir(parents=True)  # MLflow forgets the folder for an input example (issue 16183)
        shutil.copy(Path(__file__).parents[1] / "training" / f"{LOADER}.py", code)
        mlflow.keras.save_model(path=path, mlflow_model=mlflow_model, **arguments)
        pyfunc_flavor = mlflow_model.flavors[pyfunc.FLAVOR_NAME]
        pyfunc_flavor |= {pyfunc.MAIN: LOADER, pyfunc.CODE: code.name}
        mlflow_model.save(str(Path(path, MLMODEL_FILE_NAME)))


def log_model(model: Any, dataset: Dataset) -> None:
    """Log a `keras.Model` of raw uint8 images, its digest and its summary, to the active run.

    It replaces what the run logged before it was stopped. MLflow links the scores that were logged
    before to the model.
    """
    run = mlflow.active_run()
    assert run is not None
    _delete_logged_models(run)
    inputs = TensorSpec(np.dtype(np.uint8), (-1, *dataset.image_shape))
    outputs = Schema([ColSpec("float", name) for name in dataset.class_names])
    versions = devices.numerics()
    logged = Model.log(
        artifact_path=None,
        name="model",
        flavor=NamedKerasFlavor,
        model=model,
        signature=ModelSignature(Schema([inputs]), outputs),
        validate_serving_input=False,  # our tests do; here it would load the model once more
        input_example=dataset.validation.images[:2],
        # Inferring them would start a second TensorFlow and name the wrong packages.
        pip_requirements=[f"{name}=={versions[name]}" for name in REQUIRED],
        metadata={"class_names": list(dataset.class_names)},
    )
    with TemporaryDirectory() as folder:
        mlflow.set_tag(tag.MODEL_DIGEST, digest(_download(logged.model_uri, folder)))
    lines: list[str] = []
    model.summary(print_fn=lines.append, line_length=100)
    mlflow.log_text("\n".join(lines), "model_summary.txt")


def _delete_logged_models(run: Run) -> None:
    client = mlflow.MlflowClient()
    of_run = f"source_run_id = '{run.info.run_id}'"  # the run itself may not know of it
    for model in client.search_logged_models([run.info.experiment_id], filter_string=of_run):
        client.delete_logged_model(model.model_id)


def logged_models(run: Run) -> list[LoggedModel]:
    """Return the models that a run logged, complete or not, without deleted ones."""
    client = mlflow.MlflowClient()
    outputs = run.outputs.model_outputs if run.outputs else []
    models = [if_there(client.get_logged_model, output.model_id) for output in outputs]
    return [model for model in models if model]


@contextmanager
def verified(uri: str, expected: str) -> Iterator[Path]:
    """Yield a folder with a copy of the model at `uri`; refuse one of another digest."""
    with TemporaryDirectory() as target:
        try:
            folder = _download(uri, target)
        except (MlflowException, OSError) as error:
            raise ModelError(f"its model is missing: {one_line(error)[:200]}") from error
        if not (folder / MLMODEL_FILE_NAME).exists():
            raise ModelError(f"its model is missing: {uri} has no {MLMODEL_FILE_NAME}")
        actual = digest(folder)
        if actual != expected:
            raise ModelError(
                f"its model was altered: SHA-256 {actual[:SHOWN]}; "
                f"{expected[:SHOWN]} when it was trained"
            )
        yield folder


def _download(uri: str, target: str) -> Path:
    """Return a copy of the model at `uri`, without bytecode, which Python would run instead."""
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=target))
    for compiled in [*folder.rglob("__pycache__"), *folder.rglob("*.pyc")]:
        shutil.rmtree(compiled) if compiled.is_dir() else compiled.unlink(missing_ok=True)
    return folder


def digest(folder: Path) -> str:
    """Return the SHA-256 (hexadecimal) of all files of a saved model, names and contents."""
    whole_model = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        # MLflow adds that file when it loads a registered model.
        if path.is_file() and name != REGISTERED_MODEL_META_FILE_NAME:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            whole_model.update(f"{name}\0{content}\n".encode())
    return whole_model.hexdigest()
