"""How far a training is, for observers that know nothing of Keras."""

from collections.abc import Sequence
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from fmnist.config.schema import Engine
from fmnist.training.callbacks import EpochMetrics
from fmnist.training.layer_health import LayerHealth


class TrainingProgress:
    """What was measured of at most `planned` epochs; the properties follow the training."""

    def __init__(
        self,
        engine: Engine,
        planned: int,
        metrics: EpochMetrics,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> None:
        self.engine, self.planned, self._metrics = engine, planned, metrics
        self._health = next((c for c in callbacks if isinstance(c, LayerHealth)), None)
        self.measures_health = self._health is not None

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The metrics of each epoch."""
        return self._metrics.epochs

    @property
    def ended(self) -> list[int]:
        """When each epoch ended, in milliseconds since 1970."""
        return self._metrics.ended

    @property
    def layers(self) -> list[str]:
        """The names of the layers whose health is measured."""
        return self._health.layer_names if self._health else []

    @property
    def health(self) -> list[NDArray[np.float64]]:
        """Layer health (layers, quantities) before training and after each epoch."""
        return self._health.history if self._health else []


class Observer(Protocol):
    """Follows a training."""

    def on_train_begin(self, progress: TrainingProgress) -> None:
        """Training starts or resumes; then `progress` has the epochs of before."""

    def update(self) -> None:
        """An epoch starts or has ended, so `progress` may have grown."""

    def on_train_end(self) -> None:
        """Training has ended."""


def notify(observer: Observer, progress: TrainingProgress) -> keras.callbacks.Callback:
    return keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: observer.on_train_begin(progress),
        on_epoch_begin=lambda epoch, logs: observer.update(),
        on_epoch_end=lambda epoch, logs: observer.update(),
        on_train_end=lambda logs: observer.on_train_end(),
    )
