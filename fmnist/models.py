"""The one builder of every variant: a deep stack of Dense layers that takes raw pixels."""

import keras

from fmnist.config import Dropout, Model, Normalization
from fmnist.data import Dataset

DROPOUT_LAYERS = {
    Dropout.dropout: keras.layers.Dropout,
    Dropout.alpha_dropout: keras.layers.AlphaDropout,
}


def build(config: Model, dataset: Dataset) -> keras.Model:
    """Build the network of `conf/model/`, not compiled.

    Flatten, scaling, `depth` hidden layers, dropout, softmax: the deep network of the exercises
    to chapter 11 of A. Geron, "Hands-On Machine Learning", whose tutorial this project grew from.
    Scaling is a layer, with the training part's statistics, so that whoever loads the model gives
    it the pixels as they are.

    Args:
        config: depth, width, activation and so on.
        dataset: gives the image's shape, the classes and the scaling.

    Returns:
        A model from images (batch, height, width) uint8 to probabilities (batch, classes) float32.
    """
    layers = [
        keras.Input(dataset.image_shape, dtype="uint8", name="pixels"),
        keras.layers.Flatten(),
        keras.layers.Normalization(axis=None, mean=dataset.mean, variance=dataset.std**2),
    ]
    for _ in range(config.depth):
        layers += hidden_layer(config)
    if config.dropout is not Dropout.none:
        layers.append(DROPOUT_LAYERS[config.dropout](config.dropout_rate))
    layers.append(keras.layers.Dense(len(dataset.class_names), activation="softmax"))
    return keras.Sequential(layers, name=config.name)


def hidden_layer(config: Model) -> list[keras.Layer]:
    """Return one hidden layer: Dense and activation, with batch normalisation after or between."""
    activation, initializer = config.activation.name, config.initializer.name
    if config.normalization is Normalization.batch_norm_before:
        return [
            keras.layers.Dense(config.width, kernel_initializer=initializer),
            keras.layers.BatchNormalization(),
            keras.layers.Activation(activation),
        ]
    dense = keras.layers.Dense(config.width, activation=activation, kernel_initializer=initializer)
    if config.normalization is Normalization.batch_norm:
        return [dense, keras.layers.BatchNormalization()]
    return [dense]
