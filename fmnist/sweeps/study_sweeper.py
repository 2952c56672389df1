"""What all our sweepers have in common: a `-m` command is a study, from its begin to its end."""

import dataclasses
import hashlib
import sys
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from fmnist.common.errors import ConfigError, is_user_error
from fmnist.common.startup import let_children_find_project
from fmnist.config.limits import check_numbers
from fmnist.config.schema import Promotion, Study, Tracking
from fmnist.sweeps.job import StudyJob
from fmnist.sweeps.job_state import JobError
from fmnist.sweeps.overrides import check_choices, check_metric, swept_values
from fmnist.sweeps.progress import SweepProgress

if TYPE_CHECKING:
    from fmnist.evidence.comparison import StudyDesign
    from fmnist.tracking.studies import OpenStudy

PARTS = ("tracking", "study", "promotion")
ONE_AFTER_ANOTHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


@dataclasses.dataclass(frozen=True)
class StudyPlan:
    """What a sweep is going to do.

    Attributes:
        design: the question, stated before the first job.
        jobs: how many are planned; None: nobody knows.
        trials: how many of these are trials of a search.
    """

    design: "StudyDesign"
    jobs: int | None
    trials: int = 0


class StudySweeper(Sweeper):
    """Opens a study, launches its jobs, and ends it with the comparison, also if jobs failed.

    Args:
        params: what is swept, as overrides; the command line goes before them.
    """

    def __init__(self, params: DictConfig | None = None) -> None:
        self.params: Mapping[str, Any] = params or {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives, and the launcher that the configuration names."""
        self.config, self.hydra_context = config, hydra_context
        self.job = StudyJob(task_function, config.hydra.launcher._target_ != ONE_AFTER_ANOTHER)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=self.job, config=config
        )

    @abstractmethod
    def plan(self, study: Study, swept: dict[str, list[str]]) -> StudyPlan:
        """State what the study asks, and how many jobs it takes.

        Raises:
            ConfigError: if that is impossible as it is configured.
        """

    @abstractmethod
    def launch_all(self, arguments: list[str], folder: str) -> list[JobReturn]:
        """Launch all jobs, in the sweep's folder; raise the error of the first that failed."""

    def resume(self, earlier: str, folder: str) -> int:
        """Go on with the sweep in the folder `earlier`; return how many jobs need not be done."""
        return 0

    def conclude(self, study: "OpenStudy", folder: str, status: str) -> None:
        """End the study with its comparison; `status` is MLflow's."""
        from fmnist.tracking import study_comparison

        study_comparison.conclude(study, status)

    def launch(self, jobs: list[list[str]], first: int) -> Sequence[JobReturn]:
        """Let the launcher do some jobs; the first of them has the number `first`."""
        assert self.launcher is not None
        self.validate_batch_is_legal(jobs)
        return self.launcher.launch(jobs, first)

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        """Do the whole study.

        Raises:
            FmnistError: if the study is impossible as it is configured, or if jobs failed.
        """
        from fmnist.tracking.heartbeat import run_lock  # only now: MLflow takes a second to import

        assert self.config is not None
        tracking, study, promotion = (_typed(self.config, part) for part in PARTS)
        swept = self._checked_sweep(study)
        plan = self.plan(study, swept)
        folder = str(Path(self.config.hydra.sweep.dir).absolute())
        let_children_find_project()
        with run_lock(folder):
            opened = self._open(plan, swept, tracking, folder)
            jobs = plan.jobs
            if opened.earlier and jobs:
                jobs -= self.resume(opened.earlier, folder)
            progress = SweepProgress(folder, jobs, {*swept, "seed"})
            self.job.tell(opened.run_id, folder, plan.trials)
            with self._concluded(opened, progress, promotion if self.config.promote else None):
                if self.job.jobs_at_once:
                    progress.begin()
                return self.launch_all(arguments, folder)

    def _checked_sweep(self, study: Study) -> dict[str, list[str]]:
        """Return what the sweep varies; refuse what cannot be before the first job begins."""
        assert self.config is not None
        swept = swept_values(self.config)
        if self.config.resume is not None or "resume" in swept:
            raise ConfigError("resume=: one run goes on, without -m")
        check_choices(swept)
        check_metric(study.metric, self.config.callbacks)
        return swept

    def _open(
        self, plan: StudyPlan, swept: dict[str, list[str]], tracking: Tracking, folder: str
    ) -> "OpenStudy":
        """Open the study's run in MLflow; or that of the same command, if it was stopped."""
        from fmnist.tracking import studies
        from fmnist.tracking.provenance import train_command

        assert self.config is not None
        chosen = self.config.hydra.runtime.choices.get("experiment")
        name = chosen or f"sweep of {', '.join(swept) or 'one'}"
        same = None if self.config.rerun else _signature(self.config, plan.design)
        command = train_command(sys.argv[1:])
        sweep = studies.Sweep(name, folder, command, same)
        return studies.begin(tracking, plan.design, sweep)

    @contextmanager
    def _concluded(
        self, opened: "OpenStudy", progress: SweepProgress, promotion: Promotion | None
    ) -> Iterator[None]:
        """End the study with its comparison, also if jobs failed; promote if all went well."""
        status, failures = "FAILED", []
        try:
            yield
            status = "FINISHED"
        except KeyboardInterrupt as stop:
            status = "KILLED"
            stop.add_note("it goes on by: the same command, typed again")
            raise
        except Exception as error:
            failures = progress.failures() if is_user_error(error) else []
            if failures:
                of = progress.planned or "the"
                raise JobError(f"{len(failures)} of {of} jobs failed") from error
            raise
        finally:
            progress.end()
            self.conclude(opened, progress.sweep_dir, status)
            if promotion:
                _promote(opened, promotion, status)
            if failures:
                print("\n" + "\n".join(["failed:", *failures]))


def _typed(config: DictConfig, part: str) -> Any:
    """Return a part of the configuration as its dataclass, its numbers checked."""
    check_numbers(config[part], f"{part}.")
    return OmegaConf.to_object(config[part])


def _signature(config: DictConfig, design: "StudyDesign") -> str:
    """Return the digest of what is asked: the command, what it composes, and the code."""
    from fmnist.tracking.provenance import code_digest, result_overrides

    composed: Any = OmegaConf.to_container(config, resolve=False)
    hydra = composed.pop("hydra")
    for key in ("tracking", "rerun"):
        del composed[key]
    asked = result_overrides(hydra["overrides"]["task"])
    whole = [composed, asked, hydra["sweeper"], design, code_digest()]
    return hashlib.sha256(repr(whole).encode()).hexdigest()


def _promote(opened: "OpenStudy", promotion: Promotion, status: str) -> None:
    """Let the study choose the champion, if every job finished."""
    from fmnist.registry import promotion as registry_promotion

    store = opened.store
    if status != "FINISHED":
        command = f"{store.variable}python -m fmnist promote {opened.run_id}"
        print(f"no promotion, since not every job finished; ask for it by: {command}")
        return
    registry_promotion.show(store, registry_promotion.promote(store, opened.run_id, promotion))
