"""`make` builds the environment with the interpreter that is named, and mends a failed one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ENVIRONMENT, PROJECT

# `make` finds this Python under two names, and no uv.
NAMES = ("python3", "python-of-mine")


@pytest.fixture
def make(tmp_path):
    """`make("PYTHON=...")`: `make train` where nothing has to be installed."""
    shutil.copy(PROJECT / "Makefile", tmp_path)
    (tmp_path / "train.py").write_text("import sys; print('trained by', sys.version_info[:2])")
    (tmp_path / "requirements.txt").touch()
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("make", "sh", "cat", "rm", "touch", "ls"):
        (programs / name).symlink_to(shutil.which(name))
    for name in NAMES:
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} "$@"')
        (programs / name).chmod(0o755)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", "train", *arguments],
            cwd=tmp_path,
            env=ENVIRONMENT | {"PATH": str(programs)},
            capture_output=True,
            text=True,
        )

    return run


def made_anew(folder: Path) -> bool:
    """Whether .venv is another one than when this was last asked."""
    mark = folder / ".venv" / "asked"
    known = mark.exists()
    mark.touch()
    return not known


@pytest.mark.slow
def test_another_interpreter_makes_the_environment_anew(make, tmp_path):
    assert "trained by (3, " in make().stdout and made_anew(tmp_path)
    assert make().returncode == 0 and not made_anew(tmp_path)
    assert "trained by" in make("PYTHON=python-of-mine").stdout and made_anew(tmp_path)
    for again in ("PYTHON=python-of-mine", "PYTHON="):
        assert make(again).returncode == 0 and not made_anew(tmp_path)


@pytest.mark.slow
def test_what_a_failed_installation_left_is_made_anew(make, tmp_path):
    (tmp_path / "requirements.txt").write_text("./nothing\n")
    assert make("PYTHON=python-of-mine").returncode != 0
    assert made_anew(tmp_path)
    (tmp_path / "requirements.txt").write_text("")
    assert make().returncode == 0 and made_anew(tmp_path)
