"""What a search found, told from plain data."""

import pytest

from evidence_samples import run_summary
from fmnist.evidence.comparison import StudyDesign, compare_variants
from fmnist.reports.palette import BLACK
from fmnist.reports.search_report import (
    TrialState,
    TrialSummary,
    best_trial,
    fresh_mean,
    markdown,
    trials_plot,
)


def trial(number, state, value=None, pruned_after=None):
    params = {"model.activation": "relu", "optimizer.learning_rate": f"0.0{number + 1}"}
    accuracies = {epoch: value - 0.1 / epoch for epoch in (1, 2)} if value else {}
    return TrialSummary(number, params, state, value, accuracies, pruned_after)


TRIALS = [
    trial(0, TrialState.finished, 0.85),
    trial(1, TrialState.pruned, 0.95, pruned_after=2),
    trial(2, TrialState.finished, 0.89),
    trial(3, TrialState.failed),
    trial(4, TrialState.finished, 0.88),
]


@pytest.fixture(scope="module")
def comparison():
    accuracies = {"start": 0.85, "trial 2": 0.88}
    runs = [
        run_summary(name, seed, accuracy + seed / 1000)
        for name, accuracy in accuracies.items()
        for seed in (1, 2, 3)
    ]
    return compare_variants(runs, StudyDesign(baseline="start"))


def test_the_best_trial_is_the_best_of_those_that_finished():
    best = best_trial(TRIALS)
    assert (best.number, best.variant) == (2, "trial 2")
    assert best_trial(TRIALS[1:2]) is None


def test_the_report_counts_trials_and_lists_the_best_and_the_start(comparison):
    counts, table, sentence = markdown(TRIALS, comparison).split("\n\n")
    assert counts == "5 trials: 3 finished, 1 pruned, 1 failed"
    columns, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()
    ]
    assert columns == ["trial", "val_accuracy %", "activation", "optimizer.learning_rate"]
    assert rows == [
        ["2", "89.00", "relu", "0.03"],
        ["4", "88.00", "relu", "0.05"],
        ["0 (start)", "85.00", "relu", "0.01"],
    ]
    assert sentence == (
        "Trial 2 is the best of the search: 89.00 %. Over 3 fresh seeds it has 88.20 ± 0.25 %, "
        "0.80 points less: what wins a search is lucky, too; only this counts."
    )


def test_a_start_that_was_pruned_is_listed_with_its_epoch():
    trials = [trial(0, TrialState.pruned, 0.5, pruned_after=2), trial(1, TrialState.finished, 0.8)]
    assert "| 0 (start) | 50.00 (epoch 2) |" in markdown(trials, None)


@pytest.mark.parametrize(
    ("trials", "sentence"),
    [
        (TRIALS[3:4], "No trial was trained to the end."),
        (TRIALS[:1], "It has the values that the search started with: none better was found."),
        (TRIALS, "It was not tried over fresh seeds."),
    ],
)
def test_a_search_without_fresh_seeds_says_why(trials, sentence):
    assert markdown(trials, None).endswith(sentence)
    assert fresh_mean(trials, None) is None


def test_the_mean_over_fresh_seeds_is_that_of_the_best(comparison):
    assert fresh_mean(TRIALS, comparison) == pytest.approx(0.882)
    assert fresh_mean(TRIALS[:1], comparison) is None


def test_the_picture_shows_all_trials_and_the_best_in_black():
    history, epochs = trials_plot(TRIALS).axes
    [best_so_far] = history.get_lines()
    assert list(best_so_far.get_ydata())[1:] == [0.85, 0.89, 0.89]  # 0.95 was pruned
    lines = [line for line in epochs.get_lines() if line.get_marker() == "None"]
    assert len(lines) == 5
    [best] = [line for line in lines if line.get_color() == BLACK]
    assert list(best.get_ydata()) == list(TRIALS[2].accuracies.values())
    assert len(epochs.get_lines()) == 6  # a cross where one was pruned
