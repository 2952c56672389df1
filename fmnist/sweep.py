"""The Hydra callback that ends a sweep with a table of its runs."""

import atexit
import shlex
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from fmnist.config import Tracking
from fmnist.errors import TrackingError
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
    """Print one row a run at the end of a `-m` command, also of one that failed or was stopped."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Have the table printed at exit: Hydra tells its callbacks of no other failed end."""
        tracking = OmegaConf.to_object(config.tracking)
        assert isinstance(tracking, Tracking)
        atexit.register(print_sweep, tracking, str(config.hydra.sweep.dir))


def print_sweep(tracking: Tracking, sweep: str) -> None:
    """Print the runs of the sweep that wrote to the folder `sweep`, if any were begun."""
    from fmnist.store import open_store, sweep_runs

    try:
        runs = sweep_runs(open_store(tracking), sweep)
    except TrackingError:
        return  # each job has said so
    rows = [
        [name, *(_cell(run, metric) for metric in METRICS)]
        for name, run in zip(distinct_names(runs), runs, strict=True)
    ]
    if rows:
        print(table(["run", *METRICS], rows))


def distinct_names(runs: "list[Run]") -> list[str]:
    """Name each run by those of its overrides that not all the runs share, and by a bad end."""
    overrides = [shlex.split(run.data.tags["command"])[2:] for run in runs]
    shared = set.intersection(*map(set, overrides)) if len(runs) > 1 else set()
    names = [
        " ".join(o for o in own if o not in shared) or run.info.run_name
        for own, run in zip(overrides, runs, strict=True)
    ]
    return [
        name if run.info.status == "FINISHED" else f"{name} ({run.info.status})"
        for name, run in zip(names, runs, strict=True)
    ]


def _cell(run: "Run", metric: str) -> float | int | str:
    if metric not in run.data.metrics:
        return "-"
    value = run.data.metrics[metric]
    return int(value) if metric == "best_epoch" else value
