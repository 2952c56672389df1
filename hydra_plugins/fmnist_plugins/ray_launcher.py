"""Jobs of a sweep on a Ray cluster: Hydra's Ray launcher, hardened."""

import importlib.util
import logging
import socket
from collections.abc import Sequence
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from fmnist.common.errors import NOT_INSTALLED, ConfigError, one_line
from fmnist.common.exits import sigterm_raises
from fmnist.sweeps import job_state

CONNECT_TIMEOUT = 10.0  # seconds for the cluster to answer
SHUTDOWN_TIMEOUT = 30.0  # seconds for jobs that are stopped to say so

log = logging.getLogger(__name__)


def check_address(address: Any) -> None:
    """Refuse an address at which nothing answers, for which Ray would wait minutes.

    Raises:
        ConfigError: if it is one, HOST:PORT; other ways to name a cluster are left to Ray.
    """
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT).close()
    except OSError as error:
        key = f"hydra.launcher.ray.init.address={host}:{port}"
        raise ConfigError(f"{key}: no Ray cluster answers there: {one_line(error)}") from error


class ClusterLauncher(Launcher):
    """Launches all jobs at once as Ray's tasks; one that fails or is killed costs only itself.

    Ray does the jobs of a node that died again elsewhere: they go on from their last epoch, if the
    folder of the sweep lies on storage that all nodes share.

    Args:
        ray: `init`, the arguments of `ray.init`, and `remote`, those of `ray.remote`.
    """

    def __init__(self, ray: DictConfig) -> None:
        self.ray_cfg = ray

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives.

        Raises:
            ConfigError: if Ray is not installed, or if no cluster answers at the address.
        """
        if importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is None:
            other = "or one after another: hydra/launcher=basic"
            raise ConfigError(f"hydra/launcher=ray: {NOT_INSTALLED}, {other}")
        check_address(self.ray_cfg.init.get("address"))
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Do the jobs; the first has the number `initial_job_idx`."""
        import ray
        from hydra_plugins.hydra_ray_launcher._launcher_util import start_ray

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
            ray.wait(tasks, num_returns=len(tasks), timeout=SHUTDOWN_TIMEOUT)
            raise

    def _begin(self, number: int, overrides: list[str]) -> Any:
        """Let Ray do a job when there is a processor for it."""
        from hydra_plugins.hydra_ray_launcher._launcher_util import launch_job_on_ray

        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = f"job_id_for_{number}", number
        return launch_job_on_ray(
            self.hydra_context,
            self.ray_cfg.remote,
            config,
            self.task_function,
            Singleton.get_state(),
        )

    def _returned(self, task: Any, number: int, overrides: list[str]) -> JobReturn:
        """Wait for a job; one whose process Ray gave up has failed."""
        import ray
        from ray.exceptions import RayError

        try:
            done: JobReturn = ray.get(task)
            return done
        except RayError as error:
            reason = f"its process was killed, again and again: {one_line(error)[:200]}"
            killed = job_state.JobState(number, tuple(overrides), ended=True, error=reason)
            killed.save(str(self.config.hydra.sweep.dir))
            return killed.as_return()
