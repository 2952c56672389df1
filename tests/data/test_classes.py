"""Which classes there are is checked before training: what can mean nothing is refused."""

import numpy as np
import pytest

from fmnist.common.errors import ConfigError, DataError
from fmnist.data.classes import Classes


def parts(train, validation, test=(0, 1, 2)):
    """The labels of three parts, given as `(label, ...)` or as `{label: images}`."""

    def labels(of):
        of = of.items() if isinstance(of, dict) else [(label, 5) for label in of]
        return np.repeat(*np.array(list(of), np.uint8).T)

    return {"train": labels(train), "validation": labels(validation), "test": labels(test)}


ALL = (0, 1, 2)
MEANINGLESS = [
    (
        parts(ALL, [0]),
        "all validation images are of one class, 0 (train/validation/test images: 0 ",
    ),
    (parts([1], ALL), "all train images are of one class, 1 ("),
    (parts([1], [1], [1]), "the labels are 1, and classes count from 0"),
    (parts(range(9), [0, 1, 2]), "the validation images are of 3 of 9 classes only ("),
    (parts([0, 1, 2], range(9)), "the train images are of 3 of 9 classes only ("),
]


@pytest.mark.parametrize(("labels", "words"), MEANINGLESS)
def test_what_can_mean_nothing_is_refused_unless_it_is_allowed(labels, words, caplog):
    with pytest.raises(DataError) as refused:
        Classes(None, allow_missing=False).named(labels, "/data")
    line = str(refused.value)
    assert line.startswith(f"/data: {words}") and "data.allow_missing_classes=true" in line
    names = Classes(None, allow_missing=True).named(labels, "/data")
    assert len(names) == 1 + max(of.max() for of in labels.values())
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (parts(ALL, [0, 2]), "no validation image of 1 (train/validation/test images: 0 5/5/5, 1 "),
        (parts([0, 1], ALL, [1, 2]), "no train image of 2; no test image of 0 ("),
        (parts({0: 3, 1: 250, 2: 3}, ALL), "98% of the train images are of one class, 1 ("),
    ],
)
def test_what_misleads_is_one_warning_with_counts(labels, words, caplog):
    Classes(None, allow_missing=False).named(labels, "/data")
    [line] = caplog.messages
    assert line.startswith(f"/data: {words}") and line.endswith(")")


def test_balanced_parts_are_no_warning(caplog):
    assert Classes(None, allow_missing=False).named(parts(ALL, ALL), "/data") == ("0", "1", "2")
    assert not caplog.records


@pytest.mark.parametrize(
    ("present", "listed", "count"),
    [
        (range(1, 11), "the labels are 1 to 10, and classes count from 0", 11),
        (range(10, 101, 10), "the labels are 10, 20, 30, 40, 50, 60, 70, 80, 90, 100", 101),
    ],
)
def test_labels_that_leave_out_numbers_are_named_with_the_cure(present, listed, count):
    labels = parts(present, present, present)
    with pytest.raises(DataError, match=rf"{listed}.*; write labels 0 to 9 into the files"):
        Classes(None, allow_missing=False).named(labels, "/data")
    with pytest.raises(ConfigError, match=f"10 names for {count} classes; {listed}"):
        Classes(list("abcdefghij"), allow_missing=False).named(labels, "/data")
    assert len(Classes(None, allow_missing=True).named(labels, "/data")) == count


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat", "dog", "cat"], r"data\.class_names: cat: stands there more than once"),
        (["cat", "", "dog"], r"data\.class_names=: must be 1 to 250 printable characters"),
        (["cat", "dog", " "], r"data\.class_names= : must be 1 to 250 printable characters"),
        (["cat", "dog", "cat "], r"data\.class_names: 'cat ' has spaces around it"),
        (["cat", "dog", "a\nb"], r"data\.class_names=a\nb: must be 1 to 250 printable"),
        ([], "0 names for 3 classes"),
    ],
)
def test_names_that_cannot_be_told_apart_are_refused(names, message):
    with pytest.raises(ConfigError, match=message):
        Classes(names, allow_missing=True).named(parts(ALL, ALL), "/data")


def test_many_classes_are_not_all_listed(caplog):
    labels = parts(range(100), range(1, 100), range(100))
    Classes(None, allow_missing=False).named(labels, "/data")
    assert len(caplog.messages[0]) < 300 and ", and 88 more)" in caplog.messages[0]
