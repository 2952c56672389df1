"""What a comparison says, in words: verdicts, sentences and plans for more seeds."""

import shlex

from fmnist.evidence.comparison import Comparison, StudyDesign, Variant
from fmnist.evidence.statistics import Estimate, Verdict, seeds_needed

USUAL_SPREAD = 0.005
"""Standard deviation of paired differences in `experiment=tutorial`, where one seed shows none."""

MOST_SEEDS = 100  # a plan for more than these is no plan


def verdict(comparison: Comparison, variant: Variant) -> str:
    """Return the verdict on a variant in words."""
    assert variant.difference is not None
    verdict = variant.difference.verdict
    within = f" within {margin(comparison.design)}" if verdict is Verdict.equivalent else ""
    return f"{verdict}{within}"


def margin(statement: StudyDesign) -> str:
    """The smallest difference that matters, in words."""
    return f"{100 * statement.min_effect:g} points"


def conclusions(comparison: Comparison) -> list[str]:
    """One sentence for each variant but the baseline."""
    return [_sentence(comparison, variant) for variant in comparison.variants[1:]]


def highest(comparison: Comparison) -> str:
    """Say which variant has the highest mean, and how to compare the others with that one."""
    ran = [variant for variant in comparison.variants if variant.values]
    first, *_ = sorted(ran, key=lambda variant: -variant.estimate.mean)
    said = f"The highest mean is that of {first.name}: {100 * first.estimate.mean:.2f} %."
    if first.name == comparison.variants[0].name or len(ran) < 3:
        return said
    study = filter(None, [comparison.design.study])
    command = ["python", "-m", "fmnist", "compare", *study, "--baseline", first.name]
    return f"{said} Whether the others differ from it: {shlex.join(command)}"


def _sentence(comparison: Comparison, variant: Variant) -> str:
    difference = variant.difference
    assert difference is not None
    n, baseline = difference.estimate.n, comparison.variants[0].name
    unknown = difference.verdict in (Verdict.untested, Verdict.unknown)
    needed = f" {_plan(comparison, difference.spread)}" if unknown and variant.values else ""
    if difference.verdict is Verdict.untested:
        return (
            f"Nothing can be concluded about {variant.name}: seeds in common with {baseline}: "
            f"{n}.{needed}"
        )
    equivalent = difference.verdict is Verdict.equivalent
    p = difference.p_equivalent if equivalent else difference.p
    size = f"{points(difference.estimate)}, {n} seeds, {significance(p)}.{needed}"
    if difference.verdict is Verdict.unknown:
        return f"There is no evidence that {variant.name} differs from {baseline}: {size}"
    if equivalent:
        within = margin(comparison.design)
        return f"{variant.name} is equivalent to {baseline} within {within}: {size}"
    return f"{variant.name} is {difference.verdict} than {baseline}: {size}"


def _plan(comparison: Comparison, spread: float) -> str:
    """Say how many seeds tell the smallest difference that matters."""
    measured = spread > 0
    comparisons = len(comparison.variants) - 1
    n = seeds_needed(
        comparison.design.min_effect, spread if measured else USUAL_SPREAD, comparisons
    )
    many = f"about {n}" if n <= MOST_SEEDS else f"far more than {MOST_SEEDS}"
    source = "as these seeds spread" if measured else "as seeds spread in experiment=tutorial"
    return f"To tell {margin(comparison.design)} apart takes {many} seeds a variant, {source}."


def points(estimate: Estimate) -> str:
    """Write a difference of accuracies in percentage points, with its interval."""
    low, mean, high = (100 * v for v in (estimate.low, estimate.mean, estimate.high))
    return f"{mean:+.2f} points [{low:+.2f}, {high:+.2f}]"


def significance(p: float) -> str:
    """Write a p-value as it is said: "p = 0.031", "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
