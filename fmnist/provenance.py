"""Where a run comes from: code, libraries, machine and the command that repeats it."""

import os
import platform
import shlex
import subprocess
import sys
from functools import cache
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from fmnist import PROJECT

LIBRARIES = ("keras", "mlflow", "hydra-core", "numpy", "scikit-learn", "matplotlib")
FLAGS = ("TF_ENABLE_ONEDNN_OPTS", "TF_XLA_FLAGS", "XLA_FLAGS", "OMP_NUM_THREADS")


def command() -> str:
    """Return the shell command that repeats this run, without where it was tracked."""
    overrides: Any = []
    if HydraConfig.initialized():  # not resolved: ${output_dir} shall be the repeated run's
        overrides = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return shlex.join(
        ["python", "train.py", *(o for o in overrides if not o.lstrip("+").startswith("tracking."))]
    )


def choices() -> dict[str, str]:
    """Return what was chosen from each group of conf/, as typed: `{"model": "relu", ...}`."""
    if not HydraConfig.initialized():
        return {}
    chosen: dict[str, str] = HydraConfig.get().runtime.choices
    own = {group: choice for group, choice in chosen.items() if not {"/", "@"} & set(group)}
    own.pop("experiment", None)  # a way to write overrides, which are recorded resolved
    return own


def environment() -> dict[str, Any]:
    """Return the library versions, the processor, the thread counts and what else sways a run."""
    import tensorflow as tf

    threading = tf.config.threading
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        **{name: version(name) for name in LIBRARIES},
        "platform": platform.platform(),
        "processor": processor(),
        "processors_usable": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        # 0: as many as there are processors
        "threads_within_operation": threading.get_intra_op_parallelism_threads(),
        "threads_between_operations": threading.get_inter_op_parallelism_threads(),
        "flags": {name: os.environ[name] for name in FLAGS if name in os.environ},
    }


@cache
def installed() -> str:
    """Return every installed distribution as the lines of a requirements file."""
    return "\n".join(sorted({f"{d.name}=={d.version}" for d in distributions()}, key=str.lower))


def uncommitted() -> str:
    """Return what differs from the last commit, as a patch; empty if nothing does.

    New files that git does not ignore are part of it. Without git or outside a checkout there is
    nothing to compare with, and MLflow records no commit either: empty.
    """
    if _git("rev-parse", "--verify", "HEAD") is None:
        return ""
    new_files = (_git("ls-files", "--others", "--exclude-standard", "-z") or "").split("\0")[:-1]
    patches = [_git("diff", "--binary", "--relative", "HEAD") or ""]
    patches += [
        _git("diff", "--binary", "--no-index", "--", os.devnull, name, allowed=(0, 1)) or ""
        for name in new_files
    ]
    return "".join(patches)


def _git(*arguments: str, allowed: tuple[int, ...] = (0,)) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=PROJECT, capture_output=True, text=True, errors="replace"
        )
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
