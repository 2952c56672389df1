"""Jobs of a sweep at once, on the processors of this machine: Hydra's joblib launcher, hardened."""

import logging
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher
from joblib.externals.loky.process_executor import TerminatedWorkerError
from omegaconf import DictConfig

from fmnist.sweeps import jobs
from fmnist.common.errors import ConfigError
from fmnist.common.exits import sigterm_raises
from fmnist.sweeps.plugins import entered
from fmnist.training.devices import usable_processors

log = logging.getLogger(__name__)
logging.getLogger("hydra_plugins.hydra_joblib_launcher._core").setLevel(logging.WARNING)


def check(launcher: DictConfig) -> None:
    """Refuse a number of jobs at once that is none.

    Raises:
        ConfigError: if it is.
    """
    if not isinstance(launcher.n_jobs, int) or launcher.n_jobs == 0:
        raise ConfigError(
            f"hydra.launcher.n_jobs={launcher.n_jobs}: must be at least 1, or -1: as many as fit"
        )


class JobsAtOnce(JoblibLauncher):
    """Launches as many jobs at once as there are processors; one that is killed costs only itself.

    If a worker dies, joblib ends all others. The jobs that were under way then go on one at a
    time, each from its last epoch: a job whose process dies once more, alone, has failed.

    Args:
        n_jobs: how many at once; -1: as many as the threads of each leave processors for.
        options: of joblib.Parallel.
    """

    def __init__(self, n_jobs: int, **options: Any) -> None:
        super().__init__(n_jobs=n_jobs, **options | {"batch_size": 1})

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Do the jobs; the first has the number `initial_job_idx`."""
        assert self.config is not None
        if self.joblib["n_jobs"] == -1:
            threads = self.config.training.threads or 1
            self.joblib["n_jobs"] = max(1, usable_processors() // threads)
        log.info(
            f"{len(job_overrides)} jobs, {self.joblib['n_jobs']} at once; "
            f"what each logs: {self.config.hydra.sweep.dir}/*/train.log"
        )
        with sigterm_raises():
            return self._launch([list(one) for one in job_overrides], initial_job_idx)

    def _launch(self, job_overrides: list[list[str]], first: int) -> list[JobReturn]:
        try:
            return list(super().launch(job_overrides, first))
        except TerminatedWorkerError:
            return self._one_by_one(job_overrides, first)

    def _one_by_one(self, job_overrides: list[list[str]], first: int) -> list[JobReturn]:
        """Do the jobs that were under way one at a time, then all that had not begun."""
        assert self.config is not None
        sweep = str(self.config.hydra.sweep.dir)
        done: list[JobReturn] = []
        for place, overrides in enumerate(job_overrides):
            job = jobs.find(sweep, first + place)
            if job is None and place > 0:  # nor have those behind it
                return done + self._launch(job_overrides[place:], first + place)
            if job is None or not job.ended:
                done.append(self._alone(sweep, overrides, first + place))
            else:
                done.append(job.returned())
        return done

    def _alone(self, sweep: str, overrides: list[str], number: int) -> JobReturn:
        try:
            done: JobReturn = next(iter(super().launch([overrides], number)))
            return done
        except TerminatedWorkerError:
            killed = jobs.Job(
                number, tuple(overrides), ended=True, error="its process was killed, twice"
            )
            killed.save(sweep)
            return killed.returned()


NAME = entered(JobsAtOnce)
