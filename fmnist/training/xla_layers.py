"""SELU, dropout and batch normalisation, written so that XLA compiles them to fast code.

The mathematics is Keras's. Only the compiled copy of a model (`fmnist.training.compiled_epoch`)
uses these, so no saved model depends on them.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. (2017), equation 2

EXACT = (tf.float32, tf.float64)  # Keras computes a batch's statistics in float32 at least


@tf.custom_gradient
def selu(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """SELU (Klambauer et al., 2017, equation 2) by `exp`, as XLA has no fast `expm1` on a CPU."""
    y = SCALE * (tf.maximum(x, 0) + ALPHA * (tf.exp(tf.minimum(x, 0)) - 1))
    slope = tf.where(y > 0, tf.constant(SCALE, y.dtype), y + SCALE * ALPHA)
    return y, lambda upstream: upstream * slope


def dropout_mask(layer: keras.layers.Dropout, inputs: tf.Tensor) -> tf.Tensor:
    """Draw which elements of `inputs` to keep, as 1 or 0, with the layer's rate and own seed.

    Keras lets XLA choose the generator, and XLA's is slow; Philox costs almost nothing.
    """
    seed = tf.cast(layer.seed_generator.next(), tf.int32)
    uniform = tf.random.stateless_uniform(tf.shape(inputs), seed, alg="philox")
    return tf.cast(uniform >= layer.rate, inputs.dtype)


class Dropout(keras.layers.Dropout):
    """Dropout (Srivastava et al., 2014): scales what it keeps by 1 / (1 - rate)."""

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return inputs * dropout_mask(self, inputs) / (1 - self.rate) if training else inputs


class AlphaDropout(keras.layers.AlphaDropout):
    """AlphaDropout (Klambauer et al., 2017): keeps mean and variance of the inputs."""

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Set elements to SELU's negative limit while training, then rescale all."""
        if not training:
            return inputs
        limit, keep = -ALPHA * SCALE, dropout_mask(self, inputs)
        a = ((1 - self.rate) * (1 + self.rate * limit**2)) ** -0.5
        return a * (inputs * keep + limit * (1 - keep)) - a * limit * self.rate


@tf.custom_gradient
def normalized(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: tf.Tensor
) -> tuple[tuple[tf.Tensor, ...], Callable[..., tuple[tf.Tensor, ...]]]:
    """Normalise x (batch, units); return it with the mean and the variance (units,) of the batch.

    The gradient is Ioffe and Szegedy's (2015, section 3) in closed form: half the operations of
    what differentiating step by step leaves. Mean and variance carry none.
    """
    mean = tf.reduce_mean(x, 0)
    centred = x - mean
    variance = tf.reduce_mean(centred**2, 0)
    inverse = tf.math.rsqrt(variance + epsilon)

    def gradient(upstream: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, ...]:
        whitened, batch = centred * inverse, tf.cast(tf.shape(x)[0], x.dtype)
        d_gamma, d_beta = tf.reduce_sum(upstream * whitened, 0), tf.reduce_sum(upstream, 0)
        d_x = upstream - (d_beta + whitened * d_gamma) / batch
        return gamma * inverse * d_x, d_gamma, d_beta, tf.zeros_like(epsilon)

    return (centred * (inverse * gamma) + beta, mean, variance), gradient


def normalized_by_batch(
    layer: keras.layers.BatchNormalization, x: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """Return what `normalized` does, as `layer` does in training; its moving statistics stay."""
    gamma, beta = tf.convert_to_tensor(layer.gamma), tf.convert_to_tensor(layer.beta)
    results: tuple[tf.Tensor, ...] = normalized(x, gamma, beta, tf.constant(layer.epsilon, x.dtype))
    return results


class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation (Ioffe and Szegedy, 2015) of plain batches of vectors."""

    def call(
        self, inputs: tf.Tensor, training: bool = False, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Normalise; in training by the batch, and update the moving mean and variance."""
        plain = self.center and self.scale and not (self.renorm or self.synchronized)
        vectors = len(inputs.shape) == 2 and inputs.dtype in EXACT and mask is None
        if not (training and self.trainable and plain and vectors):
            return super().call(inputs, training=training, mask=mask)
        y, *moments = normalized_by_batch(self, inputs)
        for moving, moment in zip((self.moving_mean, self.moving_variance), moments, strict=True):
            moving.assign(moving * self.momentum + moment * (1 - self.momentum))
        return y


LAYERS = {
    keras.layers.Dropout: Dropout,
    keras.layers.AlphaDropout: AlphaDropout,
    keras.layers.BatchNormalization: BatchNormalization,
}


def clone_for_xla(layer: keras.Layer) -> keras.Layer:
    """Copy a layer without its weights, as one of the fast layers above if there is one for it."""
    config: dict[str, Any] = layer.get_config()
    kind = type(layer) if config.get("noise_shape") else LAYERS.get(type(layer), type(layer))
    copy = kind.from_config(config)
    if getattr(copy, "activation", None) is keras.activations.selu:
        copy.activation = selu
    return copy
