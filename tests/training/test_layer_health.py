"""Layer health: measured as Keras itself would, without a trace in the training."""

import json
from pathlib import Path

import keras
import mlflow
import numpy as np
import pandas
import pytest
import tensorflow as tf
from PIL import Image
from test_experiment import digest

from conftest import QUICK, composed
from fmnist.common.errors import TrainingError
from fmnist.config.instantiate import instantiate
from fmnist.evidence.layer_health import QUANTITIES
from fmnist.reports.layer_health_maps import (
    HEIGHT,
    LEFT,
    NOT_FINITE,
    NOT_YET,
    RISING,
    SCALES,
    TOP,
    WIDTH,
    heat_maps,
)
from fmnist.training.callbacks import StopAtDivergence
from fmnist.training.layer_health import (
    dense_layers,
    forward_and_backward,
    log_health,
    measure,
    summary,
)
from fmnist.training.trainer import compiled_model


def model_and_probe(folder, model):
    config = composed(folder, *QUICK, f"model={model}")
    dataset = instantiate("data", config.data)
    probe = tf.constant(dataset.train.images[:64]), dataset.train.labels[:64]
    return compiled_model(config, dataset), probe


def last_of_each(model):
    """The layer that ends each hidden layer: whatever stands before the next Dense."""
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.AlphaDropout)]
    starts = [i for i, layer in enumerate(layers) if isinstance(layer, keras.layers.Dense)]
    return [layers[start - 1] for start in starts[1:]]


@pytest.mark.parametrize("name", ["relu", "batch_norm", "batch_norm_before", "selu_dropout"])
def test_outputs_and_gradients_are_those_of_keras_with_nothing_dropped(tmp_path, name):
    model, (images, labels) = model_and_probe(tmp_path, name)
    for variable in model.trainable_variables:  # else nothing would tell gamma from 1, beta from 0
        noise = np.random.default_rng(len(variable.path)).normal(0, 0.1, variable.shape)
        variable.assign(variable.value + noise.astype(np.float32))
    before = [variable.numpy() for variable in model.variables]
    outputs, gradients = forward_and_backward(model, images, labels)
    after = [variable.numpy() for variable in model.variables]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    layers = dense_layers(model)
    with tf.GradientTape() as tape:
        probabilities = model(images, training=name != "selu_dropout")
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, probabilities))
    expected = tape.gradient(loss, [layer.kernel.value for layer in layers])
    np.testing.assert_allclose(outputs[-1], probabilities, rtol=1e-4, atol=1e-6)
    hidden = [layer.output for layer in last_of_each(model)]
    by_keras = keras.Model(model.inputs, hidden)(images, training=name != "selu_dropout")
    for ours, theirs in zip(outputs, by_keras, strict=False):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)


def test_each_quantity_is_what_it_is_called():
    kernel = np.full((4, 2), 3.0, np.float32)
    output = np.array([[0.0, 1.0], [0.0, 3.0]], np.float32)  # the first unit is dead
    gradient = np.full((4, 2), 0.5, np.float32)
    layers = measure(
        [output] * 3, [gradient, 2 * gradient, gradient], [1.1 * kernel] * 3, [kernel] * 3
    )
    row = dict(zip(QUANTITIES, layers[0], strict=True))
    assert row == pytest.approx(
        {
            "gradient_norm": np.sqrt(8 * 0.25),
            "update_ratio": 0.1,
            "activation_mean": 1,
            "activation_std": np.sqrt((0 + 1) / 2),
            "dead_units": 0.5,
        },
        rel=1e-5,
    )
    assert summary(layers) == pytest.approx(
        {"gradient_norm": np.sqrt(2 + 8 + 2), "gradient_ratio": 0.5, "dead_units": 0.5}
    )


def test_a_network_of_one_hidden_layer_has_a_summary_too():
    assert summary(np.ones((2, 5)))["gradient_ratio"] == 1


