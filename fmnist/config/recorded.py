"""The resolved configuration of a run as the run records it, and as it is read back from there.

A tracking store is a place where others write: what comes from it builds only our data sets,
Keras's optimizers and the callbacks listed here, and writes only into the folder of the new run.
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
from fmnist.config.instantiate import DATA_SETS, targets
from fmnist.config.schema import NON_RESULT_KEYS, SCHEMAS, Config, rebased

CONFIGURATION = "config/resolved.json"
"""Where a run keeps it, among its artifacts."""

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
WRITTEN = ("filename", "filepath", "log_dir")  # arguments by which these name what they write
RENAMED = {
    "fmnist.callbacks.Checkpoint": "fmnist.training.callbacks.Checkpoint",
    "fmnist.health.LayerHealth": "fmnist.training.layer_health.LayerHealth",
}
"""Targets that older runs recorded, by what they are called now."""


def record(config: Config) -> str:
    """Return as JSON what decides the result of a run, its paths relative to its folder."""
    values = rebased(config.result_config(), config.output_dir, OUTPUT_DIR)
    return json.dumps(values, indent=1, default=lambda choice: choice.name)


def config_of(recorded: bytes | str, output_dir: str, uri: str | None) -> Config:
    """Make the configuration of a run in `output_dir` of what another run recorded.

    Args:
        recorded: what `record` returned, or what somebody made of it.
        output_dir: the folder of the new run.
        uri: of the tracking store.

    Raises:
        ConfigError: if it is no configuration, or one that reaches beyond what a run may do.
    """
    with _refused():
        return _typed(_checked(_parsed(recorded), output_dir), output_dir, uri)


def data_of(recorded: bytes | str) -> dict[str, Any]:
    """Return what `instantiate` builds the data set of a run from.

    Raises:
        ConfigError: as `config_of`.
    """
    with _refused():
        own = _checked({"data": _parsed(recorded).get("data")}, "")
        typed = OmegaConf.create(_with_schema(own["data"], "data"))
        data: Any = OmegaConf.to_container(typed, throw_on_missing=True)
        return dict(data)


@contextmanager
def _refused() -> Iterator[None]:
    """Say of whatever is wrong with a recorded configuration where it stands."""
    try:
        yield
    except (ValueError, RecursionError, OmegaConfBaseException, ConfigError) as error:
        raise ConfigError(f"{CONFIGURATION}: {one_line(error)}") from error


def _parsed(recorded: bytes | str) -> dict[str, Any]:
    values = json.loads(recorded)
    if not isinstance(values, dict):
        raise ConfigError("must be a mapping")
    return _upgraded(values)


def _upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """Return what an older version recorded as this one would have."""
    callbacks = values.get("callbacks")
    for node in callbacks.values() if isinstance(callbacks, dict) else ():
        if isinstance(node, dict) and node.get("_target_") in RENAMED:
            node["_target_"] = RENAMED[node["_target_"]]
    training = values.get("training")
    if isinstance(training, dict) and training.get("strategy") == "none":
        del training["strategy"]
    return values


def _checked(values: dict[str, Any], output_dir: str) -> dict[str, Any]:
    """Put the folder of the run into paths, and refuse what reaches beyond what a run may do."""
    _check_targets(values)
    return {key: _placed(child, key, output_dir) for key, child in values.items()}


def _check_targets(values: dict[str, Any]) -> None:
    """Refuse what may not be built, before `create` imports anything to look at it."""
    for path, target in targets(values, ""):
        part, *rest = path[1:].split(".")
        if part == "callbacks" and len(rest) == 2:
            allowed = target in CALLBACKS
        elif part == "data" and len(rest) == 1:
            allowed = target in DATA_SETS
        else:
            allowed = bool((OPTIMIZER if rest == ["_target_"] else SCHEDULE).fullmatch(target))
        if not allowed:
            raise ConfigError(f"{path[1:]}={target}: is not built from a recorded configuration")


def _placed(value: Any, path: str, output_dir: str) -> Any:
    """Put the folder of the run into every path, and refuse to write outside of it."""
    if isinstance(value, dict):
        if orders := [key for key in value if key.startswith("_") and key != "_target_"]:
            raise ConfigError(f"{path}.{orders[0]}: is not read from a recorded configuration")
        return {key: _placed(child, f"{path}.{key}", output_dir) for key, child in value.items()}
    if isinstance(value, list):
        return [_placed(child, path, output_dir) for child in value]
    if not isinstance(value, str):
        return value
    rest = value.removeprefix(OUTPUT_DIR)
    written = path.startswith("callbacks.") and path.rpartition(".")[2] in WRITTEN
    inside = rest.startswith("/") and rest != value and ".." not in PureWindowsPath(rest).parts
    if "${" in rest or (written and not inside):
        raise ConfigError(f"{path}={value[:100]}: reaches out of the folder of the run")
    return output_dir + rest if rest != value else value


def _typed(values: dict[str, Any], output_dir: str, uri: str | None) -> Config:
    """Check types and limits as Hydra does when it composes."""
    if undeciding := values.keys() & NON_RESULT_KEYS:
        raise ConfigError(f"{', '.join(undeciding)}: decides nothing, and is not recorded")
    usual: Any = OmegaConf.load(PROJECT / "conf" / "train.yaml")
    usual.output_dir = output_dir
    nodes = {key: usual[key] for key in NON_RESULT_KEYS} | values
    for key in ("data", "optimizer"):
        nodes[key] = _with_schema(nodes.get(key), key)
    callbacks = nodes.get("callbacks")
    if not isinstance(callbacks, dict):
        raise ConfigError("callbacks: must be a mapping")
    nodes["callbacks"] = {
        name: node and _with_schema(node, f"callbacks.{name}") for name, node in callbacks.items()
    }
    composed = OmegaConf.merge(OmegaConf.structured(Config), nodes)
    composed.tracking.uri = uri
    return Config.from_hydra(composed)  # type: ignore[arg-type]


def _with_schema(node: Any, key: str) -> Any:
    if not isinstance(node, dict) or "_target_" not in node:
        raise ConfigError(f"{key}: has no _target_")
    schema = SCHEMAS.get(node["_target_"])
    if schema is None:
        return node
    typed = OmegaConf.structured(schema)
    OmegaConf.set_struct(typed, False)  # a run may have added arguments with +
    return OmegaConf.merge(typed, node)
