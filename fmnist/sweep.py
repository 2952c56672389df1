"""The Hydra side of a study: a `-m` command states its question and ends with the comparison."""

import hashlib
import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write

from fmnist import PROJECT, jobs, trial
from fmnist.config import Metric, Promotion, Study, Tracking
from fmnist.errors import (
    NOT_INSTALLED,
    USER_ERRORS,
    ConfigError,
    can_be_put_right,
    closing_line,
    one_line,
)
from fmnist.limits import SEEDS, check, check_numbers
from fmnist.overview import Overview
from fmnist.provenance import code_digest, deciding, typed

if TYPE_CHECKING:
    from fmnist.comparison import Statement
    from fmnist.study import OpenStudy

MOST_JOBS = 10_000  # Hydra lists all jobs of a sweep, in memory, before it begins the first
LISTING = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
ONE_AFTER_ANOTHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
RAY = "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher"
JOBLIB = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"

held = ExitStack()
"""Shows other processes, as long as this one lives, that its sweeps are being made."""


class Begun(NamedTuple):
    """A study under way; `rules` are those by which it shall promote at its end."""

    opened: "OpenStudy"
    rules: Promotion | None
    overview: Overview
    searches: bool


begun: list[Begun] = []
"""The studies under way."""


class StudyCallback(Callback):
    """Make a sweep a study: open the parent run of its jobs before the first of them.

    Attributes:
        at_once: whether several jobs run at the same time; the processes that do them know it.
    """

    at_once = False

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse to promote a single run, which is no evidence."""
        if config.get("promote"):
            sys.exit("error: promote=true: needs a sweep over several seeds (-m)")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """State the question; a store that cannot be used ends the program here."""
        from fmnist import study  # only now, because MLflow takes a second to import
        from fmnist.liveness import alive

        try:
            tracking, asked, rules = _parts(config)
            swept = swept_values(config)
            if config.resume is not None or "resume" in swept:
                raise ConfigError("resume=: one run goes on, without -m")
            _check_choices(swept)
            _check_metric(asked.metric, config.callbacks)
            searches = config.hydra.sweeper._target_ == trial.SEARCH
            statement, planned = _statement(config, asked, swept, searches)
            name = (
                config.hydra.runtime.choices.get("experiment")
                or f"sweep of {', '.join(swept) or 'one'}"
            )
            folder = str(config.hydra.sweep.dir)
            same = None if config.rerun else _signature(config, statement)
            self.at_once = _prepare_plugins(config.hydra)
            held.enter_context(alive(folder))
            opened = study.begin(tracking, statement, name, folder, typed(), same)
            if searches and opened.earlier and planned:
                planned -= trial.continue_journal(opened.earlier, folder)
            overview = Overview(folder, planned, {*swept, "seed"})
            begun.append(Begun(opened, rules if config.promote else None, overview, searches))
            if self.at_once:
                overview.begin()
        except USER_ERRORS as error:
            sys.exit(closing_line(error))  # Hydra makes a mere warning of exceptions

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Let a job of a sweep report from now on."""
        if config.hydra.mode is RunMode.MULTIRUN:
            jobs.begin(config.hydra, self.at_once)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Let it report how it ended."""
        if config.hydra.mode is RunMode.MULTIRUN:
            jobs.end(job_return)


def _parts(config: DictConfig) -> tuple[Tracking, Study, Promotion]:
    """Return what a study needs of the configuration, its numbers checked."""
    parts = ("tracking", "study", "promotion")
    for part in parts:
        check_numbers(config[part], f"{part}.")
    tracking, asked, rules = (OmegaConf.to_object(config[part]) for part in parts)
    assert isinstance(tracking, Tracking) and isinstance(asked, Study)
    assert isinstance(rules, Promotion)
    return tracking, asked, rules


def _statement(
    config: DictConfig, asked: Study, swept: dict[str, list[str]], searches: bool
) -> tuple["Statement", int | None]:
    """Return the question in full, and how many jobs are planned; None if nobody knows."""
    from fmnist.comparison import Statement

    if searches:
        try:
            from fmnist import search
        except ModuleNotFoundError as error:
            raise ConfigError(f"hydra/sweeper=optuna: {NOT_INSTALLED}") from error

        question = search.statement(config, asked)
        return question, config.hydra.sweeper.trials + 2 * len(question.seeds)
    variants = {key: values for key, values in swept.items() if key != "seed"}
    _check_baseline(asked.baseline, variants)
    question = Statement(
        asked.question,
        asked.metric.name,
        tuple(variants) or ("model",),
        asked.baseline,
        asked.min_effect,
        math.prod(map(len, variants.values())) or None,
        _seeds(swept.get("seed", [config.seed])),
    )
    return question, math.prod(map(len, swept.values())) or None


def _prepare_plugins(hydra: DictConfig) -> bool:
    """Put ours in the place of what they extend; return whether jobs run at once."""
    with read_write(hydra):
        if hydra.launcher._target_ == JOBLIB:
            from fmnist import parallel

            parallel.check(hydra.launcher)
            hydra.launcher._target_ = parallel.NAME
        if hydra.launcher._target_ == RAY:
            from fmnist import cluster

            cluster.check(hydra.launcher)
            hydra.launcher._target_ = cluster.NAME
        if hydra.sweeper._target_ == trial.SEARCH:
            from fmnist import search

            hydra.sweeper._target_ = search.NAME
    # What a launcher starts elsewhere finds this package by it, be it begun in any folder.
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), *paths]))
    return bool(hydra.launcher._target_ != ONE_AFTER_ANOTHER)


def _signature(config: DictConfig, statement: "Statement") -> str:
    """Return the digest of what is asked: the command, what it composes, and the code."""
    composed: Any = OmegaConf.to_container(config, resolve=False)
    hydra = composed.pop("hydra")
    for key in ("tracking", "rerun"):
        del composed[key]
    asked = deciding(hydra["overrides"]["task"])
    whole = [composed, asked, hydra["sweeper"], statement, code_digest()]
    return hashlib.sha256(repr(whole).encode()).hexdigest()


def _check_choices(swept: dict[str, list[str]]) -> None:
    """Refuse what conf/ does not have before any job begins, not when its turn comes."""
    loader = GlobalHydra.instance().config_loader()
    for group, values in swept.items():
        options = loader.get_group_options(group)
        for value in values:
            if options and value not in options:
                raise ConfigError(f"{group}={value}: choose one of {', '.join(options)}")


def _check_baseline(baseline: str | None, variants: dict[str, list[str]]) -> None:
    """Refuse a baseline that is none of the models, where these are what the sweep varies."""
    models = variants.get("model")
    if baseline is not None and models and len(variants) == 1 and baseline not in models:
        raise ConfigError(f"study.baseline={baseline}: choose one of {', '.join(models)}")


def _check_metric(metric: Metric, callbacks: DictConfig) -> None:
    """Refuse the best checkpoint's accuracy where no checkpoint is kept."""
    if metric is Metric.best_val_accuracy and callbacks.get("checkpoint") is None:
        raise ConfigError(
            "study.metric=best_val_accuracy: needs callbacks.checkpoint; "
            "without it choose last_val_accuracy"
        )


