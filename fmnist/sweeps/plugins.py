"""Our launchers and our sweeper, in the places of those that they extend."""

import os
import sys

from hydra.core.plugins import Plugins
from hydra.plugins.plugin import Plugin
from omegaconf import DictConfig, read_write

from fmnist import PROJECT
from fmnist.sweeps import trial

ONE_AFTER_ANOTHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
RAY = "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher"
JOBLIB = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"


def entered(plugin: type[Plugin]) -> str:
    """Enter a plugin of this package among Hydra's; return the `_target_` that names it there.

    Hydra makes no launcher and no sweeper of what lies outside of `hydra_plugins`.
    """
    module = plugin.__module__
    package = f"hydra_plugins.{module.replace('.', '_')}"
    sys.modules[package] = sys.modules[module]
    plugin.__module__ = package
    Plugins.instance().register(plugin)
    return f"{package}.{plugin.__name__}"


def prepare(hydra: DictConfig) -> bool:
    """Put ours in the place of what they extend; return whether jobs run at once."""
    with read_write(hydra):
        if hydra.launcher._target_ == JOBLIB:
            from fmnist.sweeps import parallel

            parallel.check(hydra.launcher)
            hydra.launcher._target_ = parallel.NAME
        if hydra.launcher._target_ == RAY:
            from fmnist.sweeps import cluster

            cluster.check(hydra.launcher)
            hydra.launcher._target_ = cluster.NAME
        if hydra.sweeper._target_ == trial.SEARCH:
            from fmnist.sweeps import search

            hydra.sweeper._target_ = search.NAME
    # What a launcher starts elsewhere finds this package by it, be it begun in any folder.
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), *paths]))
    return bool(hydra.launcher._target_ != ONE_AFTER_ANOTHER)
