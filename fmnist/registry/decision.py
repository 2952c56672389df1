"""A decision on the champion: who is weighed against whom, the rule, and the reason in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from fmnist.config.schema import Promotion
from fmnist.evidence.comparison import Variant
from fmnist.evidence.statistics import Estimate, PairedDifference
from fmnist.reports.formatting import points, significance


class Outcome(StrEnum):
    """What became of the challenger; or of an earlier champion."""

    promoted = "promoted"
    kept = "kept"  # the champion
    refused = "refused"  # by the gate, whatever the evidence
    restored = "restored"


@dataclass(frozen=True)
class Candidate:
    """A variant that is weighed, and the run whose model stands for it.

    Attributes:
        role: champion, challenger or baseline.
        variant: its name.
        run_id: of the run.
        seed: of the run.
        version: of the registered model; None: not registered.
        values: what decides, a fraction, of each seed of the variant.
        estimate: their mean.
    """

    role: str
    variant: str
    run_id: str
    seed: int
    version: int | None
    values: Mapping[int, float]
    estimate: Estimate

    def __str__(self) -> str:
        """Name the variant, and the version where there is one."""
        return self.variant if self.version is None else f"{self.variant} (version {self.version})"


@dataclass(frozen=True)
class Check:
    """One check of the gate, and what it found."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Decision:
    """A decision with all that it rests on.

    Attributes:
        outcome: what was decided.
        reason: why, in one sentence.
        champion: the version that is the champion from now on; None: there is none.
        replaced: the version that was the champion until now; None: there was none.
        challenger: the side that would be the champion.
        who: user name.
        when: time in UTC, ISO 8601.
        checks: of the gate.
        question: of the study.
        study: run id of its parent run; None in a rollback, where nothing is weighed.
        metric: what decided.
        rules: the limits.
        incumbent: the side that the challenger is weighed against; None: without evidence.
        difference: of the challenger from the incumbent.
        facts: what the runs have in common: data, code, engine.
        departures: what to bear in mind of the comparison.
        test_accuracy: of the models by role, a fraction, added when all was decided.
        record: id of the run that records the decision; None: it was not taken.
    """

    outcome: Outcome
    reason: str
    champion: int | None
    replaced: int | None
    challenger: Candidate
    who: str
    when: str
    checks: Sequence[Check] = ()
    question: str = ""
    study: str | None = None
    metric: str | None = None
    criteria: Promotion | None = None
    incumbent: Candidate | None = None
    difference: PairedDifference | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    caveats: Sequence[str] = ()
    test_accuracy: Mapping[str, float] = field(default_factory=dict)
    record: str | None = None


def beats(difference: PairedDifference, criteria: Promotion) -> bool:
    """Tell whether a difference is large enough and its corrected p-value small enough.

    That the true difference is at least `min_effect` is not claimed: its interval tells.
    """
    return difference.estimate.mean >= criteria.min_effect and difference.p <= criteria.alpha


def best(variants: Sequence[Variant]) -> Variant:
    """Return the variant with the highest mean; of equals the first."""
    return max(variants, key=lambda variant: variant.estimate.mean)


def best_seed(variant: Variant) -> int:
    """Return the seed of the variant's best run, by validation; of equals the first."""
    return max(variant.values, key=lambda seed: variant.values[seed])


def decide(
    challenger: Candidate,
    incumbent: Candidate | None,
    difference: PairedDifference | None,
    criteria: Promotion,
    checks: Sequence[Check],
    stays: str,
) -> tuple[Outcome, str]:
    """Decide, and say why in one sentence.

    Args:
        challenger: who would be champion.
        incumbent: against whom; None: without evidence.
        difference: of the challenger from the incumbent; None as well if they are one.
        rules: the limits.
        checks: of the gate, on the challenger's model.
        stays: what is said if nothing changes, by `champion_stays`.
    """
    failed = "; ".join(check.found for check in checks if not check.passed)
    refused = Outcome.refused, f"{stays}: {challenger} is refused: {failed}."
    if incumbent is None:
        unweighed = f"{challenger} is the champion now, without evidence: nothing was weighed."
        return refused if failed else (Outcome.promoted, unweighed)
    if difference is None:
        how = "" if incumbent.version else "; --first makes it the champion"
        return Outcome.kept, f"{stays}: {challenger.variant} ran alone, against nothing{how}."
    if not beats(difference, criteria):
        return Outcome.kept, f"{stays}: {_shortfall(challenger, incumbent, difference, criteria)}."
    won = f"it beats the {incumbent.role}, {incumbent}: {_size(difference)}"
    return refused if failed else (Outcome.promoted, f"{challenger} is the champion now: {won}.")


def champion_stays(champion: int | None, incumbent: Candidate | None) -> str:
    """Begin the sentence that says that nothing changes."""
    if champion is None:
        return "There is no champion yet"
    known = incumbent and incumbent.version == champion
    return f"The champion stays {incumbent if known else f'version {champion}'}"


def _shortfall(
    challenger: Candidate, incumbent: Candidate, difference: PairedDifference, criteria: Promotion
) -> str:
    """Say which limit a difference misses."""
    against = f"{challenger.variant} against {incumbent.variant}"
    if difference.estimate.n < 2:
        return f"{against}: seeds in common: {difference.estimate.n}, so nothing can be concluded"
    size = _size(difference)
    if difference.p > criteria.alpha:
        return f"{against}: {size}: no evidence at {criteria.alpha:g}"
    return f"{against}: {size}: less than {100 * criteria.min_effect:g} points"


def _size(difference: PairedDifference) -> str:
    estimate = difference.estimate
    return f"{points(estimate)}, {estimate.n} seeds, {significance(difference.p)}"
