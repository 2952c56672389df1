"""Layer health: gradients, updates and units of each layer, epoch by epoch."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fmnist.data.datasets import Part
from fmnist.evidence.layer_health import QUANTITIES
from fmnist.training.xla_layers import normalized_by_batch


class LayerHealth(keras.callbacks.Callback):
    """Measure each Dense layer on a fixed probe, before training and after each epoch.

    The probe is the first `images` training images. The quantities of a layer are the norm of the
    loss's gradient with respect to the kernel; the change of the kernel during the epoch relative
    to its norm; the mean of the output (after activation and batch normalisation); its standard
    deviation over the images (of a unit; root of the mean square over the units); and the share of
    dead units: those with the same output for all images. Batch normalisation uses the statistics
    of the probe, as in training; dropout is off. The model does not change.

    Adds to the metrics of each epoch `gradient_norm` (of all kernels), `gradient_ratio` (first to
    last hidden layer) and `dead_units` (share of the hidden units).
    """

    def __init__(self, images: int) -> None:
        super().__init__()
        self.images = images

    def watch(self, train: Part) -> None:
        """Take the probe from the training part."""
        self.probe = tf.constant(train.images[: self.images]), train.labels[: self.images]

    @property
    def layer_names(self) -> list[str]:
        """The measured layers, from input to output."""
        return [layer.name for layer in dense_layers(self.model)]

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.history: list[NDArray[np.float64]] = []  # (layers, quantities) at each moment
        self.kernels: list[NDArray[np.float32]] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not self.history:
            self.kernels = self._kernels()
            self._measure()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        assert logs is not None
        self._measure()
        logs |= summary(self.history[-1])

    def _measure(self) -> None:
        outputs, gradients = forward_and_backward(self.model, *self.probe)
        kernels = self._kernels()
        with np.errstate(all="ignore"):  # numbers overflow where training diverges
            self.history.append(measure(outputs, gradients, kernels, self.kernels))
        self.kernels = kernels

    def _kernels(self) -> list[NDArray[np.float32]]:
        return [layer.kernel.numpy() for layer in dense_layers(self.model)]


def dense_layers(model: keras.Model) -> list[keras.layers.Dense]:
    """Return the layers that are measured, from input to output."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]


def forward_and_backward(
    model: keras.Model, images: tf.Tensor, labels: tf.Tensor
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Return of each Dense layer its output (n, units) and the loss's gradient for its kernel."""
    with tf.GradientTape() as tape:
        outputs = outputs_in_training(model, images)
        loss = model.compute_loss(images, labels, outputs[-1])
    kernels = [layer.kernel.value for layer in dense_layers(model)]
    return outputs, tape.gradient(loss, kernels)


def measure(
    outputs: list[tf.Tensor],
    gradients: list[tf.Tensor],
    kernels: list[NDArray[np.float32]],
    kernels_before: list[NDArray[np.float32]],
) -> NDArray[np.float64]:
    """Measure the layers: (layers, quantities), columns as in `QUANTITIES`.

    Outputs are (images, units), gradients and kernels (inputs, units).
    """
    rows = []
    for output, gradient, kernel, before in zip(
        map(np.asarray, outputs), gradients, kernels, kernels_before, strict=True
    ):
        update = np.linalg.norm(kernel - before) / np.linalg.norm(before)
        dead = np.mean((output == output[0]).all(axis=0))
        spread = np.sqrt(output.var(axis=0).mean())
        rows.append([np.linalg.norm(gradient), update, output.mean(), spread, dead])
    return np.array(rows, np.float64)


def summary(layers: NDArray[np.float64]) -> dict[str, float]:
    """Return the metrics of an epoch; ratio and dead units are of the hidden layers."""
    gradients, dead = (layers[:, QUANTITIES.index(q)] for q in ("gradient_norm", "dead_units"))
    with np.errstate(all="ignore"):  # 0 / 0 where all units are dead
        return {
            "gradient_norm": float(np.linalg.norm(gradients)),
            "gradient_ratio": float(gradients[0] / gradients[-2]),
            "dead_units": float(dead[:-1].mean()),
        }


def outputs_in_training(model: keras.Model, images: tf.Tensor) -> list[tf.Tensor]:
    """Return each Dense layer's output (n, units), after its activation and normalisation.

    TensorFlow's operations take half as long as calling the layers does; tracing the layers takes
    as long as ten epochs of this.
    """
    outputs: list[tf.Tensor] = []
    x = images
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout | keras.layers.AlphaDropout):
            continue
        if isinstance(layer, keras.layers.Dense):
            x = tf.nn.bias_add(tf.matmul(x, layer.kernel.value), layer.bias.value)
            x = layer.activation(x)
            outputs.append(x)
        elif isinstance(layer, keras.layers.BatchNormalization):
            x = outputs[-1] = normalized_by_batch(layer, x)[0]
        elif isinstance(layer, keras.layers.Activation):
            x = outputs[-1] = layer.activation(x)
        else:
            x = layer(x)
    return outputs
