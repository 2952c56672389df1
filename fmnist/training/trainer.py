"""The Keras part of a run: compile, fit, and score what came of it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fmnist.common.errors import ConfigError
from fmnist.config.instantiate import instantiate
from fmnist.config.schema import EPOCH_METRICS, Config, Engine
from fmnist.data.datasets import Dataset, Part
from fmnist.training.batches import epoch_orders, in_batches, scoring_batches
from fmnist.training.callbacks import (
    EpochMetrics,
    ProgressLine,
    Pruner,
    PruneTrial,
    StopAtDivergence,
    shortest,
)
from fmnist.training.compiled_epoch import CannotCompile, CompiledEpoch, compiled_epoch
from fmnist.training.layer_health import LayerHealth
from fmnist.training.models import build
from fmnist.training.progress import Observer, TrainingProgress, notify
from fmnist.training.state import Snapshot, Snapshots, digest_of_weights

log = logging.getLogger(__name__)

FALL_BACK = "training.engine=compiled: %s; stock Keras trains instead"


@dataclass(frozen=True)
class Prepared:
    """All that training needs; nothing was trained yet.

    `program` is the compiled engine's, still compiling; None where stock Keras trains.
    """

    config: Config
    dataset: Dataset
    model: keras.Model
    callbacks: Sequence[keras.callbacks.Callback]
    program: CompiledEpoch | None


@dataclass(frozen=True)
class Fitted:
    """What training left behind, beside the weights.

    Attributes:
        history: the value of each metric after each epoch.
        digests: SHA-256 of each epoch's "weights" and "metrics".
        pruned_after: the epoch after which a search ended the trial; None: it did not.
    """

    history: dict[str, list[float]]
    digests: list[dict[str, str]]
    pruned_after: int | None


def prepare(config: Config, dataset: Dataset) -> Prepared:
    """Build model and callbacks, and begin to compile the program of the compiled engine.

    Raises:
        ConfigError: if one of them cannot be built.
    """
    model = compiled_model(config, dataset)
    callbacks = user_callbacks(config, dataset)
    program = None
    if config.training.engine is Engine.compiled:
        try:
            program = compiled_epoch(model, dataset.train, config.training.batch_size, callbacks)
        except CannotCompile as reason:
            log.warning(FALL_BACK, reason)
    return Prepared(config, dataset, model, callbacks, program)


def compiled_model(config: Config, dataset: Dataset) -> keras.Model:
    """Build and compile the network with all random draws decided by `config.seed`."""
    keras.utils.clear_session()  # an earlier run in this process leaves no trace, not even in names
    keras.utils.set_random_seed(config.seed)
    model = build(config.model, dataset)
    model.compile(
        optimizer=instantiate("optimizer", config.optimizer),
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
        callback = instantiate(f"callbacks.{name}", node)
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ConfigError(f"callbacks.{name}: not needed; each run can go on by `resume=`")
        if isinstance(callback, LayerHealth):
            callback.watch(dataset.train)
        monitor = getattr(callback, "monitor", EPOCH_METRICS[-1])
        if monitor not in EPOCH_METRICS:
            raise ConfigError(
                f"callbacks.{name}.monitor={monitor}: choose one of {', '.join(EPOCH_METRICS)}"
            )
        callbacks.append(callback)
    return callbacks


def fit(
    prepared: Prepared,
    run_id: str,
    earlier: Snapshot | None,
    observer: Observer,
    pruner: Pruner | None,
) -> Fitted:
    """Train, by the compiled program if there is one and XLA can compile it, else by stock Keras.

    Both see the same batches in the same order.

    Args:
        prepared: what `prepare` returned.
        run_id: of the MLflow run.
        earlier: where training goes on; None: it begins.
        observer: is told how training goes.
        pruner: of the search that this is a trial of; None: it is none.

    Raises:
        TrainingError: if training diverged.
    """
    keras.utils.set_random_seed(prepared.config.seed)  # whether the program is new leaves no trace
    fitting = _Fitting(prepared, run_id, earlier, observer, pruner)
    if prepared.program:
        try:
            with prepared.program.attach(prepared.model, prepared.dataset.train):
                return fitting.run(fitting.orders, 1, Engine.compiled)
        except CannotCompile as reason:
            log.warning(FALL_BACK, reason)
    train, size = prepared.dataset.train, prepared.config.training.batch_size
    batches = in_batches(train, fitting.orders, size)
    return fitting.run(batches, -(-len(train) // size), Engine.keras)


class _Fitting:
    """One call of Keras's `fit`, whichever engine trains."""

    def __init__(
        self,
        prepared: Prepared,
        run_id: str,
        earlier: Snapshot | None,
        observer: Observer,
        pruner: Pruner | None,
    ) -> None:
        self.prepared, self.run_id, self.earlier = prepared, run_id, earlier
        self.observer, self.pruner = observer, pruner
        self.epochs, self.done = prepared.config.training.epochs, 0
        if earlier:
            self.done = self.epochs if earlier.stopped else earlier.epochs
            _continue_files(prepared.callbacks, earlier.epochs)
        examples = len(prepared.dataset.train)
        self.orders = epoch_orders(examples, self.done, self.epochs, prepared.config.seed)

    def run(self, data: tf.data.Dataset, steps: int, engine: Engine) -> Fitted:
        """Train on `data`, `steps` of it an epoch."""
        config, callbacks = self.prepared.config, self.prepared.callbacks
        metrics, history = EpochMetrics(), keras.callbacks.History()
        divergence = StopAtDivergence()
        pruning = [PruneTrial(self.pruner)] if self.pruner else []
        watched = [metrics, *callbacks, divergence, history, *pruning]
        snapshots = Snapshots(config.output_dir, self.run_id, watched, self.earlier)
        progress = TrainingProgress(engine, self.epochs, metrics, callbacks)
        self.prepared.model.fit(
            data,
            initial_epoch=self.done,
            epochs=self.epochs,
            steps_per_epoch=steps,
            shuffle=False,  # the orders are random already
            validation_data=scoring_batches(self.prepared.dataset.validation),
            callbacks=[*watched, snapshots, notify(self.observer, progress), ProgressLine()],
            verbose=0,
        )
        divergence.check()
        done = len(metrics.epochs)
        if done < self.epochs and not any(callback.pruned_after for callback in pruning):
            log.info(f"stopped early, after epoch {done} of {self.epochs}")
        pruned_after = pruning[0].pruned_after if pruning else None
        return Fitted(history.history, snapshots.digests, pruned_after)


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


def evaluate(prepared: Prepared, fitted: Fitted) -> tuple[dict[str, float], dict[str, object]]:
    """Score the last weights and the best checkpoint, on validation and, only now, on test.

    Leaves the weights of the best checkpoint, if one was kept, in the model.

    Returns:
        `{best,last}_{val,test}_{loss,accuracy}` with `best_epoch`, counted from 1, and the SHA-256
        of the `last` and `best` weights with the digests of all `epochs`; without a checkpoint
        there is no "best".
    """
    model, dataset = prepared.model, prepared.dataset
    scores = score(model, dataset, "last")
    digests: dict[str, object] = {
        "last": digest_of_weights(model),
        "epochs": fitted.digests,
    }
    checkpoint = best_checkpoint(prepared.callbacks)
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
