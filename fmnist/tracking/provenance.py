"""Where a run comes from: code, libraries, machine and the command that repeats it."""

import hashlib
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from fmnist import PROJECT
from fmnist.config.schema import Config
from fmnist.tracking.job_context import JobContext
from fmnist.training import devices

CHANGES, REQUIREMENTS = "code/uncommitted.diff", "environment/requirements.txt"
"""Where a run keeps these, among its artifacts."""

ENVIRONMENT = "environment/environment.json"
LIBRARIES = ("mlflow", "hydra-core", "scikit-learn", "matplotlib")
NOT_OF_A_RUN = ("tracking.", "rerun=")  # begin overrides that do not say what a run is


@dataclass(frozen=True)
class GitState:
    """What git knows of the code.

    Attributes:
        commit: that is checked out; None without git or outside a checkout.
        patch: the uncommitted changes, with new files that git does not ignore.
    """

    commit: str | None
    patch: bytes

    @property
    def patch_digest(self) -> str | None:
        """The digest of the uncommitted changes; None if there are none."""
        return short_digest(self.patch) if self.patch else None


def command(config: Config, context: JobContext) -> str:
    """Return the shell command that repeats this run alone, without where it was tracked."""
    overrides = list(context.overrides)  # not resolved: ${output_dir} shall be the repeated run's
    if context.jobs_at_once and not any(o.startswith("training.threads=") for o in overrides):
        overrides.append(f"training.threads={config.training.threads}")
    return train_command(overrides)


def train_command(overrides: Iterable[str]) -> str:
    """Return the shell command of `train.py`, without where it is tracked."""
    return shlex.join(["python", "train.py", *result_overrides(overrides)])


def result_overrides(overrides: Iterable[str]) -> list[str]:
    """Return the overrides that affect the result of a run."""
    return [o for o in overrides if not o.lstrip("+").startswith(NOT_OF_A_RUN)]


def environment() -> dict[str, Any]:
    """Return versions, processor, thread counts and flags, which affect the weights or speed."""
    return devices.numerics() | {
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "platform": platform.platform(),
        "processors_usable": devices.usable_processors(),
        **devices.threads(),
    }


def signature(config: Config, fingerprint: str) -> str:
    """Return a digest that two runs share if they come to the same weights, bit for bit.

    It is the SHA-256 (hexadecimal) of the configuration, the data's `fingerprint`, the code, and
    the numerics of the machine.
    """
    content = [config.params(), fingerprint, code_digest(), devices.numerics()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@cache
def code_digest(project: Path = PROJECT) -> str:
    """Return the SHA-256 (hexadecimal) of all Python files of the package and its plugins."""
    digest = hashlib.sha256()
    for folder in ("fmnist", "hydra_plugins"):
        for path in sorted((project / folder).rglob("*.py")):
            content, name = path.read_bytes(), path.relative_to(project).as_posix()
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


@cache
def installed() -> str:
    """Return every installed distribution as the lines of a requirements file."""
    return "\n".join(sorted({f"{d.name}=={d.version}" for d in distributions()}, key=str.lower))


@cache
def git_state(project: Path = PROJECT) -> GitState:
    """Ask git for commit and uncommitted changes; a process asks once."""
    commit = _git(project, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return GitState(None, b"")
    listed = _git(project, "ls-files", "--others", "--exclude-standard", "-z") or b""
    patches = [_git(project, "diff", "--binary", "--relative", "HEAD") or b""]
    patches += [
        _git(project, "diff", "--binary", "--no-index", "--", os.devnull, name, allowed=(0, 1))
        or b""
        for name in map(os.fsdecode, listed.split(b"\0")[:-1])
    ]
    return GitState(commit.decode().strip(), b"".join(patches))


def short_digest(patch: bytes) -> str:
    """Return the first 16 digits of a patch's SHA-256."""
    return hashlib.sha256(patch).hexdigest()[:16]


def _git(project: Path, *arguments: str, allowed: tuple[int, ...] = (0,)) -> bytes | None:
    try:
        process = subprocess.run(["git", *arguments], cwd=project, capture_output=True)
    except FileNotFoundError:
        return None
    return process.stdout if process.returncode in allowed else None
