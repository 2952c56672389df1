"""Where a run comes from: code, libraries, machine and the command that repeats it."""

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from fmnist import PROJECT
from fmnist.sweeps import jobs
from fmnist.config.schema import Config

CHANGES, REQUIREMENTS = "code/uncommitted.diff", "environment/requirements.txt"
"""Where a run keeps these, among its artifacts."""

ENVIRONMENT = "environment/environment.json"
LIBRARIES = ("mlflow", "hydra-core", "scikit-learn", "matplotlib")
ELSEWHERE = ("tracking.", "rerun=")  # begin overrides that do not say what a run is
FLAGS = ("TF_ENABLE_ONEDNN_OPTS", "TF_XLA_FLAGS", "XLA_FLAGS")


def command(config: Config) -> str:
    """Return the shell command that repeats this run alone, without where it was tracked."""
    overrides: Any = []
    if HydraConfig.initialized():  # not resolved: ${output_dir} shall be the repeated run's
        overrides = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    if jobs.at_once() and not any(one.startswith("training.threads=") for one in overrides):
        overrides.append(f"training.threads={config.training.threads}")
    return shlex.join(["python", "train.py", *deciding(overrides)])


def typed() -> str:
    """Return the shell command that began this process, without where it is tracked."""
    return shlex.join(["python", "train.py", *deciding(sys.argv[1:])])


def deciding(overrides: Iterable[str]) -> list[str]:
    """Return the overrides without those that say where a run is tracked, or whether anew."""
    return [one for one in overrides if not one.lstrip("+").startswith(ELSEWHERE)]


def choices() -> dict[str, str]:
    """Return what was chosen from each group of conf/, as typed: `{"model": "relu", ...}`."""
    if not HydraConfig.initialized():
        return {}
    chosen: dict[str, str] = HydraConfig.get().runtime.choices
    own = {group: choice for group, choice in chosen.items() if not {"/", "@"} & set(group)}
    own.pop("experiment", None)  # a way to write overrides, which are recorded resolved
    return own


def environment(config: Config) -> dict[str, Any]:
    """Return the library versions, the processor, the thread counts and what else sways a run."""
    import tensorflow as tf

    threading = tf.config.threading
    return numerics(config) | {
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "platform": platform.platform(),
        "processors_usable": usable_processors(),
        "threads_within_operation": threading.get_intra_op_parallelism_threads(),
        "threads_between_operations": threading.get_inter_op_parallelism_threads(),
    }


def numerics(config: Config) -> dict[str, Any]:
    """Return what sways the bits of the weights, beside configuration, data and code."""
    import tensorflow as tf

    return {
        "tensorflow": tf.__version__,
        "keras": version("keras"),
        "numpy": version("numpy"),
        "processor": processor(),
        "flags": {name: os.environ[name] for name in FLAGS if name in os.environ},
    }


def signature(config: Config, fingerprint: str) -> str:
    """Return what two runs have in common if their weights will be the same, bit for bit.

    It is the SHA-256 (hexadecimal) of the resolved configuration, the data's fingerprint, the code
    of this package, and what else sways the bits.
    """
    whole = [config.params(), fingerprint, code_digest(), numerics(config)]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


@cache
def code_digest() -> str:
    """Return the SHA-256 (hexadecimal) of the Python files of this package."""
    whole = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        whole.update(f"{path.name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
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


def processor() -> str:
    """Return the name of the processor."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
