"""The compiled engine trains as stock Keras does, or says why it leaves the work to it."""

import logging
import subprocess
import sys

import keras
import mlflow
import numpy as np
import pytest
import tensorflow as tf

from conftest import ENVIRONMENT, PROJECT, QUICK, composed, runs_in
from fmnist.config.instantiate import instantiate
from fmnist.config.schema import Engine
from fmnist.training import compiled_epoch as engine
from fmnist.training import models, trainer
from fmnist.training.compiled_epoch import CannotCompile, compiled_epoch, needs_every_batch, state
from fmnist.training.xla_layers import AlphaDropout, Dropout, clone_for_xla, selu


@pytest.fixture(scope="module")
def digits():
    return instantiate(
        "data", {"_target_": "fmnist.data.digits", "validation_size": 300, "test_size": 297}
    )


def trained(folder, digits, *overrides, callbacks=()):
    """Train on digits, and return the model, its history and the engine that trained it."""
    config = composed(folder, *QUICK, *overrides)
    model = trainer.compiled_model(config, digits)
    program = trainer.program_for(model, digits, config, callbacks)
    with mlflow.start_run() as run:
        run_id = run.info.run_id
        fitted = trainer.fit(model, digits, config, callbacks, program, run_id, None)
    return model, fitted.history, Engine[mlflow.get_run(run_id).data.tags["engine"]]


@pytest.fixture
def tracked(tmp_path):
    """Let `training.fit` log its metrics to a store of its own."""
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


@pytest.fixture(params=["float32", "float64"])
def precision(request):
    """Epochs to train and the greatest difference, as a share of how far training moved.

    In float32 rounding grows from step to step; in float64 only a real difference would show.
    """
    before = keras.config.floatx()
    keras.config.set_floatx(request.param)
    yield {"float32": (1, 5e-3), "float64": (3, 1e-7)}[request.param]
    keras.config.set_floatx(before)


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=relu"],
        ["model=selu", "optimizer=adam"],
        ["model=batch_norm", "optimizer=momentum"],
        ["model=batch_norm_before", "model.activation=selu", "training.batch_size=100"],
    ],
    ids=" ".join,
)
def test_both_engines_come_to_the_same_weights_statistics_and_scores(
    tracked, digits, overrides, precision
):
    epochs, tolerance = precision
    overrides = [*overrides, f"training.epochs={epochs}"]
    slower = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=99)
    results = [
        trained(tracked, digits, *overrides, how, callbacks=[slower])
        for how in ("training.engine=compiled", "training.engine=keras")
    ]
    (compiled, history, by_program), (stock, expected, by_keras) = results
    assert (by_program, by_keras) == (Engine.compiled, Engine.keras)
    assert history["learning_rate"] == expected["learning_rate"]
    assert len(set(history["learning_rate"])) == max(1, epochs - 1)
    config = composed(tracked, *QUICK, *overrides)
    untrained = trainer.compiled_model(config, digits)
    engine.build_state(untrained)
    for ours, theirs, start in zip(state(compiled), state(stock), state(untrained), strict=True):
        ours, theirs, start = (np.asarray(v, float) for v in (ours, theirs, start))
        moved = np.abs(theirs - start).max()
        assert np.abs(ours - theirs).max() <= tolerance * (moved + 1e-3), theirs
    steps = -(-1200 // config.training.batch_size)
    assert compiled.optimizer.iterations == stock.optimizer.iterations == epochs * steps
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert history[name] == pytest.approx(expected[name], rel=1e-3), name


def test_fast_selu_has_keras_values_and_gradients():
    x = tf.constant(np.r_[np.linspace(-20, 20, 4001), 0, 1e-6, -1e-6], tf.float32)

    def compiled(function):
        @tf.function(jit_compile=True, autograph=False)
        def value_and_gradient():
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            return y, tape.gradient(y, x)

        return value_and_gradient()

    for ours, theirs in zip(compiled(selu), compiled(keras.activations.selu), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=3e-7)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("kind", [keras.layers.Dropout, keras.layers.AlphaDropout])
def test_fast_dropout_draws_from_the_distribution_of_keras(kind, rate):
    keras.utils.set_random_seed(1)
    stock = kind(rate)
    fast = clone_for_xla(stock)
    assert type(fast) in (Dropout, AlphaDropout)
    x = tf.random.stateless_normal((2000, 500), (1, 2))
    drawn = tf.function(lambda: fast(x, training=True), jit_compile=True)
    first, second = drawn().numpy(), drawn().numpy()
    expected = stock(x, training=True).numpy()
    # what is kept is the same function of x, so the two agree wherever both kept
    values, counts = np.unique(first.round(4), return_counts=True)
    dropped_to = values[counts.argmax()]
    kept = [~np.isclose(y, dropped_to, atol=1e-4) for y in (first, expected)]
    np.testing.assert_allclose(first[kept[0] & kept[1]], expected[kept[0] & kept[1]], rtol=1e-4)
    error = 5 * np.sqrt(rate * (1 - rate) / x.shape.num_elements()) + 1e-4
    assert kept[0].mean() == pytest.approx(1 - rate, abs=error)
    assert first.mean() == pytest.approx(expected.mean(), abs=0.02)
    assert first.var() == pytest.approx(expected.var(), rel=0.02)
    # masks of two steps, and of neighbours within one, are independent
    again = ~np.isclose(second, dropped_to, atol=1e-4)
    for other in (again, np.roll(kept[0], 1, axis=0), np.roll(kept[0], 1, axis=1)):
        assert (kept[0] & other).mean() == pytest.approx((1 - rate) ** 2, abs=2 * error)
    np.testing.assert_array_equal(fast(x, training=False), x)


def test_a_model_of_the_compiled_engine_is_stock_keras_and_loads_without_this_package(
    tracked, digits
):
    model, _, by = trained(tracked, digits, "model=selu_dropout")
    assert by is Engine.compiled
    assert model.train_function is None
    path = tracked / "model.keras"
    model.save(path)
    predictions = model.predict(digits.test.images, verbose=0)
    np.save(tracked / "images.npy", digits.test.images)
    code = "import keras, numpy, sys\n"
    code += f"model = keras.models.load_model({str(path)!r})\n"
    code += f"predictions = model.predict(numpy.load({str(tracked / 'images.npy')!r}), verbose=0)\n"
    code += f"numpy.save({str(tracked / 'predictions.npy')!r}, predictions)\n"
    code += "assert 'fmnist' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", code], cwd=tracked, env=ENVIRONMENT, check=True)
    np.testing.assert_array_equal(np.load(tracked / "predictions.npy"), predictions)


