"""The layers for XLA compute what Keras's do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fmnist.training.xla_layers import AlphaDropout, Dropout, clone_for_xla, selu


def test_fast_selu_has_keras_values_and_gradients():
    x = tf.constant(np.r_[np.linspace(-20, 20, 4001), 0, 1e-6, -1e-6], tf.float32)

    def compiled(function):
        @tf.function(jit_compile=True, autograph=False)
        def value_and_gradient():
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            return y, tape.gradient(y, x)

        return value_and_gradient()

    for ours, theirs in zip(compiled(selu), compiled(keras.activations.selu), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=3e-7)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("kind", [keras.layers.Dropout, keras.layers.AlphaDropout])
def test_fast_dropout_draws_from_the_distribution_of_keras(kind, rate):
    keras.utils.set_random_seed(1)
    stock = kind(rate)
    fast = clone_for_xla(stock)
    assert type(fast) in (Dropout, AlphaDropout)
    x = tf.random.stateless_normal((2000, 500), (1, 2))
    drawn = tf.function(lambda: fast(x, training=True), jit_compile=True)
    first, second = drawn().numpy(), drawn().numpy()
    expected = stock(x, training=True).numpy()
    # what is kept is the same function of x, so the two agree wherever both kept
    values, counts = np.unique(first.round(4), return_counts=True)
    dropped_to = values[counts.argmax()]
    kept = [~np.isclose(y, dropped_to, atol=1e-4) for y in (first, expected)]
    np.testing.assert_allclose(first[kept[0] & kept[1]], expected[kept[0] & kept[1]], rtol=1e-4)
    error = 5 * np.sqrt(rate * (1 - rate) / x.shape.num_elements()) + 1e-4
    assert kept[0].mean() == pytest.approx(1 - rate, abs=error)
    assert first.mean() == pytest.approx(expected.mean(), abs=0.02)
    assert first.var() == pytest.approx(expected.var(), rel=0.02)
    # masks of two steps, and of neighbours within one, are independent
    again = ~np.isclose(second, dropped_to, atol=1e-4)
    for other in (again, np.roll(kept[0], 1, axis=0), np.roll(kept[0], 1, axis=1)):
        assert (kept[0] & other).mean() == pytest.approx((1 - rate) ** 2, abs=2 * error)
    np.testing.assert_array_equal(fast(x, training=False), x)