@pytest.mark.parametrize("model", ["batch_norm", "selu_dropout"])
def test_it_leaves_no_trace_in_the_weights(run, model):
    watched = run(f"model={model}")
    unwatched = run(f"model={model}", "~callbacks.layer_health")
    assert digest(watched.model) == digest(unwatched.model)


def test_table_pictures_and_metrics_of_every_epoch_are_logged(run, store):
    result = run("model=relu")
    client = mlflow.MlflowClient(f"sqlite:///{store}/mlflow.db")
    folder = client.download_artifacts(result.run_id, "")
    table = pandas.read_json(f"{folder}/layer_health.json", orient="split")
    layers = ["dense", "dense_1", "dense_2", "dense_3"]
    assert list(table["layer"]) == 3 * layers and list(table["epoch"]) == sorted([0, 1, 2] * 4)
    assert (table["update_ratio"][:4] == 0).all() and (table["update_ratio"][4:] > 0).all()
    last = table[table["epoch"] == 2]
    metrics = client.get_run(result.run_id).data.metrics
    assert metrics["gradient_norm"] == pytest.approx(np.linalg.norm(last["gradient_norm"]))
    assert "layer_health.json" in client.get_run(result.run_id).data.tags["mlflow.loggedArtifacts"]
    first, third = last["gradient_norm"].iloc[0], last["gradient_norm"].iloc[2]
    assert metrics["gradient_ratio"] == pytest.approx(first / third)
    assert metrics["dead_units"] == pytest.approx(last["dead_units"][:3].mean())
    pictures = client.list_artifacts(result.run_id, "images")
    steps = {file.path.split("+")[2] for file in pictures if file.path.endswith(".png")}
    assert steps == {"0", "1", "2"}
    for file in pictures:
        Image.open(f"{folder}/{file.path}").verify()


def test_the_table_keeps_vanishing_gradients(run, store):
    result = run("model=relu", "training.epochs=1")
    history = np.full((1, 1, len(QUANTITIES)), 1.2345e-30)
    log_health(result.run_id, ["dense"], history, 1)
    client = mlflow.MlflowClient(f"sqlite:///{store}/mlflow.db")
    folder = client.download_artifacts(result.run_id, "")
    [row] = json.loads(Path(folder, "layer_health.json").read_text())["data"]
    assert row == [0, "dense"] + [1.2345e-30] * len(QUANTITIES)


def test_a_cell_has_the_colour_of_its_value():
    history = np.zeros((2, 4, len(QUANTITIES)))
    history[1, 0] = np.nan
    history[1, 1] = [scale.high for scale in SCALES.values()]
    image = heat_maps(history, epochs=3)  # columns: two epochs measured, two to come

    def pixel(row, column):  # of the first map
        return image.getpixel(
            (LEFT + (2 * column + 1) * WIDTH // 8, TOP + (2 * row + 1) * HEIGHT // 8)
        )

    assert pixel(0, 0) == RISING[0]
    assert pixel(0, 1) == NOT_FINITE
    assert pixel(1, 1) == RISING[-1]
    assert pixel(0, 2) == pixel(3, 3) == NOT_YET


def test_weights_that_are_not_finite_end_the_training(tmp_path):
    model, (images, labels) = model_and_probe(tmp_path, "relu")

    class Poison(keras.callbacks.Callback):
        """Leaves the loss finite: a ReLU turns what is not a number into 0."""

        def on_epoch_end(self, epoch, logs=None):
            kernel = self.model.layers[2].kernel
            kernel.assign(tf.where(tf.range(kernel.shape[1]) == 3, np.nan, kernel.value))

    with pytest.raises(TrainingError, match=r"a weight of .*dense/kernel is nan after epoch 1"):
        model.fit(
            images,
            labels,
            epochs=3,
            validation_data=(images, labels),
            callbacks=[Poison(), StopAtDivergence()],
            verbose=0,
        )
    assert len(model.history.epoch) == 1
