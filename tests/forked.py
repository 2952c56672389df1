"""Commands in processes that are forked from one that has imported TensorFlow already.

Importing it, MLflow and what else `train.py` needs takes five of the eight seconds of a small run.
Nothing has been computed where the forks come from, so TensorFlow begins anew in each of them.
"""

import atexit
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Timer

from typist import IMPORTED, PROJECT, forget_project, run_main

processes = get_context("forkserver")
IMPORTS = (
    *(
        "fmnist.training.trainer",
        "fmnist.registry.report",
        "tensorboard.summary",
        "git",
        "mlflow.cli",
    ),
    *IMPORTED,
)
processes.set_forkserver_preload(list(IMPORTS))


class Forked:
    """`train.py ...` or `-m ...` under way, with what tests use of subprocess.Popen."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path = PROJECT
    ) -> None:
        _begin_server()
        reader, writer = processes.Pipe(duplex=False)
        self.stderr = tempfile.NamedTemporaryFile("r")  # noqa: SIM115
        becoming = (list(command), dict(environment), folder, writer, self.stderr.name)
        self._process = processes.Process(target=_become, args=becoming, daemon=True)
        self._process.start()
        writer.close()
        self.stdout = os.fdopen(os.dup(reader.fileno()))
        reader.close()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What it prints from now on; after `timeout` seconds it is killed."""
        late = Timer(timeout, self._process.kill)
        late.daemon = True
        late.start()
        with self.stdout, self.stderr:
            output = self.stdout.read()
            self._process.join()
            late.cancel()
            return output, self.stderr.read()

    def completed(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """What came of it."""
        output, errors = self.communicate(timeout)
        return subprocess.CompletedProcess([], self.returncode, output, errors)


@cache
def _begin_server() -> None:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # where it has threads, a fork may wait for them
    forkserver.ensure_running()
    del os.environ["OPENBLAS_NUM_THREADS"]


def _become(
    command: list[str], environment: dict[str, str], folder: Path, stdout: Connection, stderr: str
) -> None:
    os.setsid()
    os.chdir(folder)
    os.dup2(stdout.fileno(), 1)
    stdout.close()
    os.dup2(os.open(stderr, os.O_WRONLY | os.O_APPEND), 2)
    os.environ.clear()
    os.environ.update(environment)
    forget_project()
    status = run_main(command)
    atexit._run_exitfuncs()  # multiprocessing leaves them out
    sys.exit(status)
