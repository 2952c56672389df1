"""MLflow's tracking store: found, set up safely, or refused before anything is trained."""

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import mlflow
from mlflow.entities import LifecycleStage
from mlflow.entities import Run as Run  # for the floors that do not import MLflow
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags

from fmnist import PROJECT
from fmnist.common.errors import TrackingError, one_line
from fmnist.config.schema import Tracking
from fmnist.tracking import tag
from fmnist.tracking.moved_store import check_not_moved
from fmnist.tracking.store_uri import (
    GIVEN_URI,
    address_of,
    artifact_folder,
    default_uri,
    existing_uri,
    reached,
    without_password,
)

Found = TypeVar("Found")

DEFAULT_EXPERIMENT = "fmnist"
VIEW = "?workflowType=machine_learning"  # else MLflow's UI opens for language models


@dataclass(frozen=True)
class Store:
    """An open tracking store."""

    uri: str
    experiment_id: str

    @property
    def variable(self) -> str:
        """What to put before a command of `python -m fmnist` so that it finds this store."""
        is_found = without_password(GIVEN_URI or default_uri()) == without_password(self.uri)
        return "" if is_found else f"MLFLOW_TRACKING_URI={shlex.quote(without_password(self.uri))} "

    def look_at(self, run: Run) -> str:
        """Say what to type, and where to look, to see `run` in MLflow's UI."""
        page = f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}{VIEW}"
        if self.uri.startswith("http"):
            return f"look at it:  {without_password(self.uri).rstrip('/')}{page}"
        start = "mlflow ui"
        if self.uri != default_uri() or Path.cwd() != PROJECT:
            start += f" --backend-store-uri {shlex.quote(without_password(self.uri))}"
        return f"look at it:  {start}\n             http://127.0.0.1:5000{page}"


def open_store(config: Tracking, study: str | None = None) -> Store:
    """Make sure that the store answers and has the experiment, before anything is trained.

    A new SQLite database is set up by one process while others wait: MLflow's own set-up fails
    when two processes do it at once.

    Args:
        config: names store and experiment.
        study: the run id of the study whose job asks, which has its experiment; None: no job does.

    Raises:
        TrackingError: if the store cannot be used, or if `MLFLOW_RUN_ID` names a run that
            `mlflow run` has not just opened.
    """
    uri = address_of(config.uri)
    with reached(uri):
        check_not_moved(uri)
        if study:
            return Store(uri, str(mlflow.get_run(study).info.experiment_id))
        if run_id := os.environ.get("MLFLOW_RUN_ID"):  # `mlflow run` has chosen the experiment
            return Store(uri, _experiment_of_new_run(run_id))
        experiment_name = named_experiment(config.experiment)
        experiment_id = find_or_create_experiment(uri, experiment_name)
        if uri.startswith("http"):  # changes nothing; a user who may only read is refused now
            mlflow.MlflowClient().rename_experiment(experiment_id, experiment_name)
        return Store(uri, experiment_id)


def named_experiment(name: str) -> str:
    """Return the name of an experiment; that of `MLFLOW_EXPERIMENT_ID` where none was chosen."""
    given_id = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if name != DEFAULT_EXPERIMENT or not given_id:
        return name
    experiment = if_there(mlflow.get_experiment, given_id)
    if experiment is None:
        raise TrackingError(f"MLFLOW_EXPERIMENT_ID={given_id}: there is no such experiment")
    return str(experiment.name)


def _experiment_of_new_run(run_id: str) -> str:
    run = find_run(run_id)
    status = run.info.status if run else "not in this store"
    if run is None or status != "RUNNING" or tag.HOST in run.data.tags or run.data.metrics:
        state = status if status != "RUNNING" else "in use"
        raise TrackingError(
            f"MLFLOW_RUN_ID={run_id}: is {state}; only a new run is entered, as `mlflow run` "
            "opens it: unset MLFLOW_RUN_ID"
        )
    return str(run.info.experiment_id)


def create_run(experiment_id: str, name: str, tags: Mapping[str, str] | None = None) -> str:
    """Create a run with the tags that MLflow gives every run, and return its id."""
    all_tags = resolve_tags(dict(tags or {}))
    run = mlflow.MlflowClient().create_run(experiment_id, tags=all_tags, run_name=name)
    return str(run.info.run_id)


def existing_store(experiment: str | None) -> Store:
    """Open the store of `MLFLOW_TRACKING_URI`, else the one beside train.py; create nothing.

    `experiment` is a name; None if only the ids of runs are used.
    """
    uri = existing_uri()
    with reached(uri):
        check_not_moved(uri)
        client = mlflow.MlflowClient()
        if experiment is None:
            client.search_experiments(max_results=1)  # does it answer?
            return Store(uri, "")
        experiment = named_experiment(experiment)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            names = ", ".join(e.name for e in client.search_experiments())
            raise TrackingError(f"experiment {experiment}: choose one of {names}")
    return Store(uri, found.experiment_id)


def find_or_create_experiment(uri: str, name: str) -> str:
    """Return the id of an experiment; refuse one that was deleted."""
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        folder = artifact_folder(uri)
        try:
            return client.create_experiment(name, folder.as_uri() if folder else None)
        except MlflowException:
            experiment = client.get_experiment_by_name(name)
            if experiment is None:  # it was no other process that made it meanwhile
                raise
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        raise TrackingError(
            f"experiment {name}: was deleted; choose another name, or restore it: "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        )
    return str(experiment.experiment_id)


def experiment_name(run: Run) -> str:
    return str(mlflow.get_experiment(run.info.experiment_id).name)


def search(store: Store, condition: str = "", latest: int = sys.maxsize) -> list[Run]:
    """Return the `latest` runs that fulfil MLflow's `condition`, in order of their start."""
    try:
        runs: list[Run] = mlflow.search_runs(
            [store.experiment_id],
            filter_string=condition,
            max_results=latest,
            order_by=["attributes.start_time DESC"],
            output_format="list",
        )
    except MlflowException as error:
        raise TrackingError(f"filter {condition}: {one_line(error)[:300]}") from error
    return runs[::-1]


def if_there(call: Callable[..., Found], *arguments: Any) -> Found | None:
    """Return what `call` finds in the store; None if there is no such thing."""
    try:
        return call(*arguments)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def find_run(run_id: str) -> Run | None:
    """Return a run of the store; None if there is none with this id, or if it was deleted."""
    run = if_there(mlflow.get_run, run_id)
    return run if run and run.info.lifecycle_stage == LifecycleStage.ACTIVE else None
