"""What a sweep varies, as it was typed; what cannot be is refused before the first job begins."""

import math
from collections.abc import Iterable
from itertools import islice
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from omegaconf import DictConfig, OmegaConf

from fmnist.common.errors import ConfigError, one_line
from fmnist.config.limits import SEEDS, check
from fmnist.config.schema import Metric

MOST_JOBS = 10_000  # Hydra lists all jobs of a sweep, in memory, before it begins the first
LISTING = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def swept_values(config: DictConfig) -> dict[str, list[str]]:
    """Return the keys that the sweep varies, as typed, with their values; none if unlimited.

    Raises:
        ConfigError: if a key is given no value, if there are more than `MOST_JOBS` jobs, or if
            Hydra's own sweeper could not list them.
    """
    listing = config.hydra.sweeper._target_ == LISTING
    params = config.hydra.sweeper.get("params") or {}
    task: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    swept: dict[str, list[str]] = {}
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    for override in parser.parse_overrides([*(f"{k}={v}" for k, v in params.items()), *task]):
        key = override.get_key_element().lstrip("+")
        swept.pop(key, None)  # the command line goes before the sweeper's params
        if override.is_discrete_sweep():
            swept[key] = _values(override)
        elif override.is_sweep_override() and listing:
            raise ConfigError(
                f"{override.input_line}: list the values, name a range, or search: "
                "hydra/sweeper=optuna"
            )
        elif override.is_sweep_override():
            swept[key] = []
    jobs = math.prod(len(values) for values in swept.values() if values)
    if jobs > MOST_JOBS and listing:
        raise ConfigError(f"{', '.join(swept)}: more than {MOST_JOBS:,} jobs, which is the most")
    return swept


def _values(override: Override) -> list[str]:
    """Return the values that an override sweeps over, but no more than are needed to refuse it."""
    sweep = override.value()
    try:
        values: Iterable[Any] = (
            sweep.range() if isinstance(sweep, RangeSweep) else override.sweep_string_iterator()
        )
        found = [str(value) for value in islice(values, MOST_JOBS + 1)]
    except (ValueError, ArithmeticError) as error:  # a step of 0, an end that is nan
        raise ConfigError(f"{override.input_line}: is no range: {one_line(error)}") from error
    if not found:
        raise ConfigError(f"{override.input_line}: there is no such value")
    return found


def check_choices(swept: dict[str, list[str]]) -> None:
    """Refuse what conf/ does not have before any job begins, not when its turn comes."""
    loader = GlobalHydra.instance().config_loader()
    for group, values in swept.items():
        options = loader.get_group_options(group)
        for value in values:
            if options and value not in options:
                raise ConfigError(f"{group}={value}: choose one of {', '.join(options)}")


def check_baseline(baseline: str | None, variants: dict[str, list[str]]) -> None:
    """Refuse a baseline that is none of the models, where these are what the sweep varies."""
    models = variants.get("model")
    if baseline is not None and models and len(variants) == 1 and baseline not in models:
        raise ConfigError(f"study.baseline={baseline}: choose one of {', '.join(models)}")


def check_metric(metric: Metric, callbacks: DictConfig) -> None:
    """Refuse the best checkpoint's accuracy where no checkpoint is kept."""
    if metric is Metric.best_val_accuracy and callbacks.get("checkpoint") is None:
        raise ConfigError(
            "study.metric=best_val_accuracy: needs callbacks.checkpoint; "
            "without it choose last_val_accuracy"
        )


def seeds_of(values: Iterable[str | int]) -> tuple[int, ...]:
    """Return the seeds that were typed; refuse what is none, and one that is named twice."""
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
