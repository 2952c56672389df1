"""Rollback: an earlier champion is the champion again, as a decision of its own."""

from mlflow.entities.model_registry import ModelVersion

from fmnist.common.errors import PromotionError
from fmnist.evidence.statistics import mean_interval
from fmnist.registry import versions
from fmnist.registry.decision import Candidate, Decision, Outcome, champion_stays
from fmnist.registry.decision_log import MODEL, all_decisions, champion_after
from fmnist.registry.promotion import pages, signed
from fmnist.registry.validation import examine
from fmnist.tracking.store import Store

LONGEST_REASON = 500  # characters


def rollback(store: Store, to: int | None, why: str) -> Decision:
    """Make an earlier champion the champion again, as a decision of its own.

    Args:
        store: the tracking store.
        to: the version; None: the champion before the present one.
        why: in words.

    Raises:
        PromotionError: if the version never was the champion, or is it now.
    """
    if len(why) > LONGEST_REASON:
        raise PromotionError(f"reason: {len(why)} characters, the most is {LONGEST_REASON}")
    while True:
        before = versions.state(moved_by_hand=True)
        version = _earlier_champion(before, to)
        uri = f"models:/{MODEL}/{version}"
        print(f"examining version {version}, as loaded from {uri}")
        checks = examine(uri, versions.run_id_of(version), None, None)
        side = _side_of_version(versions.version_at(version))
        failed = "; ".join(check.found for check in checks if not check.passed)
        outcome, reason = Outcome.restored, f"{side} is the champion again: {why}."
        if failed:
            stays = champion_stays(before.champion, None)
            outcome, reason = Outcome.refused, f"{stays}: {side} is refused: {failed}."
        who, when = signed()
        decision = Decision(
            outcome,
            reason,
            champion=before.champion if failed else version,
            replaced=before.champion,
            challenger=side,
            who=who,
            when=when,
            checks=checks,
        )
        taken = versions.commit(store, decision, before, pages(decision, None))
        if taken:
            return taken


def _earlier_champion(before: versions.State, to: int | None) -> int:
    line = [int(made) for run in all_decisions() if (made := champion_after(run))]
    known = versions.versions()
    there = [version for version in line if version in known]
    earlier = [version for version in there if version != before.champion]
    if to is None and not earlier:
        raise PromotionError("rollback: there is no earlier champion")
    version = earlier[-1] if to is None else to
    if version not in there:
        others = ", ".join(map(str, dict.fromkeys(earlier))) or "none"
        raise PromotionError(f"version {version}: is no earlier champion; there are {others}")
    if version == before.champion == before.aliased:
        raise PromotionError(f"version {version}: is the champion already")
    return version


def _side_of_version(registered: ModelVersion) -> Candidate:
    tags = registered.tags
    accuracy = {int(tags["seed"]): float(tags["val_accuracy"])}
    return Candidate(
        "earlier champion",
        tags["variant"],
        versions.run_id_of(int(registered.version)),
        int(tags["seed"]),
        int(registered.version),
        accuracy,
        mean_interval(list(accuracy.values())),
    )
