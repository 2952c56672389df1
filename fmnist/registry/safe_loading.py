"""A model from the store, loaded by our own code: the code in the model is not executed."""

import re
from pathlib import Path
from typing import Any

from mlflow import pyfunc
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME

from fmnist import PROJECT
from fmnist.common.errors import ModelError, one_line
from fmnist.common.startup import importing_tensorflow

LOADER = "fmnist.training.served_model"
UNKNOWN = re.compile(r"Could not locate (?:class|function) '(\w+)'")
CODE = PROJECT / "fmnist" / "training" / "served_model.py"


def load_pyfunc(folder: Path) -> Any:
    """Load a copy of a model as `mlflow.pyfunc` does; its MLmodel is changed to name our loader.

    Raises:
        ModelError: if it cannot be loaded, or holds code where Keras allows it, as in a Lambda.
    """
    metadata = Model.load(str(folder))
    python = metadata.flavors.get(pyfunc.FLAVOR_NAME, {}).get(pyfunc.PY_VERSION)
    metadata.flavors[pyfunc.FLAVOR_NAME] = {pyfunc.MAIN: LOADER, pyfunc.PY_VERSION: python}
    metadata.save(str(folder / MLMODEL_FILE_NAME))
    try:
        with importing_tensorflow():
            return pyfunc.load_model(str(folder))
    except Exception as error:  # Keras raises many kinds
        raise ModelError(f"its model cannot be loaded: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return why Keras cannot load a model; what it does not know, it names at the very end."""
    if unknown := UNKNOWN.search(str(error)):
        return f"{unknown[1]} is not of Keras, and only the process that trained it knows it"
    return one_line(error)[:200]


def has_our_code(folder: Path) -> bool:
    """Tell whether the code in a model, which others execute, is ours byte for byte."""
    flavor = Model.load(str(folder)).flavors.get(pyfunc.FLAVOR_NAME, {})
    files = [path for path in (folder / "code").rglob("*") if path.is_file()]
    same = [path.read_bytes() for path in files] == [CODE.read_bytes()]
    return same and files[0].name == CODE.name and flavor.get(pyfunc.MAIN) == CODE.stem
