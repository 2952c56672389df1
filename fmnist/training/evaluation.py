"""What the trained weights are worth: scores, digests, predictions."""

import logging

import keras
import numpy as np
from numpy.typing import NDArray

from fmnist.common.errors import one_line
from fmnist.data.datasets import Dataset, Part
from fmnist.training.batches import scoring_batches
from fmnist.training.callbacks import shortest
from fmnist.training.state import digest_of_weights
from fmnist.training.trainer import Fitted, Prepared

log = logging.getLogger(__name__)


def evaluate(prepared: Prepared, fitted: Fitted) -> tuple[dict[str, float], dict[str, object]]:
    """Score the last and the best weights, on validation and, only now, on test.

    Leaves the best weights, if there is a checkpoint of them, in the model.

    Returns:
        `{best,last}_{val,test}_{loss,accuracy}` with `best_epoch`, counted from 1; and the SHA-256
        of the `last` and `best` weights with the digests of all `epochs`. Without a checkpoint
        there is no "best".
    """
    model, dataset = prepared.model, prepared.dataset
    scores = score(model, dataset, "last")
    digests: dict[str, object] = {"last": digest_of_weights(model), "epochs": fitted.digests}
    if best_epoch := _load_best(prepared, fitted):
        scores |= score(model, dataset, "best")
        scores["best_epoch"] = best_epoch
        digests["best"] = digest_of_weights(model)
    return scores, digests


def _load_best(prepared: Prepared, fitted: Fitted) -> int | None:
    """Load the weights of the best epoch, and return its number; None, and a warning, if none."""
    checkpoints = (c for c in prepared.callbacks if isinstance(c, keras.callbacks.ModelCheckpoint))
    checkpoint = next((c for c in checkpoints if c.save_best_only), None)
    if checkpoint is None:
        return None
    values, last = fitted.history[checkpoint.monitor], prepared.model.get_weights()
    try:
        if checkpoint.best not in values:
            raise ValueError(f"{checkpoint.monitor} was never better than {checkpoint.best}")
        epoch = values.index(checkpoint.best)
        logs = {name: values[epoch] for name, values in fitted.history.items()}
        prepared.model.load_weights(checkpoint.filepath.format(epoch=epoch + 1, **logs))
        return epoch + 1
    except Exception as error:  # whatever Keras makes of a damaged file
        prepared.model.set_weights(last)
        log.warning("no best checkpoint, so the last weights are kept: %s", one_line(error))
        return None


def score(model: keras.Model, dataset: Dataset, weights: str) -> dict[str, float]:
    """Return `{weights}_{val,test}_{loss,accuracy}`."""
    scores: dict[str, float] = {}
    for name in ("val", "test"):
        batches = scoring_batches(dataset.parts[name])
        values = model.evaluate(batches, verbose=0, return_dict=True)
        for metric in ("loss", "accuracy"):
            scores[f"{weights}_{name}_{metric}"] = shortest(values[metric])
    return scores


def predict(model: keras.Model, part: Part) -> NDArray[np.float32]:
    """Return the probabilities (n, classes)."""
    probabilities: NDArray[np.float32] = model.predict(scoring_batches(part), verbose=0)
    return probabilities
