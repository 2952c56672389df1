"""Pictures of classes: confusions, accuracies and disagreements; each function draws a `Figure`."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

LARGEST = 40.0  # inches; of 256 classes a picture would else have half a billion pixels


def accuracy_by_class(
    accuracies: Mapping[str, NDArray[np.floating]], class_names: Sequence[str]
) -> Figure:
    """Draw each variant's accuracies (seeds, classes), fractions, as a row of means."""
    means = 100 * np.array([np.mean(values, axis=0) for values in accuracies.values()])
    size = np.minimum((2.5 + 0.8 * len(class_names), 1.8 + 0.45 * len(means)), LARGEST)
    figure = Figure(figsize=tuple(size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(means, cmap="cividis", aspect="auto")
    middle = (np.nanmin(means) + np.nanmax(means)) / 2
    for (row, column), value in np.ndenumerate(means):
        text = "-" if np.isnan(value) else f"{value:.1f}"  # no image of this class
        _write(axes, row, column, text, light=value <= middle)
    axes.set_xticks(range(len(class_names)), class_names, rotation=30, ha="right")
    axes.set_yticks(range(len(means)), list(accuracies))
    figure.colorbar(image, label="validation accuracy of the logged model, %")
    return figure


def confusion_matrix(
    labels: NDArray[np.integer], predictions: NDArray[np.integer], class_names: Sequence[str]
) -> Figure:
    """Draw how often each true class (row) was predicted as each class (column), of n images."""
    counts = np.zeros((len(class_names), len(class_names)), int)
    np.add.at(counts, (labels, predictions), 1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = _square(class_names, 0.75, 1.5)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        _write(axes, row, column, str(counts[row, column]), light=share[row, column] > 0.5)
    axes.set(xlabel="predicted", ylabel="true", title="Confusions on the validation part")
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    return figure


def disagreements(
    counts: NDArray[np.floating], first: str, second: str, class_names: Sequence[str]
) -> Figure:
    """Draw how many images two variants classify differently, and which of them is right.

    `counts` (3, classes, classes) is the mean over the seeds of `predictions.disagreement`.
    """
    total = counts.sum(axis=0)
    balance = counts[1] - counts[0]  # above 0: the second is right more often
    limit = max(1.0, float(np.abs(balance).max()))
    figure, axes = _square(class_names, 0.7, 2.5)
    shown = np.ma.masked_where(total == 0, balance)
    image = axes.imshow(shown, cmap="PuOr", vmin=-limit, vmax=limit)
    for row, column in zip(*np.nonzero(total >= 1), strict=True):
        dark = abs(balance[row, column]) > 0.6 * limit
        _write(axes, row, column, f"{total[row, column]:.0f}", light=dark)
    axes.set(xlabel=f"{second} says", ylabel=f"{first} says")
    right_first, right_second, neither = counts.sum(axis=(1, 2))
    axes.set_title(
        f"{total.sum():.0f} images a seed: {first} is right on {right_first:.0f}, "
        f"{second} on {right_second:.0f}, neither on {neither:.0f}",
        fontsize="medium",
    )
    label = f"images, right: {first} (below 0) or {second} (above 0)"
    figure.colorbar(image, label=label, shrink=0.8)
    return figure


def _square(class_names: Sequence[str], cell: float, beside: float) -> tuple[Figure, Axes]:
    """Return a figure for a matrix of classes; sizes in inches."""
    size = min(max(5.0, cell * len(class_names)), LARGEST)
    figure = Figure(figsize=(size + beside, size), layout="constrained")
    axes = figure.subplots()
    axes.set_xticks(range(len(class_names)), class_names, rotation=45, ha="right")
    axes.set_yticks(range(len(class_names)), class_names)
    return figure, axes


def _write(axes: Axes, row: int, column: int, text: str, light: bool) -> None:
    colour = "white" if light else "black"
    axes.text(column, row, text, ha="center", va="center", color=colour)
