"""Versions of the registered model, their aliases, and what the last decision made of them."""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME, MLFLOW_RUN_NOTE

from fmnist.common.errors import ModelError, PromotionError, is_refused
from fmnist.registry.decision import Decision
from fmnist.registry.decision_log import (
    MODEL,
    DecisionLog,
    champion_after,
    find_decision,
    find_decision_log,
    open_decision_log,
)
from fmnist.tracking.model import DIGEST_TAG, load_pyfunc, logged_models, verified
from fmnist.tracking.store import Store, if_there

CHAMPION, CHALLENGER = "champion", "challenger"
RECORDED = ("outcome", "reason", "who", "when", "effect", "p", "test_accuracy")
"""Tags of a decision that its version gets, too."""

PROPOSED = "proposed"  # begins the name of a decision that is not taken yet
NAME_LENGTH, TAG_LENGTH = 240, 4000  # characters; databases hold 250 and 5,000

ATTEMPTS, PAUSE = 10, 0.2  # seconds; another process may be between two steps


@dataclass(frozen=True)
class State:
    """The registry at one moment.

    Attributes:
        decisions: how many were taken.
        champion: the version that the last of them made the champion; None: none, or deleted.
        aliased: the version that has the alias.
    """

    decisions: int
    champion: int | None
    aliased: int | None


def state(applied: bool = True, moved_by_hand: bool = False) -> State:
    """Read the registry.

    Args:
        settled: finish first what a process left that was killed after it had decided.
        moved_by_hand: bear it if the champion is not the one that was decided on.

    Raises:
        PromotionError: if the champion is not the one that was decided on.
    """
    for _ in range(ATTEMPTS):
        aliased = version_of(CHAMPION)
        decision_log = find_decision_log()
        taken = decision_log.run_ids() if decision_log else []
        last = find_decision(taken[-1]) if taken else None
        decided = champion_after(last) if last else None
        if decided and not find_version(decided):
            decided = None
        if decision_log and last and last.info.status == "RUNNING":
            if applied:
                apply(decision_log)
                aliased = decided
            break
        if aliased == decided or moved_by_hand:
            break
        time.sleep(PAUSE)
    else:
        back = "delete it"
        if decided:
            back = f"`python -m fmnist rollback --to {decided}` puts it back"
        raise PromotionError(
            f"the alias {CHAMPION} is at version {aliased or 'none'}, but the last decision made "
            f"it {decided or 'none'}: was it moved by hand? {back}"
        )
    return State(len(taken), *(int(v) if v else None for v in (decided, aliased)))


def commit(
    store: Store, decision: Decision, before: State, files: Mapping[str, str]
) -> Decision | None:
    """Record a decision with its files; take it unless another was taken since `before`.

    Returns:
        The decision with its record; None if it was not taken.
    """
    decision_log = open_decision_log(store)
    client = mlflow.MlflowClient()
    run = client.create_run(
        decision_log.experiment_id,
        tags=resolve_tags(_recorded(decision)),
        run_name=f"{PROPOSED}: {decision.challenger}"[:NAME_LENGTH],
    )
    for name, content in files.items():
        client.log_text(run.info.run_id, content, name)
    if decision_log.append(before.decisions, run.info.run_id):
        apply(decision_log)
        return dataclasses.replace(decision, record=run.info.run_id)
    client.set_tag(run.info.run_id, "outcome", "stale")
    client.set_tag(run.info.run_id, MLFLOW_RUN_NAME, f"stale: {decision.challenger}"[:NAME_LENGTH])
    client.set_terminated(run.info.run_id, "KILLED")
    return None


def _recorded(decision: Decision) -> dict[str, str]:
    """Return the tags of a decision's run, by which it can be found."""
    difference = decision.difference
    tags = {
        "outcome": decision.outcome,
        "reason": decision.reason,
        "version": decision.challenger.version,
        "champion": decision.champion,
        "replaced": decision.replaced,
        "variant": decision.challenger.variant,
        "study": decision.study,
        "effect": difference and f"{difference.estimate.mean:.6g}",
        "p": difference and f"{difference.p:.6g}",
        "test_accuracy": decision.test_accuracy.get(decision.challenger.role),
        "who": decision.who,
        "when": decision.when,
        MLFLOW_RUN_NOTE: decision.reason,
    }
    return {key: str(value)[:TAG_LENGTH] for key, value in tags.items() if value is not None}


