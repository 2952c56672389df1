"""A logged model as MLflow serves it: probabilities under the classes' names.

MLflow copies this file into each logged model and imports the copy from there, without fmnist.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
import yaml
from numpy.typing import NDArray


class NamedProbabilities:
    """Wrap a Keras model from images (n, height, width) uint8 to probabilities (n, classes)."""

    def __init__(self, model: keras.Model, class_names: list[str]) -> None:
        self.model = model
        self.class_names = class_names
        # `model.predict` starts a data pipeline for each call: tens of milliseconds
        self.call = tf.function(
            lambda images: model(images, training=False),
            input_signature=[tf.TensorSpec(model.input_shape, tf.uint8)],
            autograph=False,  # it would look for this file when the folder may be gone
        )

    def get_raw_model(self) -> keras.Model:
        """Return the Keras model, as `mlflow.pyfunc` asks for it."""
        return self.model

    def predict(self, images: NDArray[np.uint8], params: dict[str, Any] | None = None) -> Any:
        """Return a data frame with a row for each image and a column for each class."""
        return pd.DataFrame(self.call(tf.constant(images)).numpy(), columns=self.class_names)


def load(folder: Path) -> NamedProbabilities:
    """Load the model in `folder`, as MLflow saved it, without running code that it may contain."""
    metadata = yaml.safe_load((folder / "MLmodel").read_text())["metadata"]
    model = keras.saving.load_model(folder / "data" / "model.keras", safe_mode=True)
    return NamedProbabilities(model, metadata["class_names"])


def _load_pyfunc(path: str) -> NamedProbabilities:
    """Do what `mlflow.pyfunc` asks of a loader module."""
    return load(Path(path))
