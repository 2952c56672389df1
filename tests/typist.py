"""Commands as a person types them, without the seconds that Python and MLflow take to start.

A `Typist` is one process that has imported what our commands import, but for TensorFlow and for
`fmnist` itself, and that forks for each command. What it forked runs `train.py` or `-m fmnist` as
the main program, with arguments, variables and standard streams of its own.
"""

import atexit
import contextlib
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO

PROJECT = Path(__file__).resolve().parent.parent
IMPORTED = (
    *("fmnist.inference.predict", "fmnist.runs.run", "fmnist.registry.promotion"),
    *("fmnist.registry.rollback", "fmnist.inference.server", "fmnist.cli.ui"),
    *("sklearn.datasets", "matplotlib.pyplot"),
    *(f"hydra_plugins.hydra_{name}_launcher.{name}_launcher" for name in ("joblib", "submitit")),
    *(
        "hydra_plugins.hydra_ray_launcher.ray_launcher",
        "hydra._internal.core_plugins.basic_launcher",
    ),
    *("alembic.command", "mlflow.tracing.processor.otel", "sqlalchemy.dialects.sqlite"),
    *("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"),
)
MOST_MEMORY = 8 << 30  # bytes; spares the machine, the tests allow less


@dataclass(frozen=True)
class Outcome:
    """What came of a command; `peak` is the most memory that one of its processes had, in bytes."""

    status: int
    stdout: str
    stderr: str
    peak: int
    seconds: float


class Typist:
    """Types commands one after another."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.server = subprocess.Popen(
            [sys.executable, __file__],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def type(self, command: Sequence[str], variables: Mapping[str, str], timeout: float) -> Outcome:
        """Run `train.py ...` or `-m fmnist ...`, and kill it after `timeout` seconds."""
        assert self.server.stdin and self.server.stdout
        self.server.stdin.write(json.dumps([command, variables, timeout]) + "\n")
        self.server.stdin.flush()
        return Outcome(*json.loads(self.server.stdout.readline()))

    def leave(self) -> None:
        """End the process."""
        self.server.communicate(timeout=10)


def main() -> None:
    """Serve: a line of JSON for a command to be run, and one for what came of it."""
    sys.path.insert(0, str(PROJECT))
    for name in IMPORTED:
        import_module(name)
    forget_project()
    assert not sys.modules.keys() & {"tensorflow", "keras"}
    while line := sys.stdin.readline():
        print(json.dumps(_typed(*json.loads(line))), flush=True)


def forget_project() -> None:
    """Let a command import `fmnist` anew, with its own environment."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "fmnist"]:
        del sys.modules[name]


def _typed(
    command: list[str], variables: dict[str, str], timeout: float
) -> tuple[int, str, str, int, float]:
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        begun = time.monotonic()
        pid = os.fork()
        if pid == 0:
            _become(command, variables, stdout.fileno(), stderr.fileno())
            sys.exit()
        status, peak = _wait(pid, begun + timeout)
        streams = [_content(stream) for stream in (stdout, stderr)]
        return status, *streams, peak, time.monotonic() - begun


def _become(command: list[str], variables: dict[str, str], stdout: int, stderr: int) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), stdout, stderr)):
        os.dup2(file, number)
    os.environ.update(variables)
    tempfile.tempdir = None  # it has another in TMPDIR
    sys.path[0] = str(PROJECT)
    # First in, last out: what the interpreter would still do, clearing its memory, takes longer
    # than many a command.
    atexit.register(lambda: (sys.stdout.flush(), sys.stderr.flush(), os._exit(status)))
    status = run_main(command)


def run_main(command: list[str]) -> int:
    """Run the main program, and return its status as the interpreter makes it."""
    try:
        if command[0] == "-m":
            sys.argv = command[1:]
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = command
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as stop:
        if isinstance(stop.code, int | None):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _wait(pid: int, until: float) -> tuple[int, int]:
    """Return exit status and peak memory of a process; kill it, and what it started, in the end."""
    ended, status, usage = os.wait4(pid, os.WNOHANG)
    while not ended and time.monotonic() < until:
        time.sleep(0.01)
        ended, status, usage = os.wait4(pid, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if not ended:
        _, status, usage = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024


def _content(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")


if __name__ == "__main__":
    main()
