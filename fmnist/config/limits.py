"""The limits of the configuration's values: declared with a field, checked by its name."""

import dataclasses
import math
import operator
from collections.abc import Mapping
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from fmnist.common.errors import ConfigError

COMPARISONS = {
    "at_least": operator.ge,
    "at_most": operator.le,
    "above": operator.gt,
    "below": operator.lt,
}
SEEDS = {"at_least": 0, "below": 2**32}
MOST_WEIGHTS = 2**30  # of the hidden layers; as many again are gradients
LONGEST_NAME = 250  # characters, in the databases that keep it


def number(**limits: float) -> Any:
    """Declare a numeric field and its limits, named as in `COMPARISONS`."""
    return dataclasses.field(default=MISSING, metadata=limits)


def check_numbers(node: DictConfig, prefix: str = "") -> None:
    """Refuse a number that is not finite or outside its limits; `prefix` begins all keys.

    A field of type Any with limits holds a number, or a mapping with a `_target_`.
    """
    schema = OmegaConf.get_type(node)
    fields = dataclasses.fields(schema) if dataclasses.is_dataclass(schema) else ()
    limits = {field.name: field.metadata for field in fields}
    untyped = {field.name for field in fields if field.type is Any and field.metadata}
    for key in map(str, node):
        value = node[key]
        if isinstance(value, DictConfig):
            check_numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float):
            check(f"{prefix}{key}", value, limits.get(key, {}))
        elif key in untyped:
            raise ConfigError(f"{prefix}{key}={value}: must be a number, or have a _target_")


def check(key: str, value: float, limits: Mapping[str, float]) -> None:
    """Raise ConfigError if a number is not finite or outside its limits."""
    within = all(COMPARISONS[name](value, limit) for name, limit in limits.items())
    if not (within and math.isfinite(value)):
        allowed = " and ".join(f"{name.replace('_', ' ')} {limits[name]}" for name in limits)
        raise ConfigError(f"{key}={value}: must be {allowed or 'a finite number'}")


def check_size(depth: int, width: int) -> None:
    """Refuse a network that memory does not hold."""
    if depth * width**2 > MOST_WEIGHTS:
        raise ConfigError(
            f"model.depth={depth} and model.width={width}: must be smaller, at "
            f"most {MOST_WEIGHTS:,} weights (depth * width * width)"
        )


def check_name(key: str, name: str) -> None:
    """Refuse a name that stores cannot keep, or that people cannot read."""
    if not (name.isprintable() and 0 < len(name.strip()) <= LONGEST_NAME):
        allowed = f"1 to {LONGEST_NAME} printable characters"
        raise ConfigError(f"{key}={name[:LONGEST_NAME]}: must be {allowed}")
