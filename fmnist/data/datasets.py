"""The data sets of conf/data/, one function each: split, pixel statistics, fingerprint."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmnist.common.errors import ConfigError, DataError
from fmnist.data.classes import Classes
from fmnist.data.download import SUMS, find_or_fetch
from fmnist.data.idx_files import IdxFiles, read_folder

FASHION_MNIST_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


@dataclass(frozen=True)
class Part:
    """One part of a data set: images (n, height, width) uint8, labels (n,) uint8."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A data set, ready to train on. Images stay raw (0-255): the model scales them."""

    name: str
    train: Part
    validation: Part
    test: Part
    class_names: tuple[str, ...]
    source: str  # where the files come from
    mean: float  # of all training pixels, as the next
    std: float
    fingerprint: str  # digest of content, split and scaling

    @property
    def parts(self) -> dict[str, Part]:
        """By their names in metrics."""
        return {"train": self.train, "val": self.validation, "test": self.test}

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.train.images.shape[1:]
        return height, width


def fashion_mnist(
    dir: str | None,
    url: str,
    timeout: float,
    validation_size: int,
    allow_missing_classes: bool = False,
) -> Dataset:
    """Load Zalando's Fashion-MNIST: 60,000 + 10,000 images of 28 x 28, checked by SHA-256.

    Without `dir` the files are found, or fetched from `url`, by `find_or_fetch`. The first
    `validation_size` training images validate.

    Raises:
        DataError: if the files are missing, damaged or altered, or without most classes.
        ConfigError: if `validation_size` leaves nothing to train on.
    """
    if dir is None:
        files, source = find_or_fetch(url, timeout)
    else:
        files, source = read_folder(Path(dir).expanduser(), SUMS), dir
    classes = Classes(FASHION_MNIST_CLASSES, allow_missing_classes)
    return _prepare("fashion_mnist", files, validation_size, classes, source)


def idx(
    dir: str,
    class_names: Sequence[str] | None,
    validation_size: int,
    allow_missing_classes: bool = False,
) -> Dataset:
    """Load any data set in MNIST's four-file layout, plain or gzipped.

    Without `class_names` the labels' numbers are the names.

    Raises:
        DataError: if the files are missing, damaged, do not fit together or lack classes.
        ConfigError: if `validation_size` or `class_names` do not fit the files.
    """
    files = read_folder(Path(dir).expanduser())
    classes = Classes(class_names, allow_missing_classes)
    return _prepare("idx", files, validation_size, classes, dir)


def digits(validation_size: int, test_size: int, allow_missing_classes: bool = False) -> Dataset:
    """Load scikit-learn's 1,797 handwritten digits of 8 x 8; the last `test_size` are the test.

    Raises:
        ConfigError: if the sizes leave nothing to train on.
    """
    from sklearn.datasets import load_digits  # a second, which the other data sets do not need

    bunch = load_digits()
    images = (bunch.images * (255 / 16)).astype(np.uint8)  # they come as 0-16
    labels = bunch.target.astype(np.uint8)
    if test_size >= len(images):
        raise ConfigError(f"data.test_size={test_size}: must be below the {len(images)} images")
    train, test = slice(None, -test_size), slice(-test_size, None)
    files = IdxFiles(images[train], labels[train], images[test], labels[test])
    classes = Classes(None, allow_missing_classes)
    return _prepare("digits", files, validation_size, classes, "scikit-learn")


def _prepare(
    name: str, files: IdxFiles, validation_size: int, classes: Classes, source: str
) -> Dataset:
    total = len(files.train_labels)
    if validation_size >= total:
        raise ConfigError(
            f"data.validation_size={validation_size}: must be below the {total} training images"
        )
    train = Part(files.train_images[validation_size:], files.train_labels[validation_size:])
    validation = Part(files.train_images[:validation_size], files.train_labels[:validation_size])
    test = Part(files.test_images, files.test_labels)
    labels = {"train": train.labels, "validation": validation.labels, "test": test.labels}
    names = classes.named(labels, source)
    mean, std = pixel_statistics(train.images)
    if std == 0:
        raise DataError(f"{source}: every training pixel has the value {mean:g}")
    fingerprint = _fingerprint((train, validation, test), mean, std)
    return Dataset(name, train, validation, test, names, source, mean, std, fingerprint)


def pixel_statistics(images: NDArray[np.uint8]) -> tuple[float, float]:
    """Return mean and standard deviation over all pixels of `images`, without a copy of them."""
    values = np.arange(256.0)
    # One image at a time: `bincount` copies its input to 64 bits.
    counts = sum(np.bincount(image.ravel(), minlength=256) for image in images)
    mean = np.average(values, weights=counts)
    return float(mean), float(np.sqrt(np.average((values - mean) ** 2, weights=counts)))


def _fingerprint(parts: Sequence[Part], mean: float, std: float) -> str:
    digest = hashlib.sha256(f"mean={mean!r} std={std!r}".encode())
    for part in parts:
        digest.update(str(part.images.shape).encode())
        digest.update(part.images.tobytes())
        digest.update(part.labels.tobytes())
    return digest.hexdigest()[:16]
