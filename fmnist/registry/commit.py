"""How a decision becomes the truth: recorded, committed to the log, applied to the aliases.

Until the decision is in the log the champion stays; from then on the next promotion or rollback
completes whatever a killed process left undone.
"""

import dataclasses
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import mlflow
from mlflow.entities import Run
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME, MLFLOW_RUN_NOTE, MLFLOW_USER

from fmnist.common.errors import PromotionError
from fmnist.common.terminal import escaped
from fmnist.evidence.comparison import Comparison
from fmnist.registry import decision_log, report
from fmnist.registry.decision import Decision
from fmnist.registry.decision_log import DecisionLog, champion_after
from fmnist.registry.model_names import option
from fmnist.registry.versions import CHALLENGER, CHAMPION, find_version, set_alias, version_of
from fmnist.tracking.store import Store

ATTEMPTS, RETRY_INTERVAL = 10, 0.2  # seconds; another process may be between two steps
NAME_LENGTH, TAG_LENGTH = 240, 4000  # characters; databases hold 250 and 5,000


@dataclass(frozen=True)
class State:
    """A registered model at one moment."""

    model: str
    decisions: int  # how many were committed
    champion: int | None  # the version that the last of them made it; None: none, or deleted
    aliased: int | None  # the version that has the alias


def read_state(model: str, *, apply_pending: bool = True, may_be_moved: bool = False) -> State:
    """Read the state of a model; first apply the decision of a process killed after its commit.

    Raises:
        PromotionError: if the alias was moved by hand, unless it may be.
    """
    for _ in range(ATTEMPTS):
        state = _read_state(model, apply_pending)
        if may_be_moved or state.aliased == state.champion:
            return state
        time.sleep(RETRY_INTERVAL)
    remedy = "delete it"
    if state.champion:
        remedy = f"`python -m fmnist rollback{option(model)} --to {state.champion}` puts it back"
    raise PromotionError(
        f"{model}: the alias {CHAMPION} is at version {state.aliased or 'none'}, but the last "
        f"decision made it {state.champion or 'none'}: was it moved by hand? {remedy}"
    )


def _read_state(model: str, apply_pending: bool) -> State:
    aliased = version_of(model, CHAMPION)
    log = decision_log.find_decision_log(model)
    run_ids = log.run_ids() if log else []
    if log is None or not run_ids:
        return State(model, 0, None, aliased)
    last = decision_log.find_decision(run_ids[-1])
    champion = champion_after(last)
    if champion and not find_version(model, champion):
        champion = None
    if last.info.status == "RUNNING":  # committed, but not applied yet
        if apply_pending:
            apply(log)
        aliased = champion
    return State(model, len(run_ids), champion, aliased)


def commit(
    store: Store, decision: Decision, before: State, comparison: Comparison | None = None
) -> Decision | None:
    """Record a decision with its pages, apply it, and return it with its record.

    Return None if another one was committed since `before`.
    """
    who, when = resolve_tags().get(MLFLOW_USER, "unknown"), datetime.now(UTC)
    decision = dataclasses.replace(decision, who=who, when=when.isoformat(timespec="seconds"))
    log = decision_log.open_decision_log(store, before.model)
    client = mlflow.MlflowClient()
    name = f"{decision.outcome}: {decision.challenger}"[:NAME_LENGTH]
    tags = resolve_tags(_tags(decision))
    run_id = client.create_run(log.experiment_id, tags=tags, run_name=name).info.run_id
    client.log_text(run_id, report.as_json(decision), "decision.json")
    client.log_text(run_id, report.html(decision, comparison), "decision.html")
    if log.append(before.decisions, run_id):
        apply(log)
        return dataclasses.replace(decision, record=run_id)
    client.set_tag(run_id, "outcome", "stale")
    client.set_tag(run_id, MLFLOW_RUN_NAME, f"stale: {decision.challenger}"[:NAME_LENGTH])
    client.set_terminated(run_id, "KILLED")
    return None


def _tags(decision: Decision) -> dict[str, str]:
    difference = decision.evidence.difference
    tags = {
        "outcome": decision.outcome,
        "reason": decision.reason,
        "version": decision.challenger.version,
        "champion": decision.champion,
        "replaced": decision.replaced,
        "variant": decision.challenger.variant,
        "study": decision.evidence.study,
        "effect": difference and f"{difference.estimate.mean:.6g}",
        "p": difference and f"{difference.p:.6g}",
        "test_accuracy": decision.test_accuracy.get(decision.challenger.role),
        "who": decision.who,
        "when": decision.when,
        MLFLOW_RUN_NOTE: escaped(decision.reason),
    }
    return {key: str(value)[:TAG_LENGTH] for key, value in tags.items() if value is not None}


def apply(log: DecisionLog) -> None:
    """Set the aliases and tags that the last decision asks for, and end its run.

    Another process may commit a decision meanwhile: the alias is right if, after it was set, no
    further decision is in the log. Versions that were deleted meanwhile are left out.
    """
    while True:
        latest = mlflow.get_run(log.run_ids()[-1])
        champion = champion_after(latest)
        if champion and find_version(log.model, champion):
            set_alias(log.model, CHAMPION, champion)
        if log.run_ids()[-1] == latest.info.run_id:
            break
    version = latest.data.tags.get("version")
    if version and find_version(log.model, int(version)):
        _mark(log.model, int(version), latest)
    mlflow.MlflowClient().set_terminated(latest.info.run_id)


def _mark(model: str, version: int, decision: Run) -> None:
    client = mlflow.MlflowClient()
    tags = decision.data.tags
    client.set_model_version_tag(model, str(version), "decision", decision.info.run_id)
    client.set_model_version_tag(model, str(version), "outcome", tags["outcome"])
    challenger, is_promotion = version_of(model, CHALLENGER), "study" in tags
    if version == champion_after(decision):
        if challenger and (is_promotion or challenger == version):
            client.delete_registered_model_alias(model, CHALLENGER)
    elif is_promotion:
        set_alias(model, CHALLENGER, version)
