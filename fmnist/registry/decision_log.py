"""The decision log of a registered model: all decisions in order, each based on the last.

MLflow's aliases have no compare-and-set: the last writer wins. A param of a run, however, is
written once, on every kind of store, even if two processes try at the same moment. So the log is
a run, and its param `000003` is the run id of the third decision: of two processes that decide on
the same champion one gets the entry, and the other decides again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from fmnist.common.errors import PromotionError
from fmnist.common.terminal import table
from fmnist.registry.model_names import option
from fmnist.tracking.store import Store, find_or_create_experiment, find_run, if_there, search

DECISION_LOG_TAG = "ledger"  # of the registered model: run id of its log; stores have this name


@dataclass(frozen=True)
class DecisionLog:
    """The decision log of a registered model."""

    model: str
    run_id: str
    experiment_id: str  # of the log and of the decisions

    def decisions(self) -> list[Run]:
        """Return the run of each decision, the first one first; none may have been deleted."""
        runs = {run.info.run_id: run for run in search(Store("", self.experiment_id))}
        return [runs.get(run_id) or find_decision(run_id) for run_id in self.run_ids()]

    def run_ids(self) -> list[str]:
        """Return the run id of each decision, the first one first."""
        return [run_id for _, run_id in sorted(self._entries().items())]

    @property
    def champion(self) -> int | None:
        """The version that the last decision made, or left, the champion."""
        run_ids = self.run_ids()
        return champion_after(find_decision(run_ids[-1])) if run_ids else None

    def append(self, index: int, run_id: str) -> bool:
        """Write entry `index`, counted from 0, unless it exists; tell whether it is `run_id`."""
        key = f"{index + 1:06d}"
        try:
            mlflow.MlflowClient().log_param(self.run_id, key, run_id, synchronous=True)
        except MlflowException:
            if key not in self._entries():
                raise
        return self._entries()[key] == run_id

    def _entries(self) -> dict[str, str]:
        entries: dict[str, str] = mlflow.get_run(self.run_id).data.params
        return entries


def find_decision(run_id: str) -> Run:
    """Return the run of a decision; raise PromotionError if it was deleted."""
    run = find_run(run_id)
    if run is None:
        raise PromotionError(
            f"decision {run_id}: was deleted; restore it: mlflow runs restore --run-id {run_id}"
        )
    return run


def all_decisions(model: str) -> list[Run]:
    """Return the run of each decision on a model, the first one first."""
    decision_log = find_decision_log(model)
    return decision_log.decisions() if decision_log else []


def find_decision_log(model: str) -> DecisionLog | None:
    """Return the decision log of a model; None if nothing was ever registered.

    Raises:
        PromotionError: if the registered model was made by something else.
    """
    registered = if_there(mlflow.MlflowClient().get_registered_model, model)
    if registered is None:
        return None
    if DECISION_LOG_TAG not in registered.tags:
        raise PromotionError(
            f"registered model {model}: was not made by `python -m fmnist promote`; rename it "
            "first, or choose another name: --model"
        )
    return _decision_log(registered)


def all_decision_logs() -> list[DecisionLog]:
    """Return the decision log of each registered model that has one."""
    registered = list[RegisteredModel]()
    page: str | None = ""
    while page is not None:
        found = mlflow.MlflowClient().search_registered_models(page_token=page or None)
        registered += found
        page = found.token or None
    return [_decision_log(model) for model in registered if DECISION_LOG_TAG in model.tags]


def _decision_log(model: RegisteredModel) -> DecisionLog:
    run_id = model.tags[DECISION_LOG_TAG]
    return DecisionLog(model.name, run_id, mlflow.get_run(run_id).info.experiment_id)


def open_decision_log(store: Store, model: str) -> DecisionLog:
    """Return the decision log of a model; create both if there is none yet."""
    if decision_log := find_decision_log(model):
        return decision_log
    client = mlflow.MlflowClient()
    experiment = find_or_create_experiment(store.uri, f"{model}-decisions")
    run_id = client.create_run(experiment, run_name="decision log").info.run_id
    client.set_terminated(run_id)
    try:
        description = "Versions become `champion` by evidence: python -m fmnist promote"
        client.create_registered_model(model, {DECISION_LOG_TAG: run_id}, description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        client.delete_run(run_id)  # another process was first
    decision_log = find_decision_log(model)
    assert decision_log is not None
    return decision_log


def changes(decisions: Sequence[Run]) -> list[Run]:
    """Return the decisions that changed the champion."""
    return [
        run for run in decisions if run.data.tags.get("champion") != run.data.tags.get("replaced")
    ]


def champion_after(decision: Run) -> int | None:
    """Return the version that a decision made, or left, the champion."""
    version = decision.data.tags.get("champion")
    return int(version) if version else None


def no_champion(model: str) -> PromotionError:
    """Return the error that a model has no champion; it names the models that have one."""
    others = [log.model for log in all_decision_logs() if log.champion]
    choices = " or ".join(option(other).strip() or "no --model" for other in others)
    hint = f"; of another model: {choices}" if choices else ""
    reason = f"there is no champion yet: `python -m fmnist promote` makes one{hint}"
    return PromotionError(f"{model}: {reason}")


def as_table(decisions: Sequence[Run]) -> str:
    """Return a row for each decision."""
    columns = ["when (UTC)", "decision", "champion", "reason", "by", "record"]
    rows = []
    for run in decisions:
        tags = run.data.tags
        when = tags["when"].removesuffix("+00:00").replace("T", " ")
        champion = f"version {champion_after(run)}" if champion_after(run) else "none"
        rows.append([when, tags["outcome"], champion, tags["reason"], tags["who"], run.info.run_id])
    return table(columns, rows)
