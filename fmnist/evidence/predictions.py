"""Predictions of a model on a part of a data set: accuracies by class and disagreements."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

VALIDATION = "predictions/validation.npz"
"""The artifact in which a run keeps those on the validation part."""


@dataclass(frozen=True)
class Predictions:
    """True classes (n,) uint8, probabilities (n, classes) float32, the names of the classes."""

    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    class_names: tuple[str, ...]

    @property
    def classes(self) -> NDArray[np.intp]:
        """The most probable class (n,) of each image."""
        best: NDArray[np.intp] = self.probabilities.argmax(axis=1)
        return best

    def save(self, path: Path) -> None:
        np.savez_compressed(
            path,
            labels=self.labels,
            probabilities=self.probabilities,
            class_names=np.array(self.class_names),
        )

    @classmethod
    def load(cls, file: Path | BinaryIO) -> "Predictions":
        with np.load(file, allow_pickle=False) as content:
            names = tuple(map(str, content["class_names"]))
            return cls(content["labels"], content["probabilities"], names)

    def is_of_same_images(self, other: "Predictions") -> bool:
        """Tell whether the labels, and what they mean, are those of `other`."""
        same = np.array_equal(self.labels, other.labels)
        return same and self.class_names == other.class_names


def accuracy_by_class(predictions: Predictions) -> NDArray[np.float64]:
    """Return the accuracy (classes,) on the images of each class; NaN for a class without any."""
    labels, size = predictions.labels, len(predictions.class_names)
    right = np.bincount(labels, predictions.classes == labels, size)
    with np.errstate(invalid="ignore"):
        accuracy: NDArray[np.float64] = right / np.bincount(labels, minlength=size)
    return accuracy


def disagreement(first: Predictions, second: Predictions) -> NDArray[np.int64]:
    """Count the images that two models classify differently.

    Returns:
        (3, classes, classes): for each class of `first` and of `second` the images on which
        `first` is right, `second` is right, neither is.
    """
    size = len(first.class_names)
    counts = np.zeros((3, size, size), np.int64)
    differ = first.classes != second.classes
    rows, columns, labels = (a[differ] for a in (first.classes, second.classes, first.labels))
    right = np.select([rows == labels, columns == labels], [0, 1], default=2)
    np.add.at(counts, (right, rows, columns), 1)
    return counts
