"""Build what a part of the configuration describes: data sets, optimizers and callbacks."""

from collections.abc import Iterator
from functools import partial
from importlib import import_module
from inspect import isclass
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate as hydra_instantiate

from fmnist.common.errors import ConfigError, FmnistError, one_line

BASES = {"optimizer": "keras.optimizers.Optimizer", "callbacks": "keras.callbacks.Callback"}
DATA_SETS = ("fmnist.data.fashion_mnist", "fmnist.data.digits", "fmnist.data.idx")
NESTED = "keras.optimizers.schedules.LearningRateSchedule"
"""What may be described within a part."""


def instantiate(key: str, node: dict[str, Any]) -> Any:
    """Build the object that a part of the configuration describes by its `_target_`.

    Only a data set, an optimizer or a callback is built, whatever the configuration names; one
    of the user's own is named by its class.

    Args:
        key: where the part stands in the configuration: `data`, `optimizer` or `callbacks.NAME`.
        node: a mapping with `_target_`.

    Raises:
        ConfigError: if the target does not exist, is of another kind, or refuses its arguments.
    """
    if not isinstance(node, dict) or "_target_" not in node:
        raise ConfigError(f"{key}: has no _target_")
    _check_kind(key, node["_target_"])
    for path, target in targets({k: v for k, v in node.items() if k != "_target_"}, key):
        _check_class(path, target, NESTED)
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


def targets(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield where in `node` a `_target_` stands, and what it names, however deep."""
    children: Any = ()
    if isinstance(node, dict):
        if "_target_" in node:
            yield f"{path}._target_", str(node["_target_"])
        children = node.items()
    elif isinstance(node, list | tuple):
        children = enumerate(node)
    for key, child in children:
        yield from targets(child, f"{path}.{key}")


def _check_kind(key: str, target: str) -> None:
    path, kind = f"{key}._target_", key.partition(".")[0]
    if kind == "data":
        if target not in DATA_SETS:
            raise ConfigError(f"{path}={target}: choose one of {', '.join(DATA_SETS)}")
        return
    _check_class(path, target, BASES[kind])


def _check_class(path: str, target: str, base: str) -> None:
    found = _located(path, target)
    if not (isclass(found) and issubclass(found, _located(path, base))):
        raise ConfigError(f"{path}={target}: is no {base}")


def _located(path: str, target: str) -> Any:
    module, _, name = target.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except Exception as error:  # a module of the user's own can fail in any way
        raise ConfigError(f"{path}={target}: {one_line(error)}") from error
