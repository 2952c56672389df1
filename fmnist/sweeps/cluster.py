"""Jobs of a sweep on a Ray cluster: Hydra's Ray launcher, hardened."""

import logging
import os
import socket
from collections.abc import Sequence
from typing import Any

import ray
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_ray_launcher._launcher_util import launch_job_on_ray, start_ray
from hydra_plugins.hydra_ray_launcher.ray_launcher import RayLauncher
from omegaconf import DictConfig, open_dict
from ray.exceptions import RayError

from fmnist.sweeps import jobs
from fmnist.common.errors import ConfigError, one_line
from fmnist.common.exits import sigterm_raises
from fmnist.sweeps.plugins import entered

PATIENCE = 10.0  # seconds for the cluster to answer
LAST_WORDS = 30.0  # seconds for jobs that are stopped to say so

log = logging.getLogger(__name__)
for quiet in ("hydra_plugins.hydra_ray_launcher", "ray._private.authentication"):
    logging.getLogger(quiet).setLevel(logging.ERROR)
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers


def check(launcher: DictConfig) -> None:
    """Refuse an address at which nothing answers, for which Ray would wait minutes.

    Raises:
        ConfigError: if it is one, HOST:PORT; other ways to name a cluster are left to Ray.
    """
    host, _, port = str(launcher.ray.init.address).rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except OSError as error:
        key = f"hydra.launcher.ray.init.address={host}:{port}"
        raise ConfigError(f"{key}: no Ray cluster answers there: {one_line(error)}") from error


class JobsOnRay(RayLauncher):
    """Launches all jobs at once as Ray's tasks; one that fails or is killed costs only itself.

    Ray does the jobs of a node that died again elsewhere: they go on from their last epoch, if the
    folder of the sweep lies on storage that all nodes share.
    """

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Do the jobs; the first has the number `initial_job_idx`."""
        assert self.config is not None
        threads = self.config.training.threads or 1
        with open_dict(self.ray_cfg):
            self.ray_cfg.remote.setdefault("num_cpus", threads)
            self.ray_cfg.init = {"logging_level": "WARNING", "log_to_driver": False} | dict(
                self.ray_cfg.init
            )
        start_ray(self.ray_cfg.init)
        processors = int(ray.cluster_resources().get("CPU", 0))
        log.info(
            f"{len(job_overrides)} jobs on {len(ray.nodes())} nodes, {processors // threads} at "
            f"once; what each logs: {self.config.hydra.sweep.dir}/*/train.log"
        )
        numbered = list(enumerate(map(list, job_overrides), initial_job_idx))
        tasks = [self._begin(number, overrides) for number, overrides in numbered]
        try:
            with sigterm_raises():
                return [
                    self._returned(task, *job) for task, job in zip(tasks, numbered, strict=True)
                ]
        except KeyboardInterrupt:
            for task in tasks:
                ray.cancel(task)
            ray.wait(tasks, num_returns=len(tasks), timeout=LAST_WORDS)
            raise

    def _begin(self, number: int, overrides: list[str]) -> Any:
        """Let Ray do a job when there is a processor for it."""
        assert self.hydra_context is not None and self.config is not None
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = f"job_id_for_{number}", number
        return launch_job_on_ray(
            self.hydra_context,
            self.ray_cfg.remote,
            config,
            self.task_function,  # type: ignore[arg-type]
            Singleton.get_state(),
        )

    def _returned(self, task: Any, number: int, overrides: list[str]) -> JobReturn:
        """Wait for a job; one whose process Ray gave up has failed."""
        assert self.config is not None
        try:
            done: JobReturn = ray.get(task)
            return done
        except RayError as error:
            reason = f"its process was killed, again and again: {one_line(error)[:200]}"
            killed = jobs.Job(number, tuple(overrides), ended=True, error=reason)
            killed.save(str(self.config.hydra.sweep.dir))
            return killed.returned()


NAME = entered(JobsOnRay)
