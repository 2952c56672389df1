"""MLflow's tracking store: found, set up safely, or refused before anything is trained."""

import logging
import os
import re
import shlex
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException
from sqlalchemy import NullPool, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from fmnist import PROJECT
from fmnist.config import Tracking
from fmnist.errors import TrackingError, one_line
from fmnist.files import only_one

# It warns, before it fails, of what the error says.
logging.getLogger("mlflow.utils.databricks_utils").setLevel(logging.ERROR)

GIVEN_URI = os.environ.get("MLFLOW_TRACKING_URI")  # MLflow overwrites the variable later
Thing = TypeVar("Thing")

STORE_ERRORS = (
    MlflowException,
    SQLAlchemyError,
    sqlite3.Error,
    ArgumentError,
    OSError,
    ImportError,  # a database whose driver is not installed
)

SQLITE = b"SQLite format 3\0"
CONNECT_TIMEOUT = 5  # seconds
DATABASE_SERVERS = ("postgresql", "mysql")
LOCK_TIMEOUT = 60.0  # seconds; the first use of a new database takes about three
SWEEP_TAG = "sweep"  # of a study: the folder of the sweep that makes its runs
STUDY_TAG = "study"  # of a study: its statement
REPRODUCES_TAG = "reproduces"  # run id of the run that this one repeats
NOT_WRITABLE = re.compile("unable to open database file|readonly database")  # SQLite's words
VIEW = "?workflowType=machine_learning"  # else MLflow's UI opens for language models


@dataclass(frozen=True)
class Store:
    """An open tracking store."""

    uri: str
    experiment_id: str

    @property
    def variable(self) -> str:
        """What to put before a command of `python -m fmnist` so that it finds this store."""
        found = without_password(GIVEN_URI or default_uri()) == without_password(self.uri)
        return "" if found else f"MLFLOW_TRACKING_URI={shlex.quote(without_password(self.uri))} "

    def look_at(self, run: Run) -> str:
        """Say what to type, and where to look, to see `run` in MLflow's UI."""
        return "look at it:  " + "\n             ".join(self._ui_commands(run))

    def _ui_commands(self, run: Run) -> list[str]:
        page = f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}{VIEW}"
        if self.uri.startswith("http"):
            return [without_password(self.uri).rstrip("/") + page]
        start = "mlflow ui"
        if self.uri != default_uri() or Path.cwd() != PROJECT:
            start += f" --backend-store-uri {shlex.quote(without_password(self.uri))}"
        return [start, f"http://127.0.0.1:5000{page}"]


def default_uri() -> str:
    """Return the URI of the store beside train.py."""
    return f"sqlite:///{PROJECT / 'mlflow.db'}"


def without_password(uri: str) -> str:
    """Return `uri` without user name and password."""
    scheme, separator, rest = uri.partition("://")
    server, slash, path = rest.partition("/")
    return f"{scheme}{separator}{server.rpartition('@')[2]}{slash}{path}"


def open_store(config: Tracking) -> Store:
    """Make sure that the store answers and has the experiment, before anything is trained.

    A new SQLite database is set up by one process while others wait: MLflow's own set-up fails
    when it is raced. A server gets a few seconds to answer instead of MLflow's four minutes.

    Raises:
        TrackingError: if the store cannot be reached, read or written.
    """
    uri = _uri(config.uri)
    with reached(uri):
        if own := _experiment_of_project():
            return Store(uri, own)
        experiment_id = find_or_create_experiment(uri, config.experiment)
        if uri.startswith("http"):  # changes nothing; a user who may only read is refused now
            mlflow.MlflowClient().rename_experiment(experiment_id, config.experiment)
        return Store(uri, experiment_id)


def existing_store(experiment: str | None) -> Store:
    """Open the store of `MLFLOW_TRACKING_URI`, else the one beside train.py; create nothing.

    Args:
        experiment: its name; None if the id of a run will tell.

    Raises:
        TrackingError: if there is no such store or experiment, or if it cannot be read.
    """
    uri = existing_uri()
    with reached(uri):
        client = mlflow.MlflowClient()
        if experiment is None:
            client.search_experiments(max_results=1)  # does it answer?
            return Store(uri, "")
        found = client.get_experiment_by_name(experiment)
        if found is None:
            names = ", ".join(e.name for e in client.search_experiments())
            raise TrackingError(f"experiment {experiment}: choose one of {names}")
    return Store(uri, found.experiment_id)


def existing_uri() -> str:
    """Return the URI of the store that `existing_store` opens, and open nothing.

    Raises:
        TrackingError: if there is no such file.
    """
    uri = _uri()
    database = sqlite_file(uri)
    if database and not database.exists():
        raise TrackingError(f"tracking store {uri}: there is none yet; train.py makes it")
    return uri


def _uri(given: str | None = None) -> str:
    """Return the store's URI; a server's user and password move to the variables for them.

    In the URI they would stand in the message of a failed request, and so in a run's tags.
    """
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or default_uri()
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise TrackingError(f"tracking store {without_password(uri)}: {error}") from error
    if not (uri.startswith("http") and parts.username and parts.password):
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password)
    return without_password(uri)


