"""The table of answers stays readable, however many classes there are."""

from types import SimpleNamespace

import numpy as np

from fmnist.inference.predict import Answer, Answers, as_table


def table_of(probabilities) -> str:
    by_class = {str(number): p for number, p in enumerate(probabilities)}
    answer = Answer("a.png", np.zeros((2, 2), np.uint8), by_class)
    return as_table(Answers(SimpleNamespace(), [answer], []))


def test_no_class_is_probable():
    probabilities = np.full(256, 0.99 / 255)
    probabilities[7] = 0.0049
    assert "| a.png | 7     | 0.49%       |      |" in table_of(probabilities)


def test_of_many_probable_classes_the_first_ten_are_listed():
    assert table_of(np.full(100, 0.01)).count("1%") == 10