def apply(decision_log: DecisionLog) -> None:
    """Make aliases and tags what the last decision says, and end its run.

    Another process may take a decision meanwhile: the alias is right if, after it was set, no
    further decision is there. What was deleted meanwhile is left alone.
    """
    while True:
        latest = mlflow.get_run(decision_log.run_ids()[-1])
        champion = champion_after(latest)
        if champion and find_version(champion):
            set_alias(CHAMPION, int(champion))
        if decision_log.run_ids()[-1] == latest.info.run_id:
            break
    client = mlflow.MlflowClient()
    tags = latest.data.tags
    version = tags.get("version")
    if version and find_version(version):
        recorded = {key: tags[key] for key in RECORDED if key in tags}
        for key, value in {**recorded, "decision": latest.info.run_id}.items():
            client.set_model_version_tag(MODEL, version, key, value)
        client.update_model_version(MODEL, version, tags["reason"])
        if version == champion == version_of(CHALLENGER):
            client.delete_registered_model_alias(MODEL, CHALLENGER)
    name = latest.info.run_name.replace(PROPOSED, tags["outcome"], 1)
    client.set_tag(latest.info.run_id, MLFLOW_RUN_NAME, name)
    client.set_terminated(latest.info.run_id)


def register(run: Run, tags: Mapping[str, Any]) -> int:
    """Return the version of a run's model, with `tags`; register it if it has none yet."""
    client = mlflow.MlflowClient()
    condition = f"name = '{MODEL}' and run_id = '{run.info.run_id}'"
    known = {**tags, DIGEST_TAG: run.data.tags.get(DIGEST_TAG, "none")}
    made = None
    if not client.search_model_versions(condition):
        model_id = logged_model_id(run)
        source = client.get_logged_model(model_id).artifact_location
        made = client.create_model_version(
            MODEL, source, run.info.run_id, known, model_id=model_id
        ).version
    first = min(client.search_model_versions(condition), key=lambda one: int(one.version))
    if made is not None and int(made) != int(first.version):  # another process was quicker
        client.delete_model_version(MODEL, str(made))
    for key in known.keys() - first.tags.keys():  # somebody registered it by hand
        client.set_model_version_tag(MODEL, str(first.version), key, known[key])
    return int(first.version)


def logged_model_id(run: Run) -> str:
    """Return the id of the model that a run logged.

    Raises:
        PromotionError: if it logged none.
    """
    models = logged_models(run)
    if not models:
        raise PromotionError(f"run {run.info.run_id}: logged no model")
    return str(models[0].model_id)


def find_version(version: int | str) -> ModelVersion | None:
    """Return a version of the registered model; None if there is none of that number."""
    return if_there(mlflow.MlflowClient().get_model_version, MODEL, str(version))


def versions() -> set[int]:
    """Return the versions of the registered model."""
    found = mlflow.MlflowClient().search_model_versions(f"name = '{MODEL}'")
    return {int(one.version) for one in found}


def version_at(version: int) -> ModelVersion:
    """Return a version of the registered model.

    Raises:
        PromotionError: if there is none of that number.
    """
    found = find_version(version)
    if found is None:
        raise PromotionError(f"version {version} of {MODEL}: there is none")
    return found


def run_id_of(version: int) -> str:
    """Return the id of the run that trained a version."""
    return str(version_at(version).run_id)


def version_of(alias: str) -> str | None:
    """Return the version at an alias; None if there is none."""
    model: Any = if_there(mlflow.MlflowClient().get_registered_model, MODEL)
    version = model and model.aliases.get(alias)
    return None if version is None else str(version)


def set_alias(alias: str, version: int) -> None:
    """Move an alias; its first creation can be raced by another process, and is tried again."""
    for attempt in range(ATTEMPTS):
        try:
            mlflow.MlflowClient().set_registered_model_alias(MODEL, alias, str(version))
            return
        except MlflowException as error:
            if attempt == ATTEMPTS - 1 or is_refused(error):
                raise
            time.sleep(PAUSE)


def load_champion() -> tuple[int, Any]:
    """Return the champion's version and its model, as `mlflow.pyfunc` loads it.

    Raises:
        PromotionError: if there is no champion, or if its model is missing or was altered.
    """
    version = version_of(CHAMPION)
    if version is None:
        raise PromotionError("there is no champion yet: `python -m fmnist promote` makes one")
    expected = version_at(int(version)).tags.get(DIGEST_TAG, "none")
    try:
        with verified(f"models:/{MODEL}/{version}", expected) as folder:
            return int(version), load_pyfunc(folder)
    except ModelError as error:
        raise PromotionError(f"version {version}: {error}") from error
