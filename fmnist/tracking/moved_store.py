"""A store in a file that was moved or copied: its artifacts are still looked for in the old place.

MLflow records the path of each artifact as a whole. So a copy would write into the folder of the
original.
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
from sqlalchemy import NullPool, create_engine, text

from fmnist.tracking import tag
from fmnist.tracking.store_uri import artifact_folder, back_up, sqlite_file, unusable

COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
FOLDER_TAGS = (tag.FOLDER, tag.SWEEP)  # of runs, below the folder of the store


def former_folders(uri: str) -> list[Path]:
    """Return the folders beside which the store was when it recorded its artifacts there."""
    folder = artifact_folder(uri)
    if folder is None or sqlite_file(uri) is None:  # a server's database is used from many folders
        return []
    locations = [e.artifact_location for e in mlflow.MlflowClient().search_experiments()]
    paths = {Path(unquote(urlsplit(location).path)) for location in locations}
    return sorted(path for path in paths if path.name == folder.name and path != folder)


def check_not_moved(uri: str) -> None:
    """Raise TrackingError if the store was moved or copied."""
    for former in former_folders(uri):
        fix = "if it was moved or copied: python -m fmnist doctor --fix"
        raise unusable(uri, f"its artifacts were in {former}; {fix}")


def rewrite_paths(uri: str, former: Path) -> str:
    """Let a store look for its artifacts, and for the folders of its runs, where it is now.

    Returns:
        Where a copy of the store as it was is.
    """
    folder = artifact_folder(uri)
    assert folder is not None
    copied = back_up(uri)
    moved = [(table, column, former.as_uri(), folder.as_uri()) for table, column in COLUMNS]
    moved.append(("tags", "value", f"{former.parent}/", f"{folder.parent}/"))
    with create_engine(uri, poolclass=NullPool).begin() as connection:
        for table, column, old, new in moved:
            only = f" AND key IN {FOLDER_TAGS}" if table == "tags" else ""
            statement = (
                f"UPDATE {table} SET {column} = :new || substr({column}, :length + 1) "
                f"WHERE substr({column}, 1, :length) = :old{only}"
            )
            values = {"old": old, "new": new, "length": len(old)}
            connection.execute(text(statement), values)
    return copied
