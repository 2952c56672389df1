"""How commands end: which errors are one line, which show a traceback, and with what status."""

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ENVIRONMENT, PROJECT

COMMAND = """
from fmnist.common.exits import one_line_errors
with one_line_errors():
    {}
"""
BUG = "import fmnist.data.datasets as d; d.pixel_statistics(None)"


def ended(body: str, **variables: str) -> tuple[int, str]:
    """Status and standard error of a program that does something under `one_line_errors`."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND.format(body)],
        cwd=PROJECT,
        env=ENVIRONMENT | variables,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("raise ValueError('of Hydra')", "error: of Hydra\n"),
        ("open('/nowhere/x')", "error: [Errno 2] No such file or directory: '/nowhere/x'\n"),
        (
            "raise PermissionError(13, 'Permission denied', 'outputs/x')",
            "error: [Errno 13] Permission denied: 'outputs/x'; choose another folder: "
            "hydra.run.dir=FOLDER, or with -m hydra.sweep.dir=FOLDER\n",
        ),
        (
            "from fmnist.config.limits import check; check('seed', -1, {'at_least': 0})",
            "error: seed=-1: must be at least 0\n",
        ),
    ],
)
def test_what_the_user_can_put_right_is_one_line(body, line):
    assert ended(body) == (1, line)


def test_a_bug_shows_its_traceback():
    status, errors = ended(BUG)
    assert status == 1 and errors.startswith("Traceback") and "pixel_statistics" in errors


def test_whoever_wants_tracebacks_gets_them():
    status, errors = ended("raise ValueError('of Hydra')", HYDRA_FULL_ERROR="1")
    assert status == 1 and errors.startswith("Traceback")


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        ("raise KeyboardInterrupt", 130, "stopped by SIGINT; what was tracked until now is kept\n"),
        (
            "from fmnist.common.exits import Terminated as T; e = T(); e.add_note('x'); raise e",
            143,
            "stopped by SIGTERM; x\n",
        ),
    ],
)
def test_a_signal_is_one_line_and_its_status(body, status, line):
    assert ended(body) == (status, line)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_command_goes_on_quietly_when_its_reader_has_gone(stream, tmp_path):
    body = (
        f"import sys, logging, pathlib; logging.basicConfig(stream=sys.{stream})\n"
        f"    for _ in range(5000): print('x' * 100, file=sys.{stream}); logging.error('y')\n"
        f"    pathlib.Path({str(tmp_path / 'ended')!r}).touch()"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", COMMAND.format(body)]
    with subprocess.Popen(command, cwd=PROJECT, env=ENVIRONMENT, **pipes) as process:
        gone, kept = process.stdout, process.stderr
        if stream == "stderr":
            gone, kept = kept, gone
        assert gone.readline()
        gone.close()
        assert kept.read() == b""
    assert process.returncode == 0 and (tmp_path / "ended").exists()


def test_a_character_that_the_terminal_lacks_is_written_by_its_number():
    done = subprocess.run(
        [sys.executable, "-c", COMMAND.format("print('86.3 ± 0.3')")],
        cwd=PROJECT,
        env=ENVIRONMENT | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
    )
    assert (done.returncode, done.stdout) == (0, b"86.3 \\xb1 0.3\n")


def test_a_full_disk_is_no_closed_pipe():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", COMMAND.format("print('x', flush=True)")],
            cwd=PROJECT,
            env=ENVIRONMENT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode != 0 and "error: [Errno 28] No space left on device" in done.stderr


def test_a_usage_error_has_status_2():
    body = "from fmnist.common.exits import usage_error; usage_error('No such command.')"
    assert ended(body) == (2, "error: No such command; see --help\n")


def test_the_version_is_ours_and_not_that_of_hydra():
    from fmnist import __version__

    command = [sys.executable, "train.py", "--version"]
    done = subprocess.run(command, cwd=PROJECT, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{__version__}\n")
