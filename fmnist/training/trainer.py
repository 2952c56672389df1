"""The Keras part of a run: compile, fit, and score what came of it."""

import gc
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fmnist.sweeps import trial
from fmnist.config.instantiate import create
from fmnist.training.callbacks import EpochMetrics, ProgressLine, Report, StopAtDivergence, StopIfHopeless, shortest
from fmnist.config.schema import Config, Engine
from fmnist.data.datasets import Dataset, Part
from fmnist.training.compiled_epoch import CannotCompile, CompiledEpoch, compiled_epoch
from fmnist.common.errors import ConfigError
from fmnist.training.layer_health import LayerHealth
from fmnist.training.models import build
from fmnist.training.devices import usable_processors
from fmnist.training.state import Snapshot, Snapshots, digest_of_weights
from fmnist.config.schema import MEASURED

log = logging.getLogger(__name__)
logging.getLogger("tensorflow").setLevel(logging.ERROR)  # a sweep traces many models, on purpose

gc.freeze()  # Keras collects garbage before each model: half a second, if it looks at TensorFlow

FALL_BACK = "training.engine=compiled: %s; stock Keras trains instead"


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
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ConfigError(f"callbacks.{name}: not needed; each run can go on by `resume=`")
        if isinstance(callback, LayerHealth):
            callback.watch(dataset.train)
        monitor = getattr(callback, "monitor", MEASURED[-1])
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


@dataclass(frozen=True)
class Fitted:
    """What training left behind, beside the weights.

    Attributes:
        history: the value of each metric after each epoch.
        digests: SHA-256 of each epoch's "weights" and "metrics".
    """

    history: dict[str, list[float]]
    digests: list[dict[str, str]]


def fit(
    model: keras.Model,
    dataset: Dataset,
    config: Config,
    callbacks: Sequence[keras.callbacks.Callback],
    program: CompiledEpoch | None,
    run_id: str,
    earlier: Snapshot | None,
) -> Fitted:
    """Train, by `program` if it is given and compiles, else by stock Keras.

    All see the same batches in the same order.

    Args:
        model: built and compiled.
        dataset: to train on.
        config: of the run.
        callbacks: those of the configuration.
        program: what `program_for` returned.
        run_id: of the MLflow run.
        earlier: where training goes on; None: it begins.
    """
    keras.utils.set_random_seed(config.seed)  # whether a program was made anew leaves no trace
    epochs, done = config.training.epochs, 0
    if earlier:
        done = epochs if earlier.stopped else earlier.epochs
        _continue_files(callbacks, earlier.epochs)
    orders = epoch_orders(len(dataset.train), done, epochs, config.seed)
    fitting = {
        "initial_epoch": done,
        "epochs": epochs,
        "shuffle": False,  # the orders are random already
        "validation_data": scoring_batches(dataset.validation),
        "verbose": 0,
    }

    def fitted(data: tf.data.Dataset, steps: int, engine: Engine) -> Fitted:
        metrics, history = EpochMetrics(), keras.callbacks.History()
        watched = [metrics, *callbacks, StopAtDivergence(), history]
        snapshots = Snapshots(config.output_dir, run_id, watched, earlier)
        own = trial.current()
        hopeless = [StopIfHopeless(own, run_id)] if own else []
        reports = [Report(run_id, engine, metrics), ProgressLine()]
        watching = [*watched, *hopeless, snapshots, *reports]
        model.fit(data, steps_per_epoch=steps, callbacks=watching, **fitting)
        return Fitted(history.history, snapshots.digests)

    if program:
        try:
            with program.lent_to(model, dataset.train):
                return fitted(orders, 1, Engine.compiled)
        except CannotCompile as reason:
            log.warning(FALL_BACK, reason)
    size = config.training.batch_size
    batches = in_batches(dataset.train, orders, size)
    return fitted(batches, -(-len(dataset.train) // size), Engine.keras)


def _continue_files(callbacks: Sequence[keras.callbacks.Callback], epochs: int) -> None:
    """Let what a callback writes line by line go on behind the epochs that are done.

    A file that runs share (`append=true`) is left as it is.
    """
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.CSVLogger) or callback.append:
            continue
        path = Path(callback.filename)
        if path.is_file():
            lines = path.read_bytes().splitlines(keepends=True)
            path.write_bytes(b"".join(lines[: 1 + epochs]))
            callback.append = True


def evaluate(
    model: keras.Model,
    dataset: Dataset,
    fitted: Fitted,
    callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[dict[str, float], dict[str, object]]:
    """Score the last weights and the best checkpoint, on validation and, only now, on test.

    Leaves the weights of the best checkpoint, if one was kept, in `model`.

    Returns:
        `{best,last}_{val,test}_{loss,accuracy}` with `best_epoch`, counted from 1, and the SHA-256
        of the `last` and `best` weights with the digests of all `epochs`; without a checkpoint
        there is no "best".
    """
    scores = score(model, dataset, "last")
    digests: dict[str, object] = {
        "last": digest_of_weights(model),
        "epochs": fitted.digests,
    }
    checkpoint = best_checkpoint(callbacks)
    if checkpoint is not None:
        model.load_weights(checkpoint.filepath)
        scores |= score(model, dataset, "best")
        scores["best_epoch"] = fitted.history[checkpoint.monitor].index(checkpoint.best) + 1
        digests["best"] = digest_of_weights(model)
    return scores, digests


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
