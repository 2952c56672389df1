"""Pictures of a comparison, class by class; each function takes data and returns a `Figure`."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray


def accuracy_by_class(
    accuracies: Mapping[str, NDArray[np.floating]], class_names: Sequence[str]
) -> Figure:
    """Draw the accuracy of each variant (row) on each class (column), and what it is on average.

    Args:
        accuracies: of each variant (seeds, classes), fractions.
        class_names: the name of each class.
    """
    means = 100 * np.array([np.mean(values, axis=0) for values in accuracies.values()])
    size = 1.8 + 0.45 * len(means)
    figure = Figure(figsize=(2.5 + 0.8 * len(class_names), size), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(means, cmap="cividis", aspect="auto")
    middle = (np.nanmin(means) + np.nanmax(means)) / 2
    for (row, column), value in np.ndenumerate(means):
        colour = "black" if value > middle else "white"
        axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(class_names)), class_names, rotation=30, ha="right")
    axes.set_yticks(range(len(means)), list(accuracies))
    figure.colorbar(picture, label="validation accuracy of the logged model, %")
    return figure


def disagreements(
    counts: NDArray[np.floating], one: str, other: str, class_names: Sequence[str]
) -> Figure:
    """Draw for how many images two variants name different classes, and which of them is right.

    Args:
        counts: (3, classes, classes), mean over the seeds, as `predictions.disagreement` counts:
            the class that `one` says, the class that `other` says.
        one: name of the variant whose classes are the rows.
        other: name of the variant whose classes are the columns.
        class_names: the name of each class.
    """
    total = counts.sum(axis=0)
    balance = counts[1] - counts[0]  # above 0: `other` is right more often
    classes = range(len(class_names))
    size = max(5.0, 0.7 * len(class_names))
    figure = Figure(figsize=(size + 2.5, size), layout="constrained")
    axes = figure.subplots()
    limit = max(1.0, float(np.abs(balance).max()))
    shown = np.ma.masked_where(total == 0, balance)
    picture = axes.imshow(shown, cmap="PuOr", vmin=-limit, vmax=limit)
    for row, column in zip(*np.nonzero(total >= 1), strict=True):
        dark = abs(balance[row, column]) > 0.6 * limit
        colour = "white" if dark else "black"
        text = f"{total[row, column]:.0f}"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_xticks(classes, class_names, rotation=45, ha="right")
    axes.set_yticks(classes, class_names)
    axes.set(xlabel=f"{other} says", ylabel=f"{one} says")
    right_one, right_other, neither = counts.sum(axis=(1, 2))
    axes.set_title(
        f"{total.sum():.0f} images a seed: {one} is right on {right_one:.0f}, "
        f"{other} on {right_other:.0f}, neither on {neither:.0f}",
        fontsize="medium",
    )
    label = f"images, right: {one} (below 0) or {other} (above 0)"
    figure.colorbar(picture, label=label, shrink=0.8)
    return figure
