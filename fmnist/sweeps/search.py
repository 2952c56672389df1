"""A search by Optuna, as a sweeper of Hydra's: trials, then the best of them over fresh seeds.

Optuna suggests (and keeps what was suggested and came of it in a journal), whatever launcher is
chosen does the jobs, and a job asks Optuna after each epoch whether it is hopeless (`trial.py`).
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

import optuna
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from fmnist.evidence.comparison import Statement
from fmnist.config.schema import Study
from fmnist.common.errors import ConfigError, TrainingError
from fmnist.config.limits import check
from fmnist.sweeps.plugins import entered
from fmnist.evidence.pooling import variant_name
from fmnist.sweeps.trial import STOPPED, open_study

Values = dict[str, Any]

START = "start"  # the variant with which a search begins


class Search(Sweeper):
    """Lets Optuna suggest trials batch by batch, then tries the best over fresh seeds.

    Args:
        trials: how many.
        batch: how many are suggested before the first of them is done.
        fresh_seeds: for the best and for where the search began; no trial had them.
        sampler: makes Optuna's sampler of a seed.
        pruner: tells a hopeless trial; the jobs use it.
        params: what is searched, as overrides; the command line goes before them.
    """

    def __init__(
        self,
        trials: int,
        batch: int,
        fresh_seeds: Sequence[int],
        sampler: Callable[..., optuna.samplers.BaseSampler],
        pruner: optuna.pruners.BasePruner,
        params: Mapping[str, str],
    ) -> None:
        self.trials, self.batch, self.fresh_seeds = trials, batch, fresh_seeds
        self.sampler, self.params = sampler, params

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives, and the launcher that the configuration names."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        """Do the whole search; a failed job costs only itself, and its error is raised at the end.

        Raises:
            Exception: that of the first job that failed, but for one whose training diverged.
        """
        assert self.config is not None
        self.fixed, space = parsed(self.params, arguments)
        study = open_study(self.config.hydra.sweep.dir)
        failed = self._try_all(study, space)
        if study.get_trials(states=(TrialState.COMPLETE,)):
            failed += self._try_anew(study.best_trial)
        if failed:
            raise failed[0]._return_value
        return []

    def _try_all(self, study: optuna.Study, space: dict[str, BaseDistribution]) -> list[JobReturn]:
        """Do the trials that are left; return the jobs that failed."""
        assert self.config is not None
        if not study.get_trials():
            began = start(self.config, space)
            choices = {k for k, d in space.items() if isinstance(d, CategoricalDistribution)}
            study.enqueue_trial({k: str(v) if k in choices else v for k, v in began.items()})
        failed: list[JobReturn] = []
        while waiting := self._suggested(study, space):
            jobs = [[*self.fixed, *_overrides(trial.params)] for trial in waiting]
            returns = self._launch(jobs, waiting[0].number)
            for trial, returned in zip(waiting, returns, strict=True):
                if not _tell(study, trial.number, returned):
                    failed.append(returned)
            if len(failed) == len(study.get_trials()):  # the command is wrong, not a trial
                break
        return failed

    def _suggested(
        self, study: optuna.Study, space: dict[str, BaseDistribution]
    ) -> list[FrozenTrial]:
        """Return the next trials; first those under way when the search was stopped.

        A trial is suggested by a sampler of a seed of its own: what a search does does not depend
        on whether it was stopped.
        """
        assert self.config is not None
        begun = len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
        known = sum(t.state is not TrialState.WAITING for t in study.get_trials(deepcopy=False))
        for number in range(known, min(known - begun + self.batch, self.trials)):
            study.sampler = self.sampler(seed=self.config.seed + number)
            with warnings.catch_warnings():  # where it begins may lie outside of a range
                warnings.filterwarnings("ignore", message="Fixed parameter")
                study.ask(space)
        return study.get_trials(states=(TrialState.RUNNING,))

    def _try_anew(self, best: FrozenTrial) -> list[JobReturn]:
        """Try the best and where the search began over fresh seeds; return the jobs that failed."""
        assert self.config is not None
        if best.number == 0:
            return []  # where it began
        fixed = [one for one in self.fixed if not one.startswith("seed=")]
        sides = [_overrides(best.params), _overrides(start(self.config, best.params))]
        jobs = [[*fixed, *side, f"seed={seed}"] for side in sides for seed in self.fresh_seeds]
        returns = self._launch(jobs, self.trials)
        return [one for one in returns if one.status is not JobStatus.COMPLETED]

    def _launch(self, jobs: list[list[str]], first: int) -> Sequence[JobReturn]:
        assert self.launcher is not None
        self.validate_batch_is_legal(jobs)
        return self.launcher.launch(jobs, first)


def _tell(study: optuna.Study, number: int, returned: JobReturn) -> bool:
    """Tell Optuna what came of a trial; return False if it failed, which divergence is not."""
    if returned.status is JobStatus.COMPLETED:
        if STOPPED in study.get_trials(deepcopy=False)[number].user_attrs:
            study.tell(number, state=TrialState.PRUNED)
        else:
            study.tell(number, returned.return_value)
        return True
    diverged = isinstance(returned._return_value, TrainingError)
    study.tell(number, state=TrialState.PRUNED if diverged else TrialState.FAIL)
    return diverged


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


def _overrides(values: Values) -> list[str]:
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


def statement(config: DictConfig, asked: Study) -> Statement:
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
    return Statement(
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


NAME = entered(Search)
