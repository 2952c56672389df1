"""How reports write numbers."""

import math
from collections.abc import Mapping

from fmnist.evidence.statistics import Estimate


def percent(estimate: Estimate) -> str:
    """Write a mean of fractions in percent, with half the width of its interval."""
    if math.isnan(estimate.mean):
        return "-"
    mean = f"{100 * estimate.mean:.2f}"
    if math.isnan(estimate.low):
        return mean
    return f"{mean} ± {50 * (estimate.high - estimate.low):.2f}"


def percent_by_seed(values: Mapping[int, float]) -> str:
    """Write the fraction of each seed in percent, in the order of the seeds."""
    return " ".join(f"{100 * values[seed]:.2f}" for seed in sorted(values))


def points(estimate: Estimate) -> str:
    """Write a difference of accuracies in percentage points, with its interval."""
    low, mean, high = (100 * v for v in (estimate.low, estimate.mean, estimate.high))
    return f"{mean:+.2f} points [{low:+.2f}, {high:+.2f}]"


def significance(p: float) -> str:
    """Write a p-value: "p = 0.031", "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
