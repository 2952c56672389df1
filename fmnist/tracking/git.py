"""What git knows of the code: the commit, and the uncommitted changes that repeat a run."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fmnist import PROJECT
from fmnist.common.errors import FmnistError

UNKNOWN = "unknown"
SOURCES = ("fmnist", "hydra_plugins", "conf", ":(glob)*.py")
"""Where new files are recorded, as git's pathspecs: an environment or notes may lie beside them."""

SUFFIXES = (".py", ".yaml")
MAX_CHANGES = 4 * 2**20  # bytes of changed files that are recorded together
NULL = os.devnull

# A user's settings would change the patch, or make it none that can be applied.
SETTINGS = {
    "safe.directory": "*",  # who runs the code of another user may ask git about it, too
    "core.attributesFile": NULL,
    "core.excludesFile": NULL,
    "core.quotePath": "true",
}
DIFF = [
    *("diff", "--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv"),
    *("--no-renames", "--unified=3", "--inter-hunk-context=0", "--diff-algorithm=myers"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--submodule=short", "--relative", "HEAD"),
]


@dataclass(frozen=True)
class GitState:
    """The commit that is checked out, and what is not committed."""

    commit: str | None = None  # None: unknown
    patch: bytes | None = None  # tracked files that changed, and new source files; None: unknown
    problem: str | None = None  # what is not recorded, and why

    @property
    def patch_digest(self) -> str | None:
        """16 digits of the SHA-256 of the uncommitted changes; None if there are none."""
        return hashlib.sha256(self.patch).hexdigest()[:16] if self.patch else None

    @property
    def dirty(self) -> str:
        """Whether there are uncommitted changes: "true", "false" or "unknown"."""
        return UNKNOWN if self.patch is None else str(bool(self.patch)).lower()


class GitError(FmnistError):
    """Git is not installed, or refuses."""


@cache
def git_state(project: Path = PROJECT, own: tuple[Path, ...] = ()) -> GitState:
    """Ask git for commit and uncommitted changes; a process asks once.

    Args:
        project: the folder of train.py.
        own: source files beside `SOURCES` that a run uses.
    """
    try:
        commit = _commit(project)
    except GitError as error:
        return GitState(problem=f"the commit is not recorded: {error}")
    try:
        return _with_patch(commit, project, own)
    except GitError as error:
        return GitState(commit, problem=f"uncommitted changes are not recorded: {error}")


def run_git(
    folder: Path, *arguments: str, stdin: bytes = b"", index: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run git on the repository around `folder`, without the user's settings and variables.

    Raises:
        GitError: if git is not installed.
    """
    variables = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    variables |= {"GIT_CONFIG_GLOBAL": NULL, "GIT_CONFIG_NOSYSTEM": "1", "GIT_OPTIONAL_LOCKS": "0"}
    if index:
        variables["GIT_INDEX_FILE"] = index
    settings = [word for item in SETTINGS.items() for word in ("-c", "=".join(item))]
    command = ["git", *settings, *arguments]
    try:
        return subprocess.run(command, cwd=folder, env=variables, input=stdin, capture_output=True)
    except FileNotFoundError:
        raise GitError("git is not installed") from None


def _commit(project: Path) -> str:
    """Return the commit of the project's repository; another's may lie around it."""
    tracked = run_git(project, "ls-files", "--error-unmatch", "fmnist/__init__.py")
    if tracked.returncode == 1:
        raise GitError("the git repository around this folder does not have it")
    _output(tracked)
    return _output(run_git(project, "rev-parse", "--verify", "HEAD")).decode().strip()


def _with_patch(commit: str, project: Path, own: Sequence[Path]) -> GitState:
    changed = _names(project, "diff", "--name-only", "--no-renames", "--relative", "-z", "HEAD")
    inside = [str(path.relative_to(project)) for path in own if path.is_relative_to(project)]
    listed = ["ls-files", "--others", "--exclude-standard", "-z", "--", *SOURCES, *inside]
    new = [name for name in _names(project, *listed) if name.endswith(SUFFIXES)]
    if not (changed or new):
        return GitState(commit, b"")
    large = _beyond(MAX_CHANGES, project, [*new, *changed])
    with tempfile.TemporaryDirectory() as folder:
        index = str(Path(folder, "index"))  # a copy: the user's stays as it is
        original = os.fsdecode(_output(run_git(project, "rev-parse", "--git-path", "index")))
        shutil.copy2(project / original.strip(), index)  # git compares its time with the files'
        if new:
            intent = ["add", "--intent-to-add", "--", *(f":(literal){name}" for name in new)]
            _output(run_git(project, *intent, index=index))
        without = [f":(exclude,literal){name}" for name in large]
        patch = _output(run_git(project, *DIFF, "--", ".", *without, index=index))
    listed = [f"{name} ({(project / name).stat().st_size:,} bytes)" for name in large]
    problem = f"uncommitted changes are recorded without {', '.join(listed)}" if large else None
    return GitState(commit, patch, problem)


def _beyond(limit: int, project: Path, names: Sequence[str]) -> list[str]:
    """Return the files that do not fit into `limit` bytes with those before them."""
    left_out = []
    for name in names:
        size = (project / name).lstat().st_size if (project / name).is_file() else 0
        if size > limit:
            left_out.append(name)
        else:
            limit -= size
    return left_out


def _names(project: Path, *arguments: str) -> list[str]:
    return os.fsdecode(_output(run_git(project, *arguments))).split("\0")[:-1]


def _output(process: subprocess.CompletedProcess[bytes]) -> bytes:
    """Return what git printed; raise GitError with its last line if it failed."""
    if process.returncode:
        lines = process.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise GitError(lines[-1].removeprefix("fatal: "))
    return process.stdout
