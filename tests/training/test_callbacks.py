"""What our callbacks keep."""

import keras
import numpy as np

from fmnist.training.callbacks import Checkpoint


def test_a_checkpoint_may_name_the_epoch(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    callback = Checkpoint(str(tmp_path / "{epoch:02d}.keras"), monitor="loss")
    model.fit(np.ones((4, 1)), np.ones(4), epochs=2, verbose=0, callbacks=[callback])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["01.keras", "02.keras"]
