"""The overrides of a sweep: what it varies, and the values that it lists."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from fmnist.common.errors import ConfigError, one_line
from fmnist.config.limits import SEEDS, check

MAX_JOBS = 10_000  # all are listed in memory before the first begins

Overrides = Mapping[str, Override]
"""By key, as typed: `"+model.width"`."""


def parsed(params: Mapping[str, Any], arguments: Iterable[str]) -> Overrides:
    """Parse the overrides of a sweep; those of the command line replace the sweeper's `params`."""
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    typed = [*(f"{key}={value}" for key, value in params.items()), *arguments]
    return {o.get_key_element(): o for o in parser.parse_overrides(typed)}


def parsed_value(typed: str) -> Any:
    """Return a value as Hydra understands it: True for "true"."""
    [override] = OverridesParser.create().parse_overrides([f"key={typed}"])
    return override.value()


def swept(overrides: Overrides) -> dict[str, Override]:
    """Return what the sweep varies, by key without `+`."""
    return {k.lstrip("+"): o for k, o in overrides.items() if o.is_sweep_override()}


def listed_values(override: Override) -> list[str]:
    """Return the values that an override lists, as typed; of very many only the first.

    Raises:
        ConfigError: if it lists none.
    """
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        raise ConfigError(
            f"{override.input_line}: list the values, name a range, or search: hydra/sweeper=optuna"
        )
    try:
        every: Iterable[Any] = (
            sweep.range() if isinstance(sweep, RangeSweep) else override.sweep_string_iterator()
        )
        values = [str(value) for value in islice(every, MAX_JOBS + 1)]
    except (ValueError, ArithmeticError) as error:  # a step of 0, an end that is nan
        raise ConfigError(f"{override.input_line}: is not a range: {one_line(error)}") from error
    if not values:
        raise ConfigError(f"{override.input_line}: there is no such value")
    return values


def parsed_seeds(values: Iterable[str | int]) -> tuple[int, ...]:
    """Return the seeds; raise ConfigError if one is not a seed or is named twice."""
    seeds = tuple(map(_seed, values))
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"seed={','.join(map(str, seeds))}: name each seed once")
    return seeds


def _seed(value: str | int) -> int:
    try:
        seed = int(value)
    except ValueError:
        raise ConfigError(f"seed={value}: must be a whole number") from None
    check("seed", seed, SEEDS)
    return seed
