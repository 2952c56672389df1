"""What a search makes of the ways in which a trial can end."""

import logging
import pickle

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf
from optuna.distributions import FloatDistribution

from fmnist.common.errors import DataError, TrainingError
from fmnist.sweeps import jobs
from fmnist.sweeps.search import _tell
from fmnist.sweeps.trial import STOPPED, continue_journal, open_study


@pytest.fixture
def study(tmp_path):
    study = open_study(str(tmp_path))
    for _ in range(4):
        study.ask({"optimizer.learning_rate": FloatDistribution(0.01, 0.1)})
    return study


def come_home(folder, number, value):
    """What the search gets of a job that returned, or raised, `value` beside others."""
    own = {"sweep": {"dir": str(folder)}, "job": {"num": number}, "overrides": {"task": []}}
    handlers = [*logging.getLogger().handlers]
    jobs.begin(OmegaConf.create(own), at_once=True)
    done = JobReturn()
    done.status = JobStatus.FAILED if isinstance(value, Exception) else JobStatus.COMPLETED
    done.return_value = value
    jobs.end(done)
    logging.getLogger().handlers = handlers
    return pickle.loads(pickle.dumps(done))


def test_only_what_neither_finished_nor_was_hopeless_nor_diverged_has_failed(study, tmp_path):
    ended = [0.9, 0.5, TrainingError("training diverged: loss is nan"), DataError("no file")]
    study._storage.set_trial_user_attr(study.trials[1]._trial_id, STOPPED, 2)
    told = [_tell(study, n, come_home(tmp_path, n, value)) for n, value in enumerate(ended)]
    assert told == [True, True, True, False]
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "PRUNED", "PRUNED", "FAIL"]
    assert study.best_value == 0.9


def test_a_search_goes_on_in_another_folder_and_in_its_own(study, tmp_path):
    study.tell(0, 0.9)
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path / "other"):
        assert continue_journal(str(tmp_path), str(folder)) == 1
        assert open_study(str(folder)).best_value == 0.9
    assert continue_journal(str(tmp_path / "nowhere"), str(tmp_path)) == 0
