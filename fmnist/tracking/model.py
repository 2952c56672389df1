"""The model among a run's artifacts: how it is saved, and the digest that tells it was altered."""

import hashlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

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
from fmnist.common.startup import importing_tensorflow
from fmnist.data.datasets import Dataset
from fmnist.tracking.store import if_there

if TYPE_CHECKING:
    import keras

INPUT_EXAMPLES = 2
LOADER = "served_model"  # the module of fmnist/training that is saved with each model
DIGEST_TAG = "model.digest"  # of a run
SHOWN = 12  # digits of a digest


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


def log_model(model: "keras.Model", dataset: Dataset) -> None:
    """Log `model`, which takes raw uint8 images, its digest and its summary, to the active run.

    It takes the place of what the run logged before, if that was stopped half way. MLflow links
    the scores that were logged before to the model.

    The requirements are stated, not inferred: inferring starts a second TensorFlow and names the
    wrong packages.
    """
    import keras  # here, so that reading a store does not wait for TensorFlow
    import tensorflow as tf

    run = mlflow.active_run()
    assert run is not None
    client = mlflow.MlflowClient()
    own = f"source_run_id = '{run.info.run_id}'"  # the run may not know it: it was stopped before
    for former in client.search_logged_models([run.info.experiment_id], filter_string=own):
        client.delete_logged_model(former.model_id)
    inputs = TensorSpec(np.dtype(np.uint8), (-1, *dataset.image_shape))
    outputs = Schema([ColSpec("float", name) for name in dataset.class_names])
    logged = Model.log(
        artifact_path=None,
        name="model",
        flavor=NamedKerasFlavor,
        model=model,
        signature=ModelSignature(Schema([inputs]), outputs),
        validate_serving_input=False,  # our tests do; here it would load the model once more
        input_example=dataset.validation.images[:INPUT_EXAMPLES],
        pip_requirements=[
            f"tensorflow=={tf.__version__}",
            f"keras=={keras.__version__}",
            f"numpy=={np.__version__}",
        ],
        metadata={"class_names": list(dataset.class_names)},
    )
    with _downloaded(logged.model_uri) as folder:
        mlflow.set_tag(DIGEST_TAG, digest(folder))
    lines: list[str] = []
    model.summary(print_fn=lines.append, line_length=100)
    mlflow.log_text("\n".join(lines), "model_summary.txt")


def logged_models(run: Run) -> list[LoggedModel]:
    """Return the models that a run logged, whole or not, but for deleted ones."""
    client = mlflow.MlflowClient()
    outputs = run.outputs.model_outputs if run.outputs else []
    found = [if_there(client.get_logged_model, output.model_id) for output in outputs]
    return [model for model in found if model]


@contextmanager
def verified(uri: str, expected: str) -> Iterator[Path]:
    """Yield a folder with a copy of the model at `uri`, whose digest is the one expected.

    Raises:
        ModelError: if the model is not there, or if its digest is another one.
    """
    with _downloaded(uri) as folder:
        found = digest(folder)
        if found != expected:
            raise ModelError(
                f"its model was altered: SHA-256 {found[:SHOWN]}; "
                f"{expected[:SHOWN]} when it was trained"
            )
        yield folder


@contextmanager
def _downloaded(uri: str) -> Iterator[Path]:
    """Yield a folder with a copy of the model at `uri`, without what Python had compiled of it.

    Python would run that instead of the code beside it.
    """
    with TemporaryDirectory() as place:
        try:
            folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=place))
        except (MlflowException, OSError) as error:
            raise ModelError(f"its model is missing: {one_line(error)[:200]}") from error
        if not (folder / MLMODEL_FILE_NAME).exists():
            raise ModelError(f"its model is missing: {uri} has no {MLMODEL_FILE_NAME}")
        for compiled in [*folder.rglob("__pycache__"), *folder.rglob("*.pyc")]:
            shutil.rmtree(compiled) if compiled.is_dir() else compiled.unlink(missing_ok=True)
        yield folder


def load_pyfunc(folder: Path) -> Any:
    """Load the model in a folder as MLflow serves it, by its own code, and forget the folder."""
    path = sys.path.copy()
    sys.modules.pop(LOADER, None)  # another model's
    try:
        with importing_tensorflow():
            return pyfunc.load_model(str(folder))
    finally:
        sys.path[:] = path


def digest(folder: Path) -> str:
    """Return the SHA-256 (hexadecimal) of all files of a saved model, names and contents.

    The file that MLflow adds when it loads a registered model is left out.
    """
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != REGISTERED_MODEL_META_FILE_NAME:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            whole.update(f"{name}\0{content}\n".encode())
    return whole.hexdigest()
