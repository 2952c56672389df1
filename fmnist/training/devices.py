"""The processors and threads that TensorFlow computes with."""

import math
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fmnist.common.errors import ConfigError

FLAGS = ("TF_DETERMINISTIC_OPS", "TF_ENABLE_ONEDNN_OPTS", "TF_XLA_FLAGS", "XLA_FLAGS")
"""Environment variables on which the bits of the weights depend; they are recorded."""

REFUSED = {
    "TF_NUM_INTRAOP_THREADS": "training.threads",
    "TF_NUM_INTEROP_THREADS": "training.threads",
    "KERAS_MAX_EPOCHS": "training.epochs",
    "KERAS_MAX_STEPS_PER_EPOCH": "training.batch_size",
}
"""Environment variables that would overrule the configuration, and what to use instead."""

QUOTAS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
"""Files below `CGROUP` with the processor time of a container, in versions 2 and 1."""

CGROUP = Path("/sys/fs/cgroup")


def check_environment() -> None:
    """Refuse environment variables that would overrule the configuration, unrecorded."""
    for name, key in REFUSED.items():
        if value := os.environ.get(name):
            raise ConfigError(f"{name}={value}: would overrule {key}; unset it")


def usable_processors() -> int:
    """Return how many processors this process may use, of those of the machine.

    They are limited by its affinity, by the quota of a container, and by SLURM. joblib knows the
    first two, but takes a third of a second to import.
    """
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    limits = [_schedulable(), quota(), int(slurm) if slurm.isdecimal() else None]
    return max(1, min(limit for limit in limits if limit is not None))


def _schedulable() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quota(folder: Path = CGROUP) -> int | None:
    """Return the processors that the time of this container is worth, rounded up."""
    for names in QUOTAS:
        if all((folder / name).is_file() for name in names):
            quota, period = " ".join((folder / name).read_text() for name in names).split()
            return None if quota in ("max", "-1") else math.ceil(int(quota) / int(period))
    return None


def use_threads(count: int) -> None:
    """Let TensorFlow use `count` threads, on which the bits of the weights depend.

    Raises:
        ConfigError: if it has started with another number, which it cannot change.
    """
    import tensorflow as tf

    threading = tf.config.threading
    if (threading.get_intra_op_parallelism_threads() or _schedulable()) == count:
        return
    try:
        threading.set_intra_op_parallelism_threads(count)
        threading.set_inter_op_parallelism_threads(count)
    except RuntimeError as error:
        raise ConfigError(
            f"training.threads={count}: this process already computes with "
            f"{threading.get_intra_op_parallelism_threads()}; choose one number for a whole sweep"
        ) from error


def use_keras_defaults() -> None:
    """Let no keras.json of the user change the weights."""
    import keras

    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")


def threads() -> dict[str, int]:
    """Return how many threads TensorFlow uses within and between operations."""
    import tensorflow as tf

    threading = tf.config.threading
    return {
        "threads_within_operation": threading.get_intra_op_parallelism_threads(),
        "threads_between_operations": threading.get_inter_op_parallelism_threads(),
    }


def numerics() -> dict[str, Any]:
    """Return what the bits of the weights depend on, beside configuration, data and code."""
    import tensorflow as tf

    return {
        "tensorflow": tf.__version__,
        "keras": version("keras"),
        "numpy": version("numpy"),
        "processor": processor(),
        "flags": flags(),
    }


def flags() -> dict[str, str]:
    """Return the environment variables that are set and affect the bits of the weights."""
    return {name: os.environ[name] for name in FLAGS if name in os.environ}


def processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
