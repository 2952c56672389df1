"""The compiled engine trains as stock Keras does, or says why it leaves the work to it."""

import gc
import logging
import subprocess
import sys
import weakref
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import ENVIRONMENT, QUICK, composed, runs_in
from fmnist.config.instantiate import instantiate
from fmnist.config.schema import Engine
from fmnist.training import models, trainer
from fmnist.training.compiled_epoch import (
    PROGRAMS,
    CannotCompile,
    build_state,
    compiled_epoch,
    needs_every_batch,
    program_of,
    state,
)


@pytest.fixture(scope="module")
def digits():
    return instantiate(
        "data", {"_target_": "fmnist.data.digits", "validation_size": 300, "test_size": 297}
    )


class Recorder:
    """An observer that keeps the engine that trains."""

    def on_train_begin(self, progress):
        self.engine = progress.engine

    def update(self):
        pass

    def on_train_end(self):
        pass


def trained(folder, digits, *overrides, callbacks=()):
    """Train on digits, and return the model, its history and the engine that trained it."""
    config = composed(folder, *QUICK, "callbacks=none", *overrides)
    prepared = replace(trainer.prepare(config, digits), callbacks=callbacks)
    recorder = Recorder()
    fitted = trainer.fit(prepared, "a run", None, recorder, None)
    return prepared.model, fitted.history, recorder.engine


@pytest.fixture(params=[pytest.param("float32", marks=pytest.mark.slow), "float64"])
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
    tmp_path, digits, overrides, precision
):
    epochs, tolerance = precision
    overrides = [*overrides, f"training.epochs={epochs}"]
    slower = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=99)
    results = [
        trained(tmp_path, digits, *overrides, how, callbacks=[slower])
        for how in ("training.engine=compiled", "training.engine=keras")
    ]
    (compiled, history, by_program), (stock, expected, by_keras) = results
    assert (by_program, by_keras) == (Engine.compiled, Engine.keras)
    assert history["learning_rate"] == expected["learning_rate"]
    assert len(set(history["learning_rate"])) == max(1, epochs - 1)
    config = composed(tmp_path, *QUICK, *overrides)
    untrained = trainer.compiled_model(config, digits)
    build_state(untrained)
    for ours, theirs, start in zip(state(compiled), state(stock), state(untrained), strict=True):
        ours, theirs, start = (np.asarray(v, float) for v in (ours, theirs, start))
        moved = np.abs(theirs - start).max()
        assert np.abs(ours - theirs).max() <= tolerance * (moved + 1e-3), theirs
    steps = -(-1200 // config.training.batch_size)
    assert compiled.optimizer.iterations == stock.optimizer.iterations == epochs * steps
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert history[name] == pytest.approx(expected[name], rel=1e-3), name


@pytest.mark.slow
def test_a_model_of_the_compiled_engine_is_stock_keras_and_loads_without_this_package(
    tmp_path, digits
):
    model, _, by = trained(tmp_path, digits, "model=selu_dropout")
    assert by is Engine.compiled
    assert model.train_function is None
    path = tmp_path / "model.keras"
    model.save(path)
    predictions = model.predict(digits.test.images, verbose=0)
    np.save(tmp_path / "images.npy", digits.test.images)
    code = "import keras, numpy, sys\n"
    code += f"model = keras.models.load_model({str(path)!r})\n"
    code += (
        f"predictions = model.predict(numpy.load({str(tmp_path / 'images.npy')!r}), verbose=0)\n"
    )
    code += f"numpy.save({str(tmp_path / 'predictions.npy')!r}, predictions)\n"
    code += "assert 'fmnist' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "predictions.npy"), predictions)


@pytest.mark.slow
def test_runs_of_one_architecture_share_a_program_and_keep_their_own_weights(tmp_path, digits):
    first, _, _ = trained(tmp_path, digits, "model.width=31", "seed=1")
    weights = first.get_weights()
    made = program_of.cache_info().misses
    second, history, _ = trained(
        tmp_path, digits, "model.width=31", "seed=2", "optimizer.learning_rate=0.02"
    )
    assert program_of.cache_info().misses == made
    assert history["learning_rate"] == [0.02, 0.02] and second.optimizer.iterations == 2 * 38
    program = compiled_epoch(second, digits.train, 32, [])
    assert program.step.experimental_get_tracing_count() == 1  # for the short last batch, too
    for one, other, kept in zip(weights, second.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_array_equal(one, kept)
        assert one.size < 2 or np.any(one != other)
    trained(tmp_path, digits, "model.width=31", "optimizer.momentum=0.9")
    assert program_of.cache_info().misses == made + 1


@pytest.mark.slow
def test_the_programs_of_finished_architectures_are_released(tmp_path, digits):
    programs = []
    for depth in range(1, PROGRAMS + 2):
        config = composed(tmp_path, *QUICK, "callbacks=none", f"model.depth={depth}")
        program = trainer.prepare(config, digits).program
        program.wait()
        programs.append(weakref.ref(program))
        del program
    gc.collect()
    assert [program() is None for program in programs] == [True] + [False] * PROGRAMS


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
    tmp_path, digits, monkeypatch, caplog, layer, reason
):
    stock = models.hidden_layer
    monkeypatch.setattr(models, "hidden_layer", lambda config: [*stock(config), layer()])
    _, history, by = trained(tmp_path, digits)
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


@pytest.mark.parametrize("inner", [False, True])
def test_convolutions_are_left_to_stock_keras(digits, inner):
    image = digits.image_shape
    layers = [keras.layers.Reshape((*image, 1)), keras.layers.Conv2D(2, 3, name="first")]
    if inner:
        layers = [keras.Sequential([keras.Input(image), *layers])]
    model = keras.Sequential([keras.Input(image), *layers])
    with pytest.raises(CannotCompile, match=r"slow at convolutions on a processor \(first\)"):
        compiled_epoch(model, digits.train, 32, [])
