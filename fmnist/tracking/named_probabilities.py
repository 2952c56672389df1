"""How a logged model answers through `mlflow.pyfunc`: probabilities under the classes' names.

MLflow copies this file into each logged model and loads it from there, so it must not import
fmnist. `mlflow.keras.load_model` passes it by.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from mlflow.models import Model
from numpy.typing import NDArray


class NamedProbabilities:
    """Wrap a Keras model from images (n, height, width) uint8 to probabilities (n, classes)."""

    def __init__(self, model: keras.Model, class_names: list[str]) -> None:
        self.class_names = class_names
        # `model.predict` starts a data pipeline for each call: tens of milliseconds
        self.call = tf.function(
            lambda images: model(images, training=False),
            input_signature=[tf.TensorSpec(model.input_shape, tf.uint8)],
            autograph=False,  # it would look for this file when the folder may be gone
        )

    def predict(self, images: NDArray[np.uint8], params: dict[str, Any] | None = None) -> Any:
        """Return a data frame with a row for each image and a column for each class."""
        return pd.DataFrame(self.call(tf.constant(images)).numpy(), columns=self.class_names)


def _load_pyfunc(path: str) -> NamedProbabilities:
    """Load the model in the folder `path`, as `mlflow.pyfunc` asks its loader modules to."""
    metadata = Model.load(path).metadata or {}
    names = metadata["class_names"]
    return NamedProbabilities(keras.saving.load_model(Path(path, "data", "model.keras")), names)
