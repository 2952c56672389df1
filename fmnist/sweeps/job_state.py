"""The state of each job of a sweep, in a file that the job writes and the sweep's command reads."""

import dataclasses
import json
from collections.abc import Iterator
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
    """What is known of a job.

    Attributes:
        number: counted from 0, as Hydra names its folder.
        overrides: of the job.
        epoch: how many are done.
        epochs: how many there are at most; 0 before the first is done.
        val_accuracy: after the last one.
        warnings: a line each.
        ended: whether it is over.
        objective: what came of it; None if it failed.
        error: why it failed, one line.
    """

    number: int
    overrides: tuple[str, ...]
    epoch: int = 0
    epochs: int = 0
    val_accuracy: float | None = None
    warnings: tuple[str, ...] = ()
    ended: bool = False
    objective: float | None = None
    error: str | None = None

    def save(self, sweep_dir: str) -> None:
        """Write it into the folder of the sweep."""
        path = Path(sweep_dir, FOLDER, f"{self.number}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside:
            beside.write_text(json.dumps(dataclasses.asdict(self)))

    def as_return(self) -> JobReturn:
        """Return what Hydra makes of a job that is over."""
        done = JobReturn(overrides=self.overrides)
        done.return_value = JobError(self.error) if self.error else self.objective
        done.status = JobStatus.FAILED if self.error else JobStatus.COMPLETED
        return done


def find(sweep_dir: str, number: int) -> JobState | None:
    """Return the state of a job; None if it has not begun."""
    path = Path(sweep_dir, FOLDER, f"{number}.json")
    return _read(path) if path.exists() else None


def find_all(sweep_dir: str, but: frozenset[int] = frozenset()) -> Iterator[JobState]:
    """Yield the state of each job that has begun, by number, without the numbers in `but`."""
    paths = {int(path.stem): path for path in Path(sweep_dir, FOLDER).glob("[0-9]*.json")}
    for number in sorted(paths.keys() - but):
        yield _read(paths[number])


def _read(path: Path) -> JobState:
    values = json.loads(path.read_text())
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return JobState(**values | lists)
