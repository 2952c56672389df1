"""One run, told in order: prepare, train, record."""

import dataclasses
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from fmnist.common.errors import ConfigError
from fmnist.common.exits import sigterm_raises
from fmnist.common.startup import importing_tensorflow
from fmnist.common.terminal import table
from fmnist.config.instantiate import instantiate
from fmnist.config.schema import SCORES, Config
from fmnist.data.datasets import Dataset
from fmnist.evidence.predictions import Predictions
from fmnist.runs import resume
from fmnist.runs.resume import ResumableRun
from fmnist.tracking import model as tracked_model
from fmnist.tracking import tracked_run
from fmnist.tracking.delivery_queue import retry_until
from fmnist.tracking.job_context import JobContext
from fmnist.tracking.run_differences import run_differences
from fmnist.tracking.store import Store, open_store
from fmnist.tracking.tags import STOPPED_TAG
from fmnist.tracking.training_log import TrainingLog
from fmnist.training import devices

if TYPE_CHECKING:
    import keras

    from fmnist.training.callbacks import Pruner
    from fmnist.training.trainer import Fitted, Prepared

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """The scores of a finished run, trained now or before."""

    run_id: str
    scores: Mapping[str, float]

    @property
    def objective(self) -> float:
        """What a sweeper maximises: the validation accuracy of the best checkpoint."""
        return self.scores.get("best_val_accuracy", self.scores["last_val_accuracy"])


@dataclass(frozen=True)
class TrainedRun(RunResult):
    """A run that was trained now.

    Attributes:
        model: with the best weights, or the last ones where no checkpoint was kept.
        history: the value of each metric after each epoch.
        digests: SHA-256 (hexadecimal) of the `last` and the `best` weights, and for each of the
            `epochs` of its `weights` and `metrics`.
        predictions: of the model for the validation part.
        pruned_after: the epoch after which a search ended the trial; None: it did not.
    """

    model: "keras.Model"
    history: Mapping[str, list[float]]
    digests: Mapping[str, object]
    predictions: Predictions
    pruned_after: int | None

    @property
    def summary(self) -> str:
        """The description of the run; without the test accuracy, by which nobody shall choose."""
        epoch = self.scores.get("best_epoch", len(self.history["loss"]))
        return f"val_accuracy {self.objective:.2%} after epoch {epoch:.0f}"


@dataclass(frozen=True)
class Plan:
    """All that a run begins with; nothing is tracked yet.

    Attributes:
        earlier: the run itself, if it was begun before.
        original: the run that it shall reproduce.
    """

    config: Config
    context: JobContext
    store: Store
    dataset: Dataset
    earlier: ResumableRun | None
    original: Run | None


def run(
    config: Config,
    context: JobContext | None = None,
    pruner: "Pruner | None" = None,
    original: Run | None = None,
) -> RunResult:
    """Train one network and record everything about it.

    Nothing is tracked before store, data, model and callbacks are known to be good. A run that
    was stopped goes on; a job of a sweep that was finished before is not trained again.

    Args:
        config: of the run.
        context: of the job; None: Hydra did not start it.
        pruner: of the search that the job is a trial of.
        original: the run that this one shall reproduce.

    Raises:
        FmnistError: if the configuration, the data or the store cannot be used, or if training
            diverged.
    """
    plan = prepare(config, context or JobContext(), original)
    if plan.earlier and plan.earlier.finished:
        log.info(
            f"{config.model.name}, seed {config.seed}: trained before, run {plan.earlier.run_id}"
        )
        return RunResult(plan.earlier.run_id, plan.earlier.run.data.metrics)
    return train_and_record(plan, pruner)


def prepare(config: Config, context: JobContext, original: Run | None) -> Plan:
    """Open the store, load the data, and find the run that goes on, if there is one."""
    if config.promote and context.study_run_id is None:
        raise ConfigError("promote=true: needs a sweep over several seeds (-m)")
    # The store of a sweep was there when the sweep began: a job waits for it.
    timeout = config.tracking.timeout if context.study_run_id else 0
    store = retry_until(lambda: open_store(config.tracking), timeout)
    earlier = resume.named(store, config, context) if config.resume is not None else None
    config = with_threads(earlier.config if earlier else config, context)
    dataset = load_dataset(config)
    with importing_tensorflow():
        import fmnist.training.trainer  # noqa: F401  only now: TensorFlow takes seconds to import
    assert config.training.threads is not None
    devices.use_threads(config.training.threads)
    if original:
        same = "code, libraries, machine and data are the same"
        lines = run_differences(original, dataset) or [same]
        log.info("\n".join(f"run {original.info.run_id}: {line}" for line in lines))
    if earlier:
        resume.check_same(earlier, dataset)
        resume.log_into(Path(config.output_dir), context)
    elif study := context.study_run_id:
        earlier = retry_until(lambda: resume.of_study(store, study, config, dataset), timeout)
    return Plan(earlier.config if earlier else config, context, store, dataset, earlier, original)


