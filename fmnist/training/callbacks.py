"""Our Keras callbacks: an epoch's metrics, progress line and checkpoint; early ends of training."""

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from fmnist.common.errors import ConfigError, TrainingError, one_line
from fmnist.common.files import replacing
from fmnist.config.schema import EPOCH_METRICS, rebased

MEASURED_BESIDE = ("learning_rate", "epoch_seconds")
"""What `EpochMetrics` adds to `EPOCH_METRICS`."""

Pruner = Callable[[int, float, bool], bool]
"""From the epoch, counted from 1, its val_accuracy and whether it is the last: whether to end."""

log = logging.getLogger(__name__)


def shortest(value: Any) -> float:
    """Return the float that prints as the float32 `value` does: 0.01, not 0.009999999776."""
    return float(str(np.float32(value)))


class EpochMetrics(keras.callbacks.Callback):
    """Collect the metrics of each epoch, with two that Keras does not measure.

    These are `learning_rate`, before a callback changes it, and `epoch_seconds`, for training and
    validation. Must come before all other callbacks, which add theirs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[dict[str, Any]] = []
        self.ended: list[int] = []  # when, in milliseconds since 1970

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        assert logs is not None
        logs["learning_rate"] = shortest(self.model.optimizer.learning_rate)
        logs["epoch_seconds"] = time.perf_counter() - self.started
        self.epochs.append(logs)
        self.ended.append(int(time.time() * 1000))


class ProgressLine(keras.callbacks.Callback):
    """Log a line after each epoch: its metrics and an estimate of the time left.

    The log record has the attributes `epoch`, `epochs` and `val_accuracy`, too, from which a sweep
    shows the progress of its jobs.
    """

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.started, self.trained = time.perf_counter(), 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        assert logs is not None
        self.trained += 1
        done, epochs = epoch + 1, self.params["epochs"]
        left = (time.perf_counter() - self.started) / self.trained * (epochs - done)
        log.info(
            f"epoch {done:>{len(str(epochs))}}/{epochs}  "
            + "  ".join(f"{name} {logs[name]:.4f}" for name in EPOCH_METRICS)
            + f"  {logs['epoch_seconds']:.1f} s"
            + (f"  (about {left:.0f} s left)" if done < epochs else ""),
            extra={"epoch": done, "epochs": epochs, "val_accuracy": float(logs["val_accuracy"])},
        )


class StopAtDivergence(keras.callbacks.Callback):
    """End training when a loss or a weight is no longer a finite number."""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.wrong: str | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Check losses and weights: the loss can be finite while weights are not."""
        assert logs is not None
        values = {name: logs[name] for name in ("loss", "val_loss")}
        values |= {f"a weight of {v.path}": np.sum(v.numpy()) for v in self.model.variables}
        for name, value in values.items():
            if not math.isfinite(value):
                self.wrong = f"{name} is {value} after epoch {epoch + 1}"
                self.model.stop_training = True
                break

    def check(self) -> None:
        """Raise TrainingError if training diverged."""
        if self.wrong:
            raise TrainingError(
                f"training diverged: {self.wrong}; try a smaller optimizer.learning_rate"
            )


class PruneTrial(keras.callbacks.Callback):
    """End training when the search prunes this trial; without a pruner it is none."""

    def __init__(self, pruner: Pruner | None) -> None:
        super().__init__()
        self.pruner = pruner
        self.pruned_after: int | None = None  # epoch, counted from 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        assert logs is not None
        last = epoch + 1 == self.params["epochs"]
        if self.pruner and self.pruner(epoch + 1, float(logs["val_accuracy"]), last):
            self.model.stop_training = True
            self.pruned_after = epoch + 1
            log.info(f"pruned after epoch {epoch + 1}: the search finds it not promising")


def literal(path: str) -> str:
    """Return a template that gives `path`, whatever braces are in it."""
    return path.replace("{", "{{").replace("}", "}}")


class Checkpoint(keras.callbacks.ModelCheckpoint):
    """Keras's ModelCheckpoint, but files are written atomically: a full disk loses nothing."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        assert logs is not None
        template = str(self.filepath)
        path = Path(template.format(epoch=epoch + 1, **logs))
        with replacing(path) as beside:
            self.filepath: str = literal(str(beside))  # which Keras formats once more
            try:
                super().on_epoch_end(epoch, logs)
            finally:
                self.filepath = template


def check_checkpoint(
    key: str, checkpoint: keras.callbacks.ModelCheckpoint, output_dir: str
) -> None:
    """Refuse what would fail after training; take braces in the run's folder as they are."""
    by_batch = checkpoint.save_freq != "epoch"
    if by_batch and checkpoint.save_best_only:
        raise ConfigError(
            f"{key}.save_freq={checkpoint.save_freq}: must be epoch with save_best_only=true, as "
            f"{checkpoint.monitor} is known only then"
        )
    checkpoint.filepath = rebased(checkpoint.filepath, output_dir, literal(output_dir))
    known = [*EPOCH_METRICS, *MEASURED_BESIDE]
    values = dict.fromkeys(known, 1.0) | ({"batch": 1} if by_batch else {})
    try:
        checkpoint.filepath.format(epoch=1, **values)
    except (LookupError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{key}.filepath={checkpoint.filepath}: {type(error).__name__} {one_line(error)}; in "
            f"braces may stand epoch, {', '.join(known)}"
        ) from error
