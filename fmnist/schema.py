"""The version of a tracking store, read before MLflow connects, which might migrate it."""

import sqlite3
import urllib.request
from contextlib import closing
from pathlib import Path

import mlflow
import sqlalchemy
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from mlflow.store import db_migrations
from mlflow.store.db import utils

from fmnist.store import sqlite_file

TIMEOUT = 10.0  # seconds for a server to tell its version


def version_here(uri: str) -> str:
    """Return what this MLflow gives a store: a server its own version, a database a revision."""
    if uri.startswith("http"):
        return str(mlflow.__version__)
    return str(_script().get_current_head())


def version_there(uri: str) -> str | None:
    """Return the same of the store; None if nothing was ever written to it.

    Raises:
        SQLAlchemyError, MlflowException, OSError: if it cannot be read.
    """
    if uri.startswith("http"):
        with urllib.request.urlopen(f"{uri}/version", timeout=TIMEOUT) as answer:
            return str(answer.read(100).decode())
    engine = sqlalchemy.create_engine(uri)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()


def is_older(revision: str) -> bool:
    """Tell whether this MLflow knows how to migrate from `revision` of a database."""
    return revision in {one.revision for one in _script().walk_revisions()}


def migrate(uri: str) -> str:
    """Bring a database to this MLflow's schema; return where the former one was copied to.

    Only a SQLite file is copied; a database on a server is its administrator's to copy.
    """
    copy = "no copy"
    if database := sqlite_file(uri):
        backup = Path(f"{database}.before-{version_here(uri)}")
        with closing(sqlite3.connect(database)) as old, closing(sqlite3.connect(backup)) as new:
            old.backup(new)
        copy = str(backup)
    engine = sqlalchemy.create_engine(uri)
    try:
        utils._upgrade_db(engine)  # type: ignore[no-untyped-call]
    finally:
        engine.dispose()
    return copy


def _script() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(Path(db_migrations.__file__).parent))
    return ScriptDirectory.from_config(config)
