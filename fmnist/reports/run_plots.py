"""Pictures of one run: each function takes data and returns a matplotlib `Figure`."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

TRAINING, VALIDATION = "#0072b2", "#d55e00"  # Okabe and Ito's colour-blind safe blue, vermilion


def learning_curves(history: Mapping[str, Sequence[float]], best_epoch: float | None) -> Figure:
    """Draw loss and accuracy of the training and the validation part over the epochs.

    Args:
        history: per-epoch values of `loss`, `accuracy`, `val_loss` and `val_accuracy`.
        best_epoch: the epoch to mark, counted from 1; None marks none.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = range(1, len(history["loss"]) + 1)
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(epochs, history[name], "o-", color=TRAINING, label="training, during the epoch")
        axes.plot(epochs, history[f"val_{name}"], "s-", color=VALIDATION, label="validation, after")
        if best_epoch is not None:
            label = f"best epoch: {best_epoch:g}"
            axes.axvline(best_epoch, color="grey", linestyle="--", label=label)
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def what_it_saw(
    images: Sequence[NDArray[np.uint8]],
    probabilities: Sequence[Mapping[str, float]],
    titles: Sequence[str],
) -> Figure:
    """Draw each image as the model saw it, beside the probabilities of the classes.

    Args:
        images: each (height, width).
        probabilities: of the classes by name, for each image.
        titles: for each image.
    """
    columns = min(3, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(5.5 * columns, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    pairs = grid.reshape(-1, 2)
    for (left, right), image, said, title in zip(
        pairs, images, probabilities, titles, strict=False
    ):
        left.imshow(image, cmap="gray", vmin=0, vmax=255)
        left.set_title(title, fontsize="small")
        right.axis("on")
        best = max(said.values())
        colours = [TRAINING if value == best else "#bbbbbb" for value in said.values()]
        right.barh(list(said), [100 * value for value in said.values()], color=colours)
        right.set(xlim=(0, 100), xlabel="probability, %")
        right.invert_yaxis()
        right.tick_params(labelsize="small")
        right.spines[["top", "right"]].set_visible(False)
    return figure


def confusion_matrix(
    labels: NDArray[np.integer], predictions: NDArray[np.integer], class_names: Sequence[str]
) -> Figure:
    """Draw how often each class (row) was taken for each class (column).

    Args:
        labels: true classes (n,).
        predictions: predicted classes (n,).
        class_names: the name of each class.
    """
    classes = range(len(class_names))
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (labels, predictions), 1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = max(5.0, 0.75 * len(class_names))
    figure = Figure(figsize=(size + 1.5, size), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, counts[row, column], ha="center", va="center", color=colour)
    axes.set_xticks(classes, class_names, rotation=45, ha="right")
    axes.set_yticks(classes, class_names)
    axes.set(xlabel="predicted", ylabel="true", title="Confusions on the validation part")
    figure.colorbar(picture, label="share of the true class", shrink=0.8)
    return figure


def confident_mistakes(
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    class_names: Sequence[str],
    count: int = 24,
) -> Figure:
    """Draw the wrongly classified images of which the model was surest, the surest first.

    Args:
        images: (n, height, width).
        labels: true classes (n,).
        probabilities: of each class (n, classes).
        class_names: the name of each class.
        count: how many images at the most.
    """
    predictions, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predictions != labels)
    surest = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    columns, title = 6, 0.5  # an image is 1 wide and 1 high, its title above takes half of that
    rows = max(1, -(-count // columns))
    figure = Figure(figsize=(1.6 * columns, 2 * rows + 0.5), layout="tight")
    # One pair of axes for all images: as many as there are images take half a second to draw.
    axes = figure.subplots()
    for place, index in enumerate(surest):
        row, left = place // columns, place % columns * 1.2
        top = -row * (1 + title)
        extent = (left, left + 1, top - 1, top)
        axes.imshow(images[index], cmap="gray_r", vmin=0, vmax=255, extent=extent)
        said, true = class_names[predictions[index]], class_names[labels[index]]
        label = f"{said} {confidence[index]:.0%}\nis {true}"
        axes.text(left + 0.5, top + 0.05, label, ha="center", va="bottom", fontsize=9)
    axes.set(xlim=(-0.1, columns * 1.2 - 0.1), ylim=(-rows * (1 + title) + title, title))
    axes.set_title(f"Most confident of {len(wrong)} mistakes on {len(labels)} validation images")
    axes.axis("off")
    return figure
