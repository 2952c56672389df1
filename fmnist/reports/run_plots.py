"""Pictures of one run and its model; each function takes data and returns a `Figure`."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fmnist.reports.palette import BLUE, GREY, VERMILION


def learning_curves(history: Mapping[str, Sequence[float]], best_epoch: float | None) -> Figure:
    """Draw loss and accuracy on both parts over the epochs, and mark the best one, from 1."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = range(1, len(history["loss"]) + 1)
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(epochs, history[name], "o-", color=BLUE, label="training, during the epoch")
        axes.plot(epochs, history[f"val_{name}"], "s-", color=VERMILION, label="validation, after")
        if best_epoch is not None:
            label = f"best epoch: {best_epoch:g}"
            axes.axvline(best_epoch, color="grey", linestyle="--", label=label)
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def classified_images(
    images: Sequence[NDArray[np.uint8]],
    probabilities: Sequence[Mapping[str, float]],
    titles: Sequence[str],
) -> Figure:
    """Draw images (height, width), each beside the probabilities of its classes by name."""
    columns = min(3, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(5.5 * columns, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    pairs = grid.reshape(-1, 2)[: len(images)]
    for (left, right), image, by_class, title in zip(
        pairs, images, probabilities, titles, strict=True
    ):
        left.imshow(image, cmap="gray", vmin=0, vmax=255)
        left.set_title(title, fontsize="small")
        _draw_probabilities(right, by_class)
    return figure


def confident_mistakes(
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    class_names: Sequence[str],
    count: int = 24,
) -> Figure:
    """Draw the `count` images (n, height, width) that are most confidently misclassified.

    `labels` are the true classes (n,), `probabilities` (n, classes).
    """
    predictions, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predictions != labels)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    columns, title = 6, 0.5  # an image is 1 wide and 1 high, its title above takes half of that
    rows = max(1, -(-count // columns))
    figure = Figure(figsize=(1.6 * columns, 2 * rows + 0.5), layout="tight")
    axes = figure.subplots()  # one for all images: drawing one for each takes half a second
    for position, index in enumerate(shown):
        row, column = divmod(position, columns)
        left, top = 1.2 * column, -row * (1 + title)
        extent = (left, left + 1, top - 1, top)
        axes.imshow(images[index], cmap="gray_r", vmin=0, vmax=255, extent=extent)
        predicted, true = class_names[predictions[index]], class_names[labels[index]]
        label = f"{predicted} {confidence[index]:.0%}\nis {true}"
        axes.text(left + 0.5, top + 0.05, label, ha="center", va="bottom", fontsize=9)
    axes.set(xlim=(-0.1, columns * 1.2 - 0.1), ylim=(-rows * (1 + title) + title, title))
    axes.set_title(f"Most confident of {len(wrong)} mistakes on {len(labels)} validation images")
    axes.axis("off")
    return figure


def _draw_probabilities(axes: Axes, by_class: Mapping[str, float]) -> None:
    best = max(by_class.values())
    colours = [BLUE if value == best else GREY for value in by_class.values()]
    axes.axis("on")
    axes.barh(list(by_class), [100 * value for value in by_class.values()], color=colours)
    axes.set(xlim=(0, 100), xlabel="probability, %")
    axes.invert_yaxis()
    axes.tick_params(labelsize="small")
    axes.spines[["top", "right"]].set_visible(False)
