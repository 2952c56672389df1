"""The version of a database, read before MLflow connects, which might migrate it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from mlflow.store import db_migrations

from fmnist.tracking.store_uri import sqlite_file


def version_here() -> str:
    """Return the revision that this MLflow gives a database."""
    return str(_migrations().get_current_head())


def version_there(uri: str) -> str | None:
    """Return the revision of a database; None if nothing was ever written to it."""
    with _connection(uri) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def is_older(revision: str) -> bool:
    """Tell whether this MLflow can migrate a database of this revision."""
    return revision in {script.revision for script in _migrations().walk_revisions()}


def migrate(uri: str) -> str:
    """Migrate a database to this MLflow's schema; say where the copy of the former one is.

    Only a SQLite file is copied; a database on a server is for its administrator to copy.
    """
    copied = "no copy was made"
    if database := sqlite_file(uri):
        backup = Path(f"{database}.before-{datetime.now():%Y-%m-%d_%H-%M-%S-%f}")
        with closing(sqlite3.connect(database)) as old, closing(sqlite3.connect(backup)) as new:
            old.backup(new)
        copied = f"the former one is {backup}"
    config = _config()
    with _connection(uri) as config.attributes["connection"]:
        command.upgrade(config, "heads")
    return copied


@contextmanager
def _connection(uri: str) -> Iterator[sqlalchemy.Connection]:
    engine = sqlalchemy.create_engine(uri)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _migrations() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(db_migrations.__file__).parent))
    return config
