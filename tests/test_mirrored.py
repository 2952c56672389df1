"""Two devices of one host share each batch, and it is the same training as on one."""

import json
import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from logging.handlers import BufferingHandler

import keras
import mlflow
import numpy as np
import pytest
import tensorflow as tf

from conftest import QUICK, composed, runs_in
from fmnist import experiment, mirrored, recorded, training
from fmnist.building import create
from fmnist.callbacks import StopAtDivergence
from fmnist.config import Strategy
from fmnist.engine import build_state, state
from fmnist.errors import ConfigError
from fmnist.lowering import fast_copy

MIRRORED = "training.strategy=mirrored"


def divide_the_cpu():
    [cpu] = tf.config.list_physical_devices("CPU")
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, halves)


@pytest.fixture(scope="module")
def on_two_devices():
    """`on_two_devices(function, ...)` calls it in a process that has two logical CPU devices."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, divide_the_cpu) as process:
        yield lambda function, *arguments: process.submit(function, *arguments).result()


def fitted(folder, *overrides):
    """An epoch of float64, without a run: state before and after, metrics, devices of a weight."""
    keras.config.set_floatx("float64")
    try:
        config = composed(folder, *QUICK, "training.engine=keras", *overrides)
        digits = create("data", config.data)
        model = training.compiled_model(config, digits)
        build_state(model)
        before = [np.asarray(variable) for variable in state(model)]
        shared = training.program_for(model, digits, config, [])
        orders = training.epoch_orders(len(digits.train), 0, 1, config.seed)
        with shared.lent_to(model) if shared else nullcontext():
            history = model.fit(
                training.in_batches(digits.train, orders, 32),
                steps_per_epoch=38,
                validation_data=training.scoring_batches(digits.validation),
                verbose=0,
            ).history
        copies = shared.twin.trainable_variables[0].value.values if shared else ()
        devices = {copy.device.rpartition("/")[2] for copy in copies}
        return before, [np.asarray(variable) for variable in state(model)], history, devices
    finally:
        keras.config.set_floatx("float32")


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=relu", "optimizer=adam"],
        # 1,201 images: the last batch has 17; and an odd number of validation images
        ["model=batch_norm", "optimizer=momentum", "data.validation_size=299"],
    ],
    ids=" ".join,
)
def test_two_devices_come_to_the_weights_statistics_and_scores_of_one(
    on_two_devices, tmp_path, overrides
):
    _, ours, history, devices = on_two_devices(fitted, tmp_path, MIRRORED, *overrides)
    before, theirs, expected, none = on_two_devices(fitted, tmp_path, *overrides)
    assert devices == {"device:CPU:0", "device:CPU:1"} and none == set()
    for own, other, start in zip(ours, theirs, before, strict=True):
        moved = np.abs(other - start.astype(float)).max()
        assert np.abs(own - other.astype(float)).max() <= 1e-7 * (moved + 1e-3)
    assert history.keys() == expected.keys() == {"loss", "accuracy", "val_loss", "val_accuracy"}
    for name, values in history.items():
        assert values == pytest.approx(expected[name], rel=1e-6), name


def masks(kind):
    """What two devices together drop out of a batch, and what one does."""
    layer = kind(0.5, seed=7)
    x = tf.ones((6, 50))
    with mirrored.all_devices().scope():
        copy = mirrored.shared_copy(layer)

    def on_device():
        device = tf.distribute.get_replica_context().replica_id_in_sync_group
        return copy(x[3 * device : 3 * device + 3], training=True)

    shares = tf.function(lambda: mirrored.all_devices().run(on_device))().values
    return tf.concat(shares, 0).numpy(), fast_copy(layer)(x, training=True).numpy()


@pytest.mark.parametrize("kind", [keras.layers.Dropout, keras.layers.AlphaDropout])
def test_devices_drop_out_what_one_would(on_two_devices, kind):
    together, alone = on_two_devices(masks, kind)
    np.testing.assert_array_equal(together, alone)
    assert np.any(together[:3] != together[3:])


def trained(folder, *overrides):
    """Run train.py's whole story; return the losses and what was warned of."""
    warned = BufferingHandler(1000)
    warned.setLevel(logging.WARNING)
    logging.getLogger("fmnist").addHandler(warned)
    try:
        result = experiment.run(composed(folder, *overrides))
    finally:
        logging.getLogger("fmnist").removeHandler(warned)
    return result.history["loss"], [record.getMessage() for record in warned.buffer]


class Died(Exception):
    """What ends a run within its second epoch."""


def died(folder, *overrides):
    """Begin a run that dies before the snapshot of its second epoch."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise Died

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Died):
        patch.setattr(StopAtDivergence, "on_epoch_end", on_epoch_end)
        trained(folder, *overrides)


def test_a_run_on_two_devices_is_recorded_and_goes_on_to_the_same_weights(on_two_devices, tmp_path):
    asked = (*QUICK[:-1], "training.epochs=3", "model=selu_dropout", "optimizer=adam", MIRRORED)
    losses, warned = on_two_devices(trained, tmp_path, *asked)
    assert losses == sorted(losses, reverse=True) and len(losses) == 3
    assert warned == [training.FALL_BACK % "XLA compiles for one device, not for several"]

    on_two_devices(died, tmp_path, *asked)
    resume = f"resume={runs_in(tmp_path)[0].info.run_id}"
    with pytest.raises(ConfigError, match=r"to the same weights any more: .*devices 2, here 1;"):
        experiment.run(composed(tmp_path, resume))
    on_two_devices(trained, tmp_path, resume)

    resumed, whole = runs_in(tmp_path)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    for run in (resumed, whole):
        assert (run.info.status, run.data.tags["engine"]) == ("FINISHED", "keras")
        for name in ("loss", "val_accuracy", "dead_units"):
            points = client.get_metric_history(run.info.run_id, name)
            assert [point.step for point in points] == [1, 2, 3], name
    assert resumed.data.tags["resumed"] == "1"
    expected, digests = (
        mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/digests.json")
        for run in (whole, resumed)
    )
    assert digests == expected and len(digests["epochs"]) == 3


def shared(folder, size):
    """Whether a batch of this size is shared."""
    return mirrored.strategy(composed(folder, MIRRORED, f"training.batch_size={size}")) is not None


@pytest.mark.parametrize("size", [1, 33])
def test_a_batch_that_devices_cannot_share_is_refused(on_two_devices, tmp_path, size):
    said = f"training.batch_size={size}: must be a multiple of 2, the number of devices"
    with pytest.raises(ConfigError, match=said):
        on_two_devices(shared, tmp_path, size)


def test_one_device_trains_as_without_a_strategy(config, caplog):
    asked = config(*QUICK, MIRRORED)
    digits = create("data", asked.data)
    model = training.compiled_model(asked, digits)
    program = training.program_for(model, digits, asked, [])
    assert caplog.messages == [
        "training.strategy=mirrored: makes no difference, this host has one device"
    ]
    assert program is training.program_for(model, digits, config(*QUICK), [])


def test_a_run_recorded_before_there_was_a_choice_had_one_device(config):
    values = json.loads(recorded.record(config()))
    assert values["training"].pop("strategy") == "none"
    found = recorded.config_of(json.dumps(values), "/elsewhere", None)
    assert found.training.strategy is Strategy.none
