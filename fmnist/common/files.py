"""Files that are whole or as they were before, and locks that die with their holder."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; what was written then takes the place of `path`.

    Until that moment `path` is what it was, whatever happens: an error, a full disk, a kill or a
    loss of power. Nothing need be written.

    Raises:
        OSError: if the file cannot be written; it names `path`.
    """
    beside = path.with_name(f"partial-{path.name}")
    try:
        yield beside
        if beside.exists():
            with beside.open("rb") as file:
                os.fsync(file)
            beside.replace(path)
            _sync_folder(path.parent)
    except OSError as error:
        said = f"{error.strerror or error}; what was there before is kept"
        raise OSError(error.errno, said, str(path)) from error
    finally:
        beside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a new name last, where folders can be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def only_one(path: Path, timeout: float) -> Iterator[None]:
    """Let one process at a time in, by a lock that SQLite keeps and that dies with its holder.

    Args:
        path: of the lock, which is made.
        timeout: seconds to wait for another process to leave.

    Raises:
        sqlite3.OperationalError: if it does not leave, or if `path` cannot be written.
    """
    lock = sqlite3.connect(path, timeout=timeout, isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        lock.close()


def is_held(path: Path) -> bool:
    """Tell whether a process is in `only_one(path)` now."""
    if not path.exists():
        return False
    lock = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        lock.execute("SELECT * FROM sqlite_master")  # a shared lock: who looks is in nobody's way
        return False
    except sqlite3.OperationalError as error:
        return "locked" in str(error)
    finally:
        lock.close()
