"""A job of a sweep, in the process that does it: told who it is, it reports how far it is."""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from fmnist.common.errors import TrainingError, is_user_error, one_line
from fmnist.sweeps.job_state import JobError, JobState
from fmnist.sweeps.trial import pruner_of
from fmnist.tracking.job_context import JobContext

if TYPE_CHECKING:
    from fmnist.training.callbacks import Pruner

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Who a job is, and the pruner of the search that it is a trial of, if it is one."""

    context: JobContext = field(default_factory=JobContext)
    pruner: "Pruner | None" = None


def single_run() -> Job:
    """Return the job of a command that is no sweep."""
    return Job(_context())


def _context(**told: Any) -> JobContext:
    hydra = HydraConfig.get()
    overrides: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    chosen = {g: c for g, c in hydra.runtime.choices.items() if not {"/", "@"} & set(g)}
    chosen.pop("experiment", None)  # a way to write overrides, which are recorded resolved
    return JobContext(tuple(overrides), chosen, hydra.runtime.output_dir, **told)


class StudyJob:
    """The task function of a sweep's jobs, which launchers pickle into other processes.

    Args:
        task: of a single run; called with the configuration and the `Job`.
        jobs_at_once: whether several jobs run at the same time.
    """

    def __init__(self, task: Callable[..., float], jobs_at_once: bool) -> None:
        self.task, self.jobs_at_once = task, jobs_at_once
        self.study_run_id, self.sweep_dir, self.trials = "", "", 0

    def tell(self, study_run_id: str, sweep_dir: str, trials: int) -> None:
        """Tell all jobs which study they belong to; the first `trials` are those of a search."""
        self.study_run_id, self.sweep_dir, self.trials = study_run_id, sweep_dir, trials

    def __call__(self, config: DictConfig) -> float:
        """Do one job."""
        number = int(HydraConfig.get().job.num)
        trial = number if number < self.trials else None
        context = _context(
            study_run_id=self.study_run_id, trial=trial, jobs_at_once=self.jobs_at_once
        )
        reporter = JobReporter(JobState(number, context.overrides), self.sweep_dir)
        with reporter.listening(alone=self.jobs_at_once):
            try:
                pruner = None if trial is None else pruner_of(self.sweep_dir, trial)
                objective = self.task(config, Job(context, pruner))
            except Exception as error:
                raise self._failed(reporter, error) from error
        reporter.report(ended=True, objective=objective)
        return objective

    def _failed(self, reporter: "JobReporter", error: Exception) -> Exception:
        """Report an error, and return the one that the command that began the sweep gets."""
        bug = not is_user_error(error)
        reason = f"{type(error).__name__}: {one_line(error)}" if bug else one_line(error)
        log.error("error: %s", reason, exc_info=error if bug and self.jobs_at_once else None)
        reporter.report(ended=True, error=reason)
        if not self.jobs_at_once:
            return error
        # Another type might not survive pickling; a search tells divergence from failure.
        return (TrainingError if isinstance(error, TrainingError) else JobError)(reason)


class JobReporter(logging.Handler):
    """Writes the job's state: its epochs and warnings, as they are logged, and its end."""

    def __init__(self, state: JobState, sweep_dir: str) -> None:
        super().__init__(logging.INFO)
        self.state, self.sweep_dir = state, sweep_dir
        self.report()

    def report(self, **changes: Any) -> None:
        """Write what has changed; the thread that delivers to the store may do so, too."""
        self.acquire()
        try:
            self.state = dataclasses.replace(self.state, **changes)
            self.state.save(self.sweep_dir)
        finally:
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        """Take an epoch or a warning out of what is logged."""
        if record.levelno >= logging.WARNING:
            self.report(warnings=(*self.state.warnings, record.getMessage()))
        elif hasattr(record, "val_accuracy"):
            keys = ("epoch", "epochs", "val_accuracy")
            self.report(**{key: getattr(record, key) for key in keys})

    @contextmanager
    def listening(self, alone: bool) -> Iterator[None]:
        """Listen to the log; `alone`: the terminal does not, as other jobs run beside this one."""
        root = logging.getLogger()
        for handler in [*root.handlers]:
            if alone and not isinstance(handler, logging.FileHandler):
                root.removeHandler(handler)
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)
