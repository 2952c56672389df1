"""Runs of `python train.py` that are stopped, and what is lost of them: for bench/faults.py."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

CLEAN = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "KERAS_HOME")
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in CLEAN}
ENVIRONMENT |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
LONGEST = 240.0  # seconds that anything may take
READY = 2  # MLflow's number for a model that was logged whole
NAMED_ANEW = re.compile(r"\+timestamp\+\d+\+[-0-9a-f]+")  # MLflow names a picture by its moment
STAYS = Counter({"error.txt": 1})  # tells why a run was stopped once


class NotTriedError(Exception):
    """This machine, or this user, cannot try a fault."""


class Process:
    """A program in a process group of its own, whose output can be read meanwhile."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        folder: Path,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.files = [log.with_name(f"{log.name}.{name}") for name in ("output", "errors")]
        with self.files[0].open("w") as output, self.files[1].open("w") as errors:
            self.popen = subprocess.Popen(
                command,
                cwd=folder,
                env=ENVIRONMENT | dict(variables or {}),
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it printed."""
        return self.files[0].read_text(errors="replace")

    @property
    def errors(self) -> str:
        """What it said on standard error."""
        return self.files[1].read_text(errors="replace").strip()

    @property
    def epochs(self) -> int:
        """How many epochs it said are done."""
        return len(re.findall(r"^epoch +\d+/", self.output, re.MULTILINE))

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.popen.poll() is None

    def send(self, number: int) -> None:
        """Send a signal to the whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, number)

    def kill(self) -> None:
        """Kill the group at once."""
        self.send(signal.SIGKILL)
        self.popen.wait()

    def wait(self, seconds: float = LONGEST) -> int:
        """Return the status with which it ends.

        Raises:
            TimeoutError: if it does not; it is killed.
        """
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise TimeoutError(f"{error}; see {self.files[0]}") from error

    def until(self, reached: Callable[[], object]) -> None:
        """Wait until something is reached, or the process has ended.

        Raises:
            TimeoutError: if neither happens; it is killed.
        """
        limit = time.monotonic() + LONGEST
        while self.alive and not reached():
            if time.monotonic() > limit:
                self.kill()
                raise TimeoutError(f"{self.files[0]}: not reached within {LONGEST:g} s")
            time.sleep(0.01)

    def until_printed(self, pattern: str) -> None:
        """Wait until a line begins with something."""
        self.until(lambda: re.search(pattern, self.output, re.MULTILINE))

    def failed(self) -> list[str]:
        """Wait for the end; say what went wrong."""
        return [f"ended with {self.popen.returncode}: {self.errors[-400:]}"] if self.wait() else []

    def one_error(self, said: str) -> list[str]:
        """Wait for the end; say what is wrong if that is no error of one line with `said` in it."""
        ended, lines = self.wait(), self.errors.splitlines()
        if ended == 1 and len(lines) == 1 and lines[0].startswith("error: ") and said in lines[0]:
            return []
        return [f"ended with {ended}: {self.errors[-400:]}"]


@dataclass
class Trial:
    """One run, begun and gone on with by as many processes as it takes.

    Attributes:
        folder: where its processes print.
        project: the folder of train.py.
        database: SQLite file of the store.
        asked: the configuration, as it is typed.
        uri: of the store; None: the database itself.
        output: where it writes; None: into its folder.
        python: what stands before `train.py` on the command line.
        variables: of the environment.
    """

    folder: Path
    project: Path
    database: Path
    asked: Sequence[str]
    uri: str | None = None
    output: Path | None = None
    python: Sequence[str] = (sys.executable,)
    variables: Mapping[str, str] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)

    def start(self, *arguments: str, python: Sequence[str] = ()) -> Process:
        """Begin `python train.py`, with the arguments of the trial unless others are given."""
        number = len(self.processes)
        output = (self.output or self.folder) / f"output{number}"
        places = [f"hydra.run.dir={output}", f"tracking.uri={self.uri or self.sqlite}"]
        command = [*(python or self.python), "train.py", *(arguments or self.asked), *places]
        log = self.folder / f"train{number}"
        self.processes.append(Process(command, log, self.project, self.variables))
        return self.processes[-1]

    def started(self, until: str = "") -> Process:
        """Begin it, and wait until it prints something: else, until it has begun to track."""
        process = self.start()
        process.until_printed(until) if until else process.until(lambda: self.run_id)
        return process

    def resume(self) -> Process:
        """Type `resume=` for the run."""
        return self.start(f"resume={self.run_id}")

    @property
    def sqlite(self) -> str:
        """The URI of the database."""
        return f"sqlite:///{self.database}"

    @property
    def run_id(self) -> str | None:
        """The id of the run; None as long as it has not begun."""
        query = "SELECT run_uuid FROM tags WHERE key = 'output_dir' AND value = ?"
        found = rows(self.database, query, str((self.output or self.folder) / "output0"))
        return str(found[0][0]) if found else None

    @property
    def epochs(self) -> int:
        """How many epochs its processes said are done."""
        return sum(process.epochs for process in self.processes)


