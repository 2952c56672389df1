"""What a search found: its best trials, a picture of all, and how much of the best was luck."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fmnist.evidence.comparison import Comparison, Variant
from fmnist.reports.formatting import markdown_table, percent
from fmnist.reports.palette import BLACK, BLUE, GREY

TABLE_LENGTH = 5  # best trials in the table


class TrialState(StrEnum):
    """How a trial ended."""

    finished = "finished"
    pruned = "pruned"
    failed = "failed"
    running = "running"


@dataclass(frozen=True)
class TrialSummary:
    """One trial of a search; accuracies are on validation, fractions."""

    number: int  # trial 0 has the configured values, where the search starts
    params: Mapping[str, str]  # as they are typed, in one order in all trials
    state: TrialState
    value: float | None = None
    accuracies: Mapping[int, float] = field(default_factory=dict)  # by epoch, from 1
    pruned_after: int | None = None  # epoch

    @property
    def variant(self) -> str:
        """The name under which the best trial is compared over fresh seeds."""
        return f"trial {self.number}"


def markdown(trials: Sequence[TrialSummary], comparison: Comparison | None) -> str:
    """Return how all trials of a search ended, a table of the best, and what the best is worth.

    The comparison, of the best trial and the start over fresh seeds, is None if there is none.
    """
    counts = Counter(trial.state for trial in trials)
    states = [f"{counts[state]} {state}" for state in TrialState if counts[state]]
    summary = f"{len(trials)} trials: {', '.join(states)}"
    return "\n\n".join([summary, _best_trials(trials), conclusion(trials, comparison)])


def best_trial(trials: Sequence[TrialSummary]) -> TrialSummary | None:
    """Return the finished trial with the highest accuracy; None if none finished."""
    return next(iter(_finished(trials)), None)


def _best_trials(trials: Sequence[TrialSummary]) -> str:
    """Return a table of the best trials, and of the first, where the search started."""
    shown = _finished(trials)[:TABLE_LENGTH]
    shown += [trial for trial in trials[:1] if trial not in shown]
    keys = list(shown[0].params) if shown else []
    columns = ["trial", "val_accuracy %", *(key.removeprefix("model.") for key in keys)]
    return markdown_table((columns, [_row(trial, keys) for trial in shown]))


def _row(trial: TrialSummary, keys: Sequence[str]) -> list[str]:
    number = f"{trial.number} (start)" if trial.number == 0 else str(trial.number)
    value = "-" if trial.value is None else f"{100 * trial.value:.2f}"
    epoch = f" (epoch {trial.pruned_after})" if trial.pruned_after else ""
    return [number, value + epoch, *(trial.params[key] for key in keys)]


def conclusion(trials: Sequence[TrialSummary], comparison: Comparison | None) -> str:
    """Say what the best trial is worth over fresh seeds, where its luck does not count."""
    best = best_trial(trials)
    if best is None or best.value is None:
        return "No trial was trained to the end."
    result = f"Trial {best.number} is the best of the search: {100 * best.value:.2f} %."
    if best.number == 0:
        return f"{result} It has the values that the search started with: none better was found."
    variant = _fresh_variant(best, comparison)
    if variant is None:
        return f"{result} It was not tried over fresh seeds."
    drop = 100 * (best.value - variant.estimate.mean)
    size = f"{abs(drop):.2f} points {'less' if drop > 0 else 'more'}"
    fresh = f"Over {variant.estimate.n} fresh seeds it has {percent(variant.estimate)} %"
    return f"{result} {fresh}, {size}: what wins a search is lucky, too; only this counts."


def fresh_mean(trials: Sequence[TrialSummary], comparison: Comparison | None) -> float | None:
    """Return the mean of the best trial over the fresh seeds, a fraction; None if it has none."""
    best = best_trial(trials)
    variant = _fresh_variant(best, comparison) if best else None
    return variant.estimate.mean if variant else None


def trials_plot(trials: Sequence[TrialSummary]) -> Figure:
    """Draw the accuracy of each trial and at each epoch; one trial at least has finished.

    The axis is cut far below the median: bad trials would press the others together.
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_history(left, trials)
    _draw_epochs(right, trials)
    values = [trial.value for trial in trials if trial.value is not None]
    middle, best = float(np.median(values)), _finished(trials)[0].value or 0.0
    if middle < best:
        left.set_ylim(middle - 2 * (best - middle), best + (best - middle) / 2)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _finished(trials: Sequence[TrialSummary]) -> list[TrialSummary]:
    """Return the finished trials, the best first."""
    finished = [trial for trial in trials if trial.state is TrialState.finished]
    return sorted(finished, key=lambda trial: -(trial.value or 0.0))


def _fresh_variant(best: TrialSummary, comparison: Comparison | None) -> Variant | None:
    variants = comparison.variants if comparison else ()
    return next((v for v in variants if v.name == best.variant and v.values), None)


def _draw_history(axes: Axes, trials: Sequence[TrialSummary]) -> None:
    ended = [trial for trial in trials if trial.value is not None]
    numbers = np.array([trial.number for trial in ended])
    values = np.array([trial.value for trial in ended])
    finished = np.array([trial.state is TrialState.finished for trial in ended])
    axes.scatter(numbers[~finished], values[~finished], color=GREY, label="pruned")
    axes.scatter(numbers[finished], values[finished], color=BLUE, label="trained to the end")
    so_far = np.maximum.accumulate(np.where(finished, values, -np.inf))
    axes.step(numbers, so_far, where="post", color=BLACK, label="best so far")
    axes.set(xlabel="trial", ylabel="val_accuracy")
    axes.legend(frameon=False)


def _draw_epochs(axes: Axes, trials: Sequence[TrialSummary]) -> None:
    best = best_trial(trials)
    for trial in sorted(trials, key=lambda trial: trial.state is TrialState.finished):
        epochs, accuracies = list(trial.accuracies), list(trial.accuracies.values())
        finished = trial.state is TrialState.finished
        colour, width = (BLUE, 1.0) if finished else (GREY, 0.8)
        if trial is best:
            colour, width = BLACK, 2.5
        axes.plot(epochs, accuracies, color=colour, linewidth=width)
        if trial.pruned_after and epochs:
            axes.plot(epochs[-1], accuracies[-1], "x", color=GREY)
    axes.set(xlabel="epoch", title="grey: pruned; black: the best")
