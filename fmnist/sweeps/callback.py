"""The Hydra side of a study: a `-m` command states its question and ends with the comparison."""

import hashlib
import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from fmnist.sweeps import jobs, plugins, trial
from fmnist.config.schema import Promotion, Study, Tracking
from fmnist.common.errors import NOT_INSTALLED, USER_ERRORS, ConfigError, can_be_put_right
from fmnist.common.exits import closing_line
from fmnist.config.limits import check_numbers
from fmnist.sweeps.progress import Overview
from fmnist.tracking.provenance import code_digest, deciding, typed
from fmnist.sweeps.overrides import check_baseline, check_choices, check_metric, seeds_of, swept_values

if TYPE_CHECKING:
    from fmnist.evidence.comparison import Statement
    from fmnist.tracking.studies import OpenStudy


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
        from fmnist.tracking import studies  # only now, because MLflow takes a second to import
        from fmnist.tracking.heartbeat import alive

        try:
            tracking, asked, rules = _parts(config)
            swept = swept_values(config)
            if config.resume is not None or "resume" in swept:
                raise ConfigError("resume=: one run goes on, without -m")
            check_choices(swept)
            check_metric(asked.metric, config.callbacks)
            searches = config.hydra.sweeper._target_ == trial.SEARCH
            statement, planned = _statement(config, asked, swept, searches)
            name = (
                config.hydra.runtime.choices.get("experiment")
                or f"sweep of {', '.join(swept) or 'one'}"
            )
            folder = str(config.hydra.sweep.dir)
            same = None if config.rerun else _signature(config, statement)
            self.at_once = plugins.prepare(config.hydra)
            held.enter_context(alive(folder))
            opened = studies.begin(tracking, statement, name, folder, typed(), same)
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
    from fmnist.evidence.comparison import Statement

    if searches:
        try:
            from fmnist.sweeps import search
        except ModuleNotFoundError as error:
            raise ConfigError(f"hydra/sweeper=optuna: {NOT_INSTALLED}") from error

        question = search.statement(config, asked)
        return question, config.hydra.sweeper.trials + 2 * len(question.seeds)
    variants = {key: values for key, values in swept.items() if key != "seed"}
    check_baseline(asked.baseline, variants)
    question = Statement(
        asked.question,
        asked.metric.name,
        tuple(variants) or ("model",),
        asked.baseline,
        asked.min_effect,
        math.prod(map(len, variants.values())) or None,
        seeds_of(swept.get("seed", [config.seed])),
    )
    return question, math.prod(map(len, swept.values())) or None


def _signature(config: DictConfig, statement: "Statement") -> str:
    """Return the digest of what is asked: the command, what it composes, and the code."""
    composed: Any = OmegaConf.to_container(config, resolve=False)
    hydra = composed.pop("hydra")
    for key in ("tracking", "rerun"):
        del composed[key]
    asked = deciding(hydra["overrides"]["task"])
    whole = [composed, asked, hydra["sweeper"], statement, code_digest()]
    return hashlib.sha256(repr(whole).encode()).hexdigest()


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
    from fmnist.tracking import studies

    opened, rules, overview, searches = study_begun
    overview.end()
    if searches:
        from fmnist.sweeps import search_report

        search_report.name_best(opened, overview.sweep)
        search_report.conclude(opened, overview.sweep, studies.conclude(opened, status))
    else:
        studies.conclude(opened, status)
    if rules and status != "FINISHED":
        ask = f"{opened.store.variable}python -m fmnist promote {opened.run_id}"
        print(f"no promotion, since not every job finished; ask for it by: {ask}")
    elif rules:
        from fmnist.registry import promotion

        store = opened.store
        promotion.show(store, promotion.promote(store, opened.run_id, rules))
