"""What stands in the pictures of a run, read from the figures' own data."""

import numpy as np

from fmnist.reports import run_plots

HISTORY = {
    "loss": [1.0, 0.5, 0.4],
    "accuracy": [0.5, 0.7, 0.8],
    "val_loss": [0.9, 0.6, 0.7],
    "val_accuracy": [0.6, 0.75, 0.7],
}


def test_learning_curves_show_both_parts_and_mark_the_best_epoch():
    figure = run_plots.learning_curves(HISTORY, best_epoch=2)
    for axes, name in zip(figure.axes, ("loss", "accuracy"), strict=True):
        training, validation, best = axes.get_lines()
        assert list(training.get_xdata()) == [1, 2, 3]
        assert list(training.get_ydata()) == HISTORY[name]
        assert list(validation.get_ydata()) == HISTORY[f"val_{name}"]
        assert list(best.get_xdata()) == [2, 2]
        assert axes.get_ylabel() == name
    assert len(run_plots.learning_curves(HISTORY, best_epoch=None).axes[0].get_lines()) == 2


def test_mistakes_are_shown_the_surest_first():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    labels = np.array([0, 1, 0, 0])  # wrong: 1 (60 %), 2 (80 %), 3 (70 %)
    images = np.arange(4)[:, None, None] * np.ones((4, 3, 3), np.uint8)
    figure = run_plots.confident_mistakes(images, labels, probabilities, ["cat", "dog"], count=2)
    [axes] = figure.axes
    assert [text.get_text() for text in axes.texts] == ["dog 80%\nis cat", "dog 70%\nis cat"]
    assert [image.get_array()[0, 0] for image in axes.images] == [2, 3]
    assert "3 mistakes on 4" in axes.get_title()


def test_an_image_stands_beside_its_probabilities():
    images = [np.full((3, 3), value, np.uint8) for value in (7, 8)]
    probabilities = [{"cat": 0.25, "dog": 0.75}, {"cat": 1.0, "dog": 0.0}]
    figure = run_plots.classified_images(images, probabilities, ["a.png", "b.png"])
    left, right, *_ = figure.axes
    assert left.get_title() == "a.png" and left.images[0].get_array()[0, 0] == 7
    assert [bar.get_width() for bar in right.patches] == [25, 75]
    cat, dog = (bar.get_facecolor() for bar in right.patches)
    assert cat != dog  # the best stands out
