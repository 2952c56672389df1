"""The Hydra callback that ends a sweep with a table of its runs."""

import shlex
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from fmnist.config import Tracking
from fmnist.terminal import table

if TYPE_CHECKING:
    from mlflow.entities import Run

METRICS = (
    "best_epoch",
    "best_val_accuracy",
    "best_test_accuracy",
    "last_val_accuracy",
    "last_test_accuracy",
)


class SweepTable(Callback):
    """Print one row a run when all jobs of a `-m` command have finished."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read the sweep's runs back from the tracking store."""
        from fmnist.store import open_store, sweep_runs

        tracking = OmegaConf.to_object(config.tracking)
        assert isinstance(tracking, Tracking)
        runs = sweep_runs(open_store(tracking), config.hydra.sweep.dir)
        rows = [
            [name, *(_cell(run, metric) for metric in METRICS)]
            for name, run in zip(distinct_names(runs), runs, strict=True)
        ]
        print(table(["run", *METRICS], rows))


def distinct_names(runs: "list[Run]") -> list[str]:
    """Name each run by those of its overrides that not all the runs share."""
    overrides = [shlex.split(run.data.tags["command"])[2:] for run in runs]
    shared = set.intersection(*map(set, overrides)) if overrides else set()
    return [" ".join(o for o in own if o not in shared) for own in overrides]


def _cell(run: "Run", metric: str) -> float | int | str:
    if metric not in run.data.metrics:
        return "-"
    value = run.data.metrics[metric]
    return int(value) if metric == "best_epoch" else value
