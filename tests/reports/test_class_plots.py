"""What stands in the pictures of classes, read from the figures' own data."""

import numpy as np

from fmnist.evidence.predictions import Predictions, disagreement
from fmnist.reports import class_plots

NAMES = ("bag", "coat", "shirt", "dress")


def predictions(classes, labels):
    return Predictions(np.array(labels, np.uint8), np.eye(4, dtype=np.float32)[classes], NAMES)


def test_disagreements_show_their_counts():
    labels = [0, 0, 1, 2, 3]
    relu, selu = predictions([0, 1, 1, 3, 0], labels), predictions([0, 0, 2, 1, 1], labels)
    axes = class_plots.disagreements(disagreement(relu, selu), "relu", "selu", NAMES).axes[0]
    title = "4 images a seed: relu is right on 1, selu on 1, neither on 2"
    assert axes.get_title() == title
    assert sorted((t.get_position(), t.get_text()) for t in axes.texts) == [
        ((0, 1), "1"),
        ((1, 0), "1"),
        ((1, 3), "1"),
        ((2, 1), "1"),
    ]


def test_accuracies_are_means_of_the_seeds_in_percent():
    relu = np.array([[0.5, 1, 0, np.nan], [1, 1, 0, np.nan]])  # no image of the last class
    accuracies = {"relu": relu, "selu": np.ones((2, 4))}
    axes = class_plots.accuracy_by_class(accuracies, NAMES).axes[0]
    assert [text.get_text() for text in axes.texts[:4]] == ["75.0", "100.0", "0.0", "-"]


def test_confusion_matrix_counts_by_class_name():
    figure = class_plots.confusion_matrix(
        np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), ["cat", "dog"]
    )
    axes = figure.axes[0]
    counts = {(text.get_position()): text.get_text() for text in axes.texts}
    assert counts == {(0, 0): "2", (1, 0): "1", (1, 1): "1"}  # (predicted, true)
    np.testing.assert_allclose(axes.images[0].get_array(), [[2 / 3, 1 / 3], [0, 1]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]
