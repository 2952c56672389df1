"""The Keras part of a run: compile, fit, and score what came of it."""

import gc
import logging
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fmnist.callbacks import EpochMetrics, ProgressLine, StopAtDivergence, shortest
from fmnist.config import Config, Engine, create
from fmnist.data import Dataset, Part
from fmnist.engine import CannotCompile, CompiledEpoch, compiled_epoch
from fmnist.errors import ConfigError
from fmnist.health import LayerHealth
from fmnist.models import build

log = logging.getLogger(__name__)
logging.getLogger("tensorflow").setLevel(logging.ERROR)  # a sweep traces many models, on purpose

gc.freeze()  # Keras collects garbage before each model: half a second, if it looks at TensorFlow

SCORING_BATCH = 2500
FALL_BACK = "training.engine=compiled: %s; stock Keras trains instead"
MEASURED = ("val_loss", "val_accuracy", "loss", "accuracy")


def compiled_model(config: Config, dataset: Dataset) -> keras.Model:
    """Build and compile the network with all random draws decided by `config.seed`."""
    keras.utils.clear_session()  # an earlier run in this process leaves no trace, not even in names
    keras.utils.set_random_seed(config.seed)
    model = build(config.model, dataset)
    model.compile(
        optimizer=create("optimizer", config.optimizer),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def user_callbacks(config: Config, dataset: Dataset) -> list[keras.callbacks.Callback]:
    """Build the callbacks of the configuration; one that is null is left out.

    Raises:
        ConfigError: if one cannot be built, or monitors what is not measured.
    """
    callbacks = []
    for name, node in config.callbacks.items():
        if node is None:
            continue
        callback = create(f"callbacks.{name}", node)
        if not isinstance(callback, keras.callbacks.Callback):
            raise ConfigError(f"callbacks.{name}: is no Keras callback")
        if isinstance(callback, LayerHealth):
            callback.watch(dataset.train)
        monitor = getattr(callback, "monitor", MEASURED[0])
        if monitor not in MEASURED:
            raise ConfigError(
                f"callbacks.{name}.monitor={monitor}: choose one of {', '.join(MEASURED)}"
            )
        callbacks.append(callback)
    return callbacks


def program_for(
    model: keras.Model,
    dataset: Dataset,
    config: Config,
    callbacks: Sequence[keras.callbacks.Callback],
) -> CompiledEpoch | None:
    """Return the compiled engine's program, still compiling; None where stock Keras trains."""
    if config.training.engine is Engine.keras:
        return None
    try:
        return compiled_epoch(model, dataset.train, config.training.batch_size, callbacks)
    except CannotCompile as reason:
        log.warning(FALL_BACK, reason)
        return None


def fit(
    model: keras.Model,
    dataset: Dataset,
    config: Config,
    callbacks: Sequence[keras.callbacks.Callback],
    program: CompiledEpoch | None,
) -> dict[str, list[float]]:
    """Train, by `program` if it is given and compiles, else by stock Keras.

    Both engines see the same batches in the same order.

    Returns:
        The value of each metric after each epoch.
    """
    keras.utils.set_random_seed(config.seed)  # whether a program was made anew leaves no trace
    orders = epoch_orders(len(dataset.train), config.training.epochs, config.seed)
    fitting = {
        "epochs": config.training.epochs,
        "shuffle": False,  # the orders are random already
        "validation_data": scoring_batches(dataset.validation),
        "verbose": 0,
    }

    def fitted(data: tf.data.Dataset, steps: int, engine: Engine) -> dict[str, list[float]]:
        watching = [EpochMetrics(engine), *callbacks, ProgressLine(), StopAtDivergence()]
        history: dict[str, list[float]] = model.fit(
            data, steps_per_epoch=steps, callbacks=watching, **fitting
        ).history
        return history

    if program is not None:
        try:
            with program.lent_to(model, dataset.train):
                return fitted(orders, 1, Engine.compiled)
        except CannotCompile as reason:
            log.warning(FALL_BACK, reason)
    size = config.training.batch_size
    batches = in_batches(dataset.train, orders, size)
    return fitted(batches, -(-len(dataset.train) // size), Engine.keras)


def epoch_orders(examples: int, epochs: int, seed: int) -> tf.data.Dataset:
    """Return for each epoch the order (examples,) int32 of its examples, drawn from seed, epoch."""
    orders = tf.data.Dataset.range(epochs).map(
        lambda epoch: tf.random.experimental.stateless_shuffle(tf.range(examples), (seed, epoch))
    )
    return without_autotune(orders)


def in_batches(part: Part, orders: tf.data.Dataset, size: int) -> tf.data.Dataset:
    """Return the batches of `part`, images and labels, of all epochs one after another."""
    images, labels = tf.constant(part.images), tf.constant(part.labels)
    starts = tf.data.Dataset.range(0, len(part), size)
    return (
        orders.flat_map(lambda order: starts.map(lambda start: order[start : start + size]))
        .map(lambda chosen: (tf.gather(images, chosen), tf.gather(labels, chosen)))
        .prefetch(tf.data.AUTOTUNE)
    )


def scoring_batches(part: Part) -> tf.data.Dataset:
    """Return the batches of `part`, images and labels, for evaluation."""
    examples = tf.data.Dataset.from_tensor_slices((part.images, part.labels))
    return without_autotune(examples.batch(SCORING_BATCH))


def without_autotune(data: tf.data.Dataset) -> tf.data.Dataset:
    """Turn tf.data's tuning thread off: starting and joining it takes longer than such batches."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def evaluate(
    model: keras.Model,
    dataset: Dataset,
    history: Mapping[str, Sequence[float]],
    callbacks: Sequence[keras.callbacks.Callback],
) -> dict[str, float]:
    """Score the last weights and the best checkpoint, on validation and, only now, on test.

    Leaves the weights of the best checkpoint, if one was kept, in `model`.

    Returns:
        `{best,last}_{val,test}_{loss,accuracy}` with `best_epoch`, counted from 1; without a
        checkpoint there is no "best".
    """
    scores = score(model, dataset, "last")
    checkpoint = best_checkpoint(callbacks)
    if checkpoint is not None:
        model.load_weights(checkpoint.filepath)
        scores |= score(model, dataset, "best")
        scores["best_epoch"] = history[checkpoint.monitor].index(checkpoint.best) + 1
    return scores


def best_checkpoint(
    callbacks: Sequence[keras.callbacks.Callback],
) -> keras.callbacks.ModelCheckpoint | None:
    """Return the callback that keeps the best whole model, if there is one."""
    for callback in callbacks:
        is_checkpoint = isinstance(callback, keras.callbacks.ModelCheckpoint)
        if is_checkpoint and callback.save_best_only and not callback.save_weights_only:
            return callback
    return None


def score(model: keras.Model, dataset: Dataset, weights: str) -> dict[str, float]:
    """Return loss and accuracy on validation and test as `{weights}_val_loss` and so on."""
    scores: dict[str, float] = {}
    for name in ("val", "test"):
        batches = scoring_batches(dataset.parts[name])
        values = model.evaluate(batches, verbose=0, return_dict=True)
        for metric in ("loss", "accuracy"):
            scores[f"{weights}_{name}_{metric}"] = shortest(values[metric])
    return scores


def predict(model: keras.Model, part: Part) -> NDArray[np.float32]:
    """Return the probability of each class (n, classes) for each image of `part`."""
    probabilities: NDArray[np.float32] = model.predict(scoring_batches(part), verbose=0)
    return probabilities
