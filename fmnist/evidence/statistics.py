"""Statistics of paired seeds: arrays in, numbers and verdicts out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

CONFIDENCE = 0.95  # of every interval
ALPHA = 0.05  # family-wise error rate: probability of calling any of several ties a difference
POWER = 0.8  # probability of detecting a true difference, for which seeds are planned
ROUNDING = 1e-6  # of accuracies in float32; one image of 5,000 is 2e-4


class Verdict(StrEnum):
    """What the paired seeds say about a variant against the baseline."""

    better = "better"
    worse = "worse"
    equivalent = "equivalent"
    unknown = "no evidence of a difference"
    untested = "nothing can be concluded"


@dataclass(frozen=True)
class Estimate:
    """A mean of n values with its 95 % interval; NaN where there are too few values."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class PairedDifference:
    """A variant's paired difference from the baseline; positive is better.

    Both p-values are corrected for the number of comparisons.
    """

    estimate: Estimate
    spread: float  # standard deviation; NaN for fewer than two pairs, as the next two
    p: float  # of the hypothesis that there is no difference
    p_equivalent: float  # of the one that it is at least the margin
    verdict: Verdict


def mean_interval(values: ArrayLike) -> Estimate:
    """Return mean and Student's t interval of independent values (n,)."""
    array = np.asarray(values, float)
    n = len(array)
    mean = float(array.mean()) if n else math.nan
    if n < 2:
        return Estimate(mean, math.nan, math.nan, n)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * stats.sem(array))
    return Estimate(mean, mean - half, mean + half, n)


def compare_paired(differences: Sequence[ArrayLike], margin: float) -> list[PairedDifference]:
    """Compare variants with the baseline by Student's paired t-test.

    The p-values of all variants are corrected together after Holm (1979), so that the chance of
    calling any of several equal variants better or worse is at most `ALPHA`. A difference is
    equivalent if two one-sided tests (Schuirmann, 1987), corrected likewise, bound it by `margin`;
    this precedes "better" and "worse", because such a difference does not matter.

    Args:
        differences: of each variant from the baseline, one a seed (n,).
        margin: the smallest difference that matters, in the unit of the differences.
    """
    arrays = [np.asarray(values, float) for values in differences]
    p_values = [_p_values(values, margin) for values in arrays]
    different = holm([p for p, _ in p_values])
    equivalent = holm([p for _, p in p_values])
    return [
        _paired_difference(values, p, p_equivalent)
        for values, p, p_equivalent in zip(arrays, different, equivalent, strict=True)
    ]


def _p_values(differences: np.ndarray, margin: float) -> tuple[float, float]:
    """Return p of "no difference" and p of "at least `margin`", before correction."""
    if len(differences) < 2:
        return math.nan, math.nan
    mean, error = differences.mean(), stats.sem(differences)
    if error < ROUNDING:
        # Accuracies are counts: equal differences of few seeds are coincidence, not certainty.
        return 1.0, 0.0 if abs(mean) < ROUNDING else 1.0
    student = stats.t(len(differences) - 1)
    p = 2 * student.sf(abs(mean) / error)
    return float(p), float(student.sf((margin - abs(mean)) / error))


def _paired_difference(differences: np.ndarray, p: float, p_equivalent: float) -> PairedDifference:
    estimate = mean_interval(differences)
    spread = float(differences.std(ddof=1)) if estimate.n > 1 else math.nan
    verdict = Verdict.unknown
    if estimate.n < 2:
        verdict = Verdict.untested
    elif p_equivalent <= ALPHA:
        verdict = Verdict.equivalent
    elif p <= ALPHA:
        verdict = Verdict.better if estimate.mean > 0 else Verdict.worse
    return PairedDifference(estimate, spread, p, p_equivalent, verdict)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm, 1979); NaN stands for no test and stays."""
    corrected = [math.nan] * len(p_values)
    tested = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    largest = 0.0
    for rank, (p, i) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        corrected[i] = largest
    return corrected


def power(effect: float, spread: float, n: int, comparisons: int) -> float:
    """Return the probability that n paired seeds detect `effect` in its true direction.

    `effect` and `spread`, the standard deviation of the differences, are above 0 and of one unit.
    `comparisons` is the number of variants without the baseline, for Holm's strictest level.
    """
    bound = stats.t.ppf(1 - ALPHA / comparisons / 2, n - 1)
    return float(stats.nct.sf(bound, n - 1, effect / spread * math.sqrt(n)))


def seeds_needed(effect: float, spread: float, comparisons: int) -> int:
    """Return how many paired seeds detect `effect` with a probability of `POWER`."""
    n = 2
    while power(effect, spread, n, comparisons) < POWER:
        n += 1
    return n
