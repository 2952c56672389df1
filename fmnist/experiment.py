"""One run, told in order: data, model, fit, scores, record."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import mlflow
import numpy as np

from fmnist import plots, tracking
from fmnist.callbacks import EpochMetrics, ProgressLine
from fmnist.config import Config, create
from fmnist.data import Dataset
from fmnist.errors import ConfigError, sigterm_raises
from fmnist.models import build
from fmnist.store import open_store
from fmnist.terminal import SCORES, table

SCORING_BATCH = 1000
MEASURED = ("val_loss", "val_accuracy", "loss", "accuracy")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a run made.

    `scores` holds `{best,last}_{val,test}_{loss,accuracy}` and `best_epoch`: "last" are the
    weights after the last epoch, "best" those of the best checkpoint. Without a checkpoint there
    is no "best".
    """

    run_id: str
    objective: float
    scores: dict[str, float]
    history: dict[str, list[float]]
    model: keras.Model


def run(config: Config) -> Result:
    """Train one network and record everything about it.

    Nothing is tracked before configuration, data, model and store are known to be good.

    Raises:
        FmnistError: if the configuration, the data or the store cannot be used, or if training
            diverged.
    """
    store = open_store(config.tracking)
    dataset = create("data", config.data)
    if config.training.batch_size > len(dataset.train):
        raise ConfigError(
            f"training.batch_size={config.training.batch_size}: must be at most the "
            f"{len(dataset.train)} training images"
        )
    model = compiled_model(config, dataset)
    callbacks = user_callbacks(config)
    log.info(
        f"{config.model.name}, seed {config.seed}: {model.count_params():,} parameters, "
        f"{len(dataset.train):,} training images of {dataset.name} from {dataset.source}"
    )
    with sigterm_raises(), tracking.tracked_run(store, config, dataset) as tracked:
        history = fit(model, dataset, config, callbacks)
        result = evaluate(tracked.info.run_id, model, dataset, history, callbacks)
        record(result, dataset)
    show(result, store.ui_commands(tracked))
    return result


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


def user_callbacks(config: Config) -> list[keras.callbacks.Callback]:
    """Build the callbacks of the configuration.

    Raises:
        ConfigError: if one cannot be built, or monitors what is not measured.
    """
    callbacks = {name: create(f"callbacks.{name}", node) for name, node in config.callbacks.items()}
    for name, callback in callbacks.items():
        monitor = getattr(callback, "monitor", "val_loss")
        if monitor not in MEASURED:
            raise ConfigError(
                f"callbacks.{name}.monitor={monitor}: choose one of {', '.join(MEASURED)}"
            )
    return list(callbacks.values())


def fit(
    model: keras.Model,
    dataset: Dataset,
    config: Config,
    callbacks: Sequence[keras.callbacks.Callback],
) -> dict[str, list[float]]:
    """Train, and return the value of each metric after each epoch."""
    history: dict[str, list[float]] = model.fit(
        dataset.train.images,
        dataset.train.labels,
        batch_size=config.training.batch_size,
        epochs=config.training.epochs,
        validation_data=(dataset.validation.images, dataset.validation.labels),
        validation_batch_size=SCORING_BATCH,
        callbacks=[EpochMetrics(), *callbacks, ProgressLine()],
        verbose=0,
    ).history
    return history


def evaluate(
    run_id: str,
    model: keras.Model,
    dataset: Dataset,
    history: Mapping[str, list[float]],
    callbacks: Sequence[keras.callbacks.Callback],
) -> Result:
    """Score the last weights and the best checkpoint, on validation and, only now, on test."""
    scores = score(model, dataset, "last")
    checkpoint = best_checkpoint(callbacks)
    if checkpoint is None:
        return Result(run_id, scores["last_val_accuracy"], scores, dict(history), model)
    best_model = keras.models.load_model(checkpoint.filepath)
    scores |= score(best_model, dataset, "best")
    scores["best_epoch"] = history[checkpoint.monitor].index(checkpoint.best) + 1
    return Result(run_id, scores["best_val_accuracy"], scores, dict(history), best_model)


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
        part = dataset.parts[name]
        values = model.evaluate(
            part.images, part.labels, batch_size=SCORING_BATCH, verbose=0, return_dict=True
        )
        scores |= {f"{weights}_{name}_{metric}": values[metric] for metric in ("loss", "accuracy")}
    return scores


def record(result: Result, dataset: Dataset) -> None:
    """Log scores, model and pictures to the active run; the pictures show validation only."""
    mlflow.log_metrics(result.scores)
    tracking.log_model(result.model, dataset)
    lines: list[str] = []
    result.model.summary(print_fn=lines.append, line_length=100)
    mlflow.log_text("\n".join(lines), "model_summary.txt")
    validation, names = dataset.validation, dataset.class_names
    probabilities = result.model.predict(validation.images, batch_size=SCORING_BATCH, verbose=0)
    best_epoch = result.scores.get("best_epoch")
    for figure, name in (
        (plots.learning_curves(result.history, best_epoch), "learning_curves"),
        (
            plots.confusion_matrix(validation.labels, np.argmax(probabilities, axis=1), names),
            "confusion_matrix",
        ),
        (
            plots.confident_mistakes(validation.images, validation.labels, probabilities, names),
            "confident_mistakes",
        ),
    ):
        mlflow.log_figure(figure, f"plots/{name}.png")


def show(result: Result, ui_commands: Sequence[str]) -> None:
    """Print the table of scores and how to see the run in MLflow's UI."""
    epochs = {"last": len(result.history["loss"]), "best": result.scores.get("best_epoch")}
    rows = [
        [f"{weights} (epoch {epochs[weights]})"]
        + [result.scores[f"{weights}_{name}"] for name in SCORES]
        for weights in ("best", "last")
        if epochs[weights]
    ]
    log.info("\n%s\n", table(["weights", *SCORES], rows))
    log.info("look at it:  " + "\n             ".join(ui_commands))
