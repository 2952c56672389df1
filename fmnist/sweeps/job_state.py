"""The state of each job of a sweep, in a file that the job writes and the command reads."""

import dataclasses
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus

from fmnist.common.errors import FmnistError
from fmnist.common.files import replacing

FOLDER = "jobs"  # in that of the sweep


class JobError(FmnistError):
    """A job of a sweep failed, in another process."""


@dataclass(frozen=True)
class JobState:
    """How far a job is."""

    number: int  # from 0; Hydra names its folder so
    overrides: Sequence[str]
    epoch: int = 0  # the last one that is done, from 1; 0: none
    epochs: int = 0  # how many there are at most; 0 before the first is done
    val_accuracy: float | None = None  # after that epoch
    warnings: Sequence[str] = ()  # a line each
    ended: bool = False
    objective: float | None = None  # its result; None if it failed
    error: str | None = None  # why it failed, one line
    diverged: bool = False  # it failed because training diverged

    def save(self, sweep_dir: str) -> None:
        path = _path(sweep_dir, self.number)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside:
            beside.write_text(json.dumps(dataclasses.asdict(self)))

    def as_return(self) -> JobReturn:
        """Return what Hydra's launchers return of a job that has ended."""
        result = JobReturn(overrides=self.overrides)
        result.return_value = JobError(self.error) if self.error else self.objective
        result.status = JobStatus.FAILED if self.error else JobStatus.COMPLETED
        return result


def killed(sweep_dir: str, number: int, overrides: list[str], reason: str) -> JobReturn:
    """Record, and return, that the process of a job was killed."""
    error = f"its process was killed, {reason}"
    state = JobState(number, overrides, ended=True, error=error)
    state.save(sweep_dir)
    return state.as_return()


def find(sweep_dir: str, number: int) -> JobState | None:
    """Return the state of a job; None if it has not begun."""
    path = _path(sweep_dir, number)
    return JobState(**json.loads(path.read_text())) if path.exists() else None


def find_all(sweep_dir: str, skip: frozenset[int] = frozenset()) -> Iterator[JobState]:
    """Yield the state of each job that has begun, by number; those in `skip` are left out."""
    numbers = {int(path.stem) for path in Path(sweep_dir, FOLDER).glob("[0-9]*.json")}
    return filter(None, (find(sweep_dir, number) for number in sorted(numbers - skip)))


def clear(sweep_dir: str) -> None:
    """Remove the states of an earlier sweep in the same folder."""
    shutil.rmtree(Path(sweep_dir, FOLDER), ignore_errors=True)


def log_files(sweep_dir: str) -> str:
    """Return where the jobs log, for people: relative to the current folder if it lies below."""
    folder, here = Path(sweep_dir), Path.cwd()
    return f"{folder.relative_to(here) if folder.is_relative_to(here) else folder}/*/train.log"


def _path(sweep_dir: str, number: int) -> Path:
    return Path(sweep_dir, FOLDER, f"{number}.json")
