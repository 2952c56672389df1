"""Several devices of one host, which share each batch of stock Keras's training."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import keras
import tensorflow as tf

from fmnist.config import Config, Strategy
from fmnist.engine import CannotCompile, build_state, state, twin_of
from fmnist.errors import ConfigError
from fmnist.lowering import AlphaDropout, Dropout
from fmnist.provenance import replicas

log = logging.getLogger(__name__)

DROPOUTS = {keras.layers.Dropout: Dropout, keras.layers.AlphaDropout: AlphaDropout}


def strategy(config: Config) -> tf.distribute.Strategy | None:
    """Return what shares each batch out; None where one device trains.

    Raises:
        ConfigError: if the devices cannot have equal shares.
    """
    if config.training.strategy is Strategy.none:
        return None
    devices, size = replicas(config), config.training.batch_size
    if devices == 1:
        log.warning("training.strategy=mirrored: makes no difference, this host has one device")
        return None
    if size % devices:
        raise ConfigError(
            f"training.batch_size={size}: must be a multiple of {devices}, the number of devices "
            "that training.strategy=mirrored trains on"
        )
    return all_devices()


@cache
def all_devices() -> tf.distribute.Strategy:
    """Return the one strategy of this process.

    A second one would number its collective operations as the first did, whose shapes TensorFlow
    remembers: the next model would fail by a "shape mismatch in the collective instance".
    """
    return tf.distribute.MirroredStrategy()


class SharedSteps:
    """Keras's own `train_step` on several devices, each with its share of every batch.

    They train a twin, a private copy of a model with its weights on each device, which a model
    borrows for a step, as `CompiledEpoch` lends its own for an epoch. So all the rest (validation,
    checkpoint, snapshot, layer health) has to do with an ordinary model on one device, and Keras
    never distributes data by itself, which fails for a first batch of odd size.

    Args:
        model: built and compiled; only its structure is taken.
        strategy: whose devices train.

    Raises:
        ConfigError: if the model cannot be copied.
    """

    def __init__(self, model: keras.Model, strategy: tf.distribute.Strategy) -> None:
        self.strategy, self.devices = strategy, strategy.num_replicas_in_sync
        try:
            with strategy.scope():
                self.twin = twin_of(model, shared_copy)
        except CannotCompile as reason:
            raise ConfigError(f"training.strategy=mirrored: {reason}") from reason

    @contextmanager
    def lent_to(self, model: keras.Model) -> Iterator[None]:
        """Let `model.fit` train by these steps; its data are batches."""
        build_state(model)
        # Traced twice: for the full batches, and for the short last one.
        step = tf.function(partial(self._step, model), autograph=False)
        model.train_function = lambda iterator: step(*next(iterator))
        try:
            yield
        finally:
            model.train_function = None

    def _step(
        self, model: keras.Model, images: tf.Tensor, labels: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Train `model` on a batch; return the metrics."""
        if labels.shape[0] % self.devices:  # of unequal shares the images would not weigh alike
            alone: dict[str, tf.Tensor] = model.train_step((images, labels))
            return alone
        own, twins = state(model), state(self.twin)
        with self.strategy.scope():
            for variable, twin in zip(own, twins, strict=True):
                twin.assign(variable)
            self.strategy.run(self._train_on_share, (images, labels))
            for variable, twin in zip(own, twins, strict=True):
                variable.assign(twin)
        metrics: dict[str, tf.Tensor] = model.get_metrics_result()
        return metrics

    def _train_on_share(self, images: tf.Tensor, labels: tf.Tensor) -> None:
        """Train on the share of a batch that is of the device which computes this."""
        device = tf.distribute.get_replica_context().replica_id_in_sync_group
        size = labels.shape[0] // self.devices
        own = slice(device * size, (device + 1) * size)
        self.twin.train_step((images[own], labels[own]))


def shared_copy(layer: keras.Layer) -> keras.Layer:
    """Copy a layer without its weights, so that it treats the shares as the batch that they are.

    Keras's dropouts would drop out the same of each share, and batch normalisation normalise each
    by itself.
    """
    config = layer.get_config()
    if isinstance(layer, keras.layers.BatchNormalization):
        config["synchronized"] = True
    kind: Any = DROPOUTS.get(type(layer), type(layer))
    copy: keras.Layer = kind.from_config(config)
    return copy
