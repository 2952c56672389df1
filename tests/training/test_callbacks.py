"""What our callbacks keep, and when they end training."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import QUICK, composed
from fmnist.common.errors import TrainingError
from fmnist.config.instantiate import instantiate
from fmnist.training.callbacks import Checkpoint, StopAtDivergence
from fmnist.training.trainer import compiled_model


def test_a_checkpoint_may_name_the_epoch(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    callback = Checkpoint(str(tmp_path / "{epoch:02d}.keras"), monitor="loss")
    model.fit(np.ones((4, 1)), np.ones(4), epochs=2, verbose=0, callbacks=[callback])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["01.keras", "02.keras"]


def test_weights_that_are_not_finite_end_the_training(tmp_path):
    config = composed(tmp_path, *QUICK, "model=relu")
    dataset = instantiate("data", config.data)
    model = compiled_model(config, dataset)
    images, labels = dataset.train.images[:64], dataset.train.labels[:64]

    class Poison(keras.callbacks.Callback):
        """Leaves the loss finite: a ReLU turns what is not a number into 0."""

        def on_epoch_end(self, epoch, logs=None):
            kernel = self.model.layers[2].kernel
            kernel.assign(tf.where(tf.range(kernel.shape[1]) == 3, np.nan, kernel.value))

    divergence = StopAtDivergence()
    model.fit(
        images,
        labels,
        epochs=3,
        validation_data=(images, labels),
        callbacks=[Poison(), divergence],
        verbose=0,
    )
    with pytest.raises(TrainingError, match=r"a weight of .*dense/kernel is nan after epoch 1"):
        divergence.check()
    assert len(model.history.epoch) == 1
