"""The processors and threads that TensorFlow computes with."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fmnist.common.errors import ConfigError

# Environment variables on which the bits of the weights depend.
FLAGS = ("TF_ENABLE_ONEDNN_OPTS", "TF_XLA_FLAGS", "XLA_FLAGS")


def usable_processors() -> int:
    """Return how many processors this process may use, of those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_threads(count: int) -> None:
    """Let TensorFlow use `count` threads, on which the bits of the weights depend.

    Raises:
        ConfigError: if it has started with another number, which it cannot change.
    """
    import tensorflow as tf

    threading = tf.config.threading
    if (threading.get_intra_op_parallelism_threads() or usable_processors()) == count:
        return
    try:
        threading.set_intra_op_parallelism_threads(count)
        threading.set_inter_op_parallelism_threads(count)
    except RuntimeError as error:
        raise ConfigError(
            f"training.threads={count}: this process already computes with "
            f"{threading.get_intra_op_parallelism_threads()}; choose one number for a whole sweep"
        ) from error


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
        "flags": {name: os.environ[name] for name in FLAGS if name in os.environ},
    }


def processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
