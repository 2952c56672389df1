"""One run, told in order: store, data, model, fit, scores, record."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from fmnist import model_artifact, tracking
from fmnist.config import Config, create
from fmnist.data import Dataset
from fmnist.errors import ConfigError, sigterm_raises
from fmnist.predictions import Predictions
from fmnist.store import open_store
from fmnist.terminal import SCORES, table, without_modules, without_start_up_notices

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a run made: the model with its best weights, its scores and the way there."""

    run_id: str
    model: "keras.Model"
    scores: dict[str, float]
    history: dict[str, list[float]]

    @property
    def objective(self) -> float:
        """What a sweeper maximises: the validation accuracy of the best checkpoint."""
        return self.scores.get("best_val_accuracy", self.scores["last_val_accuracy"])

    @property
    def summary(self) -> str:
        """The description of the run; without the test accuracy, by which nobody shall choose."""
        epoch = self.scores.get("best_epoch", len(self.history["loss"]))
        return f"val_accuracy {self.objective:.2%} after epoch {epoch:.0f}"


def run(config: Config) -> Result:
    """Train one network and record everything about it.

    Nothing is tracked before store, data, model and callbacks are known to be good.

    Raises:
        FmnistError: if the configuration, the data or the store cannot be used, or if training
            diverged.
    """
    store = open_store(config.tracking)
    dataset: Dataset = create("data", config.data)
    if config.training.batch_size > len(dataset.train):
        raise ConfigError(
            f"training.batch_size={config.training.batch_size}: must be at most the "
            f"{len(dataset.train)} training images"
        )
    with without_start_up_notices(), without_modules("matplotlib", "sklearn"):
        from fmnist import training  # only now, because TensorFlow takes seconds to import

    model = training.compiled_model(config, dataset)
    callbacks = training.user_callbacks(config, dataset)
    started = time.perf_counter()
    program = training.program_for(model, dataset, config, callbacks)
    log.info(
        f"{config.model.name}, seed {config.seed}: {model.count_params():,} parameters, "
        f"{len(dataset.train):,} training images of {dataset.name} from "
        + dataset.source.replace(str(Path.home()), "~")
    )
    with sigterm_raises(), tracking.tracked_run(store, config, dataset) as tracked:
        history = training.fit(model, dataset, config, callbacks, program)
        mlflow.log_metric("fit_seconds", time.perf_counter() - started)
        mlflow.log_metric("parameters", model.count_params())
        scores = training.evaluate(model, dataset, history, callbacks)
        result = Result(tracked.info.run_id, model, scores, history)
        predictions = Predictions(
            dataset.validation.labels,
            training.predict(model, dataset.validation),
            tuple(dataset.class_names),
        )
        record(result, dataset, predictions)
    show(result, store.look_at(tracked))
    return result


def record(result: Result, dataset: Dataset, predictions: Predictions) -> None:
    """Log scores, model, validation predictions and pictures of these to the active run.

    Args:
        result: of the run.
        dataset: which it trained on.
        predictions: for its validation part.
    """
    from fmnist import plots  # only now, so that the first epoch does not wait for matplotlib

    mlflow.log_metrics(result.scores)
    mlflow.set_tag(MLFLOW_RUN_NOTE, result.summary)
    model_artifact.log_model(result.model, dataset)
    tracking.log_predictions(predictions)
    labels, names = predictions.labels, predictions.class_names
    figures = {
        "learning_curves": plots.learning_curves(result.history, result.scores.get("best_epoch")),
        "confusion_matrix": plots.confusion_matrix(labels, predictions.classes, names),
        "confident_mistakes": plots.confident_mistakes(
            dataset.validation.images, labels, predictions.probabilities, names
        ),
    }
    for name, figure in figures.items():
        mlflow.log_figure(figure, f"plots/{name}.png")


def show(result: Result, look_at: str) -> None:
    """Print the table of scores and how to see the run in MLflow's UI."""
    epochs = {"last": len(result.history["loss"]), "best": result.scores.get("best_epoch")}
    rows = [
        [f"{weights} (epoch {epochs[weights]})"]
        + [result.scores[f"{weights}_{name}"] for name in SCORES]
        for weights in ("best", "last")
        if epochs[weights]
    ]
    log.info("\n%s\n", table(["weights", *SCORES], rows))
    log.info(look_at)
