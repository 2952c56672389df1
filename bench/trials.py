"""Runs of `python train.py` that are stopped, and what is lost of them: for bench/faults.py."""

import json
import os
import re
import shutil
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

PROJECT = Path(__file__).resolve().parent.parent
SIZED = ("data=digits", "model=selu_dropout", "model.depth=3", "model.width=30", "optimizer=adam")
STOPPING = ("callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=0.01")
ASKED = (*SIZED, "training.epochs=20", *STOPPING)
ENDED_WITHIN = 240.0  # seconds
READY = 2  # MLflow's number for a model that was logged whole
NAMED_ANEW = re.compile(r"\+timestamp\+\d+\+[-0-9a-f]+")  # MLflow names a picture by its moment
CLEAN = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "KERAS_HOME")
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in CLEAN} | {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


class Process:
    """A program in a group of its own, whose output goes to files that can be read meanwhile."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        folder: Path,
        variables: Mapping[str, str] = {},
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with self._file("out").open("w") as output, self._file("err").open("w") as errors:
            self.popen = subprocess.Popen(
                command,
                cwd=folder,
                env=ENVIRONMENT | variables,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )

    def _file(self, suffix: str) -> Path:
        return self.log.with_name(f"{self.log.name}.{suffix}")

    @property
    def output(self) -> str:
        """What it printed."""
        return self._file("out").read_text(errors="replace")

    @property
    def errors(self) -> str:
        """What it said on standard error."""
        return self._file("err").read_text(errors="replace")

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

    def wait(self, seconds: float = ENDED_WITHIN) -> int:
        """Return the status with which it ends; kill it, and raise `TimeoutExpired`, if late."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill the group at once."""
        self.send(signal.SIGKILL)
        self.popen.wait()

    def until(self, reached: Callable[[], object], seconds: float = ENDED_WITHIN) -> bool:
        """Wait until something is reached; tell whether it was before the process ended."""
        limit = time.monotonic() + seconds
        while not reached():
            if not self.alive:
                return bool(reached())
            if time.monotonic() > limit:
                self.kill()
                raise TimeoutError(f"{self.log}: nothing happened within {seconds:g} s")
            time.sleep(0.01)
        return True


@dataclass
class Trial:
    """One run in a folder of its own, begun and gone on with by as many processes as it takes.

    Attributes:
        folder: of its output and of what its processes print.
        database: SQLite file of the store.
        project: the folder of train.py.
        asked: the configuration, as it is typed.
        uri: of the store; None: the database itself.
        before: what stands before `train.py` on the command line.
        variables: of the environment.
    """

    folder: Path
    database: Path
    project: Path
    asked: Sequence[str] = ASKED
    uri: str | None = None
    output: Path | None = None
    before: Sequence[str] = (sys.executable,)
    variables: Mapping[str, str] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)

    def start(self, *arguments: str, before: Sequence[str] | None = None) -> Process:
        """Begin `python train.py`, with the arguments of the trial unless others are given."""
        number = len(self.processes)
        output = (self.output or self.folder) / f"output{number}"
        places = (f"hydra.run.dir={output}", f"tracking.uri={self.uri or self.sqlite}")
        command = [*(before or self.before), "train.py", *(arguments or self.asked), *places]
        self.processes.append(
            Process(command, self.folder / f"train{number}", self.project, self.variables)
        )
        return self.processes[-1]

    def resume(self, *arguments: str) -> Process:
        """Type `resume=` for the run."""
        return self.start(f"resume={self.run_id}", *arguments, before=self.before)

    @property
    def sqlite(self) -> str:
        """The URI of the database."""
        return f"sqlite:///{self.database}"

    @property
    def run_id(self) -> str | None:
        """The id of the run; None as long as it has not begun."""
        place = f"{(self.output or self.folder) / 'output0'}"
        query = "SELECT run_uuid FROM tags WHERE key = 'output_dir' AND value = ?"
        found = rows(self.database, query, place)
        return str(found[0][0]) if found else None

    @property
    def trained(self) -> int:
        """How many epochs its processes said are done."""
        return sum(process.epochs for process in self.processes)


def rows(database: Path, query: str, *values: str) -> list[tuple[object, ...]]:
    """Read from a database; nothing while it is locked or not there."""
    with suppress(sqlite3.OperationalError):
        uri = f"file:{database}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=10)) as connection:
            return connection.execute(query, values).fetchall()
    return []


