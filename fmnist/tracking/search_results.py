"""What a search found, logged to the run of its study."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from fmnist.evidence.comparison import Comparison
from fmnist.reports import search_report
from fmnist.reports.search_report import TrialSummary
from fmnist.tracking import tag
from fmnist.tracking.studies import OpenStudy
from fmnist.tracking.study_runs import load


@dataclass(frozen=True)
class SearchRecord:
    """A search: its trials by number, the same as CSV, and the journal that Optuna keeps."""

    trials: Sequence[TrialSummary]
    csv: str
    journal: Path


def name_variant(study: OpenStudy, variant: str, short_name: str) -> None:
    """Give a variant a short name in the question that the search ends with."""
    design = load(study.store, study.run_id).design
    named = dataclasses.replace(design, names={variant: short_name, **design.names})
    value = json.dumps(dataclasses.asdict(named))
    mlflow.MlflowClient().set_tag(study.run_id, tag.STUDY, value)


def conclude(study: OpenStudy, record: SearchRecord, comparison: Comparison | None) -> None:
    """Print what was found, and log it.

    Args:
        study: whose jobs were the search.
        record: of the search.
        comparison: of the best trial and the start over fresh seeds; None if there is none.
    """
    client, trials = mlflow.MlflowClient(), record.trials
    report = search_report.markdown(trials, comparison)
    print(f"\n{report}")
    if comparison is None:  # otherwise its report has said where to look
        print(f"\n{study.store.look_at(client.get_run(study.run_id))}")
    client.log_text(study.run_id, report, "search/search.md")
    client.log_text(study.run_id, record.csv, "search/trials.csv")
    client.log_artifact(study.run_id, str(record.journal), "search")
    best = search_report.best_trial(trials)
    if best is not None and best.value is not None:
        client.log_figure(study.run_id, search_report.trials_plot(trials), "search/trials.png")
        client.log_metric(study.run_id, "search_best", best.value)
        if (fresh_mean := search_report.fresh_mean(trials, comparison)) is not None:
            client.log_metric(study.run_id, "search_drop", best.value - fresh_mean)
    note = client.get_run(study.run_id).data.tags.get(MLFLOW_RUN_NOTE, "")
    conclusion = search_report.conclusion(trials, comparison)
    client.set_tag(study.run_id, MLFLOW_RUN_NOTE, f"{note}\n\n{conclusion}")
