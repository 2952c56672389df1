"""Whether the process that makes a run is alive; a run may be RUNNING after its process died."""

import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import mlflow

from fmnist.common.errors import TrackingError
from fmnist.common.files import file_lock, is_held
from fmnist.tracking import tag
from fmnist.tracking.store import Run

INTERRUPTED = "interrupted"
LOCK = "running.lock"  # in the folder of a run or a sweep, held as long as its process lives
LOCK_TIMEOUT = 1.0  # seconds; others only look, which takes a moment
HEARTBEAT_TIMEOUT = 900.0  # seconds without heartbeat after which a process elsewhere is dead


@contextmanager
def run_lock(folder: str) -> Iterator[None]:
    """Let one process at a time make the run in `folder`; others here see that it lives."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with ExitStack() as lock:
        try:
            lock.enter_context(file_lock(Path(folder, LOCK), timeout=LOCK_TIMEOUT))
        except TimeoutError as error:
            raise TrackingError(f"{folder}: another process works in it") from error
        yield


def process_tags(folder: str) -> dict[str, str]:
    """Return the tags by which `is_alive` recognises this process."""
    return {
        tag.HOST: platform.node(),
        tag.PID: str(os.getpid()),
        tag.FOLDER: folder,
        tag.HEARTBEAT: _now(),
    }


def status(run: Run) -> str:
    """Return MLflow's status of a run, or INTERRUPTED."""
    ended = run.info.status != "RUNNING"
    return str(run.info.status) if ended or is_alive(run) else INTERRUPTED


def is_alive(run: Run) -> bool:
    """Tell whether the process that makes a run lives; on another host, by its heartbeat.

    A run that does not say where it is made counts as alive: other programs may use the store.
    """
    tags = run.data.tags
    if not {tag.HOST, tag.FOLDER, tag.HEARTBEAT} <= tags.keys():
        return True
    # Two containers may have one name; then the other's folder is not here.
    if tags[tag.HOST] == platform.node() and Path(tags[tag.FOLDER]).is_dir():
        return is_held(Path(tags[tag.FOLDER], LOCK))
    last = tags[tag.HEARTBEAT]
    return time.time() - (int(last) if last.isdecimal() else 0) / 1000 < HEARTBEAT_TIMEOUT


def send_heartbeat(run_ids: Sequence[str]) -> None:
    """Tell the store that the process that makes these runs lives."""
    for run_id in run_ids:
        mlflow.MlflowClient().set_tag(run_id, tag.HEARTBEAT, _now())


def _now() -> str:
    return str(int(time.time() * 1000))
