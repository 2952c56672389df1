"""A recorded configuration is read back, and one that was tampered with is refused."""

import json

import pytest

from fmnist.common.errors import ConfigError
from fmnist.config import recorded


def changed(text: str, path: str, value: object) -> str:
    values = json.loads(text)
    *parents, last = path.split(".")
    node = values
    for parent in parents:
        node = node[parent]
    node[last] = value
    return json.dumps(values)


def test_a_recorded_configuration_is_read_back_in_another_folder(config):
    given = config("+optimizer.weight_decay=0.1")
    text = recorded.record(given)
    found = recorded.config_of(text, "/elsewhere", given.tracking.uri)
    assert found.params() == given.params()
    assert found.callbacks["checkpoint"]["filepath"] == "/elsewhere/best.keras"


def test_what_an_older_version_recorded_is_read_as_what_this_one_records(config):
    text = recorded.record(config())
    older = changed(text, "training.strategy", "none")
    for now, then in (("training.callbacks", "callbacks"), ("training.layer_health", "health")):
        assert f"fmnist.{now}." in older
        older = older.replace(f"fmnist.{now}.", f"fmnist.{then}.")
    [same, found] = [recorded.config_of(record, "/elsewhere", None) for record in (text, older)]
    assert found == same


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("optimizer._target_", "os.system", "is not allowed in a recorded configuration"),
        ("optimizer._target_", ["os.system"], "is not allowed in a recorded configuration"),
        ("model._target_", "keras.optimizers.SGD", "model._target_=keras.optimizers.SGD: is not"),
        ("callbacks.x", {"_target_": "os.system", "command": "touch x"}, "is not allowed"),
        ("callbacks.x", {"_target_": "keras.callbacks.RemoteMonitor"}, "is not allowed"),
        ("data.dir", {"_target_": "os.system"}, "is not allowed"),
        (
            "optimizer.clipnorm",
            {"_target_": "keras.src.saving.saving_lib.H5IOStore"},
            "not allowed",
        ),
        ("optimizer._args_", ["x"], "_args_: is not allowed in a recorded configuration"),
        ("callbacks.checkpoint.filepath", "/tmp/x.keras", "is outside of the run"),
        ("callbacks.checkpoint.filepath", "x.keras", "is outside of the run"),
        ("callbacks.checkpoint.filepath", "${output_dir}-x/x.keras", "is outside of the run"),
        ("callbacks.checkpoint.filepath", "${output_dir}/../x.keras", "is outside of the run"),
        ("callbacks.tensorboard.log_dir", "gs://bucket/x", "is outside of the run"),
        ("callbacks.checkpoint.filepath", "~/x.keras", "is outside of the run"),
        ("data.dir", "${oc.env:HOME}", "is outside of the run"),
        ("output_dir", "/", "does not affect the result"),
        ("optimizer.learning_rate", -1, "must be above 0"),
        ("training.epochs", "many", "training.epochs"),
        ("callbacks", 3, "callbacks: must be a mapping"),
        ("model", "relu", "Merge error"),
        ("speed", 1, "speed: no such key"),
    ],
)
def test_a_tampered_configuration_is_refused(config, path, value, message):
    text = recorded.record(config())
    with pytest.raises(ConfigError, match=message):
        recorded.config_of(changed(text, path, value), "/elsewhere", None)


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "null", "3", "9" * 5000, " " * 2_000_000])
def test_what_is_no_configuration_is_refused(text):
    with pytest.raises(ConfigError, match=r"config/resolved\.json: "):
        recorded.config_of(text, "/elsewhere", None)
