"""A job of a sweep: pickled to another process, it knows its study and reports its progress."""

import logging
import pickle

import cloudpickle
import pytest
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from fmnist.common.errors import DataError, TrainingError
from fmnist.sweeps.job import StudyJob, single_run
from fmnist.sweeps.job_state import JobError, find


@pytest.fixture
def run_job(tmp_path, swept_config):
    """`run_job(task, number, jobs_at_once)`: what a worker does with a job of a study."""
    handlers, before = [*logging.getLogger().handlers], HydraConfig.instance().cfg

    def run(task, number=0, jobs_at_once=True):
        job = StudyJob(task, jobs_at_once, str(tmp_path), "study")
        config, _ = swept_config("seed=1")
        with open_dict(config):
            config.hydra.job.num, config.hydra.runtime.output_dir = number, f"{tmp_path}/{number}"
        HydraConfig.instance().set_config(config)
        return pickle.loads(cloudpickle.dumps(job))(config)

    yield run
    HydraConfig.instance().cfg = before
    logging.getLogger().handlers = handlers


def test_an_experiment_without_m_says_what_it_ignores(swept_config, caplog, monkeypatch):
    for typed, warnings in (
        (
            ["+experiment=quick"],
            ["quick: one network is trained; its study of model, seed needs -m"],
        ),
        (["data=digits"], []),
    ):
        typed += ["hydra.runtime.output_dir=x"]
        cfg = compose("train", typed, return_hydra_config=True)
        monkeypatch.setattr(HydraConfig.instance(), "cfg", cfg)
        caplog.clear()
        single_run()
        assert caplog.messages == warnings


def log_and_return(config, job):
    log = logging.getLogger("task")
    log.setLevel(logging.INFO)
    log.info("epoch 2/9", extra={"epoch": 2, "epochs": 9, "val_accuracy": 0.5})
    log.warning("the store is slow")
    log.info("something else")
    return 0.9 if job.context.study_run_id == "study" else 0.0


def test_a_job_knows_its_study_and_reports_epochs_warnings_and_result(run_job, tmp_path):
    assert run_job(log_and_return, number=3) == 0.9
    state = find(str(tmp_path), 3)
    assert (state.epoch, state.epochs, state.val_accuracy) == (2, 9, 0.5)
    assert state.warnings == ["the store is slow"]
    assert (state.ended, state.objective, state.error) == (True, 0.9, None)
    assert state.overrides == ["seed=1"]
    assert find(str(tmp_path), 4) is None


@pytest.mark.parametrize(
    ("error", "reason", "diverged"),
    [
        (DataError("no file"), "no file", False),
        (TrainingError("training diverged"), "training diverged", True),
        (ValueError("a bug"), "ValueError: a bug", False),
    ],
)
def test_an_error_becomes_a_line_that_survives_pickling(run_job, tmp_path, error, reason, diverged):
    def fail(config, job):
        raise error

    with pytest.raises(JobError, match=f"^{reason}$") as raised:
        run_job(fail)
    assert str(pickle.loads(pickle.dumps(raised.value))) == reason
    state = find(str(tmp_path), 0)
    assert (state.ended, state.error, state.diverged) == (True, reason, diverged)
    assert state.warnings == []
    with pytest.raises(type(error)):
        run_job(fail, jobs_at_once=False)
