"""Training: prepare what it needs, then fit."""

import logging
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import keras

from fmnist.common.errors import ConfigError
from fmnist.config.instantiate import instantiate
from fmnist.config.schema import EPOCH_METRICS, Config, Engine
from fmnist.data.datasets import Dataset
from fmnist.training.batches import epoch_orders, in_batches, scoring_batches
from fmnist.training.callbacks import (
    EpochMetrics,
    ProgressLine,
    Pruner,
    PruneTrial,
    StopAtDivergence,
    check_checkpoint,
)
from fmnist.training.compiled_epoch import CannotCompile, CompiledEpoch, compiled_epoch
from fmnist.training.layer_health import LayerHealth
from fmnist.training.models import build
from fmnist.training.progress import Observer, notify
from fmnist.training.state import Snapshot, Snapshots

log = logging.getLogger(__name__)

FALL_BACK = "training.engine=compiled: %s; stock Keras trains instead"


@dataclass(frozen=True)
class Prepared:
    """All that training needs."""

    config: Config
    dataset: Dataset
    model: keras.Model
    callbacks: Sequence[keras.callbacks.Callback]
    program: CompiledEpoch | None  # still compiling; None: stock Keras trains


@dataclass(frozen=True)
class Fitted:
    """What training results in, beside the weights."""

    history: dict[str, list[float]]  # of each metric, by epoch
    digests: list[dict[str, str]]  # SHA-256 of each epoch's "weights" and "metrics"
    pruned_after: int | None  # the epoch after which a search pruned the trial


def prepare(config: Config, dataset: Dataset) -> Prepared:
    """Build model and callbacks, and start to compile the program of the compiled engine.

    Raises:
        ConfigError: if model or callbacks cannot be built, or one monitors an unknown metric.
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
    """Build and compile the network; `config.seed` decides all random draws."""
    keras.utils.clear_session()  # else names of layers would depend on earlier runs in this process
    keras.utils.set_random_seed(config.seed)
    model = build(config.model, dataset)
    model.compile(
        optimizer=instantiate("optimizer", config.optimizer),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def user_callbacks(config: Config, dataset: Dataset) -> list[keras.callbacks.Callback]:
    """Build the configured callbacks; raise ConfigError for one that cannot be used."""
    callbacks = []
    for name, node in config.callbacks.items():
        if node is None:
            continue
        callback = instantiate(f"callbacks.{name}", node)
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ConfigError(
                f"callbacks.{name}: not needed; every run can be resumed with `resume=`"
            )
        if isinstance(callback, LayerHealth):
            callback.watch(dataset.train)
        if isinstance(callback, keras.callbacks.ModelCheckpoint):
            check_checkpoint(f"callbacks.{name}", callback, config.output_dir)
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
    """Train by the compiled program if there is one and XLA can compile it, else by stock Keras.

    Both see the same batches in the same order. `earlier` is where a stopped run resumes, and
    `pruner` that of a search.

    Raises:
        TrainingError: if training diverged.
    """
    config, program = prepared.config, _usable(prepared.program)
    keras.utils.set_random_seed(config.seed)  # whether the program is new leaves no trace
    metrics, history = EpochMetrics(), keras.callbacks.History()
    divergence, pruning = StopAtDivergence(), PruneTrial(pruner)
    watched = [metrics, *prepared.callbacks, divergence, history, pruning]
    snapshots = Snapshots(config.output_dir, run_id, watched, earlier)
    engine = Engine.compiled if program else Engine.keras
    informed = notify(observer, engine, config.training.epochs, metrics, prepared.callbacks)
    callbacks = [*watched, snapshots, informed, ProgressLine()]
    _train(prepared, program, _epochs_left(prepared, earlier), callbacks)
    divergence.check()
    if len(metrics.epochs) < config.training.epochs and not pruning.pruned_after:
        log.info(f"stopped early, after epoch {len(metrics.epochs)} of {config.training.epochs}")
    return Fitted(history.history, snapshots.digests, pruning.pruned_after)


def _usable(program: CompiledEpoch | None) -> CompiledEpoch | None:
    """Wait until `program` is compiled; return None if XLA cannot compile it."""
    try:
        if program:
            program.wait()
        return program
    except CannotCompile as reason:
        log.warning(FALL_BACK, reason)
        return None


def _epochs_left(prepared: Prepared, earlier: Snapshot | None) -> range:
    """Return the epochs to train, counted from 0; files of callbacks continue after the others."""
    planned = prepared.config.training.epochs
    if earlier is None:
        return range(planned)
    _continue_files(prepared.callbacks, earlier.epochs)
    return range(planned if earlier.stopped else earlier.epochs, planned)


def _train(
    prepared: Prepared,
    program: CompiledEpoch | None,
    epochs: range,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    # For Keras, a step is an epoch of `program`, or else a batch.
    train, size = prepared.dataset.train, prepared.config.training.batch_size
    orders = epoch_orders(len(train), epochs, prepared.config.seed)
    data, steps = orders, 1
    if not program:
        data, steps = in_batches(train, orders, size), math.ceil(len(train) / size)
    with program.attach(prepared.model, train) if program else nullcontext():
        prepared.model.fit(
            data,
            initial_epoch=epochs.start,
            epochs=epochs.stop,
            steps_per_epoch=steps,
            shuffle=False,  # the orders are random already
            validation_data=scoring_batches(prepared.dataset.validation),
            callbacks=callbacks,
            verbose=0,
        )


def _continue_files(callbacks: Sequence[keras.callbacks.Callback], epochs: int) -> None:
    """Cut the files of CSV loggers after `epochs` epochs, and let the loggers append to them.

    A file that runs share (`append=true`) stays as it is.
    """
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.CSVLogger) or callback.append:
            continue
        if (path := Path(callback.filename)).is_file():
            lines = path.read_bytes().splitlines(keepends=True)
            path.write_bytes(b"".join(lines[: 1 + epochs]))
            callback.append = True
