"""The address of a tracking store, and how it is reached."""

import os
import re
import shlex
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import mlflow
from hydra.utils import to_absolute_path
from sqlalchemy import NullPool, create_engine
from sqlalchemy.engine import make_url

from fmnist import PROJECT
from fmnist.common.addresses import parsed, secrets_of
from fmnist.common.addresses import without_password as without_password
from fmnist.common.errors import TrackingError, one_line
from fmnist.common.files import file_lock
from fmnist.tracking.retry import STORE_ERRORS

GIVEN_URI = os.environ.get("MLFLOW_TRACKING_URI")  # MLflow overwrites the variable later

HTTP_SETTINGS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
SQLITE_HEADER = b"SQLite format 3\0"
CONNECT_ARGUMENTS: dict[str, dict[str, object]] = {
    "sqlite": {},
    "postgresql": {"connect_timeout": 5},  # seconds
    "mysql": {"connect_timeout": 5},
}
LOCK_TIMEOUT = 60.0  # seconds; the first use of a new database takes about three
NOT_WRITABLE = re.compile(  # words of SQLite, and of the system for the lock beside the file
    "unable to open database file|readonly database|Permission denied|Read-only file system"
)


def default_uri() -> str:
    """Return the store beside train.py."""
    path = str(PROJECT / "mlflow.db").replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{path}"


def unusable(uri: str, reason: str) -> TrackingError:
    """Return the error that says why a store cannot be used; without its password."""
    return TrackingError(f"tracking store {without_password(uri)}: {reason}")


def existing_uri() -> str:
    """Return the URI of the store that `existing_store` opens; refuse a file that is not there."""
    uri = address_of()
    database = sqlite_file(uri)
    if database and not database.exists():
        raise unusable(uri, "does not exist yet; train.py creates it")
    return uri


def address_of(given: str | None = None) -> str:
    """Return the store's URI; a server's user and password move to the variables for them.

    In the URI they would stand in the message of a failed request, and so in a run's tags.
    """
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or default_uri()
    url, is_server = parsed(uri), uri.startswith("http")
    if is_server and url is None:
        raise unusable(uri, "is not a URL")
    if url and url.drivername == "postgres":
        raise unusable(uri, "no such scheme; write postgresql://")
    if url and not is_server and uri.count("@") > 1 and "@" in (url.password or ""):
        raise unusable(uri, "write an @ in the password as %40")
    if (database := url and sqlite_file(uri)) and not database.is_absolute():
        absolute = make_url(uri).set(database=to_absolute_path(str(database)))
        return absolute.render_as_string(hide_password=False)  # jobs may run in another folder
    if not (url and is_server and url.username and url.password):
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = url.username
    os.environ["MLFLOW_TRACKING_PASSWORD"] = str(url.password)
    return without_password(uri)


@contextmanager
def reached(uri: str) -> Iterator[None]:
    """Make `uri` MLflow's store, and turn what goes wrong with it into `TrackingError`."""
    try:
        with environment_variables(**HTTP_SETTINGS), _locked_file(uri):
            _connect(uri)
            mlflow.set_tracking_uri(uri)
            yield
    except (*STORE_ERRORS, ImportError) as error:  # the driver of a database may not be installed
        reason = one_line(_root_cause(error)).replace(uri, without_password(uri))
        for secret in secrets_of(uri):
            reason = reason.replace(secret, "***") if len(secret) > 2 else reason
        reason = reason[:300]
        if NOT_WRITABLE.search(reason):
            reason += "; name another by MLFLOW_TRACKING_URI=sqlite:///FILE"
        raise unusable(uri, reason) from error


def _connect(uri: str) -> None:
    """Connect to a database once, where MLflow would try for two minutes."""
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme in CONNECT_ARGUMENTS:
        arguments = CONNECT_ARGUMENTS[scheme]
        create_engine(uri, poolclass=NullPool, connect_args=arguments).connect().close()


def _root_cause(error: BaseException) -> BaseException:
    """Return the system's or the database's own error behind `error`: a refused connection, say."""
    root, cause = error, error.__cause__ or error.__context__
    while cause:
        root = cause if isinstance(cause, OSError | sqlite3.Error) else root
        cause = cause.__cause__ or cause.__context__
    return root


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


def back_up(uri: str) -> str:
    """Copy a SQLite file beside itself, and say where; a server's administrator copies another."""
    database = sqlite_file(uri)
    if database is None:
        return "no copy was made"
    backup = Path(f"{database}.before-{datetime.now():%Y-%m-%d_%H-%M-%S-%f}")
    with closing(sqlite3.connect(database)) as old, closing(sqlite3.connect(backup)) as new:
        old.backup(new)
    return f"the former one is {backup}"


@contextmanager
def _locked_file(uri: str) -> Iterator[None]:
    """Let one process at a time set up or open a store in a file."""
    database = sqlite_file(uri)
    if not database:
        if uri.startswith("sqlite"):
            raise unusable(uri, "in-memory SQLite is not supported; use sqlite:///FILE")
        yield
        return
    if database.is_dir():
        raise unusable(uri, "is a folder")
    if database.exists() and not _is_database(database):  # before a lock is made beside it
        raise unusable(uri, "file is not a database")
    folder = database.resolve().parent
    if not folder.is_dir():
        raise unusable(uri, f"no such folder; make it: mkdir -p {shlex.quote(str(folder))}")
    with file_lock(Path(f"{database}.lock"), LOCK_TIMEOUT):
        yield


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(SQLITE_HEADER)) in (b"", SQLITE_HEADER)


@contextmanager
def environment_variables(**variables: str | None) -> Iterator[None]:
    """Set (or, for None, unset) environment variables for a while."""
    previous = {name: os.environ.get(name) for name in variables}
    try:
        _assign(variables)
        yield
    finally:
        _assign(previous)


def _assign(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