def _seeds(values: Iterable[str | int]) -> tuple[int, ...]:
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


@contextmanager
def concluded_studies() -> Iterator[None]:
    """End each study that was begun meanwhile with its comparison, also if jobs failed.

    Hydra tells its callbacks nothing of a sweep that ends badly. One that ends well promotes, if
    it shall.
    """
    status = "FAILED"
    failed: list[str] = []
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt as stop:
        status = "KILLED"
        if begun:
            stop.add_note("it goes on by: the same command, typed again")
        raise
    except Exception as error:
        if begun and can_be_put_right(error):
            overview = begun[-1].overview
            failed = overview.failures()
            if failed:
                of = overview.planned or "the"
                raise jobs.JobError(f"{len(failed)} of {of} jobs failed") from error
        raise
    finally:
        while begun:
            _conclude(begun.pop(), status)
        if failed:
            print("\n" + "\n".join(["failed:", *failed]))


def _conclude(study_begun: Begun, status: str) -> None:
    """End a study with its comparison and, if it shall, a promotion."""
    from fmnist import study

    opened, rules, overview, searches = study_begun
    overview.end()
    if searches:
        from fmnist import search_report

        search_report.name_best(opened, overview.sweep)
        search_report.conclude(opened, overview.sweep, study.conclude(opened, status))
    else:
        study.conclude(opened, status)
    if rules and status != "FINISHED":
        ask = f"{opened.store.variable}python -m fmnist promote {opened.run_id}"
        print(f"no promotion, since not every job finished; ask for it by: {ask}")
    elif rules:
        from fmnist import promotion

        store = opened.store
        promotion.show(store, promotion.promote(store, opened.run_id, rules))


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
