"""Where a run comes from (code, libraries, machine, command), and how that differs from here."""

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

from fmnist import PROJECT, __version__
from fmnist.config.schema import Config
from fmnist.data.datasets import Dataset
from fmnist.tracking import tag
from fmnist.tracking.artifacts import artifact
from fmnist.tracking.job_context import JobContext
from fmnist.tracking.store import Run
from fmnist.training import devices

CHANGES, REQUIREMENTS = "code/uncommitted.diff", "environment/requirements.txt"
"""Where a run keeps these, among its artifacts."""

ENVIRONMENT = "environment/environment.json"
LIBRARIES = ("mlflow", "hydra-core", "scikit-learn", "matplotlib")
NOT_OF_A_RUN = ("tracking.", "rerun=")  # begin overrides that do not say what a run is
DIGEST_DIGITS, MAX_LENGTH = 12, 200  # characters that are shown of a digest, and of anything else
MAX_PACKAGES = 8  # that are named


@dataclass(frozen=True)
class GitState:
    """What git knows of the code."""

    commit: str | None  # that is checked out; None without git or outside a checkout
    patch: bytes  # the uncommitted changes, with new files that git does not ignore

    @property
    def patch_digest(self) -> str | None:
        """16 digits of the SHA-256 of the uncommitted changes; None if there are none."""
        return hashlib.sha256(self.patch).hexdigest()[:16] if self.patch else None


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
        "fmnist": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "platform": platform.platform(),
        "processors_usable": devices.usable_processors(),
        **devices.threads(),
    }


def signature(config: Config, fingerprint: str) -> str:
    """Return a SHA-256 that two runs share if they come to the same weights, bit for bit."""
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
    commit = _git(project, "rev-parse", "--verify", "HEAD").decode().strip()
    if not commit:
        return GitState(None, b"")
    patch = _git(project, "diff", "--binary", "--relative", "HEAD")
    new_files = _git(project, "ls-files", "--others", "--exclude-standard", "-z").split(b"\0")[:-1]
    for name in map(os.fsdecode, new_files):
        patch += _git(project, "diff", "--binary", "--no-index", "--", os.devnull, name)
    return GitState(commit, patch)


def _git(project: Path, *arguments: str) -> bytes:
    """Return what git prints; nothing if it fails, or is not installed."""
    try:
        process = subprocess.run(["git", *arguments], cwd=project, capture_output=True)
    except FileNotFoundError:
        return b""
    return process.stdout if process.returncode in (0, 1) else b""  # 1: `diff` found a difference


def run_differences(run: Run, dataset: Dataset) -> list[str]:
    """Return each difference between what a run recorded and what is here, in words."""
    tags, git, here, recorded = run.data.tags, git_state(), environment(), _environment_of(run)
    pairs: list[tuple[str, object, object]] = [
        ("commit", tags.get(tag.COMMIT), git.commit),
        ("uncommitted changes", tags.get(tag.PATCH), git.patch_digest),
        ("code of fmnist/", tags.get(tag.CODE), code_digest()),
        ("data", tags.get(tag.DATA), dataset.fingerprint),
        *((key, recorded.get(key), here.get(key)) for key in ("python", "processor", "flags")),
    ]
    lines = [_line(what, then, now) for what, then, now in pairs if then != now]
    packages = _package_differences(artifact(run.info.run_id, REQUIREMENTS) or b"")
    if packages:
        more = len(packages) - MAX_PACKAGES
        named = ", ".join(packages[:MAX_PACKAGES])
        lines.append(f"requirements: {named}" + (f" and {more} more" if more > 0 else ""))
    return lines


def _environment_of(run: Run) -> dict[str, Any]:
    try:
        return dict(json.loads(artifact(run.info.run_id, ENVIRONMENT) or b"{}"))
    except (ValueError, TypeError):  # it is damaged
        return {}


def _package_differences(recorded: bytes) -> list[str]:
    then, now = (
        dict(line.partition("==")[::2] for line in text.splitlines())
        for text in (recorded.decode(errors="replace"), installed())
    )
    names = sorted({*then, *now})
    return [_line(n, then.get(n), now.get(n)) for n in names if then.get(n) != now.get(n)]


def _line(what: str, then: object, now: object) -> str:
    return f"{what} {_short(then)}, here {_short(now)}"


def _short(value: object) -> str:
    text = str(value or "none")
    is_digest = len(text) > DIGEST_DIGITS and set(text) <= set("0123456789abcdef")
    shown = text[:DIGEST_DIGITS] if is_digest else text[:MAX_LENGTH]
    # Others may have written it: nothing in it shall steer the terminal.
    return "".join(char if char.isprintable() else "?" for char in shown)
