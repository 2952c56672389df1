"""The validation: what a model must pass, as loaded from the store, whatever the evidence says."""

import io
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
from mlflow.entities import LifecycleStage, Run

from fmnist.common.errors import ModelError
from fmnist.evidence.comparison import METRICS, StudyDesign, Variant
from fmnist.evidence.predictions import VALIDATION, Predictions, accuracy_by_class
from fmnist.registry.decision import Check, Evidence
from fmnist.registry.model_checks import ModelFiles, check_in_fresh_process, until_failure
from fmnist.tracking import tag
from fmnist.tracking.artifacts import artifact
from fmnist.tracking.model import SHOWN, verified
from fmnist.tracking.run_inputs import data_of_run
from fmnist.tracking.store import if_there


def validate(uri: str, run_id: str, evidence: Evidence) -> list[Check]:
    """Check the model at `uri` of a run, and stop at the first check that it fails.

    Raises:
        FmnistError: if the run's configuration is missing or was tampered with, or if its data set
            cannot be loaded.
    """
    return until_failure(_checks(uri, run_id, evidence))


def check_seeds(variant: Variant, design: StudyDesign) -> Check:
    """Check that every run of a variant finished."""
    missing = [f"seed {seed} did not finish" for seed in design.seeds if seed not in variant.values]
    missing = missing or [f"{number} {status}" for status, number in variant.unfinished.items()]
    finding = ", ".join(missing) or f"{len(variant.values)} finished"
    return Check("seeds", not missing, f"{variant.name}: {finding}")


def _checks(uri: str, run_id: str, evidence: Evidence) -> Iterator[Check]:
    """Yield one check after the other; each relies on those before it."""
    run = if_there(mlflow.get_run, run_id)
    gone = run is None or run.info.lifecycle_stage != LifecycleStage.ACTIVE
    yield Check("run", not gone, f"run {run_id} " + ("was deleted" if gone else "exists"))
    assert run is not None
    if evidence.metric:
        yield _check_metric(run, evidence.metric)
    expected = run.data.tags.get(tag.MODEL_DIGEST, "none")
    try:
        with verified(uri, expected) as folder:
            yield Check("artifact", True, f"SHA-256 {expected[:SHOWN]}, as when it was trained")
            yield from _checks_of_files(folder, run)
    except ModelError as error:
        yield Check("artifact", False, str(error))
    if evidence.incumbent and evidence.criteria:
        predictions, incumbent = (predictions_of(i) for i in (run_id, evidence.incumbent.run_id))
        assert predictions is not None
        yield _check_classes(predictions, incumbent, evidence.criteria.max_class_drop)


def _checks_of_files(folder: Path, run: Run) -> Iterator[Check]:
    files = ModelFiles(str(folder), data_of_run(run), run.data.tags[tag.DATA])
    logged = predictions_of(run.info.run_id)
    if logged is None:
        yield Check("predictions", False, f"its run logged no {VALIDATION}")
    else:
        yield from check_in_fresh_process(files, logged)


def predictions_of(run_id: str) -> Predictions | None:
    """Return the predictions that a run logged for the validation images, if it did."""
    content = artifact(run_id, VALIDATION)
    return None if content is None else Predictions.load(io.BytesIO(content))


def _check_metric(run: Run, metric: str) -> Check:
    """Check that the logged model is the one that was scored; it may be the best checkpoint."""
    logged = next((name for name in METRICS if name in run.data.metrics), None)
    if logged == metric:
        return Check("chosen by", True, f"{metric}, which is the logged model's")
    return Check("chosen by", False, f"{metric} decided, but the logged model's is {logged}")


def _check_classes(
    predictions: Predictions, incumbent: Predictions | None, max_class_drop: float
) -> Check:
    if incumbent is None or not predictions.is_of_same_images(incumbent):
        return Check("classes", False, "there are no predictions of the incumbent to compare with")
    drops = accuracy_by_class(incumbent) - accuracy_by_class(predictions)
    worst = int(np.nanargmax(drops))
    finding = (
        f"{predictions.class_names[worst]}: {0.0 - 100 * drops[worst]:+.1f} points against the "
        f"incumbent's model, the largest drop of all classes; {-100 * max_class_drop:+.1f} is "
        "allowed"
    )
    return Check("classes", bool(drops[worst] <= max_class_drop), finding)
