"""What a search searches, where it begins, and the question that it ends with."""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
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

Values = dict[str, Any]

START = "start"  # the variant with which a search begins


def parsed(
    params: Mapping[str, str], arguments: Iterable[str]
) -> tuple[list[str], dict[str, BaseDistribution]]:
    """Return the overrides that all trials have, and what Optuna draws the others from.

    Raises:
        ConfigError: if it cannot be drawn from.
    """
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    given = [*(f"{key}={value}" for key, value in params.items()), *arguments]
    overrides = {o.get_key_element(): o for o in parser.parse_overrides(given)}
    space = {key: distribution(o) for key, o in overrides.items() if o.is_sweep_override()}
    return [str(o.input_line) for key, o in overrides.items() if key not in space], space


def distribution(override: Override) -> BaseDistribution:
    """Return what Optuna draws from for an override that sweeps.

    Raises:
        ConfigError: if it cannot be drawn from.
    """
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


def as_typed(values: Values) -> dict[str, str]:
    """Return values as they are typed, and logged; three digits are enough, and can be read."""
    return {k: str(float(f"{v:.3g}") if isinstance(v, float) else v) for k, v in values.items()}


def overrides_of(values: Values) -> list[str]:
    return [f"{key}={value}" for key, value in as_typed(values).items()]


def start(config: DictConfig, keys: Iterable[str]) -> Values:
    """Return the values of the configuration itself, where the search begins.

    Raises:
        ConfigError: if a key has none.
    """
    return {key: _configured(config, key) for key in keys}


def _configured(config: DictConfig, key: str) -> Any:
    chosen = config.hydra.runtime.choices.get(key)
    value = OmegaConf.select(config, key) if chosen is None else chosen
    if value is None:
        raise ConfigError(f"{key}: has no value yet, with which a search could begin")
    return value.name if isinstance(value, Enum) else value


def search_design(config: DictConfig, asked: Study) -> StudyDesign:
    """State the question that a search ends with.

    Args:
        config: as composed.
        asked: of the configuration.

    Raises:
        ConfigError: if the search is impossible as it is configured.
    """
    search = config.hydra.sweeper
    _check_counts(search)
    seeds = _fresh_seeds(search.fresh_seeds, config.seed)
    arguments: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    space = parsed(search.params or {}, arguments)[1]
    keys = list(space)
    instantiate(search.pruner)  # raises what is wrong with it
    if not keys:
        raise ConfigError("hydra.sweeper.params: nothing is searched; KEY=interval(0.1,0.5), say")
    if "seed" in keys:
        raise ConfigError("seed: is not searched; hydra.sweeper.fresh_seeds judge the best")
    if asked.baseline is not None:
        raise ConfigError("study.baseline: a search compares its best with where it began")
    values = start(config, keys)
    _check_start(values, space)
    began = variant_name(as_typed(values), keys)
    return StudyDesign(
        asked.question,
        asked.metric.name,
        tuple(keys),
        START,
        asked.min_effect,
        2,
        seeds,
        names={began: START},
    )


def _check_start(values: Values, space: Mapping[str, BaseDistribution]) -> None:
    """Refuse choices without what is configured; only outside of ranges can Optuna begin."""
    for key, drawn in space.items():
        if isinstance(drawn, CategoricalDistribution) and str(values[key]) not in drawn.choices:
            choices = ", ".join(map(str, drawn.choices))
            raise ConfigError(
                f"{key}: a search begins with what is configured, {values[key]}; that is none of "
                f"{choices}: add it, or search a range(...) or interval(...)"
            )


def _check_counts(search: DictConfig) -> None:
    for key in ("trials", "batch"):
        if not isinstance(search[key], int):
            raise ConfigError(f"hydra.sweeper.{key}={search[key]}: must be a whole number")
        check(f"hydra.sweeper.{key}", search[key], {"at_least": 1})


def _fresh_seeds(given: Any, taken: int) -> tuple[int, ...]:
    """Return the seeds that judge the best; the trials have the one that is taken."""
    seeds = tuple(given) if OmegaConf.is_list(given) else ()
    fresh = {seed for seed in seeds if isinstance(seed, int)} - {taken}
    if len(fresh) < max(2, len(seeds)):
        raise ConfigError(
            f"hydra.sweeper.fresh_seeds={given}: must be a list of two or more, none twice, and "
            f"not {taken}, which the trials have"
        )
    return seeds
