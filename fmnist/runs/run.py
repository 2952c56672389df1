"""One run, told in order: store, data, what went before, model, fit, scores, record."""

import dataclasses
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from fmnist.sweeps import jobs
from fmnist.tracking import model, tracked_run
from fmnist.runs import resume
from fmnist.config.instantiate import create
from fmnist.config.schema import Config
from fmnist.data.datasets import Dataset
from fmnist.tracking.run_differences import differences
from fmnist.common.errors import ConfigError
from fmnist.common.exits import sigterm_raises
from fmnist.tracking.delivery_queue import until_answered
from fmnist.evidence.predictions import Predictions
from fmnist.training.devices import usable_processors
from fmnist.runs.resume import Earlier
from fmnist.tracking.store import Store, open_store
from fmnist.config.schema import SCORES
from fmnist.common.startup import importing_tensorflow
from fmnist.common.terminal import table

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The scores of a run, of now or of before."""

    run_id: str
    scores: dict[str, float]

    @property
    def objective(self) -> float:
        """What a sweeper maximises: the validation accuracy of the best checkpoint."""
        return self.scores.get("best_val_accuracy", self.scores["last_val_accuracy"])


@dataclass(frozen=True)
class Result(Outcome):
    """What a run made: the model with its best weights, its scores and the way there.

    `digests` are SHA-256 (hexadecimal): of the `last` and the `best` weights, and for each of the
    `epochs` of its `weights` and `metrics`.
    """

    model: "keras.Model"
    history: dict[str, list[float]]
    digests: Mapping[str, object]

    @property
    def summary(self) -> str:
        """The description of the run; without the test accuracy, by which nobody shall choose."""
        epoch = self.scores.get("best_epoch", len(self.history["loss"]))
        return f"val_accuracy {self.objective:.2%} after epoch {epoch:.0f}"


def run(config: Config, original: Run | None = None) -> Outcome:
    """Train one network and record everything about it.

    Nothing is tracked before store, data, model and callbacks are known to be good. A run that
    was stopped goes on; a job of a sweep that was finished before is not trained again.

    Args:
        config: of the run.
        original: the run that this one shall reproduce.

    Raises:
        FmnistError: if the configuration, the data or the store cannot be used, or if training
            diverged.
    """
    # The store of a sweep was there when that began: a job waits for it.
    patience = config.tracking.patience if jobs.in_sweep() else 0
    store = until_answered(lambda: open_store(config.tracking), patience)
    earlier = resume.named(store, config) if config.resume is not None else None
    config = with_threads(earlier.config if earlier else config)
    dataset: Dataset = create("data", config.data)
    if config.training.batch_size > len(dataset.train):
        raise ConfigError(
            f"training.batch_size={config.training.batch_size}: must be at most the "
            f"{len(dataset.train)} training images"
        )
    with importing_tensorflow():
        from fmnist.training import trainer  # only now, because TensorFlow takes seconds to import

    assert config.training.threads is not None
    trainer.use_threads(config.training.threads)
    if original:
        same = "code, libraries, machine and data are the same"
        told = differences(original, config, dataset) or [same]
        log.info("\n".join(f"run {original.info.run_id}: {line}" for line in told))
    study = until_answered(lambda: resume.current_study(store), patience)
    if earlier:
        resume.check_same(earlier, dataset)
        resume.log_into(Path(config.output_dir))
    elif study:
        earlier = until_answered(
            lambda: resume.of_study(store, study, config, dataset), patience
        )
    if earlier and earlier.finished:
        log.info(f"{config.model.name}, seed {config.seed}: trained before, run {earlier.run_id}")
        return Outcome(earlier.run_id, earlier.run.data.metrics)
    return _trained(earlier.config if earlier else config, dataset, store, study, earlier, original)


def with_threads(config: Config) -> Config:
    """Return the configuration with the number of threads that it leaves open.

    A job beside others has one, however many run at once: its weights depend on the number.
    """
    threads = config.training.threads or (1 if jobs.at_once() else usable_processors())
    return dataclasses.replace(
        config, training=dataclasses.replace(config.training, threads=threads)
    )


def _trained(
    config: Config,
    dataset: Dataset,
    store: Store,
    study: str | None,
    earlier: Earlier | None,
    original: Run | None,
) -> Result:
    """Train, or go on, and record it."""
    from fmnist.training import trainer
    from fmnist.training.state import FILE, Snapshot

    model = trainer.compiled_model(config, dataset)
    callbacks = trainer.user_callbacks(config, dataset)
    started = time.perf_counter()
    program = trainer.program_for(model, dataset, config, callbacks)
    log.info(
        f"{config.model.name}, seed {config.seed}: {model.count_params():,} parameters, "
        f"{len(dataset.train):,} training images of {dataset.name} from "
        + dataset.source.replace(str(Path.home()), "~")
    )
    begun = earlier.run if earlier else None
    opened = tracked_run.tracked_run(store, config, dataset, study, begun, original)
    with sigterm_raises(), opened as tracked:
        snapshot = Snapshot.load(Path(config.output_dir), earlier.run_id) if earlier else None
        if earlier:
            done = snapshot.epochs if snapshot else 0
            log.info(f"run {earlier.run_id} goes on after epoch {done} of {config.training.epochs}")
        fitted = trainer.fit(model, dataset, config, callbacks, program, tracked.run_id, snapshot)
        seconds = time.perf_counter() - started
        if snapshot:
            seconds += sum(fitted.history["epoch_seconds"][: snapshot.epochs])
        scores, digests = trainer.evaluate(model, dataset, fitted, callbacks)
        scores |= {"fit_seconds": seconds, "parameters": model.count_params()}
        result = Result(tracked.run_id, scores, model, fitted.history, digests)
        predictions = Predictions(
            dataset.validation.labels,
            trainer.predict(model, dataset.validation),
            tuple(dataset.class_names),
        )
        show(result)
        tracked.outbox.insist(lambda: record(result, dataset, predictions))
    Path(config.output_dir, FILE).unlink(missing_ok=True)
    log.info(store.look_at(tracked.run))
    return result


def record(result: Result, dataset: Dataset, predictions: Predictions) -> None:
    """Log scores, digests, model, validation predictions and pictures to the active run.

    Done a second time, it leaves the same.

    Args:
        result: of the run.
        dataset: which it trained on.
        predictions: for its validation part.
    """
    from fmnist.reports import run_plots  # only now, so that the first epoch does not wait for matplotlib

    tracked_run.log_missing_metrics(result.run_id, result.scores)
    tracked_run.log_digests(result.digests)
    mlflow.set_tag(MLFLOW_RUN_NOTE, result.summary)
    model.log_model(result.model, dataset)
    tracked_run.log_predictions(predictions)
    labels, names = predictions.labels, predictions.class_names
    figures = {
        "learning_curves": run_plots.learning_curves(result.history, result.scores.get("best_epoch")),
        "confusion_matrix": run_plots.confusion_matrix(labels, predictions.classes, names),
        "confident_mistakes": run_plots.confident_mistakes(
            dataset.validation.images, labels, predictions.probabilities, names
        ),
    }
    for name, figure in figures.items():
        mlflow.log_figure(figure, f"plots/{name}.png")


def show(result: Result) -> None:
    """Print the table of scores."""
    epochs = {"last": len(result.history["loss"]), "best": result.scores.get("best_epoch")}
    rows = [
        [f"{weights} (epoch {epochs[weights]})"]
        + [result.scores[f"{weights}_{name}"] for name in SCORES]
        for weights in ("best", "last")
        if epochs[weights]
    ]
    log.info("\n%s\n", table(["weights", *SCORES], rows))
