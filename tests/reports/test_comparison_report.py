"""The pages and pictures of a comparison say what it found."""

import re
from html import unescape

import numpy as np
import pytest
from test_comparison import ACCURACY, runs, trained
from test_diagnosis import health

from fmnist.evidence.comparison import StudyDesign, comparison
from fmnist.evidence.layer_health import sentences
from fmnist.reports import comparison_plots as plots
from fmnist.reports import comparison_report
from fmnist.reports.verdicts import conclusions, highest

HEALTH = {"relu": health([50, 5, 1], [1, 1, 1])}


@pytest.fixture(scope="module")
def answer():
    question = "Is <selu> better?"
    failed = trained("gelu", 1, None, "FAILED")
    return comparison([*runs(), failed], StudyDesign(question=question, seeds=(0, 1, 2, 3, 4)))


def test_the_page_needs_no_other_file_and_says_it_all(answer):
    figure = plots.seeds(answer)
    page = comparison_report.html(answer, HEALTH, {"Every seed": figure})
    assert "Is &lt;selu&gt; better?" in page and "<selu>" not in page
    assert not re.search(r"(src|href)=.(?!data:)", page)
    assert page.count("data:image/png;base64,iVBOR") == 1
    said = [highest(answer), *conclusions(answer), *answer.caveats, *sentences(HEALTH)]
    for text in said:
        assert text in unescape(page)
    assert "relu: no finished run of seed 4" in page
    for run_id in answer.variants[0].run_ids.values():
        assert run_id in page
    assert re.search(r'<li class="better">\s*selu is better|<li class="better">selu is', page)


def test_a_terminal_shows_colours_anything_else_markdown(answer, monkeypatch, capsys):
    comparison_report.show(answer, HEALTH)
    assert capsys.readouterr().out.strip() == comparison_report.markdown(answer, HEALTH).strip()
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)
    comparison_report.show(answer, HEALTH)
    shown = capsys.readouterr().out
    assert re.search(r"\x1b\[32mbetter *\x1b\[0m", shown)
    assert conclusions(answer)[0][:60] in shown


def test_every_seed_is_a_dot_and_the_best_variant_stands_on_top(answer):
    [axes] = plots.seeds(answer).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["relu", "selu"]
    dots = [line for line in axes.get_lines() if line.get_marker() == "o"]
    for line, name in zip(dots, ("relu", "selu"), strict=True):
        assert list(line.get_xdata()) == [pytest.approx(100 * a) for a in ACCURACY[name]]


def test_the_forest_shows_difference_margin_and_verdict(answer):
    figure = plots.forest(answer)
    axes, *_ = figure.axes
    selu = next(variant for variant in answer.variants if variant.name == "selu")
    diamonds = [line for line in axes.get_lines() if line.get_marker() == "D"]
    assert [line.get_xdata()[0] for line in diamonds] == [
        pytest.approx(100 * selu.difference.estimate.mean)
    ]
    [right] = axes.child_axes
    assert [label.get_text() for label in right.get_yticklabels()] == ["better"]
    assert axes.patches[0].get_width() == pytest.approx(1)  # half a point on both sides


def test_curves_are_means_of_the_seeds_that_got_so_far(answer):
    values = np.array([[0.5, 0.7, 0.9], [0.7, 0.8, np.nan]])
    histories = {"relu": {"val_loss": values, "val_accuracy": values}}
    figure = plots.curves(histories, plots.colours(answer))
    for axes in figure.axes[:2]:
        [line] = axes.get_lines()
        np.testing.assert_allclose(line.get_ydata(), [0.6, 0.75, 0.9])
        assert line.get_color() == plots.COLOURS[0]


def test_each_variant_has_a_colour_of_its_own(answer):
    assert len(set(plots.colours(answer).values())) == 3
