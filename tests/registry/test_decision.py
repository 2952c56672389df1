"""The rule of promotion, and its reasons in words: numbers in, sentences out."""

import math

import pytest

from fmnist.config.schema import Promotion
from fmnist.evidence.statistics import (
    Estimate,
    PairedDifference,
    Verdict,
    compare_paired,
    mean_interval,
)
from fmnist.registry.decision import Candidate, Check, Evidence, Outcome, beats, decide

CRITERIA = Promotion(min_effect=0.005, alpha=0.05, max_class_drop=0.15)
GOOD, BAD = Check("data", True, "as it was"), Check("artifact", False, "its model was altered")


def candidate(role: str, variant: str, version: int | None = None) -> Candidate:
    return Candidate(role, variant, "id", 1, version, {1: 0.9}, mean_interval([0.9]))


def difference(mean: float, p: float, n: int = 5) -> PairedDifference:
    return PairedDifference(
        Estimate(mean, mean - 0.01, mean + 0.01, n), 0.003, p, 1.0, Verdict.better
    )


CHAMPION, BASELINE = candidate("champion", "relu", 1), candidate("baseline", "relu")


@pytest.mark.parametrize(
    ("incumbent", "difference_found", "check", "outcome", "reason"),
    [
        (CHAMPION, difference(0.012, 0.004), GOOD, "promoted",
         "selu (version 2) is the champion now: it beats the champion, relu (version 1): "
         "+1.20 points [+0.20, +2.20], 5 seeds, p = 0.004."),
        (BASELINE, difference(0.012, 0.004), GOOD, "promoted",
         "selu (version 2) is the champion now: it beats the baseline, relu: "
         "+1.20 points [+0.20, +2.20], 5 seeds, p = 0.004."),
        (CHAMPION, difference(0.012, 0.06), GOOD, "kept",
         "The champion stays relu (version 1): selu against relu: "
         "+1.20 points [+0.20, +2.20], 5 seeds, p = 0.060: no evidence at 0.05."),
        (CHAMPION, difference(0.004, 0.001), GOOD, "kept",
         "The champion stays relu (version 1): selu against relu: "
         "+0.40 points [-0.60, +1.40], 5 seeds, p = 0.001: less than 0.5 points."),
        (BASELINE, difference(0.012, math.nan, 1), GOOD, "kept",
         "There is no champion yet: selu against relu: seeds in common: 1, "
         "so nothing can be concluded."),
        (CHAMPION, None, GOOD, "kept",
         "The champion stays relu (version 1): there is nothing to compare selu with."),
        (BASELINE, None, GOOD, "kept",
         "There is no champion yet: there is nothing to compare selu with; --first makes it the"),
        (CHAMPION, difference(0.012, 0.004), BAD, "refused",
         "The champion stays relu (version 1): selu (version 2) is refused: its model was alt"),
        (CHAMPION, difference(0.004, 0.5), BAD, "kept", "The champion stays relu (version 1): "),
        (None, None, GOOD, "promoted",
         "selu (version 2) is the champion now, without evidence: nothing was compared."),
        (None, None, BAD, "refused",
         "There is no champion yet: selu (version 2) is refused: its model was altered."),
    ],
)  # fmt: skip
def test_outcome_and_reason(incumbent, difference_found, check, outcome, reason):
    evidence = Evidence(criteria=CRITERIA, incumbent=incumbent, difference=difference_found)
    champion = 1 if incumbent is CHAMPION else None
    challenger = candidate("challenger", "selu", 2)
    decision = decide(challenger, evidence, [GOOD, check], champion)
    assert decision.outcome == Outcome(outcome)
    assert decision.reason.startswith(reason)
    assert decision.champion == (2 if outcome == "promoted" else champion)


@pytest.mark.parametrize(
    ("mean", "p", "won"),
    [
        (0.005, 0.05, True),
        (0.00499, 0.001, False),
        (0.01, 0.0501, False),
        (-0.02, 0.001, False),
        (0.02, math.nan, False),
    ],
)
def test_both_limits_count(mean, p, won):
    assert beats(difference(mean, p), CRITERIA) is won


def test_the_evidence_is_corrected_for_all_variants():
    values = [0.010, 0.004, 0.012, 0.006, 0.008]
    [alone] = compare_paired([values], CRITERIA.min_effect)
    among_many = compare_paired(
        [values, *[[0.001, -0.001, 0.002, -0.002, 0.0]] * 14], CRITERIA.min_effect
    )[0]
    assert beats(alone, CRITERIA) and not beats(among_many, CRITERIA)
