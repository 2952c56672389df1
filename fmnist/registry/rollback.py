"""Rollback: an earlier champion is the champion again, as a decision of its own."""

from mlflow.entities.model_registry import ModelVersion

from fmnist.common.errors import PromotionError
from fmnist.evidence.statistics import mean_interval
from fmnist.registry.commit import State, commit, read_state
from fmnist.registry.decision import Candidate, Decision, Evidence, decide_rollback
from fmnist.registry.decision_log import all_decisions, champion_after
from fmnist.registry.validation import validate
from fmnist.registry.versions import find_version, version_at
from fmnist.tracking.store import Store


def rollback(store: Store, model: str, to: int | None, why: str) -> Decision:
    """Make a version of a model the champion again; None: the champion before the present one.

    Raises:
        PromotionError: if the version never was the champion, or is it now.
    """
    while True:
        before = read_state(model, may_be_moved=True)
        restored = _candidate(version_at(model, _earlier_champion(before, to)))
        uri = f"models:/{model}/{restored.version}"
        print(f"validating version {restored.version}, as loaded from {uri}")
        checks = validate(uri, restored.run_id, Evidence())
        decision = decide_rollback(restored, checks, before.champion, why)
        if committed := commit(store, decision, before):
            return committed


def _earlier_champion(before: State, to: int | None) -> int:
    champions = [
        champion for run in all_decisions(before.model) if (champion := champion_after(run))
    ]
    existing = [version for version in champions if find_version(before.model, version)]
    earlier = [version for version in existing if version != before.champion]
    if to is None and not earlier:
        raise PromotionError(f"rollback of {before.model}: there is no earlier champion")
    version = earlier[-1] if to is None else to
    if version not in existing:
        others = ", ".join(map(str, dict.fromkeys(earlier))) or "none"
        raise PromotionError(f"version {version}: is no earlier champion; there are {others}")
    if version == before.champion == before.aliased:
        raise PromotionError(f"version {version}: is the champion already")
    return version


def _candidate(registered: ModelVersion) -> Candidate:
    tags = registered.tags
    seed, accuracy = int(tags["seed"]), float(tags["val_accuracy"])
    return Candidate(
        role="earlier champion",
        variant=tags["variant"],
        run_id=str(registered.run_id),
        seed=seed,
        version=int(registered.version),
        values={seed: accuracy},
        estimate=mean_interval([accuracy]),
    )
