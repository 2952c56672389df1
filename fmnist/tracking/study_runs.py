"""The runs of a study, or of an experiment, as a comparison takes them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

from fmnist.common.errors import TrackingError, one_line
from fmnist.config.schema import NON_RESULT_PARAMS
from fmnist.evidence.comparison import StudyDesign
from fmnist.evidence.pooling import RunSummary
from fmnist.tracking import tag
from fmnist.tracking.heartbeat import status
from fmnist.tracking.store import Run, Store, search

PROVENANCE_TAGS = (tag.DATA, tag.CODE, tag.ENGINE, tag.FLAGS)
"""Tags that must be equal for runs to be pooled."""

INFORMATION_TAGS = (tag.COMMIT, tag.PATCH)
"""Tags that are shown where all runs have the same."""

NO_EVIDENCE_TAGS = {
    tag.SWEEP,  # a study did not train, though `mlflow run` gives it a param seed
    tag.REPRODUCES,  # it has the seed of a run that counts already
    tag.TRIAL,  # the best of many trials is lucky
}


@dataclass(frozen=True)
class StudyRuns:
    """What a study asks, its runs in the order of their jobs, and the store they are in."""

    store: Store
    design: StudyDesign
    runs: list[RunSummary]


def load(store: Store, run_id: str) -> StudyRuns:
    """Load a study by its run id; raise TrackingError if there is none."""
    try:
        study = mlflow.get_run(run_id)
    except MlflowException as error:
        raise TrackingError(f"study {run_id}: {one_line(error)}") from error
    tags = study.data.tags
    if not {tag.STUDY, tag.SWEEP} <= tags.keys():  # a decision names its study by the same tag
        raise TrackingError(f"run {run_id}: is not a study; omit it to compare the latest one")
    values = json.loads(tags[tag.STUDY])
    lists: dict[str, Any] = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
    design = StudyDesign(**(values | lists | {"study": run_id}))
    store = Store(store.uri, study.info.experiment_id)
    children = search(store, f"tags.{tag.PARENT} = '{run_id}'")
    children.sort(key=_job_number)  # jobs at once begin in any order
    return StudyRuns(store, design, evidence_runs(children))


def _job_number(run: Run) -> int:
    number = PurePath(run.data.tags.get(tag.FOLDER, "")).name
    return int(number) if number.isdecimal() else 0


def runs_of(store: Store, condition: str | None) -> list[RunSummary]:
    """Return the runs that are evidence, of those that fulfil MLflow's `condition`."""
    return evidence_runs(search(store, condition or ""))


def evidence_runs(runs: Iterable[Run]) -> list[RunSummary]:
    """Return those of the runs that trained and are evidence."""
    return [
        run_summary(run)
        for run in runs
        if not NO_EVIDENCE_TAGS & run.data.tags.keys() and "seed" in run.data.params
    ]


def run_summary(run: Run) -> RunSummary:
    """Return what a comparison needs of a run."""
    tags, ended = run.data.tags, status(run)
    if tags.get(tag.ERROR, "").startswith("TrainingError"):
        ended = "diverged"
    provenance = {name: tags[name] for name in PROVENANCE_TAGS if name in tags}
    information = {name: tags[name] for name in INFORMATION_TAGS if name in tags}
    params = {key: v for key, v in run.data.params.items() if key not in NON_RESULT_PARAMS}
    return RunSummary(
        run.info.run_id,
        ended,
        params,
        provenance,
        run.data.metrics,
        run.info.artifact_uri,
        information,
    )
