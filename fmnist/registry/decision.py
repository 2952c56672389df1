"""A decision on the champion: what it rests on, the rule, and the reason in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from fmnist.config.schema import Promotion
from fmnist.evidence.statistics import Estimate, PairedDifference
from fmnist.reports.formatting import points, significance


class Outcome(StrEnum):
    """What became of the challenger, or of an earlier champion."""

    promoted = "promoted"
    kept = "kept"  # the champion
    refused = "refused"  # by the validation, whatever the evidence
    restored = "restored"


@dataclass(frozen=True)
class Candidate:
    """A variant, and the run whose model stands for it."""

    role: str  # champion, challenger, baseline or earlier champion
    variant: str
    run_id: str
    seed: int  # of the run
    version: int | None  # of the registered model; None: not registered
    values: Mapping[int, float]  # of the metric that decides, fractions, by seed
    estimate: Estimate  # of the mean of `values`

    def __str__(self) -> str:
        return self.variant if self.version is None else f"{self.variant} (version {self.version})"


@dataclass(frozen=True)
class Check:
    """One check of the validation."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Evidence:
    """What a promotion rests on; a rollback has none."""

    question: str = ""
    study: str | None = None  # run id of its parent run
    metric: str | None = None  # which decides
    criteria: Promotion | None = None
    incumbent: Candidate | None = None  # champion or baseline; None: promoted without evidence
    difference: PairedDifference | None = None  # of the challenger from the incumbent
    provenance: Mapping[str, str] = field(default_factory=dict)  # what all runs have in common
    caveats: Sequence[str] = ()


@dataclass(frozen=True)
class Decision:
    """A decision on the champion."""

    outcome: Outcome
    reason: str  # in one sentence
    champion: int | None  # the version from now on; None: there is none
    replaced: int | None  # the version until now; None: there was none
    challenger: Candidate
    checks: Sequence[Check]  # of the challenger's model
    evidence: Evidence = field(default_factory=Evidence)
    test_accuracy: Mapping[str, float] = field(default_factory=dict)  # a fraction, by role
    who: str = ""  # committed it
    when: str = ""  # it was committed, in UTC, ISO 8601
    record: str | None = None  # run id; None: it was not committed

    @property
    def candidates(self) -> list[Candidate]:
        """The incumbent, if there is one, and the challenger."""
        return [candidate for candidate in (self.evidence.incumbent, self.challenger) if candidate]


def beats(difference: PairedDifference, criteria: Promotion) -> bool:
    """Tell whether a difference is large enough and its corrected p-value small enough.

    That the true difference is at least `min_effect` is not claimed: its interval tells.
    """
    return difference.estimate.mean >= criteria.min_effect and difference.p <= criteria.alpha


def decide(
    challenger: Candidate, evidence: Evidence, checks: Sequence[Check], champion: int | None
) -> Decision:
    """Decide on a challenger; `champion` is the present version, None if there is none."""
    wins, reason = _judge(challenger, evidence, champion)
    failed = _failed(checks)
    if wins and not failed:
        outcome, version = Outcome.promoted, challenger.version
        reason = f"{challenger} is the champion now{reason}."
    else:
        outcome, version = Outcome.refused if wins else Outcome.kept, champion
        reason = f"{challenger} is refused: {failed}" if wins else reason
        reason = f"{_champion_stays(champion, evidence.incumbent)}: {reason}."
    return Decision(outcome, reason, version, champion, challenger, checks, evidence)


def decide_rollback(
    restored: Candidate, checks: Sequence[Check], champion: int | None, why: str
) -> Decision:
    """Decide on an earlier champion that is to be the champion again, with the reason `why`."""
    if failed := _failed(checks):
        reason = f"{_champion_stays(champion, None)}: {restored} is refused: {failed}."
        return Decision(Outcome.refused, reason, champion, champion, restored, checks)
    reason = f"{restored} is the champion again: {why}."
    return Decision(Outcome.restored, reason, restored.version, champion, restored, checks)


def _judge(challenger: Candidate, evidence: Evidence, champion: int | None) -> tuple[bool, str]:
    """Tell whether the evidence is for the challenger, and why."""
    incumbent, difference, criteria = evidence.incumbent, evidence.difference, evidence.criteria
    if incumbent is None:
        replaced = f". It replaces version {champion}" if champion else ""
        return True, f", without evidence: nothing was compared{replaced}"
    if difference is None:
        hint = "" if incumbent.version else "; --first makes it the champion"
        return False, f"there is nothing to compare {challenger.variant} with{hint}"
    assert criteria is not None
    if beats(difference, criteria):
        return True, f": it beats the {incumbent.role}, {incumbent}: {_size(difference)}"
    shortfall = _shortfall(difference, criteria)
    return False, f"{challenger.variant} against {incumbent.variant}: {shortfall}"


def _failed(checks: Sequence[Check]) -> str:
    return "; ".join(check.found for check in checks if not check.passed)


def _champion_stays(champion: int | None, incumbent: Candidate | None) -> str:
    if champion is None:
        return "There is no champion yet"
    known = incumbent and incumbent.version == champion
    return f"The champion stays {incumbent if known else f'version {champion}'}"


def _shortfall(difference: PairedDifference, criteria: Promotion) -> str:
    if difference.estimate.n < 2:
        return f"seeds in common: {difference.estimate.n}, so nothing can be concluded"
    if difference.p > criteria.alpha:
        return f"{_size(difference)}: no evidence at {criteria.alpha:g}"
    return f"{_size(difference)}: less than {100 * criteria.min_effect:g} points"


def _size(difference: PairedDifference) -> str:
    estimate = difference.estimate
    return f"{points(estimate)}, {estimate.n} seeds, {significance(difference.p)}"
