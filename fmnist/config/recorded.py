"""The resolved configuration of a run: how the run records it, and how it is read back.

Others may write to a tracking store. So what is read from it builds only our data sets, Keras's
optimizers and the callbacks listed here, and writes only into the folder of the new run.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PureWindowsPath
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fmnist import PROJECT
from fmnist.common.errors import ConfigError, one_line
from fmnist.config.instantiate import DATA_SETS
from fmnist.config.schema import NON_RESULT_KEYS, Config, rebased
from fmnist.config.targets import SCHEMAS

CONFIGURATION = "config/resolved.json"
"""The artifact of the run that holds it."""

OUTPUT_DIR = "${output_dir}"  # stands for the folder of the run
OPTIMIZER = re.compile(r"keras\.optimizers\.[A-Z]\w*")
SCHEDULE = re.compile(r"keras\.optimizers\.schedules\.[A-Z]\w*")
CALLBACKS = (
    "fmnist.training.callbacks.Checkpoint",
    "fmnist.training.layer_health.LayerHealth",
    "keras.callbacks.CSVLogger",
    "keras.callbacks.EarlyStopping",
    "keras.callbacks.ReduceLROnPlateau",
    "keras.callbacks.SwapEMAWeights",
    "keras.callbacks.TensorBoard",
    "keras.callbacks.TerminateOnNaN",
)
WRITTEN_PATHS = ("filename", "filepath", "log_dir")  # arguments of these callbacks
RENAMED = {
    "fmnist.callbacks.Checkpoint": "fmnist.training.callbacks.Checkpoint",
    "fmnist.health.LayerHealth": "fmnist.training.layer_health.LayerHealth",
}
"""Present names of targets that older versions recorded."""


def record(config: Config) -> str:
    """Return as JSON what affects the result of a run, its paths relative to its folder."""
    values = rebased(config.result_config(), config.output_dir, OUTPUT_DIR)
    return json.dumps(values, indent=1, default=lambda choice: choice.name)


def config_of(recorded: bytes | str, output_dir: str, uri: str | None) -> Config:
    """Read the configuration of a run that is to be made in `output_dir`.

    Args:
        recorded: what `record` returned, or what somebody made of it.
        output_dir: the folder of the new run.
        uri: of the tracking store.

    Raises:
        ConfigError: if it is no configuration, or one that reaches beyond what a run may do.
    """
    with _errors_named():
        return _compose(_checked(_parsed(recorded), "", output_dir), output_dir, uri)


def data_of(recorded: bytes | str) -> dict[str, Any]:
    """Read what `instantiate` builds the data set of a run from; raises as `config_of` does."""
    with _errors_named():
        recorded_data = _checked({"data": _parsed(recorded).get("data")}, "", "")["data"]
        node = OmegaConf.create(_with_schema(recorded_data, "data"))
        data: Any = OmegaConf.to_container(node, throw_on_missing=True)
        return dict(data)


@contextmanager
def _errors_named() -> Iterator[None]:
    """Name the artifact in whatever error is found in it."""
    try:
        yield
    except (ValueError, RecursionError, OmegaConfBaseException, ConfigError) as error:
        raise ConfigError(f"{CONFIGURATION}: {one_line(error)}") from error


def _parsed(recorded: bytes | str) -> dict[str, Any]:
    values = json.loads(recorded, object_hook=_as_recorded_now)
    if not isinstance(values, dict):
        raise ConfigError("must be a mapping")
    return values


def _as_recorded_now(node: dict[str, Any]) -> dict[str, Any]:
    """Return what this version records for a part that an older one recorded."""
    if "_target_" in node:
        node["_target_"] = RENAMED.get(str(node["_target_"]), node["_target_"])
    if node.get("strategy") == "none":  # of `training`
        del node["strategy"]
    return node


def _checked(value: Any, path: str, output_dir: str) -> Any:
    """Refuse what reaches beyond what a run may do; put the folder of the run into paths."""
    if isinstance(value, dict):
        for key, child in value.items():
            _check_key(path, key, child)
        return {
            key: _checked(child, f"{path}.{key}".removeprefix("."), output_dir)
            for key, child in value.items()
        }
    if isinstance(value, list):
        return [_checked(child, path, output_dir) for child in value]
    if not isinstance(value, str):
        return value
    rest = value.removeprefix(OUTPUT_DIR)
    written = path.startswith("callbacks.") and path.rpartition(".")[2] in WRITTEN_PATHS
    inside = rest.startswith("/") and rest != value and ".." not in PureWindowsPath(rest).parts
    if "${" in rest or (written and not inside):
        raise ConfigError(f"{path}={value[:100]}: is outside of the run's folder")
    return output_dir + rest if rest != value else value


def _check_key(path: str, key: str, value: Any) -> None:
    """Refuse a `_target_` that a run does not build, and all that else directs `instantiate`."""
    if key == "_target_" and not _is_allowed(path, str(value)):
        raise ConfigError(f"{path}.{key}={value}: is not allowed in a recorded configuration")
    if key.startswith("_") and key != "_target_":
        raise ConfigError(f"{path}.{key}: is not allowed in a recorded configuration")


def _is_allowed(path: str, target: str) -> bool:
    match path.split("."):
        case ["callbacks", _]:
            return target in CALLBACKS
        case ["data"]:
            return target in DATA_SETS
        case ["optimizer"]:
            return OPTIMIZER.fullmatch(target) is not None
        case _:
            return SCHEDULE.fullmatch(target) is not None


def _compose(values: dict[str, Any], output_dir: str, uri: str | None) -> Config:
    """Add the keys that are not recorded; check types and limits as when Hydra composes."""
    if unexpected := values.keys() & NON_RESULT_KEYS:
        names = ", ".join(unexpected)
        raise ConfigError(f"{names}: does not affect the result, so it is not recorded")
    defaults: Any = OmegaConf.load(PROJECT / "conf" / "train.yaml")
    defaults.output_dir = output_dir
    defaults.tracking.uri = uri
    nodes = {key: defaults[key] for key in NON_RESULT_KEYS} | values
    for key in ("data", "optimizer"):
        nodes[key] = _with_schema(nodes.get(key), key)
    callbacks = nodes.get("callbacks")
    if not isinstance(callbacks, dict):
        raise ConfigError("callbacks: must be a mapping")
    nodes["callbacks"] = {
        name: node and _with_schema(node, f"callbacks.{name}") for name, node in callbacks.items()
    }
    composed: Any = OmegaConf.merge(OmegaConf.structured(Config), nodes)
    return Config.from_hydra(composed)


def _with_schema(node: Any, key: str) -> Any:
    if not isinstance(node, dict) or "_target_" not in node:
        raise ConfigError(f"{key}: has no _target_")
    schema = SCHEMAS.get(node["_target_"])
    if schema is None:
        return node
    typed = OmegaConf.structured(schema)
    OmegaConf.set_struct(typed, False)  # a run may have added arguments with +
    return OmegaConf.merge(typed, node)
