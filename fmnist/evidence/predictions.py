"""What a model said of each image of a part, as a run logs it; accuracies and disagreements."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

VALIDATION = "predictions/validation.npz"
"""Where a run keeps them, among its artifacts."""


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
        """Write them to an .npz file."""
        np.savez_compressed(
            path,
            labels=self.labels,
            probabilities=self.probabilities,
            class_names=np.array(self.class_names),
        )

    def is_of_same_images(self, other: "Predictions") -> bool:
        """Tell whether the labels, and what they mean, are those of `other`."""
        same = np.array_equal(self.labels, other.labels)
        return same and self.class_names == other.class_names

    @classmethod
    def load(cls, file: Path | BinaryIO) -> "Predictions":
        """Read what `save` wrote."""
        with np.load(file, allow_pickle=False) as content:
            names = tuple(map(str, content["class_names"]))
            return cls(content["labels"], content["probabilities"], names)


def accuracy_by_class(predictions: Predictions) -> NDArray[np.float64]:
    """Return the share (classes,) of each class's images that were recognised; NaN without any."""
    right = predictions.classes == predictions.labels
    size = len(predictions.class_names)
    images = np.bincount(predictions.labels, minlength=size).astype(float)
    images[images == 0] = np.nan
    accuracy: NDArray[np.float64] = (
        np.bincount(predictions.labels, weights=right, minlength=size) / images
    )
    return accuracy


def disagreement(one: Predictions, other: Predictions) -> NDArray[np.int64]:
    """Count the images on which two models disagree, by what they say and who is right.

    Args:
        one: of the one model.
        other: of the other, for the same images.

    Returns:
        (3, classes, classes) int64: for each pair (class that `one` says, class that `other`
        says) the images for which `one` is right, `other` is right, neither is.
    """
    size = len(one.class_names)
    counts = np.zeros((3, size, size), np.int64)
    differ = one.classes != other.classes
    right = np.where(one.classes == one.labels, 0, np.where(other.classes == one.labels, 1, 2))
    np.add.at(counts, (right[differ], one.classes[differ], other.classes[differ]), 1)
    return counts
