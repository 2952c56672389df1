"""Predictions are kept exactly; accuracies and disagreements are counted by hand here."""

import numpy as np

from fmnist.evidence.predictions import Predictions, accuracy_by_class, disagreement

NAMES = ("bag", "coat", "shirt", "dress")


def predictions(classes, labels):
    return Predictions(np.array(labels, np.uint8), np.eye(4, dtype=np.float32)[classes], NAMES)


def test_predictions_survive_the_file_bit_for_bit(tmp_path):
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1, 1], 9).astype(np.float32)
    saved = Predictions(np.arange(9, dtype=np.uint8) % 4, probabilities, NAMES)
    saved.save(tmp_path / "validation.npz")
    loaded = Predictions.load(tmp_path / "validation.npz")
    np.testing.assert_array_equal(loaded.probabilities, probabilities)
    assert loaded.probabilities.dtype == np.float32
    np.testing.assert_array_equal(loaded.labels, saved.labels)
    assert loaded.class_names == NAMES


def test_only_predictions_of_the_same_images_are_compared():
    one = predictions([0, 1], [0, 1])
    assert one.is_of_same_images(predictions([1, 1], [0, 1]))
    assert not one.is_of_same_images(predictions([0, 1], [0, 2]))
    assert not one.is_of_same_images(predictions([0, 1, 1], [0, 1, 1]))
    others = Predictions(one.labels, one.probabilities, ("bag", "coat", "shirt", "sock"))
    assert not one.is_of_same_images(others)


def test_accuracy_by_class_knows_nothing_of_a_class_without_images():
    accuracy = accuracy_by_class(predictions([0, 1, 1, 2, 0], [0, 0, 1, 2, 2]))
    np.testing.assert_array_equal(accuracy, [0.5, 1, 0.5, np.nan])


def test_disagreements_are_counted_by_pair_and_by_who_is_right():
    labels = [0, 0, 1, 2, 3]
    one, other = predictions([0, 1, 1, 3, 0], labels), predictions([0, 0, 2, 1, 1], labels)
    counts = disagreement(one, other)
    assert counts.sum() == 4
    assert counts[1, 1, 0] == 1  # one says coat, other says bag and is right
    assert counts[0, 1, 2] == 1
    assert counts[2, 3, 1] == 1 and counts[2, 0, 1] == 1
