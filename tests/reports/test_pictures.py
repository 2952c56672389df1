"""Any name is drawn as it is, and a picture that fails is one warning."""

import logging
from functools import partial

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from evidence_samples import ACCURACY, layer_health, run_summary
from fmnist.evidence.comparison import StudyDesign, compare_variants
from fmnist.reports import class_plots, run_plots
from fmnist.reports import comparison_plots as plots
from fmnist.reports.pictures import Drawing, rendered

NAMES = ["$5", "$_$", "_x", "\\$", "字"]


def comparison_drawings() -> dict[str, Drawing]:
    runs = [
        run_summary(name, seed, accuracy)
        for name, accuracies in zip(NAMES, (*ACCURACY.values(),) * 2, strict=False)
        for seed, accuracy in enumerate(accuracies)
    ]
    comparison = compare_variants(runs, StudyDesign())
    values = {"val_loss": np.ones((2, 3)), "val_accuracy": np.ones((2, 3))}
    names = [variant.name for variant in comparison.variants]
    colours = plots.colours(comparison)
    health = {name: layer_health([1e-7, 2, 1], [2.0, 1, 0.5]) for name in names}
    return {
        "forest": partial(plots.forest, comparison),
        "seeds": partial(plots.seeds, comparison),
        "curves": partial(plots.curves, dict.fromkeys(names, values), colours),
        "profiles": partial(plots.layer_profiles, health, colours),
    }


def class_drawings() -> dict[str, Drawing]:
    labels, shares = np.arange(10) % 5, np.full((10, 5), 0.2)
    images, probability = np.zeros((10, 3, 3), np.uint8), dict.fromkeys(NAMES, 0.2)
    counts = np.ones((3, 5, 5))
    accuracies = {name: np.ones((2, 5)) for name in NAMES}
    mistakes = partial(run_plots.confident_mistakes, images, labels, shares)
    return {
        "accuracy": partial(class_plots.accuracy_by_class, accuracies, NAMES),
        "confusion": partial(class_plots.confusion_matrix, labels, labels, NAMES),
        "disagreements": partial(class_plots.disagreements, counts, "$_$", "$\\$", NAMES),
        "mistakes": partial(mistakes, NAMES),
        "classified": partial(run_plots.classified_images, images[:1], [probability], ["$_$"]),
    }


DRAWINGS = comparison_drawings() | class_drawings()


@pytest.mark.parametrize("name", DRAWINGS)
def test_names_are_drawn_as_they_are(name, caplog):
    figures = []

    def draw() -> Figure:
        figures.append(DRAWINGS[name]())
        return figures[0]

    assert rendered({name: draw}, tight=True).keys() == {name}
    assert not caplog.records
    texts = [text for text in figures[0].findobj(Text) if text.get_text()]
    assert any("$_$" in text.get_text() for text in texts)
    assert not any(text.get_parse_math() or "mathdefault" in text.get_text() for text in texts)


def test_a_legend_has_every_name():
    legend = DRAWINGS["curves"]().legends[0]
    assert [text.get_text() for text in legend.get_texts()] == NAMES[:4]


def test_a_picture_that_fails_is_one_warning_and_the_others_are_drawn(caplog):
    def broken() -> Figure:
        raise ValueError("no\nway")

    with caplog.at_level(logging.WARNING):
        pictures = rendered({"a.png": broken, "b.png": DRAWINGS["seeds"]})
    assert pictures.keys() == {"b.png"}
    assert caplog.messages == ["the picture a.png was not drawn: no way"]


def test_pictures_of_many_classes_have_a_largest_size():
    labels, names = np.arange(256), list(map(str, range(256)))
    width, height = class_plots.confusion_matrix(labels, labels, names).get_size_inches()
    assert height <= class_plots.LARGEST and width <= class_plots.LARGEST + 2
