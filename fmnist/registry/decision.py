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
    """A variant, and the run whose model stands for it.

    Attributes:
        role: champion, challenger, baseline or earlier champion.
        variant: its name.
        run_id: of the run.
        seed: of the run.
        version: of the registered model; None: not registered.
        values: the metric that decides, a fraction, by seed of the variant.
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
    """One check of the validation."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Evidence:
    """What a promotion rests on; a rollback has none.

    Attributes:
        question: of the study.
        study: run id of its parent run.
        metric: what decides.
        criteria: the limits.
        incumbent: the champion or the baseline; None: promoted without evidence.
        difference: of the challenger from the incumbent.
        provenance: what all runs have in common: data, code, engine.
        caveats: what limits the conclusions.
    """

    question: str = ""
    study: str | None = None
    metric: str | None = None
    criteria: Promotion | None = None
    incumbent: Candidate | None = None
    difference: PairedDifference | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    caveats: Sequence[str] = ()


@dataclass(frozen=True)
class Decision:
    """A decision on the champion.

    Attributes:
        outcome: what was decided.
        reason: why, in one sentence.
        champion: the version that is the champion from now on; None: there is none.
        replaced: the version that was the champion until now; None: there was none.
        challenger: the version that is to be the champion.
        checks: of its model.
        evidence: what the decision rests on.
        test_accuracy: of the models by role, a fraction, looked up after the decision.
        who: name of the user who committed it.
        when: time of the commit in UTC, ISO 8601.
        record: id of the run that records it; None: it was not committed.
    """

    outcome: Outcome
    reason: str
    champion: int | None
    replaced: int | None
    challenger: Candidate
    checks: Sequence[Check]
    evidence: Evidence = field(default_factory=Evidence)
    test_accuracy: Mapping[str, float] = field(default_factory=dict)
    who: str = ""
    when: str = ""
    record: str | None = None

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
    """Decide on a challenger.

    Args:
        challenger: the new model.
        evidence: its difference is None if there is nothing to compare the challenger with.
        checks: of the challenger's model.
        champion: the present version; None: there is none.
    """
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
    """Say which limit a difference misses."""
    if difference.estimate.n < 2:
        return f"seeds in common: {difference.estimate.n}, so nothing can be concluded"
    if difference.p > criteria.alpha:
        return f"{_size(difference)}: no evidence at {criteria.alpha:g}"
    return f"{_size(difference)}: less than {100 * criteria.min_effect:g} points"


def _size(difference: PairedDifference) -> str:
    estimate = difference.estimate
    return f"{points(estimate)}, {estimate.n} seeds, {significance(difference.p)}"
