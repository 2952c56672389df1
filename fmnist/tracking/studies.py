"""Studies in the tracking store: a parent run with a statement, its runs, and their comparison."""

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any

import mlflow
import numpy as np
from matplotlib.figure import Figure
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

from fmnist.common.errors import ComparisonError, TrackingError, one_line
from fmnist.config.schema import Tracking
from fmnist.evidence.comparison import Comparison, StudyDesign, compare_variants
from fmnist.evidence.layer_health import Health
from fmnist.evidence.pooling import RunSummary
from fmnist.evidence.predictions import accuracy_by_class, disagreement
from fmnist.reports import class_plots, comparison_report
from fmnist.reports import comparison_plots as plots
from fmnist.reports.verdicts import conclusions, highest
from fmnist.tracking import artifacts
from fmnist.tracking.heartbeat import INTERRUPTED, is_alive, process_tags, status
from fmnist.tracking.store import Store, open_store, search
from fmnist.tracking.tags import (
    COMMAND_TAG,
    FOLDER_TAG,
    HOST_TAG,
    PID_TAG,
    REPRODUCES_TAG,
    SIGNATURE_TAG,
    STUDY_TAG,
    SWEEP_TAG,
    TRIAL_TAG,
)

NOTE = MLFLOW_RUN_NOTE  # the description at the top of the run's page
RUN_COLOUR = "mlflow.runColor"  # of the run's lines and bars in MLflow's UI
NOTE_LENGTH = 4000  # characters; a tag holds 8,000 bytes

PROVENANCE_TAGS = ("data.fingerprint", "mlflow.source.git.commit", "git.patch", "engine")
"""Tags that must be equal for runs to be pooled."""


@dataclass(frozen=True)
class OpenStudy:
    """A study whose runs are being made; `earlier` is the folder of a sweep that it continues."""

    store: Store
    run_id: str
    earlier: str | None = None


def begin(
    tracking: Tracking,
    design: StudyDesign,
    name: str,
    sweep: str,
    command: str,
    asked: str | None = None,
) -> OpenStudy:
    """Open the parent run, which the jobs find by the folder `sweep`, and state the question.

    Under `mlflow run` the run that it opened becomes the parent. A study that was begun by the
    same command and not finished goes on.

    Args:
        tracking: where.
        statement: the question.
        name: of the parent run.
        sweep: the folder of the sweep.
        command: as it was typed.
        asked: digest of the command, code included, by which it is the same; None: begin anew.

    Raises:
        TrackingError: if the store cannot be used.
    """
    store = open_store(tracking)
    client = mlflow.MlflowClient()
    run_id, earlier = os.environ.get("MLFLOW_RUN_ID"), None
    if run_id is None and asked and (unfinished := _unfinished(store, asked, command)):
        run_id, earlier = unfinished.info.run_id, unfinished.data.tags.get(SWEEP_TAG)
    if run_id is None:
        with mlflow.start_run(experiment_id=store.experiment_id, run_name=name) as run:
            run_id = run.info.run_id
    client.update_run(run_id, "RUNNING")
    for key, value in {
        STUDY_TAG: json.dumps(dataclasses.asdict(design)),
        SWEEP_TAG: sweep,
        COMMAND_TAG: command,
        NOTE: design.question,
        **({SIGNATURE_TAG: asked} if asked else {}),
        **process_tags(sweep),
    }.items():
        client.set_tag(run_id, key, value)
    return OpenStudy(store, run_id, earlier)


def _unfinished(store: Store, asked: str, command: str) -> Run | None:
    """Return the study of the same command that is not finished, and not being made.

    Raises:
        TrackingError: if it is being made.
    """
    for run in search(store, f"tags.{SIGNATURE_TAG} = '{asked}'", latest=1):
        if run.info.status == "FINISHED":
            return None
        if run.info.status == "RUNNING" and is_alive(run):
            process = f"process {run.data.tags[PID_TAG]} on {run.data.tags[HOST_TAG]}"
            raise TrackingError(f"this very sweep is being made by {process}; rerun=true: again")
        print(f"study {run.info.run_id} goes on: what is finished is not trained again")
        return run
    unfinished = f"tags.{SWEEP_TAG} LIKE '%' AND attributes.status != 'FINISHED'"
    for run in search(store, unfinished, latest=1):
        if run.data.tags.get(COMMAND_TAG) == command:
            print(
                f"study {run.info.run_id}, of the same command, does not go on: code of fmnist/ "
                f"or conf/ has changed since; this is a new one"
            )
    return None


