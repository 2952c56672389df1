"""What our callbacks keep, and when they end training."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import QUICK, composed
from fmnist.common.errors import ConfigError, TrainingError
from fmnist.config.instantiate import instantiate
from fmnist.config.schema import rebased
from fmnist.training.callbacks import Checkpoint, StopAtDivergence
from fmnist.training.trainer import compiled_model, user_callbacks


def test_a_checkpoint_may_name_the_epoch(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    callback = Checkpoint(str(tmp_path / "{epoch:02d}.keras"), monitor="loss")
    model.fit(np.ones((4, 1)), np.ones(4), epochs=2, verbose=0, callbacks=[callback])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["01.keras", "02.keras"]


def test_a_checkpoint_may_lie_in_a_folder_with_braces(config, tmp_path):
    folder = tmp_path / "a {b} 50% c"
    settings = config(
        "~callbacks.layer_health", 'callbacks.checkpoint.filepath="${output_dir}/{epoch}.keras"'
    )
    settings = replace(settings, **rebased(vars(settings), str(tmp_path), str(folder)))
    [checkpoint] = [c for c in user_callbacks(settings, None) if isinstance(c, Checkpoint)]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse", metrics=["accuracy"])
    data = np.ones((4, 1)), np.ones(4)
    model.fit(*data, validation_data=data, epochs=1, verbose=0, callbacks=[checkpoint])
    assert [path.name for path in folder.iterdir()] == ["1.keras"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+callbacks.checkpoint.save_freq=5", r"checkpoint\.save_freq=5: must be epoch with"),
        (
            'callbacks.checkpoint.filepath="${output_dir}/{nosuch}.keras"',
            "filepath=.*'nosuch'; in br",
        ),
        ('callbacks.checkpoint.filepath="${output_dir}/{.keras"', "filepath=.*; in braces may"),
        (
            'callbacks.checkpoint.filepath="${output_dir}/{batch}.keras"',
            "filepath=.*'batch'; in br",
        ),
    ],
)
def test_a_checkpoint_that_cannot_be_kept_is_refused_before_training(config, override, message):
    with pytest.raises(ConfigError, match=message):
        user_callbacks(config("~callbacks.layer_health", override), None)


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
