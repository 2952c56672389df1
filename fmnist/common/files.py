"""Files that are replaced atomically, and locks that die with the process that holds them."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, lock_descriptor

LOOKS, LOOK_INTERVAL = 5, 0.02  # seconds


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; the written file then replaces `path` atomically.

    Whatever happens before that, an error, a full disk, a kill or a loss of power, `path` stays
    as it was. If nothing is written, it stays as it was, too.

    Raises:
        OSError: if the file cannot be written; it names `path`.
    """
    beside = path.with_name(f"partial-{path.name}")
    try:
        yield beside
        if beside.exists():
            _flush(beside)
            beside.replace(path)
            if os.name == "posix":  # elsewhere folders cannot be opened
                _flush(path.parent)
    except OSError as error:
        reason = f"{error.strerror or error}; the previous file is kept"
        raise OSError(error.errno, reason, str(path)) from error
    finally:
        beside.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def file_lock(path: Path, timeout: float) -> Iterator[None]:
    """Hold a lock that one process at a time can have; it ends with the process, however that ends.

    Args:
        path: of the lock file, which is made and stays.
        timeout: seconds to wait for another process.

    Raises:
        TimeoutError: if the other process still holds the lock.
        OSError: if `path` cannot be written.
    """
    path.touch()  # fails at once where FileLock would make folders, or try until the timeout
    with FileLock(path, timeout=timeout, fallback_to_soft=False):
        yield


def is_held(path: Path) -> bool:
    """Tell whether a process holds `file_lock(path)` now; needs no right to write there."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return False
    with file:
        for _ in range(LOOKS):  # another process that looks has the lock, too, but only to look
            if lock_descriptor(file.fileno(), blocking=False):
                return False
            time.sleep(LOOK_INTERVAL)
    return True
