"""The Hydra callback that ends a sweep with a table of its runs."""

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from fmnist.config import Config


class SweepTable(Callback):
    """Print, when all jobs of a `-m` command have finished, one row a run."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read the runs back from the tracking store, in the order of the jobs."""
