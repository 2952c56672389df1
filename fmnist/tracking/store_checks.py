"""What `doctor` looks for in a store: its version, and what processes that died have left there."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.store import db_migrations
from sqlalchemy import NullPool, create_engine

from fmnist.tracking.heartbeat import INTERRUPTED, status
from fmnist.tracking.store import Run, if_there
from fmnist.tracking.store_uri import artifact_folder, back_up

KILLED = "KILLED"
RUNNING = "attributes.status = 'RUNNING'"


def version_here() -> str:
    """Return the revision that this MLflow gives a database."""
    return str(_migrations().get_current_head())


def version_there(uri: str) -> str | None:
    """Return the revision of a database; None if nothing was ever written to it."""
    with create_engine(uri, poolclass=NullPool).begin() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def is_older(revision: str) -> bool:
    """Tell whether this MLflow can migrate a database of this revision."""
    return revision in {script.revision for script in _migrations().walk_revisions()}


def migrate(uri: str) -> str:
    """Migrate a database to this MLflow's schema; say where the copy of the former one is."""
    copied = back_up(uri)
    config = _config()
    with create_engine(uri, poolclass=NullPool).begin() as config.attributes["connection"]:
        command.upgrade(config, "heads")
    return copied


def _migrations() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(db_migrations.__file__).parent))
    return config


def interrupted_runs() -> list[Run]:
    """Return the runs of all experiments that are RUNNING while no process makes them."""
    runs = mlflow.search_runs(
        search_all_experiments=True, filter_string=RUNNING, output_format="list"
    )
    return [run for run in runs if status(run) == INTERRUPTED]


def mark_killed(run_id: str) -> None:
    mlflow.MlflowClient().set_terminated(run_id, KILLED)


def half_logged_models() -> list[str]:
    """Return the ids of models whose logging was cut short, of runs that have ended."""
    experiments = mlflow.search_experiments()
    models = mlflow.search_logged_models(
        [experiment.experiment_id for experiment in experiments], output_format="list"
    )
    return [model.model_id for model in models if _is_half_logged(model)]


def _is_half_logged(model: LoggedModel) -> bool:
    if model.status != LoggedModelStatus.PENDING or not model.source_run_id:
        return False
    run = if_there(mlflow.get_run, model.source_run_id)
    return bool(run and run.info.status != "RUNNING")


def delete_model(model_id: str) -> None:
    mlflow.MlflowClient().delete_logged_model(model_id)


def stray_artifacts(uri: str) -> tuple[Path, list[Path]]:
    """Return the artifact folder of a store, and the folders in it that the store does not know.

    Only folders that `train.py` lays are looked at: a store may name any other as its own.
    """
    root = artifact_folder(uri)
    if root is None:  # a server's
        return Path(), []
    get_model = mlflow.MlflowClient().get_logged_model
    runs = _unknown(root, "[0-9a-f]{32}", mlflow.get_run)
    return root, [*runs, *_unknown(root / "models", "m-[0-9a-f]{32}", get_model)]


def _unknown(folder: Path, name: str, look_up: Callable[[str], object]) -> Iterator[Path]:
    """Yield what is in `folder` under a name of the form `name`, but cannot be looked up."""
    for path in folder.glob("*"):
        if re.fullmatch(name, path.name) and if_there(look_up, path.name) is None:
            yield path