@dataclass(frozen=True)
class Record:
    """All that a store has of a run, as it lies in the database and among the artifacts."""

    status: str
    metrics: Mapping[tuple[str, int], list[float]]
    artifacts: Counter[str]
    digests: object
    health: object
    models: Sequence[tuple[str, str, int]]
    tags: Mapping[str, str]

    @classmethod
    def of(cls, trial: Trial, served: Path | None = None) -> "Record":
        """Read what the store of a trial has; `served`: where the server keeps artifacts."""
        run_id = str(trial.run_id)
        place, status = rows(
            trial.database, "SELECT artifact_uri, status FROM runs WHERE run_uuid = ?", run_id
        )[0]
        metrics: dict[tuple[str, int], list[float]] = {}
        query = "SELECT key, step, value FROM metrics WHERE run_uuid = ?"
        for key, step, value in rows(trial.database, query, run_id):
            metrics.setdefault((str(key), int(str(step))), []).append(float(str(value)))
        query = (
            "SELECT model_id, artifact_location, status FROM logged_models"
            " WHERE source_run_id = ? AND lifecycle_stage = 'active'"
        )
        models = [
            (str(m), str(at), int(str(s))) for m, at, s in rows(trial.database, query, run_id)
        ]
        tags = rows(trial.database, "SELECT key, value FROM tags WHERE run_uuid = ?", run_id)
        folder = path_of(str(place), served)
        return cls(
            str(status),
            metrics,
            Counter(named(path.relative_to(folder)) for path in folder.rglob("*.*")),
            content(folder / "digests.json"),
            content(folder / "layer_health.json"),
            [(model, str(path_of(at, served)), state) for model, at, state in models],
            {str(key): str(value) for key, value in tags},
        )


def path_of(uri: str, served: Path | None) -> Path:
    """Return the folder of artifacts behind a URI."""
    path = unquote(urlsplit(uri).path)
    return (
        served / path.lstrip("/") if served and uri.startswith("mlflow-artifacts:") else Path(path)
    )


def named(path: Path) -> str:
    """Return the name of an artifact without the moment at which it was logged."""
    return NAMED_ANEW.sub("", path.as_posix())


def content(path: Path) -> object:
    """Return what a JSON file holds; None if it is not there."""
    return json.loads(path.read_text()) if path.exists() else None


def lost(found: Record, reference: Record) -> list[str]:
    """Say what a run lacks, or has twice, that an uninterrupted one has once."""
    said = [] if found.status == "FINISHED" else [f"is {found.status}"]
    if found.digests != reference.digests:
        said.append("other digests of weights and metrics")
    if found.health != reference.health:
        said.append("another layer health")
    for what, missing in {
        "missing": reference.metrics.keys() - found.metrics.keys(),
        "one too many": found.metrics.keys() - reference.metrics.keys(),
        "doubled": {key for key, values in found.metrics.items() if len(values) > 1},
    }.items():
        said += [f"metric {key}, step {step}, {what}" for key, step in sorted(missing)]
    for key in found.metrics.keys() & reference.metrics.keys():
        if not key[0].endswith("_seconds") and found.metrics[key] != reference.metrics[key]:
            said.append(f"metric {key[0]}, step {key[1]}, has another value")
    for name, count in (reference.artifacts - found.artifacts).items():
        said.append(f"artifact {name} missing ({count})")
    known = Counter({"error.txt": 1})  # tells why a run was stopped; it stays
    for name, count in (found.artifacts - reference.artifacts - known).items():
        said.append(f"artifact {name} too many ({count})")
    return said + wrong_model(found)


def wrong_model(found: Record) -> list[str]:
    """Say what is wrong with the one logged model: it has to be whole, and the best one."""
    import keras

    from fmnist.snapshot import digest_of_weights

    if [state for _, _, state in found.models] != [READY]:
        return [f"logged models: {[(model, state) for model, _, state in found.models]}"]
    [(_, folder, _)] = found.models
    try:
        model = keras.saving.load_model(Path(folder, "data", "model.keras"))
    except (OSError, ValueError) as error:
        return [f"its model does not load: {error}"]
    digests = found.digests if isinstance(found.digests, dict) else {}
    same = digest_of_weights(model) == digests.get("best")
    return [] if same else ["its model has other weights than the best ones"]


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
def tmpfs(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a small disk.

    Raises:
        PermissionError: if this user may not.
    """
    folder.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    done = subprocess.run(["mount", *options], capture_output=True, text=True)
    if done.returncode:
        raise PermissionError(f"mount: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def copied_project(folder: Path) -> Path:
    """Copy what git has of the project."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split("\0")[:-1]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, folder / name)
    return folder
