"""The names of registered models: one for each data set and experiment."""

import re
import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from omegaconf import OmegaConf

from fmnist import PROJECT
from fmnist.config import schema
from fmnist.tracking.store import named_experiment

CONF = PROJECT / "conf"
EXPERIMENT, DATA_SET = "fmnist", "fashion_mnist"
DEFAULT = "fmnist"  # of DATA_SET in EXPERIMENT


def model_name(experiment: str, data_set: str) -> str:
    """Return the name of the model that is registered for a data set in an experiment."""
    if (experiment, data_set) == (EXPERIMENT, DATA_SET):
        return DEFAULT
    return re.sub("[/:]", "-", f"{experiment}-{data_set}")  # MLflow refuses both characters


def asked_for(given: str | None, experiment: str) -> str:
    """Return the name that a command means: as given or configured, else of the usual data set."""
    if configured := given or schema.promotion().model:
        return configured
    return model_name(named_experiment(experiment), _usual_data_set())


def _usual_data_set() -> str:
    """Return the name of the data set that conf/train.yaml chooses."""
    defaults = OmegaConf.load(CONF / "train.yaml").defaults
    [choice] = [entry["data"] for entry in defaults if "data" in entry]
    node: Any = OmegaConf.to_container(OmegaConf.load(CONF / "data" / f"{choice}.yaml"))
    return data_set_of({f"data.{key}": str(value) for key, value in node.items()})


def data_set_of(params: Mapping[str, str]) -> str:
    """Return the readable name of the data set that a run with these params was trained on.

    A data set in IDX files has the name of its folder.
    """
    name = params.get("data._target_", DATA_SET).rpartition(".")[2]
    return f"idx-{PurePath(params['data.dir']).name}" if name == "idx" else name


def option(model: str) -> str:
    """Return what a command of `python -m fmnist` needs to mean this model."""
    return "" if model == asked_for(None, EXPERIMENT) else f" --model {shlex.quote(model)}"
