"""Where a run comes from: code, libraries, machine and the command that repeats it."""

import hashlib
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.metadata import distributions, version
from typing import Any

from fmnist import PROJECT
from fmnist.config.schema import Config
from fmnist.tracking.job_context import JobContext
from fmnist.training import devices

CHANGES, REQUIREMENTS = "code/uncommitted.diff", "environment/requirements.txt"
"""Where a run keeps these, among its artifacts."""

ENVIRONMENT = "environment/environment.json"
LIBRARIES = ("mlflow", "hydra-core", "scikit-learn", "matplotlib")
ELSEWHERE = ("tracking.", "rerun=")  # begin overrides that do not say what a run is


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
    """Return the overrides without those that say where a run is tracked, or whether anew."""
    return [one for one in overrides if not one.lstrip("+").startswith(ELSEWHERE)]


def environment() -> dict[str, Any]:
    """Return the library versions, the processor, the thread counts and what else sways a run."""
    return devices.numerics() | {
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "platform": platform.platform(),
        "processors_usable": devices.usable_processors(),
        **devices.threads(),
    }


def signature(config: Config, fingerprint: str) -> str:
    """Return what two runs have in common if their weights will be the same, bit for bit.

    It is the SHA-256 (hexadecimal) of the resolved configuration, the data's fingerprint, the code
    of this package, and what else sways the bits.
    """
    whole = [config.params(), fingerprint, code_digest(), devices.numerics()]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


@cache
def code_digest() -> str:
    """Return the SHA-256 (hexadecimal) of the Python files of the package and its plugins."""
    whole = hashlib.sha256()
    for folder in ("fmnist", "hydra_plugins"):
        for path in sorted((PROJECT / folder).rglob("*.py")):
            name = path.relative_to(PROJECT).as_posix()
            whole.update(f"{name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return whole.hexdigest()


@cache
def installed() -> str:
    """Return every installed distribution as the lines of a requirements file."""
    return "\n".join(sorted({f"{d.name}=={d.version}" for d in distributions()}, key=str.lower))


def uncommitted() -> bytes:
    """Return what differs from the last commit, as a patch; empty if nothing does.

    New files that git does not ignore are part of it. Without git or outside a checkout there is
    nothing to compare with, and MLflow records no commit either: empty.
    """
    if commit() is None:
        return b""
    new_files = (_git("ls-files", "--others", "--exclude-standard", "-z") or b"").split(b"\0")[:-1]
    patches = [_git("diff", "--binary", "--relative", "HEAD") or b""]
    patches += [
        _git("diff", "--binary", "--no-index", "--", os.devnull, name, allowed=(0, 1)) or b""
        for name in map(os.fsdecode, new_files)
    ]
    return b"".join(patches)


def commit() -> str | None:
    """Return the commit that is checked out; None without git or outside a checkout."""
    found = _git("rev-parse", "--verify", "HEAD")
    return found.decode().strip() if found else None


def short_digest(patch: bytes) -> str:
    """Return the first 16 digits of a patch's SHA-256."""
    return hashlib.sha256(patch).hexdigest()[:16]


def _git(*arguments: str, allowed: tuple[int, ...] = (0,)) -> bytes | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode in allowed else None
