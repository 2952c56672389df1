"""Studies in the tracking store: each is the parent run of its runs, and states its question."""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import mlflow

from fmnist.common.errors import TrackingError
from fmnist.common.terminal import escaped
from fmnist.config.schema import Tracking
from fmnist.evidence.comparison import StudyDesign
from fmnist.tracking import run_log, tag
from fmnist.tracking.git import UNKNOWN
from fmnist.tracking.heartbeat import is_alive, process_tags, status
from fmnist.tracking.run_names import replace_generated_name
from fmnist.tracking.store import Run, Store, create_run, find_run, open_store, search


@dataclass(frozen=True)
class Sweep:
    """The `-m` command that makes a study."""

    name: str  # of the study's run
    folder: str
    command: str
    commit: str | None  # None: unknown
    threads: int  # of each job for which the configuration has no number
    criteria: Mapping[str, Any] = field(default_factory=dict)  # of promotion
    signature: str | None = None  # by which an unfinished study is found; None: a new one begins


@dataclass(frozen=True)
class OpenStudy:
    """A study whose runs are being made."""

    store: Store
    run_id: str
    threads: int  # of each job for which the configuration has no number
    earlier: str | None = None  # the folder of the sweep that it continues


@dataclass(frozen=True)
class ListedStudy:
    """A study in a list; `started` is local time."""

    run_id: str
    name: str
    started: str
    status: str
    question: str


def begin(tracking: Tracking, design: StudyDesign, sweep: Sweep) -> OpenStudy:
    """Open the study's run, and state the question.

    Under `mlflow run` it is the run that `mlflow run` opened. An unfinished study of the same
    command is continued; while it is running, a second one is refused.
    """
    store = open_store(tracking)
    run_id, earlier, threads = os.environ.get("MLFLOW_RUN_ID"), None, sweep.threads
    if run_id is None and (unfinished := _unfinished(store, sweep)):
        run_id, tags = unfinished.info.run_id, unfinished.data.tags
        earlier, threads = tags.get(tag.SWEEP), int(tags.get(tag.THREADS, threads))
    if run_id is None:
        run_id = create_run(store.experiment_id, sweep.name)
    replace_generated_name(run_id, sweep.name)
    mlflow.MlflowClient().update_run(run_id, "RUNNING")
    tags = {
        tag.STUDY: json.dumps(dataclasses.asdict(design)),
        tag.SWEEP: sweep.folder,
        tag.THREADS: str(threads),
        tag.CRITERIA: json.dumps(dict(sweep.criteria)),
        tag.COMMAND: sweep.command,
        tag.COMMIT: sweep.commit or UNKNOWN,
        tag.NOTE: escaped(design.question),
        **process_tags(sweep.folder),
    }
    if sweep.signature:
        tags[tag.SIGNATURE] = sweep.signature
    run_log.set_tags(run_id, tags)
    return OpenStudy(store, run_id, threads, earlier)


def _unfinished(store: Store, sweep: Sweep) -> Run | None:
    """Return the latest study of the same command if it was stopped; refuse if it is running."""
    if sweep.signature is None:
        return None
    for run in search(store, f"tags.{tag.SIGNATURE} = '{sweep.signature}'", latest=1):
        if run.info.status == "FINISHED":
            compare = f"{store.variable}python -m fmnist compare {run.info.run_id}"
            print(
                f"study {run.info.run_id} of the same command is finished ({compare} shows it); "
                "a new study trains it again"
            )
            return None
        if run.info.status == "RUNNING" and is_alive(run):
            process = f"process {run.data.tags[tag.PID]} on {run.data.tags[tag.HOST]}"
            raise TrackingError(f"this sweep is running in {process}; rerun=true starts another")
        print(f"study {run.info.run_id} resumes: finished runs are not trained again")
        return run
    condition = f"tags.{tag.SWEEP} LIKE '%' AND attributes.status != 'FINISHED'"
    for run in search(store, condition, latest=1):
        if run.data.tags.get(tag.COMMAND) == sweep.command:
            print(
                f"study {run.info.run_id} of the same command is not continued: code of fmnist/ "
                "or conf/ has changed; this is a new study"
            )
    return None


def criteria_of(study: str) -> dict[str, Any]:
    """Return the criteria of promotion that a study began with; none if it has recorded none."""
    run = find_run(study)
    return dict(json.loads(run.data.tags.get(tag.CRITERIA, "{}"))) if run else {}


def latest(store: Store) -> str:
    return all_studies(store, latest=1)[0].run_id


def all_studies(store: Store, latest: int = sys.maxsize) -> list[ListedStudy]:
    """Return the studies of the experiment, the latest last; refuse if there is none."""
    runs = search(store, f"tags.{tag.STUDY} LIKE '%'", latest)
    if not runs:
        raise TrackingError(
            "no study in this experiment yet: `train.py -m` makes one; or use --runs"
        )
    return [
        ListedStudy(
            run.info.run_id,
            run.info.run_name,
            datetime.fromtimestamp(run.info.start_time / 1000).strftime("%Y-%m-%d %H:%M"),
            status(run),
            json.loads(run.data.tags[tag.STUDY])["question"],
        )
        for run in runs
    ]
