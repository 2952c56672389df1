"""A `-m` command is a study, from its beginning to its end; what all our sweepers share."""

import dataclasses
import hashlib
import logging
import sys
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from fmnist.common.errors import ConfigError, is_user_error
from fmnist.common.startup import let_children_find_project
from fmnist.config.schema import Config, Metric, Promotion, Study
from fmnist.sweeps import job_state
from fmnist.sweeps.checks import check_jobs
from fmnist.sweeps.job import StudyJob
from fmnist.sweeps.overrides import Overrides, parsed, swept
from fmnist.training import devices

if TYPE_CHECKING:
    from fmnist.evidence.comparison import StudyDesign
    from fmnist.sweeps.progress import SweepProgress
    from fmnist.tracking.studies import OpenStudy

log = logging.getLogger(__name__)


class StudySweeper(Sweeper):
    """Opens a study, launches its jobs, and ends it with the comparison, also if jobs failed."""

    config: DictConfig
    hydra_context: HydraContext
    launcher: Launcher
    progress: "SweepProgress"
    planned: int  # jobs; set by `plan`

    def __init__(self, params: DictConfig | None = None) -> None:
        self.params: Mapping[str, Any] = params or {}  # what is swept, unless a command says else

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.folder = str(Path(config.hydra.sweep.dir).absolute())
        with read_write(config.hydra), open_dict(config.hydra):  # jobs may run in another folder
            config.hydra.sweep.dir = self.folder
            quoted = self.folder.replace("'", "\\'")
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{quoted}'")
        jobs_at_once = config.hydra.runtime.choices["hydra/launcher"] != "basic"
        self.job = StudyJob(task_function, jobs_at_once, self.folder)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=self.job, config=config
        )

    @abstractmethod
    def plan(self, study: Study, overrides: Overrides) -> "StudyDesign":
        """State what the study asks, and how many jobs it takes; refuse what is impossible."""

    @abstractmethod
    def launch_all(self) -> None:
        """Launch all planned jobs; raise the error of the first that failed."""

    def resume(self, earlier: str | None) -> int:
        """Continue the sweep in the folder `earlier`, or begin; return how many jobs are done."""
        return 0

    def conclude(self, study: "OpenStudy", status: str) -> None:
        """End the study with its comparison; `status` is MLflow's."""
        from fmnist.tracking import study_comparison

        study_comparison.conclude(study, status)

    def sweep(self, arguments: list[str]) -> None:
        """Run the whole study; raise the error of the first job that failed, at the end."""
        from fmnist.tracking.heartbeat import run_lock  # only now: MLflow takes a second to import

        overrides = parsed(self.params, arguments)
        first = self._checked_first_job(overrides)
        design = self.plan(first.study, overrides)
        let_children_find_project()
        with run_lock(self.folder):
            opened = self._open(design, first, overrides)
            self._prepare(opened, overrides)
            with self._concluded(opened, first.promotion if first.promote else None):
                if self.job.jobs_at_once:
                    self.progress.start()
                self.launch_all()

    def _checked_first_job(self, overrides: Overrides) -> Config:
        """Return the configuration of the first job; refuse what cannot be before it begins."""
        devices.check_environment()
        if self.config.resume is not None or "resume" in swept(overrides):
            raise ConfigError("resume=: resumes one run; omit -m")
        first = check_jobs(self.hydra_context.config_loader, self.config, overrides)
        checkpoint = first.callbacks.get("checkpoint") or {}
        if first.study.metric is Metric.best_val_accuracy and not checkpoint.get("save_best_only"):
            raise ConfigError(
                "study.metric=best_val_accuracy: needs callbacks.checkpoint with "
                "save_best_only=true; without it choose last_val_accuracy"
            )
        return first

    def _open(self, design: "StudyDesign", first: Config, overrides: Overrides) -> "OpenStudy":
        """Open the study's run in MLflow; or that of the same command, if it was stopped."""
        from fmnist.tracking import studies
        from fmnist.tracking.git import git_state
        from fmnist.tracking.provenance import code_digest, own_modules, train_command

        experiment = self.config.hydra.runtime.choices.get("experiment")
        name = experiment or f"sweep of {', '.join(swept(overrides)) or 'one'}"
        own = own_modules(first)
        signature = _signature(self.config, design, code_digest(own))
        self.job.git = git_state(own=own)
        sweep = studies.Sweep(
            name,
            self.folder,
            train_command(sys.argv[1:]),
            self.job.git.commit,
            threads=1 if self.job.jobs_at_once else devices.usable_processors(),
            criteria=dataclasses.asdict(first.promotion),
            signature=None if self.config.rerun else signature,
        )
        opened = studies.begin(first.tracking, design, sweep)
        if self.job.git.problem:
            log.warning(self.job.git.problem)
        self.job.study_run_id, self.job.threads = opened.run_id, opened.threads
        return opened

    def _prepare(self, opened: "OpenStudy", overrides: Overrides) -> None:
        from fmnist.sweeps.progress import SweepProgress

        OmegaConf.save(self.config, Path(self.folder, "multirun.yaml"))  # as Hydra's sweeper does
        job_state.clear(self.folder)
        done = self.resume(opened.earlier)
        self.progress = SweepProgress(self.folder, self.planned - done, {*swept(overrides), "seed"})

    @contextmanager
    def _concluded(self, opened: "OpenStudy", promotion: Promotion | None) -> Iterator[None]:
        """End the study with its comparison, also if jobs failed; promote if all went well."""
        status, failures = "FAILED", []
        try:
            yield
            status = "FINISHED"
        except KeyboardInterrupt as stop:
            status = "KILLED"
            stop.add_note("resume it: type the same command again")
            raise
        except Exception as error:
            failures = self.progress.failures() if is_user_error(error) else []
            if failures:
                raise job_state.JobError(failures[0]) from error
            raise
        finally:
            self.progress.stop()
            self.conclude(opened, status)
            if promotion:
                _promote(opened, promotion, status)
            if failures:
                print("\n" + "\n".join(["failed:", *failures[1:]]))


def _signature(config: DictConfig, design: "StudyDesign", code: str) -> str:
    """Return the digest of the command, what it composes, the question, and the code."""
    from fmnist.tracking.provenance import result_overrides

    composed: Any = OmegaConf.to_container(config, resolve=False)
    hydra = composed.pop("hydra")
    for key in ("tracking", "rerun"):
        del composed[key]
    overrides = result_overrides(hydra["overrides"]["task"])
    whole = [composed, overrides, hydra["sweeper"], design, code]
    return hashlib.sha256(repr(whole).encode()).hexdigest()


def _promote(opened: "OpenStudy", promotion: Promotion, status: str) -> None:
    from fmnist.registry import promotion as registry_promotion

    store = opened.store
    if status != "FINISHED":
        command = f"{store.variable}python -m fmnist promote {opened.run_id}"
        print(f"not promoted, because not every job finished; to promote: {command}")
        return
    registry_promotion.show(store, registry_promotion.promote(store, opened.run_id, promotion))
