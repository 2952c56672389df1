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

from fmnist.common.errors import NO_LAUNCHER, ConfigError, one_line
from fmnist.common.exits import sigterm_raises
from fmnist.sweeps import job_state

CONNECT_TIMEOUT = 10.0  # seconds for the cluster to answer
SHUTDOWN_TIMEOUT = 30.0  # seconds for stopped jobs to end their runs

log = logging.getLogger(__name__)


def check_address(address: Any) -> None:
    """Refuse HOST:PORT where nothing answers, for which Ray would wait minutes."""
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdecimal() or "/" in host:  # another way to name a cluster
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT).close()
    except OSError as error:
        key = f"hydra.launcher.ray.init.address={host}:{port}"
        raise ConfigError(f"{key}: no Ray cluster answers there: {one_line(error)}") from error


class ClusterLauncher(Launcher):
    """Launches all jobs at once as Ray's tasks; one that fails or is killed costs only itself.

    When a node dies, Ray runs its jobs elsewhere; they resume from their last epoch if all nodes
    share the folder of the sweep.
    """

    def __init__(self, ray: DictConfig) -> None:
        self.ray_cfg = ray

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        if importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is None:
            raise ConfigError(f"hydra/launcher=ray: {NO_LAUNCHER}")
        check_address(self.ray_cfg.init.get("address"))
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        self.sweep_dir = str(config.hydra.sweep.dir)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        import ray

        nodes, at_once = self._connect()
        log.info(
            f"{len(job_overrides)} jobs on {nodes} nodes, {at_once} at once; "
            f"what each logs: {job_state.log_files(self.sweep_dir)}"
        )
        jobs = list(enumerate(map(list, job_overrides), initial_job_idx))
        tasks = [self._submit(*job) for job in jobs]
        try:
            with sigterm_raises():
                return [self._result(task, *job) for task, job in zip(tasks, jobs, strict=True)]
        except KeyboardInterrupt:
            for task in tasks:
                ray.cancel(task)
            ray.wait(tasks, num_returns=len(tasks), timeout=SHUTDOWN_TIMEOUT)
            raise

    def _connect(self) -> tuple[int, int]:
        """Connect to the cluster; return how many nodes it has, and how many jobs run at once."""
        import ray
        from hydra_plugins.hydra_ray_launcher._launcher_util import start_ray

        threads = self.config.training.threads or 1
        with open_dict(self.ray_cfg):
            self.ray_cfg.remote.setdefault("num_cpus", threads)
        start_ray(self.ray_cfg.init)
        return len(ray.nodes()), int(ray.cluster_resources().get("CPU", 0)) // threads

    def _submit(self, number: int, overrides: list[str]) -> Any:
        from hydra_plugins.hydra_ray_launcher._launcher_util import launch_job_on_ray

        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = f"job_id_for_{number}", number
        singletons = Singleton.get_state()
        return launch_job_on_ray(
            self.hydra_context, self.ray_cfg.remote, config, self.task_function, singletons
        )

    def _result(self, task: Any, number: int, overrides: list[str]) -> JobReturn:
        """Wait for a job; one whose process Ray gave up has failed."""
        import ray
        from ray.exceptions import RayError

        try:
            result: JobReturn = ray.get(task)
        except RayError as error:
            reason = f"again and again: {one_line(error)[:200]}"
            result = job_state.killed(self.sweep_dir, number, overrides, reason)
        return result
