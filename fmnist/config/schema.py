"""The typed schema of conf/: names, types and limits; the values themselves stand in conf/."""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fmnist import PROJECT
from fmnist.common.errors import ConfigError, one_line
from fmnist.config.limits import SEEDS, check_name, check_numbers, check_size, number

# Keras has more; these need no arguments and make sense in a deep dense network.
Activation = Enum("Activation", "elu gelu linear mish relu selu sigmoid silu softplus tanh")
Initializer = Enum(
    "Initializer", "glorot_normal glorot_uniform he_normal he_uniform lecun_normal lecun_uniform"
)
Normalization = Enum("Normalization", "none batch_norm batch_norm_before")
Dropout = Enum("Dropout", "none dropout alpha_dropout")
Engine = Enum("Engine", "compiled keras")
Metric = Enum("Metric", "best_val_accuracy last_val_accuracy")

SCORES = ("val_loss", "val_accuracy", "test_loss", "test_accuracy")
"""The scores that every table shows, in this order."""

EPOCH_METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")
"""What is measured of each epoch."""

NON_RESULT_KEYS = ("tracking", "study", "promote", "promotion", "output_dir", "resume", "rerun")
"""Keys that do not sway what a run trains."""


@dataclass
class Training:
    """How long, in what steps and by what to train."""

    epochs: int = number(at_least=1, at_most=10**9)
    batch_size: int = number(at_least=1)
    engine: Engine = MISSING
    threads: int | None = number(at_least=1, at_most=1024)


@dataclass
class Model:
    """The dense network: `depth` hidden layers of `width` units (see `fmnist.training.models`)."""

    name: str = MISSING
    activation: Activation = MISSING
    depth: int = number(at_least=1, at_most=10_000)
    width: int = number(at_least=1)
    initializer: Initializer = MISSING
    normalization: Normalization = MISSING
    dropout: Dropout = MISSING
    dropout_rate: float = number(at_least=0, below=1)


@dataclass
class FashionMnist:
    """Arguments of `fmnist.data.fashion_mnist`."""

    _target_: str = MISSING
    dir: str | None = MISSING
    url: str = MISSING
    timeout: float = number(above=0)
    validation_size: int = number(at_least=1)


@dataclass
class Digits:
    """Arguments of `fmnist.data.digits`."""

    _target_: str = MISSING
    validation_size: int = number(at_least=1)
    test_size: int = number(at_least=1)


@dataclass
class Idx:
    """Arguments of `fmnist.data.idx`."""

    _target_: str = MISSING
    dir: str = MISSING
    class_names: list[str] | None = MISSING
    validation_size: int = number(at_least=1)


@dataclass
class SGD:
    """Arguments of `keras.optimizers.SGD`."""

    _target_: str = MISSING
    learning_rate: float = number(above=0)
    momentum: float = number(at_least=0, at_most=1)
    nesterov: bool = MISSING


@dataclass
class Adam:
    """Arguments of `keras.optimizers.Adam`."""

    _target_: str = MISSING
    learning_rate: float = number(above=0)
    beta_1: float = number(at_least=0, below=1)
    beta_2: float = number(at_least=0, below=1)
    epsilon: float = number(above=0)


@dataclass
class TensorBoard:
    """Arguments of `keras.callbacks.TensorBoard`."""

    _target_: str = MISSING
    log_dir: str = MISSING
    histogram_freq: int = number(at_least=0)


@dataclass
class Checkpoint:
    """Arguments of `fmnist.training.callbacks.Checkpoint`, which are those of Keras's `ModelCheckpoint`."""

    _target_: str = MISSING
    filepath: str = MISSING
    monitor: str = MISSING
    save_best_only: bool = MISSING


@dataclass
class EarlyStopping:
    """Arguments of `keras.callbacks.EarlyStopping`."""

    _target_: str = MISSING
    monitor: str = MISSING
    patience: int = number(at_least=0)
    min_delta: float = number(at_least=0)


@dataclass
class LayerHealth:
    """Arguments of `fmnist.training.layer_health.LayerHealth`."""

    _target_: str = MISSING
    images: int = number(at_least=2)


@dataclass
class Tracking:
    """Where MLflow keeps the run, and how long to wait for it at the end."""

    uri: str | None = MISSING
    experiment: str = MISSING
    timeout: float = number(at_least=0)

    def __post_init__(self) -> None:
        """Refuse a password, which would end up in the run's recorded configuration.

        Raises:
            ConfigError: if `uri` holds a password.
        """
        if re.search("://[^/]*:[^/]*@", self.uri or ""):
            raise ConfigError(
                "tracking.uri: no password here, it would be recorded with the run; "
                "set the variable MLFLOW_TRACKING_URI instead"
            )


