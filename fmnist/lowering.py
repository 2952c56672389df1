"""Keras's activations and dropout layers, written so that XLA compiles them to fast code.

The mathematics is Keras's; only the compiled twin of a model (`fmnist.engine`) uses these, so no
saved model depends on them.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. (2017), equation 2

Gradient = Callable[[tf.Tensor], tf.Tensor]


@tf.custom_gradient
def relu(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
    """ReLU; its gradient is a product, which XLA does not pull into the matrix product."""
    y = tf.maximum(x, 0)
    return y, lambda upstream: upstream * tf.cast(y > 0, y.dtype)


@tf.custom_gradient
def selu(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
    """SELU (Klambauer et al., 2017, equation 2) by `exp`, as XLA has no fast `expm1` on a CPU."""
    y = SCALE * (tf.maximum(x, 0) + ALPHA * (tf.exp(tf.minimum(x, 0)) - 1))
    slope = tf.where(y > 0, tf.constant(SCALE, y.dtype), y + SCALE * ALPHA)
    return y, lambda upstream: upstream * slope


ACTIVATIONS = {keras.activations.relu: relu, keras.activations.selu: selu}


def kept(layer: keras.layers.Dropout, inputs: tf.Tensor) -> tf.Tensor:
    """Draw which elements of `inputs` are kept, as 1 or 0, with the layer's rate and own seed.

    Keras leaves the generator to XLA, which takes a slow one; Philox costs nothing beside the
    layer itself.
    """
    seed = tf.cast(layer.seed_generator.next(), tf.int32)
    uniform = tf.random.stateless_uniform(tf.shape(inputs), seed, alg="philox")
    return tf.cast(uniform >= layer.rate, inputs.dtype)


class Dropout(keras.layers.Dropout):
    """Dropout (Srivastava et al., 2014): what is kept is scaled by 1 / (1 - rate)."""

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Drop elements while training."""
        return inputs * kept(self, inputs) / (1 - self.rate) if training else inputs


class AlphaDropout(keras.layers.AlphaDropout):
    """AlphaDropout (Klambauer et al., 2017): mean and variance of the inputs are kept."""

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Set elements to SELU's negative limit while training, then rescale all."""
        if not training:
            return inputs
        limit, keep = -ALPHA * SCALE, kept(self, inputs)
        a = ((1 - self.rate) * (1 + self.rate * limit**2)) ** -0.5
        return a * (inputs * keep + limit * (1 - keep)) - a * limit * self.rate


LAYERS = {keras.layers.Dropout: Dropout, keras.layers.AlphaDropout: AlphaDropout}


def fast_copy(layer: keras.Layer) -> keras.Layer:
    """Copy a layer without its weights, with the fast forms above in place of Keras's."""
    config: dict[str, Any] = layer.get_config()
    kind = type(layer) if config.get("noise_shape") else LAYERS.get(type(layer), type(layer))
    copy = kind.from_config(config)
    activation = getattr(copy, "activation", None)
    if activation in ACTIVATIONS:
        copy.activation = ACTIVATIONS[activation]
    return copy
