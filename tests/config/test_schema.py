"""The configuration: whole composed dictionaries, and every kind of bad value."""

import keras
import pytest
from hydra.errors import HydraException

from conftest import QUICK
from fmnist.common.errors import ConfigError, one_line
from fmnist.config.instantiate import instantiate
from fmnist.config.schema import Activation, Config, Initializer

SHARED = {
    "depth": 20,
    "width": 100,
    "initializer": "glorot_uniform",
    "normalization": "none",
    "dropout": "none",
    "dropout_rate": 0.5,
}
VARIANTS = {
    "relu": {"activation": "relu"},
    "batch_norm": {"activation": "relu", "normalization": "batch_norm"},
    "batch_norm_before": {"activation": "relu", "normalization": "batch_norm_before"},
    "selu": {"activation": "selu"},
    "selu_dropout": {"activation": "selu", "dropout": "alpha_dropout"},
    "selu_plain_dropout": {"activation": "selu", "dropout": "dropout"},
}


def test_defaults_are_the_tutorials(config):
    assert config().params() == {
        "data._target_": "fmnist.data.fashion_mnist",
        "data.dir": None,
        "data.url": "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
        "data.timeout": 120.0,
        "data.validation_size": 5000,
        "data.allow_missing_classes": False,
        "model.name": "selu_dropout",
        **{f"model.{key}": value for key, value in (SHARED | VARIANTS["selu_dropout"]).items()},
        "optimizer._target_": "keras.optimizers.SGD",
        "optimizer.learning_rate": 0.01,
        "optimizer.momentum": 0.0,
        "optimizer.nesterov": False,
        "callbacks.tensorboard._target_": "keras.callbacks.TensorBoard",
        "callbacks.tensorboard.log_dir": "./tensorboard",
        "callbacks.tensorboard.histogram_freq": 0,
        "callbacks.checkpoint._target_": "fmnist.training.callbacks.Checkpoint",
        "callbacks.checkpoint.filepath": "./best.keras",
        "callbacks.checkpoint.monitor": "val_loss",
        "callbacks.checkpoint.save_best_only": True,
        "callbacks.early_stopping._target_": "keras.callbacks.EarlyStopping",
        "callbacks.early_stopping.monitor": "val_loss",
        "callbacks.early_stopping.patience": 5,
        "callbacks.early_stopping.min_delta": 1e-3,
        "callbacks.layer_health._target_": "fmnist.training.layer_health.LayerHealth",
        "callbacks.layer_health.images": 256,
        "training.epochs": 10,
        "training.batch_size": 32,
        "training.engine": "compiled",
        "training.threads": None,
        "seed": 42,
    }


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_changes_only_what_makes_it_different(config, name):
    params = config(f"model={name}").params()
    model = {k.removeprefix("model."): v for k, v in params.items() if k.startswith("model.")}
    assert model == SHARED | VARIANTS[name] | {"name": name}


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ("sgd", {"learning_rate": 0.01, "momentum": 0.0}),
        ("momentum", {"learning_rate": 0.01, "momentum": 0.9}),
        ("adam", {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999}),
    ],
)
def test_optimizers_are_built_with_their_values(config, optimizer, expected):
    settings = instantiate("optimizer", config(f"optimizer={optimizer}").optimizer).get_config()
    assert {key: settings[key] for key in expected} == pytest.approx(expected)


def test_an_optimizer_takes_the_place_of_another(config):
    other = config("optimizer._target_=keras.optimizers.RMSprop", "optimizer.momentum=0.5")
    built = instantiate("optimizer", other.optimizer)  # which has no nesterov
    assert isinstance(built, keras.optimizers.RMSprop) and built.momentum == 0.5


def test_a_learning_rate_may_be_a_schedule(config):
    schedule = "{_target_:keras.optimizers.schedules.CosineDecay,initial_learning_rate:0.1,"
    built = config(f"optimizer.learning_rate={schedule}decay_steps:80}}")
    [rate] = [float(instantiate("optimizer", built.optimizer).learning_rate)]
    assert rate == pytest.approx(0.1)
    assert built.params()["optimizer.learning_rate.decay_steps"] == 80


