"""Jobs of a sweep at once, on the processors of this machine: Hydra's joblib launcher, hardened."""

import logging
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from fmnist.common.errors import ConfigError
from fmnist.common.exits import sigterm_raises
from fmnist.sweeps import job_state
from fmnist.training.devices import usable_processors

log = logging.getLogger(__name__)


class ParallelLauncher(Launcher):
    """Launches as many jobs at once as there are processors; one that is killed costs only itself.

    If a worker dies, joblib ends all others. The interrupted jobs then resume one at a time, each
    from its last epoch; a job whose process dies once more, alone, has failed.
    """

    def __init__(self, n_jobs: int, **options: Any) -> None:
        self.n_jobs, self.options = n_jobs, options | {"batch_size": 1}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher

        if not isinstance(self.n_jobs, int) or self.n_jobs == 0:
            raise ConfigError(
                f"hydra.launcher.n_jobs={self.n_jobs}: must be at least 1, or -1: as many as fit"
            )
        if self.n_jobs == -1:
            self.n_jobs = max(1, usable_processors() // (config.training.threads or 1))
        self.sweep_dir = str(config.hydra.sweep.dir)
        self.joblib = JoblibLauncher(n_jobs=self.n_jobs, **self.options)
        self.joblib.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        log.info(
            f"{len(job_overrides)} jobs, {self.n_jobs} at once; "
            f"what each logs: {job_state.log_files(self.sweep_dir)}"
        )
        with sigterm_raises():
            return self._launch([list(overrides) for overrides in job_overrides], initial_job_idx)

    def _launch(self, jobs: list[list[str]], first: int) -> list[JobReturn]:
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        try:
            return list(self.joblib.launch(jobs, first))
        except TerminatedWorkerError:
            return self._one_by_one(jobs, first)

    def _one_by_one(self, jobs: list[list[str]], first: int) -> list[JobReturn]:
        """Run the jobs that were interrupted one at a time, then all that had not begun."""
        results: list[JobReturn] = []
        for index, overrides in enumerate(jobs):
            state = job_state.find(self.sweep_dir, first + index)
            if state is None and index > 0:  # nor have the later ones begun
                return results + self._launch(jobs[index:], first + index)
            if state is None or not state.ended:
                results.append(self._run_alone(overrides, first + index))
            else:
                results.append(state.as_return())
        return results

    def _run_alone(self, overrides: list[str], number: int) -> JobReturn:
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        try:
            result: JobReturn = next(iter(self.joblib.launch([overrides], number)))
        except TerminatedWorkerError:
            result = job_state.killed(self.sweep_dir, number, overrides, "twice")
        return result