def conclude(study: OpenStudy, ended: str) -> Comparison | None:
    """Print the comparison of the study's runs, log it to the parent run, and end that.

    Returns:
        the comparison; None if there is nothing to compare.
    """
    client = mlflow.MlflowClient()
    children = f"tags.{MLFLOW_PARENT_RUN_ID} = '{study.run_id}'"
    for run in search(study.store, f"{children} AND attributes.status = 'RUNNING'"):
        if status(run) == INTERRUPTED:  # killed with the others when jobs run at once
            client.set_terminated(run.info.run_id, "KILLED")
    try:
        _, design, runs = load(study.store, study.run_id)
        if runs:
            answer = compare_variants(runs, design)
            _compare(study, answer)
            return answer
        if ended == "FAILED":  # all jobs were refused
            client.delete_tag(study.run_id, STUDY_TAG)
    except ComparisonError as error:
        print(f"\nno comparison: {one_line(error)}\n{_again(study)}")
    finally:
        client.set_terminated(study.run_id, ended)
    return None


def _again(study: OpenStudy) -> str:
    return f"again:       {study.store.variable}python -m fmnist compare {study.run_id}"


def _compare(study: OpenStudy, answer: Comparison) -> None:
    """Print a comparison and log it to the study's run."""
    client = mlflow.MlflowClient()
    healths = artifacts.health(answer)
    print()
    comparison_report.show(answer, healths)
    print(f"\n{_again(study)}")
    print(study.store.look_at(client.get_run(study.run_id)))
    note = "\n\n".join([answer.design.question, highest(answer), *conclusions(answer)])
    client.set_tag(study.run_id, NOTE, note[:NOTE_LENGTH])
    drawn = pictures(answer, healths)
    for name, content in {
        "comparison.md": comparison_report.markdown(answer, healths),
        "comparison.json": comparison_report.as_json(answer, healths),
        "comparison.html": comparison_report.html(answer, healths, drawn),
    }.items():
        client.log_text(study.run_id, content, f"comparison/{name}")
    for title, figure in drawn.items():
        name = title.lower().replace(" ", "_")
        whole = {"bbox_inches": "tight"}  # also where the names of the variants are long
        client.log_figure(study.run_id, figure, f"comparison/{name}.png", save_kwargs=whole)
    colours = plots.colours(answer)
    for variant in answer.variants:
        for run_id in variant.run_ids.values():
            client.set_tag(run_id, RUN_COLOUR, colours[variant.name])


def latest(store: Store) -> str:
    """Return the run id of the experiment's latest study.

    Raises:
        TrackingError: if there is none.
    """
    return studies(store, latest=1)[0][0]


def studies(store: Store, latest: int = sys.maxsize) -> list[tuple[str, str, str, str, str]]:
    """Return run id, name, begin, status and question of each study, or of the `latest` ones.

    The latest is last.

    Raises:
        TrackingError: if there is none.
    """
    runs = search(store, f"tags.{STUDY_TAG} LIKE '%'", latest)
    if not runs:
        raise TrackingError("no study in this experiment yet: `train.py -m` makes one; or --runs")
    return [
        (
            run.info.run_id,
            run.info.run_name,
            datetime.fromtimestamp(run.info.start_time / 1000).strftime("%Y-%m-%d %H:%M"),
            status(run),
            json.loads(run.data.tags[STUDY_TAG])["question"],
        )
        for run in runs
    ]


