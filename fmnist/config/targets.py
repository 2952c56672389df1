"""The schema of what a `_target_` in conf/ names: the arguments, their types and limits."""

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from fmnist.config.limits import number


@dataclass
class Target:
    """Something that is built from the configuration (see `fmnist.config.instantiate`)."""

    _target_: str = MISSING


@dataclass
class FashionMnist(Target):
    """Arguments of `fmnist.data.fashion_mnist`."""

    dir: str | None = MISSING
    url: str = MISSING
    timeout: float = number(above=0)
    validation_size: int = number(at_least=1)
    allow_missing_classes: bool = False  # as in runs of older versions, which did not record it


@dataclass
class Digits(Target):
    """Arguments of `fmnist.data.digits`."""

    validation_size: int = number(at_least=1)
    test_size: int = number(at_least=1)
    allow_missing_classes: bool = False


@dataclass
class Idx(Target):
    """Arguments of `fmnist.data.idx`."""

    dir: str = MISSING
    class_names: list[str] | None = MISSING
    validation_size: int = number(at_least=1)
    allow_missing_classes: bool = False


@dataclass
class SGD(Target):
    """Arguments of `keras.optimizers.SGD`."""

    learning_rate: Any = number(above=0)
    momentum: float = number(at_least=0, at_most=1)
    nesterov: bool = MISSING


@dataclass
class Adam(Target):
    """Arguments of `keras.optimizers.Adam`."""

    learning_rate: Any = number(above=0)
    beta_1: float = number(at_least=0, below=1)
    beta_2: float = number(at_least=0, below=1)
    epsilon: float = number(above=0)


@dataclass
class TensorBoard(Target):
    """Arguments of `keras.callbacks.TensorBoard`."""

    log_dir: str = MISSING
    histogram_freq: int = number(at_least=0)


@dataclass
class Checkpoint(Target):
    """Arguments of `fmnist.training.callbacks.Checkpoint`: those of Keras's `ModelCheckpoint`."""

    filepath: str = MISSING
    monitor: str = MISSING
    save_best_only: bool = MISSING


@dataclass
class EarlyStopping(Target):
    """Arguments of `keras.callbacks.EarlyStopping`."""

    monitor: str = MISSING
    patience: int = number(at_least=0)
    min_delta: float = number(at_least=0)


@dataclass
class LayerHealth(Target):
    """Arguments of `fmnist.training.layer_health.LayerHealth`."""

    images: int = number(at_least=2)


SCHEMAS = {
    "fmnist.data.fashion_mnist": FashionMnist,
    "fmnist.data.digits": Digits,
    "fmnist.data.idx": Idx,
    "keras.optimizers.SGD": SGD,
    "keras.optimizers.Adam": Adam,
    "keras.callbacks.TensorBoard": TensorBoard,
    "fmnist.training.callbacks.Checkpoint": Checkpoint,
    "keras.callbacks.EarlyStopping": EarlyStopping,
    "fmnist.training.layer_health.LayerHealth": LayerHealth,
}
"""The schema of each `_target_` in conf/; it is added to, with `+`, by arguments of one's own."""
