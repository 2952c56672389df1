"""The processors and threads that TensorFlow computes with."""

import os

from fmnist.common.errors import ConfigError


def usable_processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_threads(count: int) -> None:
    """Let TensorFlow use `count` threads, on which the bits of the weights depend.

    Raises:
        ConfigError: if it has begun with another number, which it cannot change any more.
    """
    threading = tf.config.threading
    if (threading.get_intra_op_parallelism_threads() or usable_processors()) == count:
        return
    try:
        threading.set_intra_op_parallelism_threads(count)
        threading.set_inter_op_parallelism_threads(count)
    except RuntimeError as error:
        raise ConfigError(
            f"training.threads={count}: this process has begun to compute with "
            f"{threading.get_intra_op_parallelism_threads()}; choose one number for a whole sweep"
        ) from error
