"""One run, told in order: prepare, train, record."""

import dataclasses
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist.common.errors import ConfigError
from fmnist.common.exits import sigterm_raises
from fmnist.common.startup import importing_tensorflow
from fmnist.config.instantiate import instantiate
from fmnist.config.schema import Config
from fmnist.data.datasets import Dataset
from fmnist.evidence.predictions import VALIDATION, Predictions
from fmnist.runs import closing_lines, resume
from fmnist.tracking import run_log, tag
from fmnist.tracking.job_context import JobContext
from fmnist.tracking.model import log_model
from fmnist.tracking.provenance import run_differences
from fmnist.tracking.retry import call_with_retry
from fmnist.tracking.run_inputs import RunInputs
from fmnist.tracking.store import Run, open_store
from fmnist.tracking.tracked_run import tracked_run
from fmnist.tracking.training_log import TrainingLog
from fmnist.training import devices

if TYPE_CHECKING:
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
    """A run that was trained now."""

    model: Any  # a `keras.Model` with the best weights; the last ones if no checkpoint was kept
    history: Mapping[str, list[float]]  # the value of each metric after each epoch
    digests: Mapping[str, object]  # SHA-256 of the `last` and `best` weights, and by `epochs`
    predictions: Predictions  # of the model for the validation part
    pruned_after: int | None  # the epoch after which a search ended the trial

    @property
    def summary(self) -> str:
        """The description of the run; without the test accuracy, by which nobody shall choose."""
        epoch = self.scores.get("best_epoch", len(self.history["loss"]))
        return f"val_accuracy {self.objective:.2%} after epoch {epoch:.0f}"


def run(
    config: Config,
    context: JobContext | None = None,
    pruner: "Pruner | None" = None,
    original: Run | None = None,
) -> RunResult:
    """Train one network, or repeat the run `original`, and record everything about it.

    Nothing is tracked before store, data, model and callbacks are known to be good. A run that
    was stopped resumes; a finished job of a sweep is not trained again.
    """
    inputs = prepare(config, context or JobContext(), original)
    earlier = inputs.earlier
    if earlier and earlier.info.status == "FINISHED":
        run_id = earlier.info.run_id
        log.info(f"{config.model.name}, seed {config.seed}: trained before, run {run_id}")
        return RunResult(run_id, earlier.data.metrics)
    return train_and_record(inputs, pruner)


def prepare(config: Config, context: JobContext, original: Run | None) -> RunInputs:
    """Open the store, load the data, and find the run to resume, if there is one."""
    devices.check_environment()
    if config.promote and context.study_run_id is None:
        raise ConfigError("promote=true: needs a sweep over several seeds (-m)")
    study = context.study_run_id
    # The store of a sweep was there when the sweep began: a job waits for it.
    timeout = config.tracking.timeout if study else 0
    store = call_with_retry(lambda: open_store(config.tracking, study), timeout)
    earlier = None
    if config.resume is not None:
        earlier = resume.named(store, config, context)
        config = resume.recorded_config(earlier, config.tracking)
    config = with_threads(config, context)
    dataset = load_dataset(config)
    start_tensorflow(config)
    if original:
        log.info(_compared(original, config, dataset))
    if earlier:
        resume.check_same(earlier, config, dataset)
        resume.log_into(Path(config.output_dir), context)
    elif study:
        find = partial(resume.of_study, store, study, config, dataset)
        earlier = call_with_retry(find, timeout)
        config = resume.in_folder_of(earlier, config) if earlier else config
    inputs = RunInputs(store, config, dataset, context, earlier, original)
    if context.git is None and inputs.git.problem:  # a study has said it once for all its jobs
        log.warning(inputs.git.problem)
    return inputs


def with_threads(config: Config, context: JobContext) -> Config:
    """Return the configuration with the number of threads that it leaves open."""
    threads = config.training.threads or context.threads or devices.usable_processors()
    training = dataclasses.replace(config.training, threads=threads)
    return dataclasses.replace(config, training=training)


def load_dataset(config: Config) -> Dataset:
    """Load the data set; refuse a batch that is larger than its training part."""
    dataset: Dataset = instantiate("data", config.data)
    if config.training.batch_size > len(dataset.train):
        raise ConfigError(
            f"training.batch_size={config.training.batch_size}: must be at most the "
            f"{len(dataset.train)} training images"
        )
    return dataset


def start_tensorflow(config: Config) -> None:
    """Import TensorFlow, which takes seconds, and set its threads."""
    with importing_tensorflow():
        import fmnist.training.evaluation  # noqa: F401
    assert config.training.threads is not None
    devices.use_threads(config.training.threads)
    devices.use_keras_defaults()


