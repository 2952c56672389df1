"""Commands in a test: forks of one process that has imported TensorFlow and computed nothing.

Python, TensorFlow and MLflow take five of the eight seconds of a small run to start. A fork has
them at once, and comes to the same digests as a fresh process. It imports `fmnist` and our Hydra
plugins itself, from the tree and with the command's own environment: only other people's modules
are imported before.
"""

import atexit
import gc
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock, Timer

import pytest

PROJECT = Path(__file__).resolve().parent.parent
MAX_MEMORY = 8 << 30  # bytes of address space; spares the machine, tests allow less
IMPORTED = (
    *("keras", "tensorflow", "tensorboard.summary", "tensorflow.python.framework.config"),
    *("sklearn.datasets", "matplotlib.pyplot", "PIL.Image", "jinja2", "rich.progress", "git"),
    *("mlflow.cli", "mlflow.tensorflow", "mlflow.keras", "mlflow.pyfunc.scoring_server"),
    *("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"),
    *("mlflow.tracing.processor.otel", "alembic.command", "sqlalchemy.dialects.sqlite"),
    *("hydra.main", "hydra._internal.core_plugins.basic_launcher", "optuna", "uvicorn"),
    *(
        f"hydra_plugins.hydra_{name}_launcher.{name}_launcher"
        for name in ("joblib", "submitit", "ray")
    ),
)
processes = get_context("forkserver")
processes.set_forkserver_preload(list(IMPORTED))


class Command:
    """`train.py ...` or `-m ...` under way, with what tests use of subprocess.Popen.

    Args:
        words: after `python`.
        environment: all of its variables.
        folder: where it is typed.
    """

    def __init__(
        self, words: Sequence[str], environment: Mapping[str, str], folder: Path = PROJECT
    ) -> None:
        _start_server()
        output, stdout = processes.Pipe(duplex=False)
        self._usage, usage = processes.Pipe(duplex=False)
        self.stderr = tempfile.NamedTemporaryFile("r", errors="replace")  # noqa: SIM115
        arguments = (list(words), dict(environment), folder, stdout, self.stderr.name, usage)
        self._process = processes.Process(target=_run, args=arguments, daemon=True)
        self._process.start()
        stdout.close()
        usage.close()
        self.stdout = os.fdopen(os.dup(output.fileno()), errors="replace")
        output.close()
        self.pid: int = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float = 240) -> tuple[str, str]:
        """What it prints from now on; after `timeout` seconds it and its children are killed."""
        late = Timer(timeout, self._kill)
        late.daemon = True
        late.start()
        with self.stdout, self.stderr:
            output = self.stdout.read()
            self._process.join()
            late.cancel()
            return output, self.stderr.read()

    def completed(self, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Wait for its end."""
        output, errors = self.communicate(timeout)
        return subprocess.CompletedProcess([], self.returncode or 0, output, errors)

    @property
    def peak(self) -> int:
        """The most memory, in bytes, that it or a child of it had; 0 if it was killed."""
        with suppress(EOFError):
            return int(self._usage.recv())
        return 0

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


starting = Lock()  # tests start commands in several threads


def _start_server() -> None:
    with starting:
        os.environ["OPENBLAS_NUM_THREADS"] = "1"  # where it has threads, a fork may wait for them
        forkserver.ensure_running()
        del os.environ["OPENBLAS_NUM_THREADS"]


def _run(
    words: list[str],
    environment: dict[str, str],
    folder: Path,
    stdout: Connection,
    stderr: str,
    usage: Connection,
) -> None:
    os.setsid()
    os.chdir(folder)
    nothing = os.open(os.devnull, os.O_RDONLY)
    errors = os.open(stderr, os.O_WRONLY | os.O_APPEND)
    for number, file in enumerate((nothing, stdout.fileno(), errors)):
        os.dup2(file, number)
    stdout.close()
    os.environ.clear()
    os.environ.update(environment)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    tempfile.tempdir = None  # TMPDIR may be another
    gc.freeze()  # as the command itself does after importing TensorFlow
    status = run_main(words)
    atexit._run_exitfuncs()  # multiprocessing leaves them out
    people = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    usage.send(max(resource.getrusage(who).ru_maxrss for who in people) * 1024)
    sys.exit(status)


def refusal(words: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run `train.py ...` in this process, and return the line that ends it.

    Args:
        words: after `python`.
        environment: variables that are set meanwhile, too.
    """
    from fmnist.common.exits import closing_line

    quiet = ("hydra/hydra_logging=none", "hydra/job_logging=none")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(PROJECT)
        patch.setattr(sys, "argv", [*words, *quiet])
        patch.setattr(sys, "excepthook", sys.excepthook)
        patch.setenv("HYDRA_FULL_ERROR", "1")
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            runpy.run_path(words[0], run_name="__main__")
        except SystemExit as stop:
            return str(stop.code)
        except Exception as error:
            return closing_line(error)
    raise AssertionError(f"not refused: {words}")


def run_main(words: list[str]) -> int:
    """Run the main program, and return its status as the interpreter makes it."""
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as stop:
        if isinstance(stop.code, int | None):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