def rows(database: Path, query: str, *values: str) -> list[tuple[str, ...]]:
    """Read from a database; nothing while it is locked or not there."""
    with suppress(sqlite3.OperationalError):
        uri = f"file:{database}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=10)) as connection:
            return [tuple(map(str, row)) for row in connection.execute(query, values)]
    return []


@dataclass(frozen=True)
class Record:
    """All that a store has of a run, as it lies in the database and among the artifacts."""

    status: str
    metrics: Mapping[tuple[str, int], list[float]]
    artifacts: Counter[str]
    digests: Mapping[str, object]
    health: Mapping[str, object]
    models: Sequence[tuple[str, Path]]
    tags: Mapping[str, str]

    @classmethod
    def of(cls, trial: Trial) -> "Record":
        """Read what the store of a trial has."""

        def read(columns: str, table: str, run: str = "run_uuid") -> list[tuple[str, ...]]:
            query = f"SELECT {columns} FROM {table} WHERE {run} = ?"
            return rows(trial.database, query, str(trial.run_id))

        def folder_of(uri: str) -> Path:  # of a server: beside its database
            path = unquote(urlsplit(uri).path)
            served = uri.startswith("mlflow-artifacts:")
            return trial.database.parent / "artifacts" / path.lstrip("/") if served else Path(path)

        [(place, status)] = read("artifact_uri, status", "runs")
        metrics: dict[tuple[str, int], list[float]] = {}
        for key, step, value in read("key, step, value", "metrics"):
            metrics.setdefault((key, int(step)), []).append(float(value))
        models = "(SELECT * FROM logged_models WHERE lifecycle_stage = 'active')"
        found = read("status, artifact_location", models, "source_run_id")
        folder = folder_of(place)
        names = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        return cls(
            status,
            metrics,
            Counter(NAMED_ANEW.sub("", name) for name in names),
            content(folder / "digests.json"),
            content(folder / "layer_health.json"),
            [(state, folder_of(uri)) for state, uri in found],
            dict(read("key, value", "tags")),  # type: ignore[arg-type]
        )


def content(path: Path) -> Mapping[str, object]:
    """Return what a JSON file holds; nothing if it is not there."""
    found: Mapping[str, object] = json.loads(path.read_text()) if path.exists() else {}
    return found


def lost(found: Record, reference: Record) -> list[str]:
    """Say what a run lacks, or has twice, that an uninterrupted one has once."""
    said = [] if found.status == "FINISHED" else [f"is {found.status}"]
    said += [] if found.digests == reference.digests else ["other digests of weights and metrics"]
    said += [] if found.health == reference.health else ["another layer health"]
    for key, step in sorted(found.metrics.keys() | reference.metrics.keys()):
        own, other = (len(record.metrics.get((key, step), [])) for record in (found, reference))
        if (own, other) != (1, 1):
            said.append(f"metric {key}, step {step}: {own} times instead of {other}")
        elif found.metrics[key, step] != reference.metrics[key, step] and "_seconds" not in key:
            said.append(f"metric {key}, step {step}: another value")
    said += [f"artifact {name} is missing" for name in reference.artifacts - found.artifacts]
    surplus = found.artifacts - reference.artifacts - STAYS
    # What a server was writing when it was killed is no artifact of the run.
    too_many = [name for name in surplus if "/.artifact.uploading." not in f"/{name}"]
    return [*said, *(f"artifact {name} is one too many" for name in too_many), *wrong_model(found)]


def wrong_model(found: Record) -> list[str]:
    """Say what is wrong if there is not one logged model, whole, with the best weights."""
    from fmnist.training.state import digest_of_weights

    if [int(state) for state, _ in found.models] != [READY]:
        return [f"logged models: {found.models}"]
    model, problems = loaded(found.models[0][1] / "data" / "model.keras")
    if model is None or digest_of_weights(model) == found.digests.get("best"):
        return problems
    return ["its model has other weights than the best ones"]


def loaded(path: Path) -> tuple[object | None, list[str]]:
    """Load a model by Keras; say what is wrong with it."""
    import keras

    try:
        return keras.saving.load_model(path), []
    except (OSError, ValueError) as error:
        return None, [f"{path.name} does not load: {error}"]


@contextmanager
def server(folder: Path, port: int) -> Iterator[Process]:
    """Run `mlflow server` on a database and artifacts in `folder` until it is left."""
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    running = Process(command, folder / f"server{time.monotonic_ns()}", folder)
    try:
        running.until(lambda: answers(port))
        yield running
    finally:
        running.kill()


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Tell whether somebody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def fill(folder: Path) -> Path:
    """Write a file until the disk is full; return it."""
    path = folder / "filler"
    with suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            with suppress(OSError):
                while file.write(bytes(size)):
                    pass
    return path


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of 32 MB.

    Raises:
        NotTriedError: if this user may not.
    """
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotTriedError(f"needs root, to mount a small disk: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
