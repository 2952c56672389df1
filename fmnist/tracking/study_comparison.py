"""What a study ends with, printed, drawn, and logged: its comparison, the trials of a search."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlflow
import numpy as np

from fmnist.common.errors import ComparisonError, one_line
from fmnist.common.terminal import escaped
from fmnist.evidence.comparison import Comparison, compare_variants
from fmnist.evidence.layer_health import Health
from fmnist.evidence.predictions import accuracy_by_class, disagreement
from fmnist.reports import class_plots, comparison_report, search_report
from fmnist.reports import comparison_plots as plots
from fmnist.reports.pictures import Drawing, rendered
from fmnist.reports.verdicts import conclusions, highest
from fmnist.tracking import artifacts, run_log, study_runs, tag
from fmnist.tracking.heartbeat import INTERRUPTED, status
from fmnist.tracking.store import search
from fmnist.tracking.studies import OpenStudy

NOTE_LENGTH = 4000  # characters; a tag holds 8,000 bytes


def conclude(study: OpenStudy, final_status: str) -> Comparison | None:
    """Print and log the comparison of the study's runs, if there is one, and end the study."""
    client = mlflow.MlflowClient()
    running = f"tags.{tag.PARENT} = '{study.run_id}' AND attributes.status = 'RUNNING'"
    for run in search(study.store, running):
        if status(run) == INTERRUPTED:  # killed with the others when jobs run at once
            client.set_terminated(run.info.run_id, "KILLED")
    try:
        loaded = study_runs.load(study.store, study.run_id)
        if loaded.runs:
            result = compare_variants(loaded.runs, loaded.design)
            _report(study, result)
            return result
        if final_status == "FAILED":  # all jobs were refused
            client.delete_tag(study.run_id, tag.STUDY)
    except ComparisonError as error:
        print(f"\nno comparison: {one_line(error)}\n{_command(study)}")
    finally:
        client.set_terminated(study.run_id, final_status)
    return None


def _command(study: OpenStudy) -> str:
    return f"again:       {study.store.variable}python -m fmnist compare {study.run_id}"


def _report(study: OpenStudy, result: Comparison) -> None:
    """Log the comparison before it is printed: standard output may fail."""
    client, healths = mlflow.MlflowClient(), artifacts.health(result)
    sentences = [result.design.question, highest(result), *conclusions(result)]
    note = "\n\n".join(map(escaped, sentences))
    client.set_tag(study.run_id, tag.NOTE, note[:NOTE_LENGTH])
    drawn = pictures(result, healths)
    for name, text in {
        "comparison.md": comparison_report.markdown(result, healths),
        "comparison.json": comparison_report.as_json(result, healths),
        "comparison.html": comparison_report.html(result, healths, drawn),
    }.items():
        client.log_text(study.run_id, text, f"comparison/{name}")
    named = {f"comparison/{t.lower().replace(' ', '_')}.png": p for t, p in drawn.items()}
    run_log.log_pictures(study.run_id, named)
    colours = plots.colours(result)
    for variant in result.variants:
        for run_id in variant.run_ids.values():
            client.set_tag(run_id, tag.COLOUR, colours[variant.name])
    print()
    comparison_report.show(result, healths)
    print(f"\n{_command(study)}")
    print(study.store.look_at(mlflow.get_run(study.run_id)))


def pictures(result: Comparison, healths: Mapping[str, Health]) -> dict[str, bytes]:
    """Draw the comparison, with what its runs logged; return PNGs by title."""
    colours, drawings = plots.colours(result), dict[str, Drawing]()
    if any(v.difference and v.difference.estimate.n > 1 for v in result.variants):
        drawings["Differences from the baseline"] = partial(plots.forest, result)
    drawings["Every seed"] = partial(plots.seeds, result)
    drawings["Learning curves"] = partial(plots.curves, artifacts.histories(result), colours)
    drawings |= _drawings_by_class(result)
    if healths:
        drawings["Layer health"] = partial(plots.layer_profiles, healths, colours)
    return rendered(drawings, tight=True)


def _drawings_by_class(result: Comparison) -> dict[str, Drawing]:
    """Draw where the variants are right, and where the baseline and the best other one disagree."""
    predictions = artifacts.predictions(result)
    if not predictions:
        return {}
    baseline, *others = [variant for variant in result.variants if variant.name in predictions]
    of_baseline = predictions[baseline.name]
    class_names = next(iter(of_baseline.values())).class_names
    accuracies = {
        name: np.array(list(map(accuracy_by_class, by_seed.values())))
        for name, by_seed in predictions.items()
    }
    drawings: dict[str, Drawing] = {
        "Accuracy by class": partial(class_plots.accuracy_by_class, accuracies, class_names)
    }
    if not others:
        return drawings
    best = max(others, key=lambda variant: variant.estimate.mean).name
    of_best = predictions[best]
    if seeds := of_baseline.keys() & of_best.keys():
        counts = np.mean([disagreement(of_baseline[s], of_best[s]) for s in seeds], axis=0)
        names = baseline.name, best, class_names
        drawings["Disagreement"] = partial(class_plots.disagreements, counts, *names)
    return drawings


@dataclass(frozen=True)
class SearchRecord:
    """A search: its trials by number, the same as CSV, and the journal that Optuna keeps."""

    trials: Sequence[search_report.TrialSummary]
    csv: str
    journal: Path


def name_variant(study: OpenStudy, variant: str, short_name: str) -> None:
    """Give a variant a short name in the question that the search ends with."""
    design = study_runs.load(study.store, study.run_id).design
    named = dataclasses.replace(design, names={variant: short_name, **design.names})
    value = json.dumps(dataclasses.asdict(named))
    mlflow.MlflowClient().set_tag(study.run_id, tag.STUDY, value)


def conclude_search(study: OpenStudy, record: SearchRecord, comparison: Comparison | None) -> None:
    """Log what was found, and print it.

    `comparison` is that of the best trial and the start over fresh seeds; None if there is none.
    """
    client, trials = mlflow.MlflowClient(), record.trials
    report = search_report.markdown(trials, comparison)
    client.log_text(study.run_id, report, "search/search.md")
    client.log_text(study.run_id, record.csv, "search/trials.csv")
    client.log_artifact(study.run_id, str(record.journal), "search")
    best = search_report.best_trial(trials)
    if best is not None and best.value is not None:
        plot = rendered({"search/trials.png": partial(search_report.trials_plot, trials)})
        run_log.log_pictures(study.run_id, plot)
        client.log_metric(study.run_id, "search_best", best.value)
        if (fresh_mean := search_report.fresh_mean(trials, comparison)) is not None:
            client.log_metric(study.run_id, "search_drop", best.value - fresh_mean)
    note = client.get_run(study.run_id).data.tags.get(tag.NOTE, "")
    conclusion = search_report.conclusion(trials, comparison)
    client.set_tag(study.run_id, tag.NOTE, f"{note}\n\n{escaped(conclusion)}")
    print(f"\n{report}")
    if comparison is None:  # otherwise its report has said where to look
        print(f"\n{study.store.look_at(client.get_run(study.run_id))}")
