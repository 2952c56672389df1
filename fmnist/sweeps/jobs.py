"""What each job of a sweep says of itself, in a file for the command that began them all."""

import dataclasses
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from fmnist.common.errors import FmnistError, TrainingError, can_be_put_right, one_line
from fmnist.common.files import replacing

FOLDER = "jobs"  # in that of the sweep

log = logging.getLogger(__name__)


class JobError(FmnistError):
    """A job of a sweep failed, in another process."""


@dataclass(frozen=True)
class Job:
    """What is known of a job.

    Attributes:
        number: counted from 0, as Hydra names its folder.
        overrides: which it was begun with.
        epoch: how many are done.
        epochs: how many there are at most; 0 before the first is done.
        val_accuracy: after the last one.
        warnings: what a person should know, a line each.
        ended: whether it is over.
        objective: what came of it; None if it failed.
        error: why it failed, one line.
    """

    number: int
    overrides: tuple[str, ...]
    epoch: int = 0
    epochs: int = 0
    val_accuracy: float | None = None
    warnings: tuple[str, ...] = ()
    ended: bool = False
    objective: float | None = None
    error: str | None = None

    def save(self, sweep: str) -> None:
        """Write it into the folder of the sweep."""
        path = Path(sweep, FOLDER, f"{self.number}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside:
            beside.write_text(json.dumps(dataclasses.asdict(self)))

    def returned(self) -> JobReturn:
        """Return what Hydra makes of a job that is over."""
        done = JobReturn(overrides=self.overrides)
        done.return_value = JobError(self.error) if self.error else self.objective
        done.status = JobStatus.FAILED if self.error else JobStatus.COMPLETED
        return done


def find(sweep: str, number: int) -> Job | None:
    """Return what a job said last; None if it has not begun."""
    path = Path(sweep, FOLDER, f"{number}.json")
    return _read(path) if path.exists() else None


def find_all(sweep: str, but: frozenset[int] = frozenset()) -> Iterator[Job]:
    """Yield each job that has begun, in their order, without the numbers in `but`."""
    paths = {int(path.stem): path for path in Path(sweep, FOLDER).glob("[0-9]*.json")}
    for number in sorted(paths.keys() - but):
        yield _read(paths[number])


def _read(path: Path) -> Job:
    values = json.loads(path.read_text())
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return Job(**values | lists)


class Reporter(logging.Handler):
    """Reports the job of this process, the warnings that it logs among other things."""

    def __init__(self, hydra: DictConfig, at_once: bool) -> None:
        super().__init__(logging.WARNING)
        self.sweep = str(hydra.sweep.dir)
        self.at_once = at_once
        self.job = Job(int(hydra.job.num), tuple(hydra.overrides.task))
        self.report()

    def report(self, **changes: Any) -> None:
        """Say what has changed; the thread that speaks to the store may do so, too."""
        self.acquire()
        try:
            self.job = dataclasses.replace(self.job, **changes)
            self.job.save(self.sweep)
        finally:
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning, for the command that began the sweep to show."""
        self.report(warnings=(*self.job.warnings, record.getMessage()))


reporter: Reporter | None = None
"""That of the job which this process does now."""


def begin(hydra: DictConfig, at_once: bool) -> None:
    """Begin to report; beside other jobs, what is logged goes into the job's own file only."""
    global reporter
    reporter = Reporter(hydra, at_once)
    if reporter.at_once:
        root = logging.getLogger()
        for handler in [*root.handlers]:
            if not isinstance(handler, logging.FileHandler):
                root.removeHandler(handler)
        root.addHandler(reporter)


def in_sweep() -> bool:
    """Tell whether this process does a job of a sweep."""
    return reporter is not None


def at_once() -> bool:
    """Tell whether this process does a job of a sweep beside others."""
    return reporter is not None and reporter.at_once


def report_epoch(epoch: int, epochs: int, val_accuracy: float) -> None:
    """Say how far the job of this process is, if it does one of a sweep."""
    if reporter:
        reporter.report(epoch=epoch, epochs=epochs, val_accuracy=val_accuracy)


def end(done: JobReturn) -> None:
    """Say how the job of this process ended."""
    global reporter
    assert reporter is not None
    ended, reporter = reporter, None
    logging.getLogger().removeHandler(ended)
    if done.status is JobStatus.COMPLETED:
        ended.report(ended=True, objective=done.return_value)
        return
    error = done._return_value  # reading `return_value` would raise it
    bug = not can_be_put_right(error)
    reason = f"{type(error).__name__}: {one_line(error)}" if bug else one_line(error)
    log.error("error: %s", reason, exc_info=error if bug and ended.at_once else None)
    ended.report(ended=True, error=reason)
    if ended.at_once:
        # Another might not survive the way home; of a divergence a search takes no offence.
        kind = TrainingError if isinstance(error, TrainingError) else JobError
        done.return_value = kind(reason)
