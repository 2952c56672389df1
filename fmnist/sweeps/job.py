"""A job of a sweep, in the process that runs it: it knows its context and reports its progress."""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from fmnist import PROJECT
from fmnist.common.errors import TrainingError, is_user_error, one_line
from fmnist.sweeps.job_state import JobError, JobState
from fmnist.tracking.job_context import JobContext

if TYPE_CHECKING:
    from fmnist.tracking.git import GitState
    from fmnist.training.callbacks import Pruner

CONF, CONFIG_NAME = PROJECT / "conf", "train"  # of train.py

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """The context of a job, and the pruner of its search if it is a trial."""

    context: JobContext
    pruner: "Pruner | None" = None


def single_run() -> Job:
    """Return the job of a command that is no sweep; warn if it names what to sweep."""
    hydra = HydraConfig.get()
    if params := hydra.sweeper.get("params"):
        name = hydra.runtime.choices.get("experiment") or "hydra.sweeper.params"
        log.warning("%s: one network is trained; its study of %s needs -m", name, ", ".join(params))
    return Job(_context())


def _context(**of_study: Any) -> JobContext:
    hydra = HydraConfig.get()
    overrides: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    choices = {g: c for g, c in hydra.runtime.choices.items() if not {"/", "@"} & set(g)}
    choices.pop("experiment", None)  # a way to write overrides, which are recorded resolved
    folder = hydra.runtime.output_dir
    return JobContext(tuple(overrides), choices, _options(hydra), folder, **of_study)


def _options(hydra: Any) -> tuple[str, ...]:
    """Return the options of the command that choose other files than conf/train.yaml."""
    name = hydra.job.config_name
    folders = {source.provider: source.path for source in hydra.runtime.config_sources}
    options = {
        "--config-path": None if folders["main"] == str(CONF) else folders["main"],
        "--config-name": None if name == CONFIG_NAME else name,
        "--config-dir": folders.get("command-line"),
    }
    return tuple(f"{option}={value}" for option, value in options.items() if value)


@dataclass
class StudyJob:
    """The task function of a sweep's jobs, which launchers pickle into other processes."""

    task: Callable[..., float]  # of a single run; takes the configuration and the `Job`
    jobs_at_once: bool
    sweep_dir: str
    # Set before the first job begins:
    study_run_id: str | None = None
    trials: int = 0  # the first jobs, as many as these, are the trials of a search
    threads: int | None = None
    git: "GitState | None" = None

    def __call__(self, config: DictConfig) -> float:
        number = int(HydraConfig.get().job.num)
        trial = number if number < self.trials else None
        context = _context(
            study_run_id=self.study_run_id, trial=trial, threads=self.threads, git=self.git
        )
        reporter = JobReporter(JobState(number, context.overrides), self.sweep_dir)
        try:
            with reporter.listening(jobs_at_once=self.jobs_at_once):
                objective = self.task(config, Job(context, self._pruner(trial)))
        except Exception as error:
            raise self._reported(reporter, error) from error
        reporter.report(ended=True, objective=objective)
        return objective

    def _pruner(self, trial: int | None) -> "Pruner | None":
        if trial is None:
            return None
        from fmnist.sweeps import journal  # only now: it imports Optuna

        return journal.pruner_of(self.sweep_dir, trial)

    def _reported(self, reporter: "JobReporter", error: Exception) -> Exception:
        """Report an error; return what the command that began the sweep gets."""
        bug = not is_user_error(error)
        reason = f"{type(error).__name__}: {one_line(error)}" if bug else one_line(error)
        log.error("error: %s", reason, exc_info=error if bug and self.jobs_at_once else None)
        reporter.report(ended=True, error=reason, diverged=isinstance(error, TrainingError))
        return JobError(reason) if self.jobs_at_once else error  # others may not survive pickling


class JobReporter(logging.Handler):
    """Writes the state of a job: its epochs and warnings, as they are logged, and its end."""

    def __init__(self, state: JobState, sweep_dir: str) -> None:
        super().__init__(logging.INFO)
        self.state, self.sweep_dir = state, sweep_dir
        self.report()

    def report(self, **changes: Any) -> None:
        """Write what has changed; safe from several threads, as the delivery queue logs, too."""
        self.acquire()
        try:
            self.state = dataclasses.replace(self.state, **changes)
            self.state.save(self.sweep_dir)
        finally:
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self.report(warnings=(*self.state.warnings, record.getMessage()))
        elif hasattr(record, "val_accuracy"):
            keys = ("epoch", "epochs", "val_accuracy")
            self.report(**{key: getattr(record, key) for key in keys})

    @contextmanager
    def listening(self, jobs_at_once: bool) -> Iterator[None]:
        """Listen to the log; where jobs run at once, the terminal no longer shows it."""
        root = logging.getLogger()
        for handler in [*root.handlers]:
            if jobs_at_once and not isinstance(handler, logging.FileHandler):
                root.removeHandler(handler)
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)
