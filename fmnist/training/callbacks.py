"""Our own Keras callbacks: metrics of an epoch, reported and printed, its checkpoint, its end."""

import logging
import math
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric

from fmnist.tracking import delivery_queue
from fmnist.config.schema import Engine
from fmnist.common.errors import TrainingError
from fmnist.common.files import replacing
from fmnist.sweeps.jobs import report_epoch
from fmnist.config.schema import MEASURED
from fmnist.sweeps.trial import STOPPED
from fmnist.tracking.tags import STOPPED_TAG

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)


SHOWN_FIRST = "val_accuracy"
"""MLflow's comparison of runs draws the metric that was logged first."""


def shortest(value: Any) -> float:
    """Return the float32 `value` as it is written: 0.01, which float makes 0.009999999776."""
    return float(str(np.float32(value)))


def as_written(value: float) -> float:
    """Return what is a float32 as that is written, anything else as it is."""
    with np.errstate(over="ignore"):
        # As float: NumPy compares a float32 with a Python number in float32.
        return shortest(value) if float(np.float32(value)) == value else value


class EpochMetrics(keras.callbacks.Callback):
    """Keep the metrics of all epochs, and add to them what Keras does not measure.

    Comes before all other callbacks. Adds `learning_rate` (of the epoch, before a callback changes
    it) and `epoch_seconds` (training and validation).

    Attributes:
        epochs: the metrics of each epoch; later callbacks add theirs.
        ended: when each was over, milliseconds since 1970.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[dict[str, Any]] = []
        self.ended: list[int] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add both."""
        assert logs is not None
        logs["learning_rate"] = shortest(self.model.optimizer.learning_rate)
        logs["epoch_seconds"] = time.perf_counter() - self.started
        self.epochs.append(logs)
        self.ended.append(int(time.time() * 1000))


class Report(keras.callbacks.Callback):
    """Report the engine and each epoch's metrics to MLflow, epochs counted from 1.

    Comes behind the snapshot: an epoch that was reported is never trained again.
    """

    def __init__(self, run_id: str, engine: Engine, metrics: EpochMetrics) -> None:
        super().__init__()
        self.run_id, self.engine, self.metrics = run_id, engine, metrics

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Tag the run with the engine; report what a stopped process did not report."""
        delivery_queue.send(partial(MlflowClient().set_tag, self.run_id, "engine", self.engine.name))
        if self.metrics.epochs:
            delivery_queue.send(partial(self._report_missing, len(self.metrics.epochs)))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report the epoch."""
        delivery_queue.send(partial(self._report, epoch))

    def _report_missing(self, epochs: int) -> None:
        reported = MlflowClient().get_metric_history(self.run_id, SHOWN_FIRST)
        for epoch in sorted(set(range(epochs)) - {point.step - 1 for point in reported}):
            self._report(epoch)

    def _report(self, epoch: int) -> None:
        """Report all metrics of an epoch in one request."""
        values, moment = self.metrics.epochs[epoch], self.metrics.ended[epoch]
        metrics = [
            Metric(name, as_written(values[name]), moment, epoch + 1)
            for name in dict.fromkeys([SHOWN_FIRST, *values])
        ]
        MlflowClient().log_batch(self.run_id, metrics)


class ProgressLine(keras.callbacks.Callback):
    """Say after each epoch, when it is safe, how it went and how long the rest may take."""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start the clock."""
        self.started, self.trained, self.done = time.perf_counter(), 0, 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Print one line."""
        assert logs is not None
        self.trained += 1
        self.done = done = epoch + 1
        epochs = self.params["epochs"]
        left = (time.perf_counter() - self.started) / self.trained * (epochs - done)
        log.info(
            f"epoch {done:>{len(str(epochs))}}/{epochs}  "
            + "  ".join(f"{name} {logs[name]:.4f}" for name in MEASURED)
            + f"  {logs['epoch_seconds']:.1f} s"
            + (f"  (about {left:.0f} s left)" if done < epochs else "")
        )
        report_epoch(done, epochs, logs["val_accuracy"])

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Say if a callback ended training before its time."""
        if self.model.stop_training and self.done < self.params["epochs"]:
            log.info(f"stopped early, after epoch {self.done} of {self.params['epochs']}")


class StopAtDivergence(keras.callbacks.Callback):
    """End training that can come to no good any more, when all other callbacks have ended."""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forget an earlier training."""
        self.wrong: str | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at losses and weights: a loss can look well while weights do not."""
        assert logs is not None
        values = {name: logs[name] for name in ("loss", "val_loss")}
        values |= {f"a weight of {v.path}": np.sum(v.numpy()) for v in self.model.variables}
        for name, value in values.items():
            if not math.isfinite(value):
                self.wrong = f"{name} is {value} after epoch {epoch + 1}"
                self.model.stop_training = True
                break

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Fail if anything was wrong.

        Raises:
            TrainingError: if a loss or a weight is no longer a finite number.
        """
        if self.wrong:
            raise TrainingError(
                f"training diverged: {self.wrong}; try a smaller optimizer.learning_rate"
            )


class StopIfHopeless(keras.callbacks.Callback):
    """Report each epoch of a trial to its search, and stop if that finds it hopeless."""

    def __init__(self, trial: "optuna.Trial", run_id: str) -> None:
        super().__init__()
        self.trial, self.run_id = trial, run_id

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report, and ask."""
        assert logs is not None
        self.trial.report(logs["val_accuracy"], epoch + 1)
        if epoch + 1 < self.params["epochs"] and self.trial.should_prune():
            self.model.stop_training = True
            self.trial.set_user_attr(STOPPED, epoch + 1)
            delivery_queue.send(partial(MlflowClient().set_tag, self.run_id, STOPPED_TAG, epoch + 1))
            log.info(f"trial {self.trial.number} is hopeless")


class Checkpoint(keras.callbacks.ModelCheckpoint):
    """Keras's, but the former file stays whole until the new one is: a full disk loses nothing."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Save beside the file, then put the new one in its place."""
        assert logs is not None
        template = str(self.filepath)
        path = Path(template.format(epoch=epoch + 1, **logs))
        with replacing(path) as beside:
            self.filepath: str = str(beside)
            try:
                super().on_epoch_end(epoch, logs)
            finally:
                self.filepath = template
