"""What stands in the pictures of a comparison, read from the figures' own data."""

import numpy as np
import pytest

from evidence_samples import ACCURACY, finished_runs, layer_health, run_summary
from fmnist.evidence.comparison import StudyDesign, compare_variants
from fmnist.evidence.layer_health import STAGES
from fmnist.reports import comparison_plots as plots
from fmnist.reports.palette import BLACK


@pytest.fixture(scope="module")
def comparison():
    failed = run_summary("gelu", 1, None, "FAILED")
    return compare_variants([*finished_runs(), failed], StudyDesign())


def test_every_seed_is_a_dot_and_the_best_variant_stands_on_top(comparison):
    [axes] = plots.seeds(comparison).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["relu", "selu"]
    dots = [line for line in axes.get_lines() if line.get_marker() == "o"]
    for line, name in zip(dots, ("relu", "selu"), strict=True):
        assert list(line.get_xdata()) == [pytest.approx(100 * a) for a in ACCURACY[name]]


def test_the_forest_shows_difference_margin_and_verdict(comparison):
    axes, *_ = plots.forest(comparison).axes
    selu = next(variant for variant in comparison.variants if variant.name == "selu")
    diamonds = [line for line in axes.get_lines() if line.get_marker() == "D"]
    assert [line.get_xdata()[0] for line in diamonds] == [
        pytest.approx(100 * selu.difference.estimate.mean)
    ]
    [right] = axes.child_axes
    assert [label.get_text() for label in right.get_yticklabels()] == ["better"]
    assert axes.patches[0].get_width() == pytest.approx(1)  # half a point on both sides


def test_curves_are_means_of_the_seeds_that_got_so_far(comparison):
    values = np.array([[0.5, 0.7, 0.9], [0.7, 0.8, np.nan]])
    histories = {"relu": {"val_loss": values, "val_accuracy": values}}
    figure = plots.curves(histories, plots.colours(comparison))
    for axes in figure.axes[:2]:
        [line] = axes.get_lines()
        np.testing.assert_allclose(line.get_ydata(), [0.6, 0.75, 0.9])
        assert line.get_color() == BLACK


def test_each_variant_has_a_colour_of_its_own(comparison):
    assert len(set(plots.colours(comparison).values())) == 3


def test_profiles_are_drawn_for_each_stage():
    healths = {"relu": layer_health([4, 2, 1], [2.0, 1, 0.5])}
    figure = plots.layer_profiles(healths, {"relu": BLACK})
    assert tuple(axes.get_title() for axes in figure.axes[:3]) == STAGES
    [line] = figure.axes[0].get_lines()
    np.testing.assert_array_equal(line.get_ydata(), [4, 2, 1, 1])
