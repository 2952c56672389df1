"""Layer health: what the gradients, the updates and the units of each layer do, epoch by epoch."""

import json
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import keras
import mlflow
import numpy as np
import tensorflow as tf
from mlflow import MlflowClient
from mlflow.tracking.multimedia import compress_image_size
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS
from numpy.typing import NDArray
from PIL import Image

from fmnist.tracking import delivery_queue
from fmnist.data.datasets import Part
from fmnist.evidence.layer_health import QUANTITIES, TABLE
from fmnist.reports.layer_health_maps import heat_maps

PICTURES = "layer_health"  # the charts in MLflow's UI
DROPOUTS = (keras.layers.Dropout, keras.layers.AlphaDropout)


class LayerHealth(keras.callbacks.Callback):
    """Measure each Dense layer on a fixed probe, before training (step 0) and after each epoch.

    The probe is the first `images` training images. Of each layer it takes the norm of the loss's
    gradient with respect to the kernel, the change of the kernel during the epoch relative to its
    norm, the mean of the layer's output (behind activation and batch normalisation), its standard
    deviation over the images (of a unit; root of the mean square over the units), and the share of
    dead units: those with one and the same output for all images. Batch normalisation works by the
    batch, as in training; nothing is dropped out. The model is left as it was.

    Logs the table `layer_health.json`, the image `layer_health` (layer x epoch) with a step for
    each moment (the last one among the plots, too), and, from epoch 1 as all metrics,
    `gradient_norm` (of all kernels), `gradient_ratio` (first to last hidden layer) and
    `dead_units` (share of the hidden units).
    """

    def __init__(self, images: int) -> None:
        super().__init__()
        self.images = images

    def watch(self, train: Part) -> None:
        """Take the probe from the training part."""
        self.probe = tf.constant(train.images[: self.images]), train.labels[: self.images]

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forget an earlier training."""
        run = mlflow.active_run()
        assert run is not None
        self.run_id = run.info.run_id
        self.layers = dense_layers(self.model)
        self.history: list[NDArray[np.float64]] = []
        self.kernels: list[NDArray[np.float32]] = []
        shown = json.dumps([{"path": TABLE, "type": "table"}])
        delivery_queue.send(partial(MlflowClient().set_tag, self.run_id, MLFLOW_LOGGED_ARTIFACTS, shown))

    def on_resume(self) -> None:
        """Log what a stopped process measured and did not log."""
        for moments in range(1, 1 + len(self.history)):
            delivery_queue.send(partial(self._log, moments))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure the weights as they were drawn."""
        if not self.history:
            self.kernels = [layer.kernel.numpy() for layer in self.layers]
            self._measure()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure the weights after the epoch, and add to its metrics what runs are compared by."""
        assert logs is not None
        logs |= summary(self._measure())

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Log the last picture once more, where it is shown in full."""
        picture = heat_maps(np.array(self.history), self.params["epochs"])
        delivery_queue.send(
            partial(MlflowClient().log_image, self.run_id, picture, "plots/layer_health.png")
        )

    def _measure(self) -> NDArray[np.float64]:
        outputs, gradients = forward_and_backward(self.model, *self.probe)
        kernels = [layer.kernel.numpy() for layer in self.layers]
        with np.errstate(all="ignore"):  # where training diverges, numbers grow beyond all bounds
            layers = measure(outputs, gradients, kernels, self.kernels)
        self.kernels = kernels
        self.history.append(layers)
        delivery_queue.send(partial(self._log, len(self.history)))
        return layers

    def _log(self, moments: int) -> None:
        """Log the first `moments` measurements, but for what had been logged of them before."""
        # By the id of the run MLflow would look through the models of all runs, too.
        images = f"{mlflow.get_run(self.run_id).info.artifact_uri}/images"
        files = mlflow.artifacts.list_artifacts(artifact_uri=images)
        found = [f.path for f in files if f"/{PICTURES}+step+{moments - 1}+" in f.path]
        history, epochs = np.array(self.history[:moments]), self.params["epochs"]
        if not found:
            log_health(self.run_id, [layer.name for layer in self.layers], history, epochs)
        elif len(found) == 1:  # stopped between the picture and its preview
            log_preview(self.run_id, found[0], heat_maps(history, epochs))