def with_threads(config: Config, context: JobContext) -> Config:
    """Return the configuration with the number of threads that it leaves open.

    A job beside others has one, however many run at once: its weights depend on the number.
    """
    default = 1 if context.jobs_at_once else devices.usable_processors()
    training = dataclasses.replace(config.training, threads=config.training.threads or default)
    return dataclasses.replace(config, training=training)


def load_dataset(config: Config) -> Dataset:
    """Load the data set.

    Raises:
        DataError: if it cannot be had.
        ConfigError: if a batch would be larger than its training part.
    """
    dataset: Dataset = instantiate("data", config.data)
    if config.training.batch_size > len(dataset.train):
        raise ConfigError(
            f"training.batch_size={config.training.batch_size}: must be at most the "
            f"{len(dataset.train)} training images"
        )
    return dataset


def train_and_record(plan: Plan, pruner: "Pruner | None") -> TrainedRun:
    """Train, or go on, while each epoch is tracked; then record what came of it."""
    from fmnist.training import state, trainer

    started = time.perf_counter()
    prepared = trainer.prepare(plan.config, plan.dataset)
    log.info(_headline(plan, prepared.model))
    folder, earlier = Path(plan.config.output_dir), plan.earlier
    with (
        sigterm_raises(),
        tracked_run.tracked_run(
            plan.store,
            plan.config,
            plan.dataset,
            plan.context,
            earlier.run if earlier else None,
            plan.original,
        ) as tracked,
    ):
        snapshot = state.Snapshot.load(folder, earlier.run_id) if earlier else None
        if earlier:
            done = snapshot.epochs if snapshot else 0
            epochs = plan.config.training.epochs
            log.info(f"run {earlier.run_id} goes on after epoch {done} of {epochs}")
        observer = TrainingLog(tracked.run_id, tracked.queue)
        fitted = trainer.fit(prepared, tracked.run_id, snapshot, observer, pruner)
        seconds = time.perf_counter() - started
        if snapshot:
            seconds += sum(fitted.history["epoch_seconds"][: snapshot.epochs])
        result = score(tracked.run_id, prepared, fitted, seconds)
        show(result)
        tracked.queue.call_with_retry(partial(record, result, plan.dataset))
    state.remove(folder)
    log.info(plan.store.look_at(tracked.run))
    return result


def _headline(plan: Plan, model: "keras.Model") -> str:
    config, dataset = plan.config, plan.dataset
    source = dataset.source.replace(str(Path.home()), "~")
    return (
        f"{config.model.name}, seed {config.seed}: {model.count_params():,} parameters, "
        f"{len(dataset.train):,} training images of {dataset.name} from {source}"
    )


def score(run_id: str, prepared: "Prepared", fitted: "Fitted", seconds: float) -> TrainedRun:
    """Score the weights, on validation and, only now, on test; the best ones stay in the model."""
    from fmnist.training import trainer

    model, dataset = prepared.model, prepared.dataset
    scores, digests = trainer.evaluate(prepared, fitted)
    scores |= {"fit_seconds": seconds, "parameters": model.count_params()}
    predictions = Predictions(
        dataset.validation.labels,
        trainer.predict(model, dataset.validation),
        tuple(dataset.class_names),
    )
    return TrainedRun(
        run_id, scores, model, fitted.history, digests, predictions, fitted.pruned_after
    )


def record(result: TrainedRun, dataset: Dataset) -> None:
    """Log scores, digests, model, validation predictions and pictures to the active run.

    Done a second time, it leaves the same.
    """
    from fmnist.reports import (
        class_plots,
        run_plots,
    )  # only now: the first epoch does not wait for matplotlib

    tracked_run.log_missing_metrics(result.run_id, result.scores)
    tracked_run.log_digests(result.digests)
    mlflow.set_tag(MLFLOW_RUN_NOTE, result.summary)
    if result.pruned_after:
        mlflow.set_tag(STOPPED_TAG, result.pruned_after)
    tracked_model.log_model(result.model, dataset)
    tracked_run.log_predictions(result.predictions)
    labels, names = result.predictions.labels, result.predictions.class_names
    figures = {
        "learning_curves": run_plots.learning_curves(
            result.history, result.scores.get("best_epoch")
        ),
        "confusion_matrix": class_plots.confusion_matrix(labels, result.predictions.classes, names),
        "confident_mistakes": run_plots.confident_mistakes(
            dataset.validation.images, labels, result.predictions.probabilities, names
        ),
    }
    for name, figure in figures.items():
        mlflow.log_figure(figure, f"plots/{name}.png")


def show(result: TrainedRun) -> None:
    """Print the table of scores."""
    epochs = {"best": result.scores.get("best_epoch"), "last": len(result.history["loss"])}
    rows = [
        [f"{weights} (epoch {epoch})", *(result.scores[f"{weights}_{name}"] for name in SCORES)]
        for weights, epoch in epochs.items()
        if epoch
    ]
    log.info("\n%s\n", table(["weights", *SCORES], rows))
