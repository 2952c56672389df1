"""Layer health: measured as Keras itself would, without a trace in the training."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import QUICK, composed
from fmnist.config.instantiate import instantiate
from fmnist.evidence.layer_health import QUANTITIES
from fmnist.training.layer_health import (
    dense_layers,
    forward_and_backward,
    measure,
    summary,
)
from fmnist.training.state import digest_of_weights
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


@pytest.mark.slow
@pytest.mark.parametrize("model", ["batch_norm", "selu_dropout"])
def test_it_leaves_no_trace_in_the_weights(run, model):
    watched = run(f"model={model}")
    unwatched = run(f"model={model}", "~callbacks.layer_health")
    assert digest_of_weights(watched.model) == digest_of_weights(unwatched.model)
