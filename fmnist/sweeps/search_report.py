"""What a search found: its best trials, a picture of all, and how much of the best was luck."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import mlflow
import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE
from optuna.trial import FrozenTrial, TrialState

from fmnist.common.terminal import table
from fmnist.evidence.comparison import Comparison
from fmnist.evidence.pooling import variant_name
from fmnist.reports.formatting import percent
from fmnist.sweeps.search import START, as_typed
from fmnist.sweeps.trial import JOURNAL, PRUNED_AFTER, open_study
from fmnist.tracking.studies import OpenStudy
from fmnist.tracking.study_runs import load
from fmnist.tracking.tags import STUDY_TAG

SHOWN = 5  # trials in the table
ENDED = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "under way",
}
GREY, BLUE, BLACK = "#b0b0b0", "#0072b2", "#000000"


def name_best(opened: OpenStudy, folder: str) -> None:
    """Give the best trial a short name in the question that the search ends with."""
    search = open_study(folder)
    if finished(search):
        best = search.best_trial
        statement = load(opened.store, opened.run_id).design
        full = variant_name(as_typed(best.params), statement.by)
        names = {full: f"trial {best.number}", **statement.names}
        whole = dataclasses.asdict(dataclasses.replace(statement, names=names))
        mlflow.MlflowClient().set_tag(opened.run_id, STUDY_TAG, json.dumps(whole))


def conclude(opened: OpenStudy, folder: str, answer: Comparison | None) -> None:
    """Print what was found, and log it to the run of the search.

    Args:
        opened: the search.
        folder: of its sweep.
        answer: the best trial and the start, compared over fresh seeds; None if none finished.
    """
    search, client = open_study(folder), mlflow.MlflowClient()
    said = sentence(search, answer)
    text = f"{ended(search)}\n\n{best_trials(search)}\n\n{said}"
    print(f"\n{text}")
    if answer is None:  # else the comparison has told
        print(f"\n{opened.store.look_at(client.get_run(opened.run_id))}")
    client.log_text(opened.run_id, text, "search/search.md")
    client.log_text(
        opened.run_id, search.trials_dataframe().to_csv(index=False), "search/trials.csv"
    )
    client.log_artifact(opened.run_id, str(Path(folder, JOURNAL)), "search")
    if finished(search):
        client.log_figure(opened.run_id, picture(search), "search/trials.png")
        client.log_metric(opened.run_id, "search_best", search.best_value)
    if (anew := _anew(search, answer)) is not None:
        client.log_metric(opened.run_id, "search_drop", search.best_value - anew)
    note = client.get_run(opened.run_id).data.tags.get(MLFLOW_RUN_NOTE, "")
    client.set_tag(opened.run_id, MLFLOW_RUN_NOTE, f"{note}\n\n{said}")


def finished(search: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that were trained to the end, the best first."""
    trials = search.get_trials(states=(TrialState.COMPLETE,))
    return sorted(trials, key=lambda trial: -(trial.value or 0.0))


def ended(search: optuna.Study) -> str:
    """Say how the trials ended: "40 trials: 22 finished, 38 pruned"."""
    states = Counter(trial.state for trial in search.trials)
    counts = [f"{states[state]} {word}" for state, word in ENDED.items() if states[state]]
    return f"{len(search.trials)} trials: {', '.join(counts)}"


def best_trials(search: optuna.Study) -> str:
    """Return a table of the best trials, and of the first, where the search began."""
    shown = finished(search)[:SHOWN]
    shown += [trial for trial in search.trials[:1] if trial.number not in {t.number for t in shown}]
    keys = list(shown[0].params) if shown else []
    heads = ["trial", "val_accuracy %", *(key.removeprefix("model.") for key in keys)]
    rows = [
        [
            f"{trial.number} ({START})" if trial.number == 0 else str(trial.number),
            _value(trial),
            *(as_typed(trial.params)[key] for key in keys),
        ]
        for trial in shown
    ]
    return table(heads, rows)


def _value(trial: FrozenTrial) -> str:
    if trial.value is None:
        return "-"
    epoch = trial.user_attrs.get(PRUNED_AFTER)
    return f"{100 * trial.value:.2f}" + (f" (epoch {epoch})" if epoch else "")


def sentence(search: optuna.Study, answer: Comparison | None) -> str:
    """Say what the best trial is worth over fresh seeds, where its luck does not count."""
    if not finished(search):
        return "No trial was trained to the end."
    best = search.best_trial
    said = f"Trial {best.number} is the best of the search: {100 * search.best_value:.2f} %."
    if best.number == 0:
        return f"{said} That is where the search began: it found nothing better."
    anew = _anew(search, answer)
    if anew is None or answer is None:
        return f"{said} It was not tried over fresh seeds."
    [variant] = [v for v in answer.variants if v.name == f"trial {best.number}"]
    drop = 100 * (search.best_value - anew)
    size = f"{abs(drop):.2f} points {'less' if drop > 0 else 'more'}"
    over = f"Over {variant.estimate.n} fresh seeds it has {percent(variant.estimate)} %"
    return f"{said} {over}, {size}: what wins a search is lucky, too; only this counts."


def _anew(search: optuna.Study, answer: Comparison | None) -> float | None:
    """Return the mean of the best trial over the fresh seeds; None if it has none."""
    if answer is None or not finished(search):
        return None
    name = f"trial {search.best_trial.number}"
    means = [v.estimate.mean for v in answer.variants if v.name == name and v.values]
    return means[0] if means else None


def picture(search: optuna.Study) -> Figure:
    """Draw each trial's accuracy with the best so far, and all over the epochs; not the worst."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_history(left, search)
    for trial in sorted(search.trials, key=lambda trial: trial.state is TrialState.COMPLETE):
        best = trial.number == search.best_trial.number
        whole = trial.state is TrialState.COMPLETE
        colour, width = (BLACK, 2.5) if best else (BLUE, 1.0) if whole else (GREY, 0.8)
        steps = trial.intermediate_values
        right.plot(list(steps), list(steps.values()), color=colour, linewidth=width)
        if PRUNED_AFTER in trial.user_attrs and steps:
            right.plot(max(steps), steps[max(steps)], "x", color=GREY)
    right.set(xlabel="epoch", title="grey: pruned; black: the best")
    values = [trial.value for trial in search.trials if trial.value is not None]
    middle = float(np.median(values))
    if middle < search.best_value:  # what is far below would press the others together
        space = search.best_value - middle
        left.set_ylim(middle - 2 * space, search.best_value + space / 2)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _draw_history(axes: Axes, search: optuna.Study) -> None:
    done = [trial for trial in search.trials if trial.value is not None]
    numbers = np.array([trial.number for trial in done])
    values = np.array([trial.value for trial in done])
    whole = np.array([trial.state is TrialState.COMPLETE for trial in done])
    axes.scatter(numbers[~whole], values[~whole], color=GREY, label="pruned")
    axes.scatter(numbers[whole], values[whole], color=BLUE, label="trained to the end")
    so_far = np.maximum.accumulate(np.where(whole, values, -np.inf))
    axes.step(numbers, so_far, where="post", color=BLACK, label="best so far")
    axes.set(xlabel="trial", ylabel="val_accuracy")
    axes.legend(frameon=False)
