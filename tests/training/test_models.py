"""The variants as Keras builds them."""

import keras
import numpy as np
import pytest

from fmnist.config.instantiate import instantiate
from fmnist.training.models import build
from fmnist.training.trainer import compiled_model


@pytest.fixture(scope="module")
def dataset():
    return instantiate(
        "data", {"_target_": "fmnist.data.digits", "validation_size": 9, "test_size": 9}
    )


@pytest.mark.parametrize(
    ("variant", "block", "before_output"),
    [
        ("relu", ["Dense relu"], []),
        ("batch_norm", ["Dense relu", "BatchNormalization"], []),
        ("batch_norm_before", ["Dense linear", "BatchNormalization", "Activation relu"], []),
        ("selu", ["Dense selu"], []),
        ("selu_dropout", ["Dense selu"], ["AlphaDropout 0.5"]),
        ("selu_plain_dropout", ["Dense selu"], ["Dropout 0.5"]),
    ],
)
def test_each_variant_has_its_layers(config, dataset, variant, block, before_output):
    model = build(config(f"model={variant}").model, dataset)
    expected = ["Flatten", "Normalization", *block * 20, *before_output, "Dense softmax"]
    assert [describe(layer) for layer in model.layers] == expected
    hidden = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)][:-1]
    assert {layer.units for layer in hidden} == {100}
    assert model.output_shape == (None, 10)


def describe(layer):
    settings = layer.get_config()
    detail = settings.get("activation", settings.get("rate", ""))
    return f"{type(layer).__name__} {detail}".strip()


def test_depth_width_initializer_and_dropout_can_be_overridden(config, dataset):
    model = build(
        config(
            "model=selu",
            "model.depth=2",
            "model.width=7",
            "model.initializer=lecun_normal",
            "model.dropout=dropout",
            "model.dropout_rate=0.1",
        ).model,
        dataset,
    )
    assert [describe(layer) for layer in model.layers] == [
        "Flatten",
        "Normalization",
        "Dense selu",
        "Dense selu",
        "Dropout 0.1",
        "Dense softmax",
    ]
    hidden = model.layers[2]
    assert hidden.units == 7
    assert isinstance(hidden.kernel_initializer, keras.initializers.LecunNormal)
    assert isinstance(model.layers[-1].kernel_initializer, keras.initializers.GlorotUniform)


def test_the_model_takes_raw_pixels_and_scales_them_itself(config, dataset):
    model = build(config("model=relu").model, dataset)
    assert model.inputs[0].dtype == "uint8"
    images = dataset.train.images
    scaled = keras.Model(model.inputs, model.layers[1].output).predict(images, verbose=0)
    assert scaled.mean() == pytest.approx(0, abs=1e-4)
    assert scaled.std() == pytest.approx(1, abs=1e-4)
    by_hand = (images.reshape(len(images), -1) - dataset.mean) / dataset.std
    np.testing.assert_allclose(scaled, by_hand, atol=1e-5)


def test_one_seed_draws_the_same_weights_for_every_variant(config, dataset):
    kernels = []
    for variant in ("relu", "batch_norm", "batch_norm_before", "selu_dropout"):
        model = compiled_model(config(f"model={variant}", "seed=5"), dataset)
        dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
        kernels.append([layer.kernel.numpy() for layer in dense])
    for other in kernels[1:]:
        for one, same in zip(kernels[0], other, strict=True):
            np.testing.assert_array_equal(one, same)
