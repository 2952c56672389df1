"""Our own Keras callbacks: the tracked metrics of an epoch, and its line in the terminal."""

import logging
import math
import time
from typing import Any

import keras
import mlflow
import numpy as np

from fmnist.config import Engine
from fmnist.errors import TrainingError

log = logging.getLogger(__name__)


def shortest(value: Any) -> float:
    """Return the float32 `value` as it is written: 0.01, which float makes 0.009999999776."""
    return float(str(np.float32(value)))


class EpochMetrics(keras.callbacks.Callback):
    """Log the engine and each epoch's metrics to the active MLflow run, epochs counted from 1.

    Adds `learning_rate` (of the epoch, so this callback comes before any that changes it) and
    `epoch_seconds` (training and validation) to the logs that later callbacks see.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Tag the run with the engine that really trains it."""
        mlflow.set_tag("engine", self.engine.name)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log all metrics of the epoch in one request."""
        assert logs is not None
        logs["learning_rate"] = shortest(self.model.optimizer.learning_rate)
        logs["epoch_seconds"] = time.perf_counter() - self.started
        # MLflow's comparison of runs draws the metric that was logged first.
        values = {"val_accuracy": logs["val_accuracy"]} | logs
        mlflow.log_metrics({k: shortest(v) for k, v in values.items()}, step=epoch + 1)


class ProgressLine(keras.callbacks.Callback):
    """Say after each epoch how it went and how long the rest may take."""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Print one line."""
        assert logs is not None
        done, epochs = epoch + 1, self.params["epochs"]
        left = (time.perf_counter() - self.started) / done * (epochs - done)
        names = ("loss", "accuracy", "val_loss", "val_accuracy")
        log.info(
            f"epoch {done:>{len(str(epochs))}}/{epochs}  "
            + "  ".join(f"{name} {logs[name]:.4f}" for name in names)
            + f"  {logs['epoch_seconds']:.1f} s"
            + (f"  (about {left:.0f} s left)" if done < epochs else "")
        )


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
