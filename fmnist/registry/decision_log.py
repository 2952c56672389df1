"""The ledger: all decisions in their order, in the tracking store, each taken against the last.

Aliases of MLflow know no compare-and-set: the last writer wins. A param of a run, however, is
written once, on every kind of store, even if two processes try at the same moment. So the ledger
is a run, and its param `000003` is the run id of the third decision: of two processes that decide
on the same champion one gets the place, and the other decides anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from fmnist.common.errors import PromotionError
from fmnist.common.terminal import table
from fmnist.tracking.store import Store, find_or_create_experiment, find_run, if_there, search

MODEL = "fmnist"
"""The registered model."""

EXPERIMENT = f"{MODEL}-decisions"
DECISION_LOG_TAG = "ledger"  # of the registered model: run id of its ledger
DESCRIPTION = "Versions become `champion` by evidence: python -m fmnist promote"


@dataclass(frozen=True)
class DecisionLog:
    """The ledger of the registered model."""

    run_id: str
    experiment_id: str

    def decisions(self) -> list[Run]:
        """Return the run of each decision, the first one first.

        Raises:
            PromotionError: if one was deleted.
        """
        runs = {run.info.run_id: run for run in search(Store("", self.experiment_id))}
        return [runs.get(run_id) or find_decision(run_id) for run_id in self.run_ids()]

    def run_ids(self) -> list[str]:
        """Return the run id of each decision, the first one first."""
        places = self._places()
        return [places[place] for place in sorted(places)]

    def append(self, place: int, run_id: str) -> bool:
        """Write a decision in a place, counted from 0; tell whether it was still free."""
        try:
            mlflow.MlflowClient().log_param(self.run_id, _key(place), run_id, synchronous=True)
        except MlflowException:
            if _key(place) not in self._places():
                raise
        return self._places()[_key(place)] == run_id

    def _places(self) -> dict[str, str]:
        places: dict[str, str] = mlflow.get_run(self.run_id).data.params
        return places


def find_decision(run_id: str) -> Run:
    """Return the run of a decision.

    Raises:
        PromotionError: if it was deleted.
    """
    run = find_run(run_id)
    if run is None:
        raise PromotionError(
            f"decision {run_id}: was deleted; restore it: mlflow runs restore --run-id {run_id}"
        )
    return run


def all_decisions() -> list[Run]:
    """Return the run of each decision, the first one first."""
    decision_log = find_decision_log()
    return decision_log.decisions() if decision_log else []


def _key(place: int) -> str:
    return f"{place + 1:06d}"


def find_decision_log() -> DecisionLog | None:
    """Return the ledger; None if nothing was ever registered.

    Raises:
        PromotionError: if the registered model was made by something else.
    """
    model = if_there(mlflow.MlflowClient().get_registered_model, MODEL)
    if model is None:
        return None
    if DECISION_LOG_TAG not in model.tags:
        raise PromotionError(
            f"registered model {MODEL}: was not made by `python -m fmnist promote`; rename it first"
        )
    run_id = model.tags[DECISION_LOG_TAG]
    return DecisionLog(run_id, mlflow.get_run(run_id).info.experiment_id)


def open_decision_log(store: Store) -> DecisionLog:
    """Return the ledger; make it, and the registered model, if there is none yet."""
    found = find_decision_log()
    if found:
        return found
    client = mlflow.MlflowClient()
    experiment = find_or_create_experiment(store.uri, EXPERIMENT)
    run_id = client.create_run(experiment, run_name="ledger").info.run_id
    client.set_terminated(run_id)
    try:
        client.create_registered_model(MODEL, {DECISION_LOG_TAG: run_id}, DESCRIPTION)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        client.delete_run(run_id)  # another process was first
    found = find_decision_log()
    assert found is not None
    return found


def changes(decisions: Sequence[Run]) -> list[Run]:
    """Return the decisions that changed the champion."""
    return [run for run in decisions if champion_after(run) != run.data.tags.get("replaced")]


def champion_after(decision: Run) -> str | None:
    """Return the version that is the champion after a decision."""
    version: str | None = decision.data.tags.get("champion")
    return version


def as_table(decisions: Sequence[Run]) -> str:
    """Return a table of decisions, as their runs in the store have them, one a row.

    Raises:
        PromotionError: if there is none.
    """
    if not decisions:
        raise PromotionError("there was no champion yet: `python -m fmnist promote` makes one")
    columns = ["when (UTC)", "decision", "champion", "reason", "by", "record"]
    rows = []
    for run in decisions:
        tags = run.data.tags
        when = tags["when"].removesuffix("+00:00").replace("T", " ")
        champion = f"version {champion_after(run)}" if champion_after(run) else "none"
        rows.append([when, tags["outcome"], champion, tags["reason"], tags["who"], run.info.run_id])
    return table(columns, rows)
