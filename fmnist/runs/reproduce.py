"""A finished run trained again, and whether the same came of it."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from fmnist.common.errors import ReproductionError
from fmnist.common.terminal import table
from fmnist.config.schema import EPOCH_METRICS, Config, Tracking
from fmnist.runs.run import run as train
from fmnist.tracking import run_log, tag
from fmnist.tracking.artifacts import artifact, metric_history
from fmnist.tracking.run_inputs import config_of_run
from fmnist.tracking.run_log import DIGESTS
from fmnist.tracking.store import Run, Store, experiment_name, find_run

IDENTICAL, WITHIN_TOLERANCE, DIFFERENT = 0, 3, 4
"""Exit statuses; 1 and 2 are errors."""

VERDICTS = {
    IDENTICAL: "bit-for-bit identical",
    WITHIN_TOLERANCE: "the same within tolerance",
    DIFFERENT: "different",
}


@dataclass(frozen=True)
class MetricDifference:
    """Where a metric of the two runs differs most."""

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
    """What came of training again."""

    status: int  # IDENTICAL, WITHIN_TOLERANCE or DIFFERENT
    epochs: tuple[int, int]  # of the original and of its repetition
    first: int | None  # the first epoch whose weights or metrics differ, from 1; None: none does
    differences: tuple[MetricDifference, ...]  # the largest of each metric
    tolerance: float  # relative difference of a metric that passes

    @property
    def words(self) -> str:
        """The verdict with its reason."""
        verdict = VERDICTS[self.status]
        if self.status == IDENTICAL:
            return f"{verdict}: weights and metrics of every epoch ({self.epochs[0]})"
        if self.first is None:
            return f"{verdict}: every epoch is the same, but not the weights that were kept"
        largest = max(self.differences, key=lambda difference: difference.relative)
        text = f"{verdict}: first difference at epoch {self.first}, largest relative difference "
        text += f"{largest.relative:.2g} ({largest.metric}, epoch {largest.epoch}), "
        text += f"{self.tolerance:g} is allowed"
        then, now = self.epochs
        return text if then == now else f"{text}; it ended after epoch {now}, not {then}"


def find_original(run_id: str) -> Run:
    """Return the run to train again; raise ReproductionError if it cannot be compared."""
    run = find_run(run_id)
    if run is None:
        raise ReproductionError(f"run {run_id}: there is no such run in this store")
    if tag.SWEEP in run.data.tags:
        raise ReproductionError(f"run {run_id}: is a study; choose one of its runs")
    if run.info.status != "FINISHED":
        command = f"python train.py resume={run_id}"
        status = run.info.status
        raise ReproductionError(f"run {run_id}: is {status}, not finished; first: {command}")
    return run


def reproduce(store: Store, original: Run, tolerance: float) -> Reproduction:
    """Train `original` again, as a new run that is linked to it, and compare the two."""
    expected = _digests(original)
    repeated = find_run(train(_config(store, original), original=original).run_id)
    assert repeated
    reproduction = compare(original, repeated, expected, _digests(repeated), tolerance)
    _log(original, repeated, reproduction)
    return reproduction


def _config(store: Store, original: Run) -> Config:
    folder = Path("outputs", f"{datetime.now():%Y-%m-%d/%H-%M-%S-%f}-reproduce").absolute()
    config = config_of_run(original, str(folder), store.uri)
    if epochs := original.data.tags.get(tag.STOPPED):  # a search pruned it, which is not repeated
        config = replace(config, training=replace(config.training, epochs=int(epochs)))
    tracking = Tracking(store.uri, experiment_name(original), config.tracking.timeout)
    return replace(config, tracking=tracking)


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


def compare(
    original: Run,
    repeated: Run,
    expected: Mapping[str, Any],
    digests: Mapping[str, Any],
    tolerance: float,
) -> Reproduction:
    """Compare two runs by the digests, and where these differ by the metrics."""
    then, now = expected["epochs"], digests["epochs"]
    epochs = (len(then), len(now))
    if expected == digests:
        return Reproduction(IDENTICAL, epochs, None, (), tolerance)
    pairs = enumerate(zip(then, now, strict=False))
    same = next((i for i, (first, second) in pairs if first != second), min(epochs))
    if same == max(epochs):
        return Reproduction(DIFFERENT, epochs, None, (), tolerance)
    differences = tuple(_largest(original, repeated, metric) for metric in EPOCH_METRICS)
    passes = epochs[0] == epochs[1] and all(d.relative <= tolerance for d in differences)
    status = WITHIN_TOLERANCE if passes else DIFFERENT
    return Reproduction(status, epochs, same + 1, differences, tolerance)


def _largest(original: Run, repeated: Run, metric: str) -> MetricDifference:
    then, now = (metric_history(run.info.run_id, metric) for run in (original, repeated))
    common = sorted(then.keys() & now.keys())
    if not common:
        raise ReproductionError(f"run {original.info.run_id}: has no {metric} to compare with")
    differences = [MetricDifference(metric, epoch, then[epoch], now[epoch]) for epoch in common]
    return max(differences, key=lambda difference: difference.relative)


def _log(original: Run, repeated: Run, reproduction: Reproduction) -> None:
    run_id = repeated.info.run_id
    verdict, note = VERDICTS[reproduction.status], repeated.data.tags[tag.NOTE]
    page = f"#/experiments/{original.info.experiment_id}/runs/{original.info.run_id}"
    linked = f"{note}\n\nReproduces [{original.info.run_name}]({page}): {reproduction.words}"
    run_log.set_tags(run_id, {tag.REPRODUCTION: verdict, tag.NOTE: linked})
    run_log.log_json(run_id, asdict(reproduction) | {"verdict": verdict}, "reproduction.json")


def as_table(reproduction: Reproduction) -> str:
    """Return the largest difference of each metric."""
    rows = [
        [d.metric, str(d.epoch), f"{d.original:.6g}", f"{d.here:.6g}", f"{d.relative:.2g}"]
        for d in reproduction.differences
    ]
    return table(["metric", "differs most at epoch", "original", "here", "relative"], rows)
