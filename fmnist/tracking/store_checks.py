"""What `doctor` looks for in a store: what processes that died have left there."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
from mlflow.entities import LoggedModel, LoggedModelStatus

from fmnist.tracking.heartbeat import INTERRUPTED, status
from fmnist.tracking.store import Run, if_there
from fmnist.tracking.store_uri import artifact_folder

KILLED = "KILLED"
RUNNING = "attributes.status = 'RUNNING'"
RUN_ID, MODEL_ID = re.compile("[0-9a-f]{32}"), re.compile("m-[0-9a-f]{32}")


def interrupted_runs() -> list[Run]:
    """Return the runs of all experiments that are RUNNING while no process makes them."""
    runs = mlflow.search_runs(_experiment_ids(), filter_string=RUNNING, output_format="list")
    return [run for run in runs if status(run) == INTERRUPTED]


def mark_killed(run_id: str) -> None:
    """Give a run the status that MLflow has for what was stopped."""
    mlflow.MlflowClient().set_terminated(run_id, KILLED)


def half_logged_models() -> list[str]:
    """Return the ids of models whose logging was cut short, of runs that have ended."""
    return [model.model_id for model in _models() if _is_half_logged(model)]


def _is_half_logged(model: LoggedModel) -> bool:
    if model.status != LoggedModelStatus.PENDING or not model.source_run_id:
        return False
    run = if_there(mlflow.get_run, model.source_run_id)
    return bool(run and run.info.status != "RUNNING")


def _models() -> Iterator[LoggedModel]:
    """Yield all models; a search returns one page, and its filter knows no status."""
    search, experiment_ids = mlflow.MlflowClient().search_logged_models, _experiment_ids()
    page = search(experiment_ids)
    yield from page
    while page.token:
        page = search(experiment_ids, page_token=page.token)
        yield from page


def delete_model(model_id: str) -> None:
    """Delete a logged model."""
    mlflow.MlflowClient().delete_logged_model(model_id)


def stray_artifacts(uri: str) -> tuple[Path, list[Path]]:
    """Return the artifact folder of a store, and the folders in it that the store does not know.

    Only folders that `train.py` lays are looked at: a store may name any other as its own.
    """
    root = artifact_folder(uri)
    if root is None:  # a server's
        return Path(), []
    get_model = mlflow.MlflowClient().get_logged_model
    runs = _unknown(root, RUN_ID, mlflow.get_run)
    return root, [*runs, *_unknown(root / "models", MODEL_ID, get_model)]


def _unknown(
    folder: Path, form: re.Pattern[str], look_up: Callable[[str], object]
) -> Iterator[Path]:
    for path in folder.glob("*"):
        if form.fullmatch(path.name) and if_there(look_up, path.name) is None:
            yield path


def _experiment_ids() -> list[str]:
    return [experiment.experiment_id for experiment in mlflow.MlflowClient().search_experiments()]
