"""What a search varies, where it starts, and the question that it ends with."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from fmnist.common.errors import ConfigError
from fmnist.config.limits import check
from fmnist.config.schema import Study
from fmnist.evidence.comparison import StudyDesign
from fmnist.evidence.pooling import variant_name
from fmnist.sweeps.overrides import Overrides, parsed_value, swept

START = "start"  # the variant with which a search starts


@dataclass(frozen=True)
class SearchSpace:
    """What the trials of a search have in common, and what they differ in."""

    fixed: list[str]  # the overrides of all trials
    distributions: dict[str, BaseDistribution]  # what Optuna draws each key from
    start: dict[str, Any]  # the configured value of each key; of choices one of them


def search_space(config: DictConfig, overrides: Overrides) -> SearchSpace:
    """Return what is searched; raise ConfigError if that is impossible as configured."""
    distributions = {key: distribution(o) for key, o in swept(overrides).items()}
    if not distributions:
        raise ConfigError(
            "hydra.sweeper.params: nothing to search; for example KEY=interval(0.1,0.5)"
        )
    if "seed" in distributions:
        raise ConfigError("seed: cannot be searched; hydra.sweeper.fresh_seeds judge the best")
    fixed = [str(o.input_line) for o in overrides.values() if not o.is_sweep_override()]
    start = {key: _start(config, key, drawn) for key, drawn in distributions.items()}
    return SearchSpace(fixed, distributions, start)


def distribution(override: Override) -> BaseDistribution:
    """Return what Optuna draws an override's values from; raise ConfigError if it cannot."""
    sweep = override.value()
    try:
        if isinstance(sweep, IntervalSweep):
            log = "log" in sweep.tags
            return FloatDistribution(float(sweep.start or 0), float(sweep.end or 0), log=log)
        if isinstance(sweep, RangeSweep) and isinstance(sweep.range(), range):
            values = [int(value) for value in sweep.range()]
            return IntDistribution(values[0], values[-1], step=int(sweep.step))
        assert isinstance(sweep, ChoiceSweep | RangeSweep)
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except (ValueError, IndexError) as error:
        raise ConfigError(f"{override.input_line}: cannot be searched: {error}") from error


def as_typed(values: Mapping[str, Any]) -> dict[str, str]:
    """Return values as they are typed; three digits are enough, and can be read."""
    return {k: str(float(f"{v:.3g}") if isinstance(v, float) else v) for k, v in values.items()}


def overrides_of(values: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in as_typed(values).items()]


def as_recorded(config: DictConfig, typed: Mapping[str, str]) -> dict[str, str]:
    """Return typed values as the params of a run have them: "True" for "true"."""
    config, choices = copy.deepcopy(config), config.hydra.runtime.choices
    for key, value in typed.items():
        if key not in choices:
            OmegaConf.update(config, key, parsed_value(value))
    return {k: v if k in choices else str(_configured(config, k)) for k, v in typed.items()}


def search_design(config: DictConfig, study: Study, space: SearchSpace) -> StudyDesign:
    """State the question that a search ends with; refuse what cannot be searched by."""
    sweeper = config.hydra.sweeper
    for key in ("trials", "batch"):
        if not isinstance(sweeper[key], int):
            raise ConfigError(f"hydra.sweeper.{key}={sweeper[key]}: must be a whole number")
        check(f"hydra.sweeper.{key}", sweeper[key], {"at_least": 1})
    instantiate(sweeper.pruner)  # raises what is wrong with it
    if study.baseline is not None:
        raise ConfigError("study.baseline: a search compares its best with its start")
    keys = tuple(space.distributions)
    start = variant_name(as_recorded(config, as_typed(space.start)), keys)
    return StudyDesign(
        study.question,
        study.metric.name,
        keys,
        START,
        study.min_effect,
        variants=2,
        seeds=_fresh_seeds(config),
        names={start: START},
    )


def _start(config: DictConfig, key: str, drawn: BaseDistribution) -> Any:
    """Return where a key starts; that may lie outside of a range, but is one of the choices."""
    value = _configured(config, key)
    if value is None:
        raise ConfigError(f"{key}: has no default; a search needs one to start from")
    if not isinstance(drawn, CategoricalDistribution):
        return value
    for choice in drawn.choices:
        if str(value) == choice or value == parsed_value(str(choice)):
            return choice
    raise ConfigError(
        f"{key}: a search starts with what is configured, {value}; that is none of "
        f"{', '.join(map(str, drawn.choices))}: add it, or search a range(...) or interval(...)"
    )


def _configured(config: DictConfig, key: str) -> Any:
    """Return the choice from a group, or a value; an enumeration by name."""
    choice = config.hydra.runtime.choices.get(key)
    value = OmegaConf.select(config, key) if choice is None else choice
    return value.name if isinstance(value, Enum) else value


def _fresh_seeds(config: DictConfig) -> tuple[int, ...]:
    seeds = config.hydra.sweeper.fresh_seeds
    listed = tuple(seeds) if OmegaConf.is_list(seeds) else ()
    fresh = {seed for seed in listed if isinstance(seed, int)} - {config.seed}
    if len(fresh) < max(2, len(listed)):
        raise ConfigError(
            f"hydra.sweeper.fresh_seeds={seeds}: must be a list of two or more different "
            f"seeds, and not {config.seed}, which the trials have"
        )
    return listed