@contextmanager
def reached(uri: str) -> Iterator[None]:
    """Make `uri` MLflow's store, and turn what goes wrong with it into `TrackingError`."""
    try:
        with _patience(), _only_one(uri):
            _connect(uri)
            mlflow.set_tracking_uri(uri)
            yield
    except STORE_ERRORS as error:
        shown = without_password(uri)
        reason = one_line(_root_cause(error)).replace(uri, shown)[:300]
        if NOT_WRITABLE.search(reason):
            reason += "; name another by MLFLOW_TRACKING_URI=sqlite:///FILE"
        raise TrackingError(f"tracking store {shown}: {reason}") from error


def _connect(uri: str) -> None:
    """Connect to a database once, where MLflow would try for two minutes."""
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme in DATABASE_SERVERS:
        arguments = {"connect_timeout": CONNECT_TIMEOUT}
        create_engine(uri, poolclass=NullPool, connect_args=arguments).connect().close()
    elif scheme == "sqlite":
        create_engine(uri, poolclass=NullPool).connect().close()


def _root_cause(error: BaseException) -> BaseException:
    """Return the system's or the database's own error behind `error`: a refused connection, say."""
    root, cause = error, error.__cause__ or error.__context__
    while cause:
        root = cause if isinstance(cause, OSError | sqlite3.Error) else root
        cause = cause.__cause__ or cause.__context__
    return root


def _experiment_of_project() -> str | None:
    """Under `mlflow run`, the experiment of the run that it opened."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    return str(mlflow.get_run(run_id).info.experiment_id) if run_id else None


def find_or_create_experiment(uri: str, name: str) -> str:
    """Return the id of an experiment.

    Raises:
        TrackingError: if it was deleted.
    """
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            place = artifact_folder(uri)
            return client.create_experiment(
                name, artifact_location=place.as_uri() if place else None
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)
            assert experiment is not None
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        raise TrackingError(
            f"experiment {name}: was deleted; choose another name, or restore it: "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        )
    return str(experiment.experiment_id)


def search(store: Store, condition: str = "") -> list[Run]:
    """Return the runs of the experiment that fulfil MLflow's `condition`, in order of their start.

    Raises:
        TrackingError: if the condition is none.
    """
    try:
        runs: list[Run] = mlflow.search_runs(
            [store.experiment_id],
            filter_string=condition,
            order_by=["attributes.start_time ASC"],
            output_format="list",
        )
    except MlflowException as error:
        raise TrackingError(f"filter {condition}: {one_line(error)[:300]}") from error
    return runs


def if_there(call: Callable[..., Thing], *arguments: Any) -> Thing | None:
    """Return what `call` finds in the store; None if there is no such thing."""
    try:
        return call(*arguments)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def find_run(run_id: str) -> Run | None:
    """Return a run of the store; None if there is none with this id, or if it was deleted."""
    try:
        run = mlflow.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None
    return run if run.info.lifecycle_stage == LifecycleStage.ACTIVE else None


def study_of(store: Store, sweep: str) -> str | None:
    """Return the run id of the study whose runs the sweep in the folder `sweep` makes."""
    studies = search(store, f"tags.{SWEEP_TAG} = '{sweep}'")
    return str(studies[-1].info.run_id) if studies else None


def artifact_folder(uri: str) -> Path | None:
    """Return where artifacts lie: beside a SQLite file; None: a server decides for itself."""
    if uri.startswith("http"):
        return None
    database = sqlite_file(uri)
    return (database.resolve().parent if database else PROJECT) / "mlartifacts"


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite store; None for another."""
    database = make_url(uri).database if uri.startswith("sqlite") else None
    return Path(database) if database and database != ":memory:" else None


@contextmanager
def _only_one(uri: str) -> Iterator[None]:
    """Let one process at a time set up or open a store in a file."""
    database = sqlite_file(uri)
    if not database:
        if uri.startswith("sqlite"):
            raise TrackingError(f"tracking store {uri}: keeps nothing; name a file: sqlite:///FILE")
        yield
        return
    if database.is_dir():
        raise TrackingError(f"tracking store {uri}: is a folder")
    if database.exists() and not _is_database(database):  # before a lock is laid beside it
        raise TrackingError(f"tracking store {uri}: file is not a database")
    if not database.resolve().parent.is_dir():
        folder = shlex.quote(str(database.resolve().parent))
        raise TrackingError(f"tracking store {uri}: no such folder; make it: mkdir -p {folder}")
    with only_one(Path(f"{database}.lock"), LOCK_TIMEOUT):
        yield


def _is_database(path: Path) -> bool:
    """Tell whether a file is empty or begins as SQLite's do."""
    with path.open("rb") as file:
        return file.read(len(SQLITE)) in (b"", SQLITE)


@contextmanager
def environment_variables(**variables: str | None) -> Iterator[None]:
    """Set (or, for None, unset) environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    try:
        _assign(variables)
        yield
    finally:
        _assign(before)


def _assign(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _patience() -> AbstractContextManager[None]:
    return environment_variables(
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT="5"
    )