def log_health(run_id: str, names: list[str], history: NDArray[np.float64], epochs: int) -> None:
    """Log the table and the picture of all epochs so far.

    Args:
        run_id: of the MLflow run.
        names: of the layers.
        history: (epochs so far + 1, layers, quantities).
        epochs: how many there will be.
    """
    client = MlflowClient()
    rows = [
        [epoch, name, *map(float, values)]
        for epoch, layers in enumerate(history)
        for name, values in zip(names, layers, strict=True)
    ]
    # As `mlflow.log_table` writes it, but that rounds to ten decimals, where gradients vanish.
    client.log_dict(run_id, {"columns": ["epoch", "layer", *QUANTITIES], "data": rows}, TABLE)
    # MLflow's own way to log an image in the background loses some when the process ends.
    image, step = heat_maps(history, epochs), len(history) - 1
    client.log_image(run_id, image, key=PICTURES, step=step, synchronous=True)


def log_preview(run_id: str, path: str, picture: Image.Image) -> None:
    """Log the small copy that MLflow's `log_image` lays beside the picture at `path`."""
    with TemporaryDirectory() as folder:
        preview = Path(folder, f"{PurePosixPath(path).stem}+compressed.webp")
        compress_image_size(picture).save(preview)
        MlflowClient().log_artifact(run_id, str(preview), str(PurePosixPath(path).parent))


def dense_layers(model: keras.Model) -> list[keras.layers.Dense]:
    """Return the layers that are measured, from input to output."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]


def forward_and_backward(
    model: keras.Model, images: tf.Tensor, labels: tf.Tensor
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Return of each Dense layer its output (n, units) and the loss's gradient for its kernel.

    Args:
        model: compiled.
        images: (n, height, width), as the model takes them.
        labels: their classes (n,).
    """
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
    """Measure the layers on the probe.

    Args:
        outputs: of each layer (images, units).
        gradients: of the loss, for each layer's kernel (inputs, units).
        kernels: of each layer (inputs, units), now.
        kernels_before: the same before the epoch.

    Returns:
        (layers, quantities), columns as in `QUANTITIES`.
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
    """Return what runs are compared by, of layers (layers, quantities).

    Ratio and dead units are of the hidden layers.
    """
    gradients, dead = (layers[:, QUANTITIES.index(q)] for q in ("gradient_norm", "dead_units"))
    with np.errstate(all="ignore"):  # 0 / 0 where all units are dead
        return {
            "gradient_norm": float(np.linalg.norm(gradients)),
            "gradient_ratio": float(gradients[0] / gradients[-2]),
            "dead_units": float(dead[:-1].mean()),
        }


def outputs_in_training(model: keras.Model, images: tf.Tensor) -> list[tf.Tensor]:
    """Return each Dense layer's output (n, units), behind its activation and normalisation.

    The layers are written out in TensorFlow's operations, because calling them takes twice
    as long, and tracing them as long as ten epochs of this do.
    """
    outputs: list[tf.Tensor] = []
    x = images
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            x = tf.nn.bias_add(tf.matmul(x, layer.kernel.value), layer.bias.value)
            outputs.append(layer.activation(x))
        elif isinstance(layer, keras.layers.BatchNormalization):
            outputs[-1] = normalized_by_batch(layer, x)
        elif isinstance(layer, keras.layers.Activation):
            outputs[-1] = layer.activation(x)
        elif isinstance(layer, DROPOUTS):
            continue
        else:
            x = layer(x)
            continue
        x = outputs[-1]
    return outputs


def normalized_by_batch(layer: keras.layers.BatchNormalization, x: tf.Tensor) -> tf.Tensor:
    """Normalise x (n, units) as `layer` does in training, but leave its moving statistics alone."""
    images, units = x.shape
    normalized = tf.raw_ops.FusedBatchNormV3(
        x=tf.reshape(x, (images, 1, 1, units)),
        scale=layer.gamma.value,
        offset=layer.beta.value,
        mean=[],
        variance=[],
        epsilon=layer.epsilon,
    )
    return tf.reshape(normalized.y, (images, units))
