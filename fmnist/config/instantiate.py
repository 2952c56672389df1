"""Build what a part of the configuration describes: a data set, an optimizer or a callback."""

from collections.abc import Iterator
from functools import partial
from importlib import import_module
from inspect import isclass, signature
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate as hydra_instantiate

from fmnist.common.errors import ConfigError, FmnistError, one_line

DATA_SETS = ("fmnist.data.fashion_mnist", "fmnist.data.digits", "fmnist.data.idx")
BASES = {"optimizer": "keras.optimizers.Optimizer", "callbacks": "keras.callbacks.Callback"}
USUAL_OPTIMIZERS = ("keras.optimizers.SGD", "keras.optimizers.Adam")
NESTED = "keras.optimizers.schedules.LearningRateSchedule"
"""Base of what may stand within a part, with a `_target_` of its own."""


def instantiate(key: str, node: dict[str, Any]) -> Any:
    """Build the object that a part of the configuration describes by its `_target_`.

    Only a data set, an optimizer or a callback is built, whatever the configuration names. A
    class of the user's own is one of these if it is derived from Keras's.

    Args:
        key: of the part in the configuration: `data`, `optimizer` or `callbacks.NAME`.
        node: the part.

    Raises:
        ConfigError: if the target does not exist, is of another kind, or refuses its arguments.
    """
    if not isinstance(node, dict) or "_target_" not in node:
        raise ConfigError(f"{key}: has no _target_")
    for path, target in targets(node, key):
        _check_target(path, target, top=path == f"{key}._target_")
    if key == "optimizer":
        node = _with_arguments_of_its_own(node)
    try:
        built = hydra_instantiate(node, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, FmnistError):
            raise cause from None
        raise ConfigError(f"{key}: {one_line(cause or error)}") from error
    if isinstance(built, partial):
        raise ConfigError(f"{key}._partial_: must be false")
    return built


def _with_arguments_of_its_own(node: dict[str, Any]) -> dict[str, Any]:
    """Leave out what conf/optimizer/ gives to SGD or Adam, where another optimizer lacks it.

    Raises:
        ConfigError: if such an argument has another value than Keras's default.
    """
    target = node["_target_"]
    classes = _locate("optimizer._target_", target).__mro__
    taken = {name for each in classes for name in signature(each.__init__).parameters}
    defaults = {
        name: parameter.default
        for usual in USUAL_OPTIMIZERS
        for name, parameter in signature(_locate("optimizer", usual)).parameters.items()
    }
    foreign = {key: node[key] for key in node if key[0] != "_" and key not in taken}
    for key, value in foreign.items():
        if key not in defaults or value != defaults[key]:
            raise ConfigError(f"optimizer.{key}={value}: {target} takes no such argument")
    return {key: value for key, value in node.items() if key not in foreign}


def targets(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the key and the value of each `_target_` in `node`, however deep."""
    children: Any = ()
    if isinstance(node, dict):
        if "_target_" in node:
            yield f"{path}._target_", str(node["_target_"])
        children = node.items()
    elif isinstance(node, list | tuple):
        children = enumerate(node)
    for key, child in children:
        yield from targets(child, f"{path}.{key}")


def _check_target(path: str, target: str, top: bool) -> None:
    part = path.partition(".")[0]
    if top and part == "data":
        if target not in DATA_SETS:
            raise ConfigError(f"{path}={target}: choose one of {', '.join(DATA_SETS)}")
        return
    base = BASES[part] if top else NESTED
    located = _locate(path, target)
    if not (isclass(located) and issubclass(located, _locate(path, base))):
        raise ConfigError(f"{path}={target}: is not a {base}")


def _locate(path: str, target: str) -> Any:
    module, _, name = target.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except Exception as error:  # a module of the user's own can fail in any way
        raise ConfigError(f"{path}={target}: {one_line(error)}") from error
