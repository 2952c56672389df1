"""A finished run trained again, and whether the same came of it."""

import json
import math
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from fmnist.common.errors import ReproductionError
from fmnist.common.terminal import table
from fmnist.config.schema import EPOCH_METRICS, Tracking
from fmnist.runs.run import run as train
from fmnist.tracking.artifacts import artifact
from fmnist.tracking.run_config import config_of_run
from fmnist.tracking.store import Store, find_run
from fmnist.tracking.tags import STOPPED_TAG, SWEEP_TAG
from fmnist.tracking.tracked_run import DIGESTS

IDENTICAL, WITHIN_TOLERANCE, DIFFERENT = 0, 3, 4
"""Exit statuses; 1 and 2 are errors."""

VERDICTS = {
    IDENTICAL: "bit-for-bit identical",
    WITHIN_TOLERANCE: "the same within tolerance",
    DIFFERENT: "different",
}
VERDICT_TAG = "reproduction"  # of a run that repeats another: the verdict


@dataclass(frozen=True)
class Difference:
    """Where a metric of the two runs differs most; `relative` to the larger of the two values."""

    metric: str
    epoch: int
    original: float
    here: float

    @property
    def relative(self) -> float:
        """|original - here| / max(|original|, |here|); infinite if only one is finite."""
        if not (math.isfinite(self.original) and math.isfinite(self.here)):
            return 0.0 if str(self.original) == str(self.here) else math.inf
        larger = max(abs(self.original), abs(self.here))
        return abs(self.original - self.here) / larger if larger else 0.0


@dataclass(frozen=True)
class Reproduction:
    """What came of training again.

    Attributes:
        status: `IDENTICAL`, `WITHIN_TOLERANCE` or `DIFFERENT`.
        epochs: of the original and of its repetition.
        first: the first epoch whose weights or metrics differ, counted from 1; None: none does.
        differences: the largest of each metric, over the epochs that both have.
        tolerance: relative difference of a metric that passes.
    """

    status: int
    epochs: tuple[int, int]
    first: int | None
    differences: tuple[Difference, ...]
    tolerance: float

    @property
    def words(self) -> str:
        """The verdict, and what it rests on."""
        verdict = VERDICTS[self.status]
        if self.status == IDENTICAL:
            return f"{verdict}: weights and metrics of every epoch ({self.epochs[0]})"
        if self.first is None:
            return f"{verdict}: every epoch is the same, but not the weights that were kept"
        largest = max(self.differences, key=lambda difference: difference.relative)
        said = f"{verdict}: first difference at epoch {self.first}, largest relative difference "
        said += f"{largest.relative:.2g} ({largest.metric}, epoch {largest.epoch}), "
        said += f"{self.tolerance:g} is allowed"
        then, now = self.epochs
        return said if then == now else f"{said}; it ended after epoch {now}, not {then}"


def find_original(run_id: str) -> Run:
    """Return the run that is to be trained again.

    Raises:
        ReproductionError: if there is no such run, or if nothing can be compared with it.
    """
    run = find_run(run_id)
    if run is None:
        raise ReproductionError(f"run {run_id}: there is no such run in this store")
    if SWEEP_TAG in run.data.tags:
        raise ReproductionError(f"run {run_id}: is a study; choose one of its runs")
    if run.info.status != "FINISHED":
        way = f"python train.py resume={run_id}"
        raise ReproductionError(f"run {run_id}: is {run.info.status}, not finished; first: {way}")
    return run


def reproduce(store: Store, original: Run, tolerance: float) -> Reproduction:
    """Train `original` again, as a new run that is linked to it, and compare the two.

    Args:
        store: of both runs.
        original: as `find_original` returns it.
        tolerance: relative difference of a metric that passes.

    Raises:
        FmnistError: if the original did not record what it takes, or if it cannot be trained here.
    """
    expected = _digests(original)
    folder = Path("outputs", f"{datetime.now():%Y-%m-%d/%H-%M-%S-%f}-reproduce").absolute()
    config = config_of_run(original, str(folder), store.uri)
    if ended := original.data.tags.get(STOPPED_TAG):  # by a search, which has no say here
        config = replace(config, training=replace(config.training, epochs=int(ended)))
    name = mlflow.get_experiment(original.info.experiment_id).name
    tracking = Tracking(store.uri, name, config.tracking.timeout)
    repeated_id = train(replace(config, tracking=tracking), original=original).run_id
    repeated = mlflow.get_run(repeated_id)
    answer = compared(original, repeated, expected, _digests(repeated), tolerance)
    _log(original, repeated, answer)
    return answer


def _digests(run: Run) -> dict[str, Any]:
    content = artifact(run.info.run_id, DIGESTS)
    if content is None:
        raise ReproductionError(f"run {run.info.run_id}: has no {DIGESTS} to compare with")
    try:
        digests: dict[str, Any] = json.loads(content)
        len(digests["epochs"])
    except (ValueError, KeyError, TypeError) as error:
        raise ReproductionError(f"run {run.info.run_id}: {DIGESTS} is damaged") from error
    return digests


def compared(
    original: Run, repeated: Run, expected: dict[str, Any], found: dict[str, Any], tolerance: float
) -> Reproduction:
    """Compare two runs by the digests, and where these differ by the metrics."""
    epochs = (len(expected["epochs"]), len(found["epochs"]))
    if expected == found:
        return Reproduction(IDENTICAL, epochs, None, (), tolerance)
    pairs = zip(expected["epochs"], found["epochs"], strict=False)
    same = next((i for i, (then, now) in enumerate(pairs) if then != now), min(epochs))
    if same == max(epochs):
        return Reproduction(DIFFERENT, epochs, None, (), tolerance)
    differences = tuple(_largest(original, repeated, metric) for metric in EPOCH_METRICS)
    passes = epochs[0] == epochs[1] and all(d.relative <= tolerance for d in differences)
    status = WITHIN_TOLERANCE if passes else DIFFERENT
    return Reproduction(status, epochs, same + 1, differences, tolerance)


def _largest(original: Run, repeated: Run, metric: str) -> Difference:
    client = mlflow.MlflowClient()
    then, now = (
        {point.step: point.value for point in client.get_metric_history(run.info.run_id, metric)}
        for run in (original, repeated)
    )
    both = sorted(then.keys() & now.keys())
    if not both:
        raise ReproductionError(f"run {original.info.run_id}: has no {metric} to compare with")
    pairs = [Difference(metric, epoch, then[epoch], now[epoch]) for epoch in both]
    return max(pairs, key=lambda difference: difference.relative)


def _log(original: Run, repeated: Run, answer: Reproduction) -> None:
    """Say in the new run what came of it."""
    client, run_id = mlflow.MlflowClient(), repeated.info.run_id
    client.set_tag(run_id, VERDICT_TAG, VERDICTS[answer.status])
    note = repeated.data.tags[MLFLOW_RUN_NOTE]
    page = f"#/experiments/{original.info.experiment_id}/runs/{original.info.run_id}"
    linked = f"{note}\n\nReproduces [{original.info.run_name}]({page}): {answer.words}"
    client.set_tag(run_id, MLFLOW_RUN_NOTE, linked)
    content = asdict(answer) | {"verdict": VERDICTS[answer.status]}
    client.log_dict(run_id, content, "reproduction.json")


def as_table(answer: Reproduction) -> str:
    """Return the largest difference of each metric as a table."""
    rows = [
        [d.metric, str(d.epoch), f"{d.original:.6g}", f"{d.here:.6g}", f"{d.relative:.2g}"]
        for d in answer.differences
    ]
    return table(["metric", "differs most at epoch", "original", "here", "relative"], rows)
