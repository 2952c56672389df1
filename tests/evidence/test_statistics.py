"""The statistics agree with SciPy, textbook cases and what they promise."""

import math

import numpy as np
import pytest
from scipy import stats

from fmnist.evidence.statistics import (
    Verdict,
    compare_paired,
    holm,
    mean_interval,
    power,
    seeds_needed,
)


def test_the_interval_is_students():
    values = [0.861, 0.870, 0.866, 0.859, 0.872]
    estimate = mean_interval(values)
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (estimate.mean, estimate.n) == (pytest.approx(np.mean(values)), 5)
    assert (estimate.low, estimate.high) == (pytest.approx(low), pytest.approx(high))


def test_one_value_has_no_interval_and_none_no_mean():
    one, none = mean_interval([0.9]), mean_interval([])
    assert (one.mean, one.n) == (0.9, 1) and math.isnan(one.low) and math.isnan(one.high)
    assert none.n == 0 and math.isnan(none.mean)


def test_p_values_are_corrected_after_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, math.nan, 0.9]) == [1.0, pytest.approx(math.nan, nan_ok=True), 1.0]


def test_the_p_value_is_of_the_paired_t_test():
    a, b = np.array([0.861, 0.870, 0.866, 0.859]), np.array([0.872, 0.874, 0.879, 0.866])
    [difference] = compare_paired([b - a], margin=0.005)
    assert difference.p == pytest.approx(stats.ttest_rel(b, a).pvalue)
    assert difference.spread == pytest.approx(np.std(b - a, ddof=1))
    bound = stats.ttest_1samp(b - a, 0.005, alternative="less").pvalue
    assert difference.p_equivalent == pytest.approx(bound)


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([0.020, 0.024, 0.019, 0.022, 0.021], Verdict.better),
        ([-0.020, -0.024, -0.019, -0.022, -0.021], Verdict.worse),
        ([0.020, -0.024, 0.019, -0.022, 0.021], Verdict.unknown),
        ([0.001, -0.001, 0.0005, 0.0, -0.0005], Verdict.equivalent),
        ([0.001, 0.0011, 0.0009, 0.001, 0.0012], Verdict.equivalent),  # there, but too small
        ([0.0, 0.0, 0.0], Verdict.equivalent),
        ([0.02, 0.02], Verdict.unknown),  # a coincidence of counts, no certainty
        ([0.8 - 0.78, 0.82 - 0.8], Verdict.unknown),  # the same, but for rounding
        ([0.02], Verdict.untested),
        ([], Verdict.untested),
    ],
)
def test_verdicts(differences, verdict):
    assert compare_paired([differences], margin=0.005)[0].verdict is verdict


def test_more_variants_need_stronger_evidence():
    differences = [0.004, 0.012, 0.009, 0.015, 0.006]
    alone = compare_paired([differences], margin=0.001)[0]
    among = compare_paired([differences] + [[0.02, -0.02, 0.01]] * 20, margin=0.001)[0]
    assert alone.verdict is Verdict.better and among.verdict is Verdict.unknown
    assert among.p == pytest.approx(min(1, 21 * alone.p))


def test_the_power_is_what_simulation_gives():
    draw = np.random.default_rng(3)
    differences = draw.normal(0.01, 0.008, (4000, 6))
    detected = stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05 / 5
    assert power(0.01, 0.008, 6, comparisons=5) == pytest.approx(detected.mean(), abs=0.03)
    assert power(0.03, 0.005, 10, comparisons=5) == pytest.approx(1)
    n = seeds_needed(0.005, 0.008, comparisons=5)
    assert power(0.005, 0.008, n, 5) >= 0.8 > power(0.005, 0.008, n - 1, 5)
