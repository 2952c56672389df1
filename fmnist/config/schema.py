"""The typed schema of conf/: names, types and limits; the values themselves stand in conf/."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from hydra.utils import to_absolute_path
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fmnist import PROJECT
from fmnist.common.addresses import secrets_of
from fmnist.common.errors import ConfigError, one_line
from fmnist.config.limits import SEEDS, check_name, check_numbers, check_size, number
from fmnist.config.targets import SCHEMAS

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

NON_RESULT_PARAMS = ("data.dir", "data.allow_missing_classes")
"""Params that do not affect the result: the fingerprint of the data says what there is."""

NON_RESULT_KEYS = ("tracking", "study", "promote", "promotion", "output_dir", "resume", "rerun")
"""Keys that do not affect the weights of a run, nor its metrics."""


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
class Tracking:
    """Where MLflow keeps the run, and how long to wait for it at the end."""

    uri: str | None = MISSING
    experiment: str = MISSING
    timeout: float = number(at_least=0)

    def __post_init__(self) -> None:
        if any(secrets_of(self.uri or "")):
            raise ConfigError(
                "tracking.uri: no password here, it would be recorded with the run; "
                "set the variable MLFLOW_TRACKING_URI instead"
            )


@dataclass
class Study:
    """What a sweep asks, stated before its runs begin (see `fmnist.evidence.comparison`)."""

    question: str = MISSING
    metric: Metric = MISSING
    baseline: str | None = MISSING
    min_effect: float = number(above=0, below=1)


@dataclass
class Promotion:
    """When the champion changes (see `fmnist.registry.decision`)."""

    min_effect: float = number(above=0, below=1)
    alpha: float = number(above=0, below=1)
    max_class_drop: float = number(at_least=0, at_most=1)
    model: str | None = None

    def __post_init__(self) -> None:
        if self.model is not None:
            check_name("promotion.model", self.model)
            if {"/", ":"} & set(self.model):
                raise ConfigError(f"promotion.model={self.model}: must contain neither / nor :")


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
        """Convert what Hydra composed; raises `ConfigError` for a value or key that cannot be."""
        try:
            values: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise ConfigError(one_line(error)) from error
        check_numbers(composed)
        _make_absolute(values["data"])
        check_size(values["model"]["depth"], values["model"]["width"])
        check_name("model.name", values["model"]["name"])
        check_name("tracking.experiment", values["tracking"]["experiment"])
        for part in (Model, Training, Tracking, Study, Promotion):
            key = part.__name__.lower()
            values[key] = _typed(part, values[key], f"{key}.")
        config: Config = _typed(cls, values)
        return config

    def params(self) -> dict[str, Any]:
        """Flatten `result_config` to `{"model.depth": 20, ...}`, with the keys of the overrides.

        Paths are relative to `output_dir`, so that equal runs have equal params.
        """
        return dict(_flat(rebased(self.result_config(), self.output_dir, ".")))

    def result_config(self) -> dict[str, Any]:
        """Return what affects the result, as nested mappings (see `NON_RESULT_KEYS`)."""
        values = dataclasses.asdict(self)
        return {key: value for key, value in values.items() if key not in NON_RESULT_KEYS}


def rebased(node: Any, folder: str, target: str) -> Any:
    """Return a part of the configuration, its paths in `folder` moved to `target`."""
    if isinstance(node, dict):
        return {key: rebased(child, folder, target) for key, child in node.items()}
    if isinstance(node, list | tuple):
        return [rebased(child, folder, target) for child in node]
    if isinstance(node, str) and f"{node}/".startswith(f"{folder}/"):
        return target + node[len(folder) :]
    return node


def _make_absolute(data: Any) -> None:
    """Let the folder of the data be found from any other folder, too."""
    if isinstance(data, dict) and data.get("dir"):
        data["dir"] = to_absolute_path(str(Path(data["dir"]).expanduser()))


def promotion(
    of_study: Mapping[str, Any] | None = None, /, **given: float | str | None
) -> Promotion:
    """Return the criteria of conf/train.yaml, replaced by a study's, and those by what is given."""
    defaults = OmegaConf.load(PROJECT / "conf" / "train.yaml").promotion
    overrides = {key: value for key, value in given.items() if value is not None}
    parts = [OmegaConf.structured(Promotion), defaults, dict(of_study or {}), overrides]
    node: Any = OmegaConf.merge(*parts)
    check_numbers(node, "promotion.")
    return cast(Promotion, OmegaConf.to_object(node))


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


ConfigStore.instance().store(name="schema", node=Config)
for target, schema in SCHEMAS.items():
    ConfigStore.instance().store(group="schema", name=target.rpartition(".")[2], node=schema)