@dataclass
class Study:
    """What a sweep asks, stated before its runs begin (see `fmnist.evidence.comparison.StudyDesign`)."""

    question: str = MISSING
    metric: Metric = MISSING
    baseline: str | None = MISSING
    min_effect: float = number(above=0, below=1)


@dataclass
class Promotion:
    """When the champion changes (see `fmnist.registry.decision` and `fmnist.registry.validation`)."""

    min_effect: float = number(above=0, below=1)
    alpha: float = number(above=0, below=1)
    max_class_drop: float = number(at_least=0, at_most=1)


@dataclass
class Config:
    """One training run.

    `data`, `optimizer` and each of `callbacks` are the arguments of what their `_target_` names
    (see `instantiate`), so that arguments which the schema does not list can be added with `+`.
    """

    data: Any = MISSING
    model: Model = field(default_factory=Model)
    optimizer: Any = MISSING
    callbacks: dict[str, Any] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    tracking: Tracking = field(default_factory=Tracking)
    study: Study = field(default_factory=Study)
    promote: bool = MISSING
    promotion: Promotion = field(default_factory=Promotion)
    seed: int = number(**SEEDS)
    output_dir: str = MISSING
    resume: str | None = MISSING
    rerun: bool = MISSING

    @classmethod
    def from_hydra(cls, composed: DictConfig) -> "Config":
        """Make the typed configuration of what Hydra composed.

        Raises:
            ConfigError: if a value is missing, not finite or outside its limits, if a name is
                none, or if a key was added where only known keys make sense.
        """
        try:
            values: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise ConfigError(one_line(error)) from error
        check_numbers(composed)
        check_size(values["model"]["depth"], values["model"]["width"])
        check_name("model.name", values["model"]["name"])
        check_name("tracking.experiment", values["tracking"]["experiment"])
        for part in (Model, Training, Tracking, Study, Promotion):
            key = part.__name__.lower()
            values[key] = _typed(part, values[key], f"{key}.")
        config: Config = _typed(cls, values)
        return config

    def params(self) -> dict[str, Any]:
        """Flatten what decides the result to `{"model.depth": 20, ...}`, names as typed.

        What decides nothing is left out (`UNDECIDING`); where things are put is written relative
        to `output_dir`, so that equal runs have equal params.
        """
        return dict(_flat(rebased(self.result_config(), self.output_dir, ".")))

    def result_config(self) -> dict[str, Any]:
        """Return what decides the result, as nested mappings."""
        values = dataclasses.asdict(self)
        return {key: value for key, value in values.items() if key not in NON_RESULT_KEYS}


def rebased(node: Any, folder: str, target: str) -> Any:
    """Return a part of the configuration with `target` for `folder` in each path that begins so."""
    if isinstance(node, dict):
        return {key: rebased(child, folder, target) for key, child in node.items()}
    if isinstance(node, list | tuple):
        return [rebased(child, folder, target) for child in node]
    if isinstance(node, str) and f"{node}/".startswith(f"{folder}/"):
        return target + node[len(folder) :]
    return node


def promotion(**given: float | None) -> Promotion:
    """Return the rules of conf/train.yaml, with what is given (None is not) in their place.

    Raises:
        ConfigError: if a value is outside its limits.
    """
    conf = OmegaConf.load(PROJECT / "conf" / "train.yaml").promotion
    own = {key: value for key, value in given.items() if value is not None}
    node = OmegaConf.merge(OmegaConf.structured(Promotion), conf, own)
    assert isinstance(node, DictConfig)
    check_numbers(node, "promotion.")
    rules = OmegaConf.to_object(node)
    assert isinstance(rules, Promotion)
    return rules


def _typed(part: type, values: dict[str, Any], prefix: str = "") -> Any:
    known = [f.name for f in dataclasses.fields(part)]
    for key in values:
        if key not in known:
            raise ConfigError(f"{prefix}{key}: no such key; there are {', '.join(known)}")
    return part(**values)


def _flat(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value.name if isinstance(value, Enum) else value


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
"""The schema of the arguments of each `_target_` in conf/."""


def _register() -> None:
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for target, node in SCHEMAS.items():
        store.store(group="schema", name=target.rpartition(".")[2], node=node)


_register()
