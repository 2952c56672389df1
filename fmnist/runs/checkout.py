"""The code and the libraries that a run recorded, in a folder and an environment for a while."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlflow.entities import Run

from fmnist import PROJECT
from fmnist.common.errors import ReproductionError
from fmnist.common.exits import Terminated, sigterm_raises
from fmnist.common.files import file_lock, is_held
from fmnist.common.startup import environment_of_child
from fmnist.tracking import provenance
from fmnist.tracking.artifacts import artifact
from fmnist.tracking.provenance import CHANGES, REQUIREMENTS, installed, short_digest

PREFIX, WORKTREE, LOCK = "fmnist-checkout-", "worktree", "running.lock"
COMMIT = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!_-]*")


def run_fmnist(run: Run, arguments: Sequence[str], uri: str) -> int:
    """Run `python -m fmnist ARGUMENTS` with the code and the libraries of `run`.

    Args:
        run: which recorded them.
        arguments: of the command.
        uri: of the tracking store.

    Returns:
        The exit status.

    Raises:
        ReproductionError: if commit, changes or libraries cannot be had.
    """
    with (
        sigterm_raises(),
        tempfile.TemporaryDirectory(prefix=PREFIX) as place,
        file_lock(Path(place, LOCK), timeout=0),
        worktree(run, place) as project,
    ):
        if not (project / "fmnist" / "reproduction.py").exists():
            raise ReproductionError(f"run {run.info.run_id}: its commit has no `reproduce` yet")
        python = environment(run, Path(place, "environment"))
        # Safe path: of the project alone, whatever folder the command was typed in.
        variables = environment_of_child(
            PYTHONSAFEPATH="1", PYTHONPATH=str(project), MLFLOW_TRACKING_URI=uri
        )
        command = [str(python), "-m", "fmnist", *arguments]
        with subprocess.Popen(command, env=variables) as child:
            try:
                return child.wait()
            except Terminated:
                child.terminate()
                return child.wait()
            except KeyboardInterrupt:  # the terminal has told the child, too: let it close its run
                return child.wait()


@contextmanager
def worktree(run: Run, place: str) -> Iterator[Path]:
    """Yield the project as `run` found it: its commit, and its uncommitted changes applied.

    Raises:
        ReproductionError: if they are not here, or not those that the run recorded.
    """
    tags, folder = run.data.tags, Path(place, WORKTREE)
    commit = tags.get("mlflow.source.git.commit", "none")
    if not COMMIT.fullmatch(commit):
        raise ReproductionError(f"run {run.info.run_id}: recorded no commit to check out")
    if _git("cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise ReproductionError(f"commit {commit}: is not in this repository; fetch it first")
    patch = artifact(run.info.run_id, CHANGES) or b""
    if (short_digest(patch) if patch else None) != tags.get("git.patch"):
        raise ReproductionError(f"run {run.info.run_id}: its uncommitted.diff was altered")
    print(f"checking out {commit}", flush=True)
    _must("git worktree", _git("worktree", "add", "--detach", str(folder), commit))
    try:
        below = os.fsdecode(_git("rev-parse", "--show-prefix").stdout).strip()
        if patch:
            apply = ["apply", f"--directory={below}", "-"]
            listed = _git(*apply, "--stat", where=folder, sent=patch).stdout
            print(listed.decode(errors="replace"), end="", flush=True)
            _must("git apply", _git(*apply, where=folder, sent=patch))
        yield folder / below
    finally:
        _git("worktree", "remove", "--force", str(folder))


def abandoned() -> list[Path]:
    """Return the folders of checkouts whose process died."""
    if provenance.commit() is None:
        return []
    listed = os.fsdecode(_git("worktree", "list", "--porcelain", "-z").stdout).split("\0")
    worktrees = [Path(line.removeprefix("worktree ")) for line in listed if line[:9] == "worktree "]
    places = [one.parent for one in worktrees if one.name == WORKTREE]
    ours = [one for one in places if one.name.startswith(PREFIX)]
    return [one for one in ours if not is_held(one / LOCK)]


def remove(place: Path) -> None:
    """Remove the folder of a checkout."""
    _git("worktree", "remove", "--force", str(place / WORKTREE))
    shutil.rmtree(place, ignore_errors=True)
    _git("worktree", "prune")


def environment(run: Run, folder: Path) -> Path:
    """Return a Python with the libraries that `run` recorded: this one if it has them.

    Raises:
        ReproductionError: if the record is none, or if they cannot be installed.
    """
    recorded = artifact(run.info.run_id, REQUIREMENTS) or b""
    lines = recorded.decode(errors="replace").splitlines()
    if lines == installed().splitlines():
        return Path(sys.executable)
    requirements = [line for line in lines if not line.startswith("fmnist==")]
    if not requirements or not all(map(REQUIREMENT.fullmatch, requirements)):
        raise ReproductionError(f"run {run.info.run_id}: its requirements.txt is no list of them")
    print(f"installing {len(requirements)} packages", flush=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    listed = folder.with_suffix(".txt")
    listed.write_text("\n".join(requirements))
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    commands = [
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--no-deps", "-r", str(listed)],
    ]
    if uv:
        commands = [
            [uv, "venv", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--no-deps", "--python", str(python), "-r", str(listed)],
        ]
    for command in commands:
        _must(f"{Path(command[0]).name} {command[1]}", subprocess.run(command, capture_output=True))
    return python


def _git(
    *arguments: str, where: Path | None = None, sent: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["git", *arguments], cwd=where or PROJECT, input=sent, capture_output=True
    )


def _must(what: str, done: subprocess.CompletedProcess[bytes]) -> None:
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise ReproductionError(f"{what}: {said[-1]}")
