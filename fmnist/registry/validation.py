"""The gate: what a model must pass, as loaded from the registry, whatever the evidence says."""

import io
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
from mlflow.entities import LifecycleStage, Run
from mlflow.models import Model

from fmnist.common.errors import ModelError
from fmnist.common.startup import importing_tensorflow
from fmnist.config.instantiate import instantiate
from fmnist.data.datasets import Dataset
from fmnist.evidence.comparison import METRICS
from fmnist.evidence.predictions import VALIDATION, Predictions, accuracy_by_class
from fmnist.registry.decision import Check
from fmnist.tracking.artifacts import artifact
from fmnist.tracking.model import DIGEST_TAG, SHOWN, load_pyfunc, verified
from fmnist.tracking.run_config import data_of_run
from fmnist.tracking.store import if_there


def examine(
    uri: str,
    run_id: str,
    metric: str | None,
    incumbent_run_id: str | None,
    max_class_drop: float = 0.0,
) -> list[Check]:
    """Check a model, and stop at the first check that it fails.

    Args:
        uri: of the model.
        run_id: of the run that trained it.
        metric: by which its variant was chosen; None: it was not.
        incumbent_run_id: of the run of the model that is the champion, or of the baseline; None:
            nothing to compare with.
        max_class_drop: the accuracy on no class may be lower than the incumbent's by more, a
            fraction.
    """
    done = []
    for check in _checks(uri, run_id, metric, incumbent_run_id, max_class_drop):
        done.append(check)
        if not check.passed:
            break
    return done


def _checks(
    uri: str, run_id: str, metric: str | None, incumbent_run_id: str | None, max_class_drop: float
) -> Iterator[Check]:
    """Yield one check after the other; each relies on those before it."""
    run = if_there(mlflow.get_run, run_id)
    gone = run is None or run.info.lifecycle_stage != LifecycleStage.ACTIVE
    yield Check("run", not gone, f"run {run_id} " + ("was deleted" if gone else "is there"))
    assert run is not None
    if metric:
        yield _is_of_metric(run, metric)
    expected = run.data.tags.get(DIGEST_TAG, "none")
    try:
        with verified(uri, expected) as folder:
            yield Check("artifact", True, f"SHA-256 {expected[:SHOWN]}, as when it was trained")
            yield from _checks_of_files(folder, run, incumbent_run_id, max_class_drop)
    except ModelError as error:
        yield Check("artifact", False, str(error))


def _checks_of_files(
    folder: Path, run: Run, incumbent_run_id: str | None, max_class_drop: float
) -> Iterator[Check]:
    dataset = dataset_of(run)
    yield _fingerprint(run, dataset)
    yield _signature(folder, dataset)
    logged = predictions_of(run.info.run_id)
    if logged is None:
        yield Check("predictions", False, f"its run logged no {VALIDATION}")
        return
    yield _reproduction(folder, dataset, logged, run)
    yield _named_answers(folder, dataset, logged)
    if incumbent_run_id:
        yield _class_drop(logged, predictions_of(incumbent_run_id), max_class_drop)


def dataset_of(run: Run) -> Dataset:
    """Load the data set that a run's recorded configuration names.

    Raises:
        FmnistError: if the configuration is missing or was tampered with, or if the data set
            cannot be loaded.
    """
    dataset: Dataset = instantiate("data", data_of_run(run))
    return dataset


def predictions_of(run_id: str) -> Predictions | None:
    """Return what a run logged of its model's answers for the validation images, if it did."""
    content = artifact(run_id, VALIDATION)
    return None if content is None else Predictions.load(io.BytesIO(content))


def _is_of_metric(run: Run, metric: str) -> Check:
    """The model that was logged is the best checkpoint where there is one."""
    own = next((name for name in METRICS if name in run.data.metrics), None)
    found = f"{metric}, which is the logged model's"
    if own != metric:
        found = f"{metric} decided, but the logged model's is {own}"
    return Check("chosen by", own == metric, found)


def _fingerprint(run: Run, dataset: Dataset) -> Check:
    expected = run.data.tags["data.fingerprint"]
    said = f"{dataset.name}, fingerprint {expected}"
    if dataset.fingerprint != expected:
        said = f"it was trained on other data: {said}, but here it is {dataset.fingerprint}"
    return Check("data", dataset.fingerprint == expected, said)


def _signature(folder: Path, dataset: Dataset) -> Check:
    signature = Model.load(str(folder)).signature
    found = [(str(t.type), tuple(t.shape)) for t in signature.inputs.inputs] if signature else []
    good = found == [("uint8", (-1, *dataset.image_shape))]
    return Check("signature", good, f"takes {found[0][0]} {found[0][1]}" if found else "has none")


def _reproduction(folder: Path, dataset: Dataset, logged: Predictions, run: Run) -> Check:
    with importing_tensorflow():
        from fmnist.training import trainer  # TensorFlow takes seconds to import
    from fmnist.training.devices import processor

    answers = trainer.predict(mlflow.keras.load_model(str(folder)), dataset.validation)
    if not np.array_equal(dataset.validation.labels, logged.labels):
        return Check("predictions", False, "those it logged are of other images")
    differ = (answers != logged.probabilities).any(axis=1).sum()
    images = len(answers)
    if not differ:
        return Check("predictions", True, f"for {images} validation images the same, bit for bit")
    trained_on = run.data.tags.get("processor", "an unknown processor")
    where = "" if trained_on == processor() else f" (on {processor()}; trained on {trained_on})"
    found = f"for {differ} of {images} validation images other than when it was trained{where}"
    return Check("predictions", False, found)


def _named_answers(folder: Path, dataset: Dataset, logged: Predictions) -> Check:
    """What is served gives the same answers, under the right names."""
    answers = load_pyfunc(folder).predict(dataset.validation.images)
    named = tuple(answers.columns) == dataset.class_names
    same = named and np.allclose(answers.to_numpy(), logged.probabilities, rtol=1e-3, atol=1e-5)
    found = "the same, by name of class" if same else "other answers"
    return Check("answers", bool(same), f"mlflow.pyfunc gives {found}")


def _class_drop(own: Predictions, incumbent: Predictions | None, limit: float) -> Check:
    if incumbent is None or not own.is_of_same_images(incumbent):
        return Check("classes", False, "there are no predictions of the incumbent to compare with")
    drops = accuracy_by_class(incumbent) - accuracy_by_class(own)
    worst = int(np.nanargmax(drops))
    found = (
        f"{own.class_names[worst]}: {0.0 - 100 * drops[worst]:+.1f} points against the incumbent's "
    )
    allowed = f"model, the largest fall of all classes; {-100 * limit:+.1f} is allowed"
    return Check("classes", bool(drops[worst] <= limit), found + allowed)