def load(store: Store, run_id: str) -> tuple[Store, StudyDesign, list[RunSummary]]:
    """Return the statement and the runs of the study with the parent run `run_id`, and its store.

    Raises:
        TrackingError: if there is no such run, or if it is no study.
    """
    try:
        run = mlflow.get_run(run_id)
    except MlflowException as error:
        raise TrackingError(f"study {run_id}: {one_line(error)}") from error
    tags = run.data.tags
    if STUDY_TAG not in tags:
        raise TrackingError(f"run {run_id}: is no study; without it the latest study is compared")
    values = json.loads(tags[STUDY_TAG])
    lists: dict[str, Any] = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
    design = StudyDesign(**(values | lists | {"study": run_id}))
    store = Store(store.uri, run.info.experiment_id)
    children = search(store, f"tags.{MLFLOW_PARENT_RUN_ID} = '{run_id}'")
    return store, design, evidence_runs(sorted(children, key=_job))


def _job(run: Run) -> int:
    """Return the number of the job that made a run: those at once begin in any order."""
    number = PurePath(run.data.tags.get(FOLDER_TAG, "")).name
    return int(number) if number.isdecimal() else 0


def runs_of(store: Store, condition: str | None) -> list[RunSummary]:
    """Return the runs that trained, of the experiment's that fulfil MLflow's `condition`."""
    return evidence_runs(search(store, condition or ""))


def evidence_runs(runs: Iterable[Run]) -> list[RunSummary]:
    """Return those of the runs that trained, and that are evidence."""
    # A study did not, though `mlflow run` gives it a param seed; nor did `mlflow run -e compare`.
    # A reproduction is no further evidence: it has the seed of a run that counts already.
    # Nor is a trial of a search: of many that were tried the best was kept, luck and all.
    others = {SWEEP_TAG, REPRODUCES_TAG, TRIAL_TAG}
    return [
        run_summary(run)
        for run in runs
        if not others & run.data.tags.keys() and "seed" in run.data.params
    ]


def run_summary(run: Run) -> RunSummary:
    """Return what a comparison needs of a run."""
    tags, ended = run.data.tags, status(run)
    if tags.get("error", "").startswith("TrainingError"):
        ended = "diverged"
    provenance = {name: tags[name] for name in PROVENANCE_TAGS if name in tags}
    params, metrics = run.data.params, run.data.metrics
    return RunSummary(run.info.run_id, ended, params, provenance, metrics, run.info.artifact_uri)


def pictures(answer: Comparison, healths: Mapping[str, Health]) -> dict[str, Figure]:
    """Draw the comparison, with what its runs logged; by title."""
    colours, drawn = plots.colours(answer), {}
    if any(v.difference and v.difference.estimate.n > 1 for v in answer.variants):
        drawn["Differences from the baseline"] = plots.forest(answer)
    drawn["Every seed"] = plots.seeds(answer)
    drawn["Learning curves"] = plots.curves(artifacts.histories(answer), colours)
    drawn |= _pictures_by_class(answer)
    if healths:
        drawn["Layer health"] = plots.layer_profiles(healths, colours)
    return drawn


def _pictures_by_class(answer: Comparison) -> dict[str, Figure]:
    """Draw where the variants are right, and where the baseline and the best other one disagree."""
    said = artifacts.predictions(answer)
    if not said:
        return {}
    baseline, *others = [variant for variant in answer.variants if variant.name in said]
    names = next(iter(said[baseline.name].values())).class_names
    accuracies = {
        variant: np.array([accuracy_by_class(one) for one in by_seed.values()])
        for variant, by_seed in said.items()
    }
    drawn = {"Accuracy by class": class_plots.accuracy_by_class(accuracies, names)}
    if others:
        best = max(others, key=lambda variant: variant.estimate.mean).name
        pairs = [
            (said[baseline.name][seed], one)
            for seed, one in said[best].items()
            if seed in said[baseline.name]
        ]
        if pairs:
            counts = np.mean([disagreement(*pair) for pair in pairs], axis=0)
            figure = class_plots.disagreements(counts, baseline.name, best, names)
            drawn["Disagreement"] = figure
    return drawn
