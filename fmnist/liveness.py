"""Whether the process that makes a run is still alive; a run that says RUNNING may have lost it."""

import os
import platform
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mlflow.entities import Run

from fmnist.errors import TrackingError
from fmnist.files import is_held, only_one

HOST_TAG, PID_TAG, FOLDER_TAG = "host", "pid", "output_dir"
SIGNATURE_TAG = "signature"  # what a run has in common with all that come to the same weights
HEARTBEAT_TAG = "heartbeat"  # milliseconds since 1970, after each epoch
INTERRUPTED = "interrupted"
LOCK = "running.lock"  # in the folder of a run or a sweep, held as long as its process lives
SILENCE = 900.0  # seconds without a heartbeat after which a process on another host counts as dead


@contextmanager
def alive(folder: str) -> Iterator[None]:
    """Show other processes on this host that the run in `folder` is being made.

    Raises:
        TrackingError: if another process makes it.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(only_one(Path(folder, LOCK), timeout=0))
        except sqlite3.OperationalError as error:
            raise TrackingError(f"{folder}: another process works in it ({error})") from error
        yield


def tags_of_process(folder: str) -> dict[str, str]:
    """Return the tags by which `is_alive` recognises this process."""
    return {
        HOST_TAG: platform.node(),
        PID_TAG: str(os.getpid()),
        FOLDER_TAG: folder,
        HEARTBEAT_TAG: str(int(time.time() * 1000)),
    }


def status(run: Run) -> str:
    """Return MLflow's status of a run, or that it was interrupted."""
    ended = run.info.status != "RUNNING"
    return str(run.info.status) if ended or is_alive(run) else INTERRUPTED


def is_alive(run: Run) -> bool:
    """Tell whether the process that makes a run lives; on another host, by its heartbeat.

    A run that does not say where it is made counts as alive: it is not ours to judge.
    """
    tags = run.data.tags
    if HOST_TAG not in tags:
        return True
    if tags[HOST_TAG] == platform.node():
        return is_held(Path(tags.get(FOLDER_TAG, ""), LOCK))
    return time.time() - int(tags.get(HEARTBEAT_TAG, 0)) / 1000 < SILENCE
