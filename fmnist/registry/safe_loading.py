"""A model from the store, loaded by our own code: nothing that lies beside it is executed."""

from pathlib import Path
from typing import Any

from mlflow import pyfunc
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.pyfunc import FLAVOR_NAME, MAIN

from fmnist import PROJECT
from fmnist.common.startup import importing_tensorflow

TRUSTED_LOADER = "fmnist.training.served_model"
TRUSTED_CODE = PROJECT / "fmnist" / "training" / "served_model.py"


def load_pyfunc(folder: Path) -> Any:
    """Load the model in `folder` as `mlflow.pyfunc` does, but with our own loader.

    The copy of the model in `folder` is told to use it, and no longer its own code.
    """
    metadata = Model.load(str(folder))
    metadata.flavors[FLAVOR_NAME] = {MAIN: TRUSTED_LOADER}
    metadata.save(str(folder / MLMODEL_FILE_NAME))
    with importing_tensorflow():
        return pyfunc.load_model(str(folder))


def brings_our_code(folder: Path) -> bool:
    """Tell whether the code in the model, which others execute, is ours byte for byte."""
    flavor = Model.load(str(folder)).flavors[FLAVOR_NAME]
    code = folder / "code"
    files = {path.relative_to(code).as_posix(): path for path in code.rglob("*") if path.is_file()}
    return (
        flavor[MAIN] == TRUSTED_CODE.stem
        and list(files) == [TRUSTED_CODE.name]
        and files[TRUSTED_CODE.name].read_bytes() == TRUSTED_CODE.read_bytes()
    )
