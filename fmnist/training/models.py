"""The network of every variant: a deep stack of Dense layers that takes raw pixels."""

import keras

from fmnist.config.schema import Dropout, Model, Normalization
from fmnist.data.datasets import Dataset

DROPOUT_LAYERS = {
    Dropout.dropout: keras.layers.Dropout,
    Dropout.alpha_dropout: keras.layers.AlphaDropout,
}


def build(config: Model, dataset: Dataset) -> keras.Model:
    """Build a network of `conf/model/`, not compiled.

    Flatten, scaling, `depth` hidden layers, dropout, softmax. Scaling is a layer, with the
    training part's statistics, so that a loaded model takes raw pixels, too. SELU and
    AlphaDropout are those of Klambauer et al. (2017), arXiv 1706.02515; batch normalisation is
    that of Ioffe and Szegedy (2015), arXiv 1502.03167.

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
    # Made before the dropout, which draws, too: so one seed gives all variants equal weights.
    output = keras.layers.Dense(len(dataset.class_names), activation="softmax")
    if config.dropout is not Dropout.none:
        layers.append(DROPOUT_LAYERS[config.dropout](config.dropout_rate))
    return keras.Sequential([*layers, output])


def hidden_layer(config: Model) -> list[keras.Layer]:
    """Return Dense and activation, with batch normalisation after or between."""
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