def test_runs_of_one_architecture_share_a_program_and_keep_their_own_weights(tracked, digits):
    first, _, _ = trained(tracked, digits, "model.width=31", "seed=1")
    weights = first.get_weights()
    made = len(engine.programs)
    second, history, _ = trained(
        tracked, digits, "model.width=31", "seed=2", "optimizer.learning_rate=0.02"
    )
    assert len(engine.programs) == made
    assert history["learning_rate"] == [0.02, 0.02] and second.optimizer.iterations == 2 * 38
    program = compiled_epoch(second, digits.train, 32, [])
    assert program.step.experimental_get_tracing_count() == 1  # for the short last batch, too
    for one, other, kept in zip(weights, second.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_array_equal(one, kept)
        assert one.size < 2 or np.any(one != other)
    trained(tracked, digits, "model.width=31", "optimizer.momentum=0.9")
    assert len(engine.programs) == made + 1


def test_the_order_of_an_epoch_depends_on_seed_and_epoch_alone():
    orders = list(trainer.epoch_orders(100, 0, 3, 7).as_numpy_iterator())
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(100))
    assert not np.array_equal(orders[0], orders[1])
    longer = list(trainer.epoch_orders(100, 0, 5, 7).as_numpy_iterator())
    np.testing.assert_array_equal(longer[:3], orders)
    resumed = list(trainer.epoch_orders(100, 2, 5, 7).as_numpy_iterator())
    np.testing.assert_array_equal(resumed, longer[2:])
    other = next(trainer.epoch_orders(100, 0, 1, 2**32 - 1).as_numpy_iterator())
    assert not np.array_equal(other, orders[0])


class EachBatch(keras.callbacks.Callback):
    """Count the batches of training."""

    batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1


class ByPython(keras.layers.Layer):
    """A layer that computes in Python, which XLA cannot compile."""

    def call(self, inputs):
        outputs = tf.py_function(lambda x: x, [inputs], tf.float32)
        return tf.ensure_shape(outputs, inputs.shape)

    def compute_output_shape(self, input_shape):
        return input_shape


class Uncopied(keras.layers.Layer):
    """A layer that Keras cannot make anew from its configuration."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (ByPython, "XLA cannot compile the model (it has no EagerPyFunc)"),
        (lambda: Uncopied(tf.identity), "the model cannot be copied (Object Uncopied was created"),
    ],
)
def test_a_layer_that_does_not_compile_is_left_to_stock_keras(
    tracked, digits, monkeypatch, caplog, layer, reason
):
    stock = models.hidden_layer
    monkeypatch.setattr(models, "hidden_layer", lambda config: [*stock(config), layer()])
    _, history, by = trained(tracked, digits)
    assert by is Engine.keras
    assert history["loss"][1] < history["loss"][0]
    [record] = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert record.getMessage().startswith("training.engine=compiled: ")
    assert reason in record.getMessage() and "\n" not in record.getMessage()


def test_a_callback_that_needs_every_batch_gets_every_batch(run, store, caplog):
    result = run(f"+callbacks.each._target_={__name__}.EachBatch", "training.epochs=1")
    tags = runs_in(store)[0].data.tags
    assert tags["engine"] == "keras"
    assert "EachBatch needs every batch; stock Keras trains instead" in caplog.text
    assert result.history["loss"]


def test_the_run_says_which_engine_trained_it(run, store):
    for name in ("compiled", "keras"):
        run(f"training.engine={name}", "training.epochs=1")
        assert runs_in(store)[0].data.tags["engine"] == name


@pytest.mark.parametrize(
    ("callback", "needed"),
    [
        (keras.callbacks.EarlyStopping(), False),
        (keras.callbacks.CSVLogger("log.csv"), False),
        (keras.callbacks.ModelCheckpoint("a.keras"), False),
        (keras.callbacks.ModelCheckpoint("a.keras", save_freq=10), True),
        (keras.callbacks.TensorBoard("folder"), False),
        (keras.callbacks.TensorBoard("folder", update_freq="batch"), True),
        (keras.callbacks.LambdaCallback(on_epoch_end=print), False),
        (keras.callbacks.LambdaCallback(on_train_batch_end=print), True),
        (EachBatch(), True),
    ],
)
def test_callbacks_that_need_every_batch_are_known(digits, callback, needed):
    assert needs_every_batch(callback) is needed
    if needed:
        with pytest.raises(CannotCompile, match="needs every batch"):
            compiled_epoch(None, digits.train, 32, [callback])


def test_what_the_first_epoch_does_not_need_is_not_imported_before_it():
    code = """
import sys
from fmnist.common import startup as terminal
with terminal.without_modules("matplotlib", "sklearn"):
    from fmnist import training
assert not {"matplotlib", "sklearn"} & set(sys.modules)
import matplotlib, sklearn
"""
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=ENVIRONMENT, check=True)
