"""What a comparison says, in words: verdicts, sentences and how many seeds it takes."""

import shlex

from fmnist.evidence.comparison import Comparison, StudyDesign, Variant
from fmnist.evidence.statistics import Verdict, seeds_needed
from fmnist.reports.formatting import points, significance

USUAL_SPREAD = 0.005  # of paired differences in `experiment=tutorial`, where one seed shows none
MOST_SEEDS = 100  # more are not worth a number


def verdict(comparison: Comparison, variant: Variant) -> str:
    assert variant.difference is not None
    kind = variant.difference.verdict
    within = f" within {margin(comparison.design)}" if kind is Verdict.equivalent else ""
    return f"{kind}{within}"


def margin(design: StudyDesign) -> str:
    """Return the smallest difference that matters, in words."""
    return f"{100 * design.min_effect:g} points"


def conclusions(comparison: Comparison) -> list[str]:
    """Return one sentence for each variant but the baseline."""
    return [_conclusion(comparison, variant) for variant in comparison.variants[1:]]


def highest(comparison: Comparison) -> str:
    """Say which variant has the highest mean, and how to compare the others with that one."""
    compared = [variant for variant in comparison.variants if variant.values]
    best = max(compared, key=lambda variant: variant.estimate.mean)
    sentence = f"The highest mean is that of {best.name}: {100 * best.estimate.mean:.2f} %."
    if best.name == comparison.variants[0].name or len(compared) < 3:
        return sentence
    study = filter(None, [comparison.design.study])
    command = ["python", "-m", "fmnist", "compare", *study, "--baseline", best.name]
    return f"{sentence} Whether the others differ from it: {shlex.join(command)}"


def _conclusion(comparison: Comparison, variant: Variant) -> str:
    difference = variant.difference
    assert difference is not None
    name, baseline, n = variant.name, comparison.variants[0].name, difference.estimate.n
    kind, p = difference.verdict, significance(difference.p)
    claim = f"{name} is {kind} than {baseline}"
    if kind is Verdict.untested:
        claim = f"Nothing can be concluded about {name}: seeds in common with {baseline}: {n}."
        return f"{claim} {_plan(comparison, difference.spread)}" if variant.values else claim
    if kind is Verdict.unknown:
        claim = f"There is no evidence that {name} differs from {baseline}"
    elif kind is Verdict.equivalent:
        claim = f"{name} is equivalent to {baseline} within {margin(comparison.design)}"
        p = significance(difference.p_equivalent)
    sentence = f"{claim}: {points(difference.estimate)}, {n} seeds, {p}."
    if kind is Verdict.unknown:
        return f"{sentence} {_plan(comparison, difference.spread)}"
    return sentence


def _plan(comparison: Comparison, spread: float) -> str:
    """Say how many seeds detect the smallest difference that matters."""
    measured = spread > 0
    comparisons = len(comparison.variants) - 1
    n = seeds_needed(
        comparison.design.min_effect, spread if measured else USUAL_SPREAD, comparisons
    )
    seeds = f"about {n}" if n <= MOST_SEEDS else f"far more than {MOST_SEEDS}"
    source = "as these seeds spread" if measured else "as seeds spread in experiment=tutorial"
    return f"To tell {margin(comparison.design)} apart takes {seeds} seeds a variant, {source}."
