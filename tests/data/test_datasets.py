"""The data sets: split, scaling, fingerprint; the real Fashion-MNIST among them."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from conftest import write_idx
from fmnist.common.errors import ConfigError, DataError
from fmnist.config.instantiate import instantiate
from fmnist.data import datasets


@pytest.fixture(scope="module")
def fashion_mnist(tmp_path_factory):
    from conftest import composed

    return instantiate("data", composed(tmp_path_factory.mktemp("real")).data)


def test_the_real_fashion_mnist_is_split_as_in_the_tutorial(fashion_mnist):
    sizes = {name: len(part) for name, part in fashion_mnist.parts.items()}
    assert sizes == {"train": 55_000, "val": 5_000, "test": 10_000}
    assert fashion_mnist.image_shape == (28, 28)
    assert all(part.images.dtype == np.uint8 for part in fashion_mnist.parts.values())
    # the data set's published first labels: ankle boot, T-shirt, T-shirt, dress
    assert fashion_mnist.validation.labels[:4].tolist() == [9, 0, 0, 3]
    assert fashion_mnist.class_names[fashion_mnist.validation.labels[0]] == "Ankle boot"
    assert np.bincount(fashion_mnist.test.labels).tolist() == [1000] * 10


def test_scaling_is_fitted_on_the_training_part_alone(fashion_mnist):
    training, validation = fashion_mnist.train.images[:2000], fashion_mnist.validation.images
    scaler = StandardScaler().fit(training.reshape(-1, 1).astype(float))
    mean, std = datasets.pixel_statistics(training)
    assert (mean, std) == pytest.approx((scaler.mean_[0], scaler.scale_[0]), rel=1e-12)
    whole = fashion_mnist.train.images
    assert fashion_mnist.mean == pytest.approx(whole.mean(), rel=1e-12)
    assert fashion_mnist.mean != pytest.approx(np.concatenate([whole, validation]).mean(), rel=1e-6)


def test_digits_are_real_and_split(config):
    digits = instantiate("data", config("data=digits").data)
    sizes = {name: len(part) for name, part in digits.parts.items()}
    assert sizes == {"train": 1200, "val": 300, "test": 297}
    assert digits.train.images.max() == 255
    assert digits.class_names == tuple("0123456789")


def test_idx_takes_shape_classes_and_names_from_the_files(tmp_path, small_arrays):
    folder = write_idx(tmp_path, small_arrays, zipped=True)
    dataset = datasets.idx(str(folder), None, validation_size=10)
    assert dataset.image_shape == (6, 5)
    assert dataset.class_names == ("0", "1", "2")
    assert len(dataset.train) == 30
    np.testing.assert_array_equal(
        dataset.validation.images, small_arrays["train-images-idx3-ubyte"][:10]
    )
    assert datasets.idx(str(folder), ["a", "b", "c"], 10).class_names == ("a", "b", "c")


def test_the_fingerprint_tells_content_split_and_scaling_apart(tmp_path, small_arrays):
    def fingerprint(name, validation_size=10, **changed):
        folder = write_idx(tmp_path / name, small_arrays | changed)
        return datasets.idx(str(folder), None, validation_size).fingerprint

    labels = small_arrays["t10k-labels-idx1-ubyte"]
    same, split = fingerprint("same"), fingerprint("split", validation_size=11)
    altered = fingerprint("altered", **{"t10k-labels-idx1-ubyte": labels[::-1]})
    assert fingerprint("again") == same
    assert len({same, split, altered}) == 3


@pytest.mark.parametrize(
    ("arguments", "changed", "error", "message"),
    [
        ({"validation_size": 40}, {}, ConfigError, "data.validation_size=40: must be below the 40"),
        (
            {"class_names": ["a"]},
            {},
            ConfigError,
            "data.class_names: 1 names for 3 classes; the labels are 0 to 2",
        ),
        (
            {},
            {"train-images-idx3-ubyte": np.full((40, 6, 5), 7)},
            DataError,
            "every training pixel has the value 7",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    tmp_path, small_arrays, arguments, changed, error, message
):
    folder = write_idx(tmp_path, small_arrays | changed)
    arguments = {"class_names": None, "validation_size": 10} | arguments
    with pytest.raises(error, match=message):
        datasets.idx(str(folder), **arguments)


def test_too_large_a_test_part_of_digits_is_refused():
    with pytest.raises(ConfigError, match=r"data\.test_size=1797: must be below the 1797 images"):
        datasets.digits(validation_size=10, test_size=1797)