def _compared(original: Run, config: Config, dataset: Dataset) -> str:
    same = "code, libraries, machine and data are the same"
    lines = run_differences(original, config, dataset) or [same]
    return "\n".join(f"run {original.info.run_id}: {line}" for line in lines)


def train_and_record(inputs: RunInputs, pruner: "Pruner | None") -> TrainedRun:
    """Train or resume while each epoch is tracked; then score and record the result."""
    from fmnist.training import state, trainer

    started, folder = time.perf_counter(), Path(inputs.config.output_dir)
    prepared = trainer.prepare(inputs.config, inputs.dataset)
    log.info(_headline(inputs, prepared.model.count_params()))
    with sigterm_raises(), tracked_run(inputs) as tracked:
        snapshot = state.Snapshot.load(folder, tracked.run_id) if inputs.earlier else None
        epochs, done = inputs.config.training.epochs, snapshot.epochs if snapshot else 0
        if inputs.earlier:
            log.info(f"run {tracked.run_id} resumes after epoch {done} of {epochs}")
        observer = TrainingLog(tracked.run_id, tracked.queue)
        fitted = trainer.fit(prepared, tracked.run_id, snapshot, observer, pruner)
        seconds = time.perf_counter() - started
        seconds += sum(fitted.history.get("epoch_seconds", [])[:done])
        result = score(tracked.run_id, prepared, fitted, seconds)
        log.info("\n%s\n", closing_lines.scores(result, inputs.config))
        tracked.queue.call(partial(record, result, inputs.dataset))
    state.remove(folder)
    log.info(closing_lines.next_commands(inputs, tracked.run))
    return result


def _headline(inputs: RunInputs, parameters: int) -> str:
    config, dataset = inputs.config, inputs.dataset
    home, source = f"{Path.home()}{os.sep}", dataset.source
    if source.startswith(home) and len(home) > 2:  # the home of some containers is "/"
        source = f"~{os.sep}{source.removeprefix(home)}"
    return (
        f"{config.model.name}, seed {config.seed}: {parameters:,} parameters, "
        f"{len(dataset.train):,} training images of {dataset.name} from {source}"
    )


def score(run_id: str, prepared: "Prepared", fitted: "Fitted", seconds: float) -> TrainedRun:
    """Score the weights, on validation and, only now, on test; the best ones stay in the model."""
    from fmnist.training import evaluation

    model, dataset = prepared.model, prepared.dataset
    scores, digests = evaluation.evaluate(prepared, fitted)
    scores |= {"fit_seconds": seconds, "parameters": model.count_params()}
    predictions = Predictions(
        dataset.validation.labels,
        evaluation.predict(model, dataset.validation),
        tuple(dataset.class_names),
    )
    return TrainedRun(
        run_id, scores, model, fitted.history, digests, predictions, fitted.pruned_after
    )


def record(result: TrainedRun, dataset: Dataset) -> None:
    """Log scores, digests, model, predictions and pictures; a second time leaves the same."""
    run_id, pruned = result.run_id, result.pruned_after
    tags = {tag.NOTE: result.summary} | ({tag.STOPPED: str(pruned)} if pruned else {})
    run_log.log_missing_metrics(run_id, result.scores)
    run_log.log_digests(run_id, result.digests)
    run_log.set_tags(run_id, tags)
    log_model(result.model, dataset)
    run_log.log_file(run_id, VALIDATION, result.predictions.save)
    run_log.log_pictures(run_id, pictures(result, dataset))


def pictures(result: TrainedRun, dataset: Dataset) -> dict[str, bytes]:
    """Draw the run; return PNGs by the names of the artifacts."""
    # Only now: the first epoch does not wait for matplotlib.
    from fmnist.reports import class_plots, run_plots
    from fmnist.reports.pictures import Drawing, rendered

    predictions, best_epoch = result.predictions, result.scores.get("best_epoch")
    labels, names = predictions.labels, predictions.class_names
    drawings: dict[str, Drawing] = {
        "learning_curves": partial(run_plots.learning_curves, result.history, best_epoch),
        "confusion_matrix": partial(
            class_plots.confusion_matrix, labels, predictions.classes, names
        ),
        "confident_mistakes": partial(
            run_plots.confident_mistakes,
            *(dataset.validation.images, labels, predictions.probabilities, names),
        ),
    }
    return rendered({f"plots/{name}.png": draw for name, draw in drawings.items()})
