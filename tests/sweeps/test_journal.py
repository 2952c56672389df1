"""What a search makes of the ways in which a trial can end."""

import pytest
from optuna.distributions import FloatDistribution

from fmnist.reports.search_report import TrialState, best_trial
from fmnist.sweeps.job_state import JobState
from fmnist.sweeps.journal import (
    PRUNED_AFTER,
    better_trial,
    continue_journal,
    open_study,
    read,
    record_trial,
)


@pytest.fixture
def study(tmp_path):
    study = open_study(str(tmp_path))
    for _ in range(6):
        study.ask({"optimizer.learning_rate": FloatDistribution(0.01, 0.1)})
    return study


def ended(number, **values):
    return JobState(number, (), ended=True, **values)


def test_only_what_neither_finished_nor_was_pruned_nor_diverged_has_failed(study, tmp_path):
    study._storage.set_trial_user_attr(study.trials[1]._trial_id, PRUNED_AFTER, 2)
    jobs = [
        ended(0, objective=0.9),
        ended(1, objective=0.5),
        ended(2, error="training diverged: loss is nan", diverged=True),
        ended(3, error="no file"),
        JobState(4, ()),
    ]
    recorded = [record_trial(study, number, job) for number, job in enumerate(jobs)]
    assert recorded == [True, True, True, False, False]
    assert record_trial(study, 5, None) is False
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "PRUNED", "PRUNED", "FAIL", "FAIL", "FAIL"]
    assert better_trial(study) is None  # the start is the best
    record = read(str(tmp_path))
    assert [trial.state for trial in record.trials] == [
        TrialState.finished,
        *[TrialState.pruned] * 2,
        *[TrialState.failed] * 3,
    ]
    assert [trial.pruned_after for trial in record.trials] == [None, 2, None, None, None, None]
    best = best_trial(record.trials)
    assert (best.number, best.value) == (0, 0.9)
    assert float(best.params["optimizer.learning_rate"]) == pytest.approx(
        study.best_params["optimizer.learning_rate"], rel=0.01
    )
    assert len(record.csv.splitlines()) == 1 + 6 and record.journal.is_file()


def test_a_search_goes_on_in_another_folder_and_in_its_own(study, tmp_path):
    study.tell(0, 0.9)
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path / "other"):
        assert continue_journal(str(tmp_path), str(folder)) == 1
        assert open_study(str(folder)).best_value == 0.9
    assert continue_journal(str(tmp_path / "nowhere"), str(tmp_path)) == 0


def test_another_search_in_the_same_folder_begins_anew(study, tmp_path):
    study.tell(0, 0.9)
    assert continue_journal(None, str(tmp_path)) == 0
    assert open_study(str(tmp_path)).get_trials() == []