def test_callbacks_can_be_overridden_removed_and_joined(config):
    callbacks = config(
        "callbacks.early_stopping.patience=3",
        "~callbacks.tensorboard",
        "+callbacks.csv._target_=keras.callbacks.CSVLogger",
        "+callbacks.csv.filename=log.csv",
        "+callbacks.checkpoint.mode=min",
    ).callbacks
    built = {name: instantiate(f"callbacks.{name}", node) for name, node in callbacks.items()}
    assert built.keys() == {"checkpoint", "early_stopping", "layer_health", "csv"}
    assert built["early_stopping"].patience == 3
    assert isinstance(built["csv"], keras.callbacks.CSVLogger)
    assert config("callbacks=none").callbacks == {}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("model=rellu", "model=rellu: choose one of batch_norm, batch_norm_before, relu, selu"),
        ("optimizer=sdg", "optimizer=sdg: choose one of adam, momentum, sgd"),
        ("data=cifar", "data=cifar: choose one of digits, fashion_mnist, idx"),
        ("callbacks=all", "callbacks=all: choose one of default, none"),
        ("model.dept=3", "model.dept: no such key; there are name, activation, depth"),
        ("+model.dept=3", "model.dept: no such key; there are name, activation, depth"),
        ("training.epoch=3", "training.epoch: no such key; there are epochs, batch_size"),
        ("epochs=3", "epochs: no such key; there are"),
        ("+epochs=3", "epochs: no such key; there are data, model, optimizer"),
        ("optimizer.beta_1=0.5", "optimizer.beta_1: no such key; there are _target_, learning"),
        ("training.epochs=0", "training.epochs=0: must be at least 1"),
        ("training.epochs=-3", "training.epochs=-3: must be at least 1"),
        ("training.epochs=2.5", "training.epochs: Value '2.5' of type 'float' could not"),
        ("training.epochs=ten", "training.epochs: Value 'ten' of type 'str' could not"),
        ("training.epochs=null", "training.epochs: a value is needed"),
        ("training.epochs=nan", "training.epochs: Value 'nan' of type 'float' could not"),
        ("training.batch_size=0", "training.batch_size=0: must be at least 1"),
        ("model.depth=0", "model.depth=0: must be at least 1"),
        ("model.width=wide", "model.width: Value 'wide' of type 'str' could not be converted"),
        ("model.dropout_rate=1", "model.dropout_rate=1.0: must be at least 0 and below 1"),
        ("model.dropout_rate=-0.1", "model.dropout_rate=-0.1: must be at least 0 and below 1"),
        ("model.dropout=all", "model.dropout: Invalid value 'all', expected one of [none, dr"),
        ("model.normalization=layer", "model.normalization: Invalid value 'layer', expected"),
        ("model.activation=rellu", "model.activation: Invalid value 'rellu', expected one of"),
        ("model.initializer=ones", "model.initializer: Invalid value 'ones', expected one of"),
        ("optimizer.learning_rate=0", "optimizer.learning_rate=0: must be above 0"),
        ("optimizer.learning_rate=nan", "optimizer.learning_rate=nan: must be above 0"),
        ("optimizer.learning_rate=inf", "optimizer.learning_rate=inf: must be above 0"),
        (
            "optimizer.learning_rate=fast",
            "learning_rate=fast: must be a number, or have a _target_",
        ),
        ("optimizer.momentum=2", "optimizer.momentum=2.0: must be at least 0 and at most 1"),
        ("optimizer.nesterov=maybe", "optimizer.nesterov: Value 'maybe' is not a valid bool"),
        ("+callbacks.checkpoint.threshold=nan", "threshold=nan: must be a finite number"),
        ("callbacks.early_stopping.patience=-1", "patience=-1: must be at least 0"),
        ("callbacks.early_stopping.patience=long", "patience: Value 'long' of type 'str'"),
        ("seed=-1", "seed=-1: must be at least 0 and below 4294967296"),
        ("seed=4294967296", "seed=4294967296: must be at least 0 and below 4294967296"),
        ("seed=lucky", "seed: Value 'lucky' of type 'str' could not be converted to Integer"),
        ("data.validation_size=0", "data.validation_size=0: must be at least 1"),
        ("data.timeout=0", "data.timeout=0.0: must be above 0"),
        ("data=idx", "data.dir: a value is needed"),
        ("data.dir=${nowhere}", "data.dir: Interpolation key 'nowhere' not found"),
        ("tracking.uri=postgresql://me:secret@host/db", "tracking.uri: no password here"),
        ("training=3", "training: Invalid type assigned"),
        ("seed", "Error parsing override 'seed'"),
    ],
)
def test_a_bad_value_is_named_in_one_line(config, overrides, message):
    with pytest.raises((ConfigError, HydraException)) as caught:
        config(*overrides.split())
    line = one_line(caught.value)
    assert message in line
    assert "\n" not in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("key", "node", "message"),
    [
        (
            "callbacks.x",
            {"_target_": "keras.callbacks.Nothing"},
            "callbacks.x._target_=keras.callbacks.Nothing: ",
        ),
        ("optimizer", {"_target_": "keras.optimizers.SGD", "speed": 1}, "optimizer.speed=1: keras"),
        (
            "optimizer",
            {"_target_": "keras.optimizers.Adam", "momentum": 0.9},
            "optimizer.momentum=0.9: keras.optimizers.Adam takes no such argument",
        ),
        ("optimizer", {"_target_": "keras.optimizers.SGD", "momentum": "x"}, "optimizer: "),
        (
            "optimizer",
            {"_target_": "keras.optimizers.SGD", "_partial_": True},
            "optimizer._partial_: must be false",
        ),
    ],
)
def test_what_cannot_be_built_is_named(key, node, message):
    with pytest.raises(ConfigError, match=message):
        instantiate(key, node)


def test_the_offered_activations_and_initializers_are_keras_own():
    for activation in Activation:
        assert keras.activations.get(activation.name) is not None
    for initializer in Initializer:
        assert keras.initializers.get(initializer.name) is not None


def test_equal_runs_have_equal_params_wherever_they_are_put(config, tmp_path):
    here, there = config(*QUICK), config(*QUICK, f"output_dir={tmp_path}/there")
    assert isinstance(here, Config)
    assert here.callbacks != there.callbacks
    assert here.params() == there.params()


def test_the_folder_of_the_data_is_found_from_any_other(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config("data=idx", "data.dir=letters").data["dir"] == f"{tmp_path}/letters"
    assert config("data=idx", "data.dir=/a/letters").data["dir"] == "/a/letters"
