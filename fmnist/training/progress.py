"""How far a training is, for observers that know nothing of Keras."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from fmnist.config.schema import Engine
from fmnist.training.callbacks import EpochMetrics
from fmnist.training.layer_health import LayerHealth


@dataclass(frozen=True)
class TrainingProgress:
    """What was measured so far; the lists grow with the training."""

    engine: Engine
    planned: int  # epochs at the most
    epochs: list[dict[str, Any]]  # the metrics of each
    ended: list[int]  # when each did, in milliseconds since 1970
    measures_health: bool
    layers: list[str]  # the names of those whose health is measured
    health: list[NDArray[np.float64]]  # (layers, quantities) before training and after each epoch


class Observer(Protocol):
    """Follows a training."""

    def on_train_begin(self, progress: TrainingProgress) -> None:
        """Training starts or resumes; then `progress` has the epochs of before."""

    def update(self) -> None:
        """An epoch starts or has ended, so `progress` may have grown."""

    def on_train_end(self) -> None: ...


def notify(
    observer: Observer,
    engine: Engine,
    planned: int,
    metrics: EpochMetrics,
    callbacks: Sequence[keras.callbacks.Callback],
) -> keras.callbacks.Callback:
    """Inform `observer`; must come after `callbacks` and `Snapshots`, which make new lists."""
    health = next((c for c in callbacks if isinstance(c, LayerHealth)), None)

    def on_train_begin(logs: dict[str, Any] | None) -> None:
        progress = TrainingProgress(
            engine,
            planned,
            metrics.epochs,
            metrics.ended,
            measures_health=health is not None,
            layers=health.layer_names if health else [],
            health=health.history if health else [],
        )
        observer.on_train_begin(progress)

    return keras.callbacks.LambdaCallback(
        on_train_begin=on_train_begin,
        on_epoch_begin=lambda epoch, logs: observer.update(),
        on_epoch_end=lambda epoch, logs: observer.update(),
        on_train_end=lambda logs: observer.on_train_end(),
    )
