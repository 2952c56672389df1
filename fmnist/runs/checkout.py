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

from fmnist import PROJECT
from fmnist.common.errors import ReproductionError
from fmnist.common.exits import Terminated, sigterm_raises
from fmnist.common.files import file_lock, is_held
from fmnist.common.startup import environment_of_child
from fmnist.tracking import tag
from fmnist.tracking.artifacts import artifact
from fmnist.tracking.git import GitState, git_state, run_git
from fmnist.tracking.provenance import CHANGES, REQUIREMENTS, installed
from fmnist.tracking.store import Run

PREFIX, WORKTREE, LOCK = "fmnist-checkout-", "worktree", "running.lock"
REPRODUCE = ("fmnist/runs/reproduce.py", "fmnist/reproduction.py")  # now, and in older commits
COMMIT = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!_-]*")


def run_fmnist(run: Run, arguments: Sequence[str], uri: str) -> int:
    """Run `python -m fmnist ARGUMENTS` with the code and libraries of `run`; return its status."""
    with (
        sigterm_raises(),
        tempfile.TemporaryDirectory(prefix=PREFIX) as folder,
        file_lock(Path(folder, LOCK), timeout=0),
        worktree(run, folder) as project,
    ):
        if not any((project / name).exists() for name in REPRODUCE):
            raise ReproductionError(f"run {run.info.run_id}: its commit has no `reproduce` yet")
        python = environment(run, Path(folder, "environment"))
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
            except KeyboardInterrupt:  # the terminal interrupts the child, too: it closes its run
                return child.wait()


@contextmanager
def worktree(run: Run, folder: str) -> Iterator[Path]:
    """Yield the project as `run` found it: its commit, and its uncommitted changes applied."""
    tree, patch = Path(folder, WORKTREE), _recorded_patch(run)
    commit = run.data.tags.get(tag.COMMIT, "none")
    if not COMMIT.fullmatch(commit):
        raise ReproductionError(f"run {run.info.run_id}: recorded no commit to check out")
    if _git("cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise ReproductionError(f"commit {commit}: is not in this repository; fetch it first")
    print(f"checking out {commit}", flush=True)
    try:
        _check("git worktree", _git("worktree", "add", "--detach", str(tree), commit))
        subfolder = os.fsdecode(_git("rev-parse", "--show-prefix").stdout).strip()
        if patch:
            apply = ["apply", f"--directory={subfolder}", "-"]
            changed = _git(*apply, "--stat", cwd=tree, stdin=patch).stdout
            print(changed.decode(errors="replace"), end="", flush=True)
            _check("git apply", _git(*apply, cwd=tree, stdin=patch))
        yield tree / subfolder
    finally:
        _git("worktree", "remove", "--force", str(tree))


def _recorded_patch(run: Run) -> bytes:
    patch = artifact(run.info.run_id, CHANGES) or b""
    if GitState(patch=patch).patch_digest != run.data.tags.get(tag.PATCH):
        raise ReproductionError(f"run {run.info.run_id}: its uncommitted.diff was altered")
    return patch


def abandoned() -> list[Path]:
    """Return the folders of checkouts whose process died."""
    if git_state(PROJECT).commit is None:
        return []
    listed = os.fsdecode(_git("worktree", "list", "--porcelain", "-z").stdout).split("\0")
    trees = [Path(line.removeprefix("worktree ")) for line in listed if line[:9] == "worktree "]
    folders = [tree.parent for tree in trees if tree.name == WORKTREE]
    ours = [folder for folder in folders if folder.name.startswith(PREFIX)]
    return [folder for folder in ours if not is_held(folder / LOCK)]


def remove(folder: Path) -> None:
    _git("worktree", "remove", "--force", str(folder / WORKTREE))
    shutil.rmtree(folder, ignore_errors=True)
    _git("worktree", "prune")


def environment(run: Run, folder: Path) -> Path:
    """Return a Python with the libraries that `run` recorded: this one if it has them."""
    recorded = artifact(run.info.run_id, REQUIREMENTS) or b""
    lines = recorded.decode(errors="replace").splitlines()
    if lines == installed().splitlines():
        return Path(sys.executable)
    requirements = [line for line in lines if not line.startswith("fmnist==")]
    if not requirements or not all(map(REQUIREMENT.fullmatch, requirements)):
        raise ReproductionError(
            f"run {run.info.run_id}: its requirements.txt is not a list of packages"
        )
    print(f"installing {len(requirements)} packages", flush=True)
    file = folder.with_suffix(".txt")
    file.write_text("\n".join(requirements))
    return _install(file, folder)


def _install(requirements: Path, folder: Path) -> Path:
    """Return the Python of a new environment with these requirements and no others."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    make = [sys.executable, "-m", "venv", str(folder)]
    _check("python -m venv", subprocess.run(make, capture_output=True))
    install = [str(python), "-m", "pip", "install", "--no-deps", "-r", str(requirements)]
    _check("pip install", subprocess.run(install, capture_output=True))
    return python


def _git(
    *arguments: str, cwd: Path | None = None, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return run_git(cwd or PROJECT, *arguments, stdin=stdin)


def _check(name: str, process: subprocess.CompletedProcess[bytes]) -> None:
    if process.returncode:
        lines = process.stderr.decode(errors="replace").strip().splitlines()
        raise ReproductionError(f"{name}: {lines[-1] if lines else 'no reason given'}")
