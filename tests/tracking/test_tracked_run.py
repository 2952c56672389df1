"""How a run ends in the store, whatever goes wrong."""

import sys
import time

import mlflow
import pytest

from conftest import QUICK, composed, runs_in
from fmnist.common.errors import TrackingError
from fmnist.runs.run import prepare
from fmnist.tracking.job_context import JobContext
from fmnist.tracking.tracked_run import tracked_run


class Died(Exception):
    """What a test ends a run with."""


@pytest.fixture
def inputs(tmp_path):
    return prepare(composed(tmp_path, *QUICK), JobContext(), None)


def test_only_a_new_run_is_entered(tmp_path, config, inputs, monkeypatch):
    def refused(run_id, state):
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        with pytest.raises(
            TrackingError, match=f"={run_id}: is {state}; only a new run is entered"
        ):
            prepare(config(*QUICK, "seed=9"), JobContext(), None)

    with tracked_run(inputs) as tracked:
        refused(tracked.run_id, "in use")
    before = mlflow.get_run(tracked.run_id).to_dictionary()
    refused(tracked.run_id, "FINISHED")
    assert mlflow.get_run(tracked.run_id).to_dictionary() == before
    refused("0" * 32, "not in this store")
    assert len(runs_in(tmp_path)) == 1


def test_a_run_that_mlflow_cannot_begin_is_not_left_running(tmp_path, inputs, monkeypatch):
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setitem(sys.modules, "psutil", None)  # as if it were not installed
    with pytest.raises(TrackingError, match="`psutil` is not installed"), tracked_run(inputs):
        pass
    assert runs_in(tmp_path) == []


def test_a_failure_of_the_queue_is_told_beside_the_error_that_ends_the_run(
    tmp_path, inputs, caplog
):
    with pytest.raises(Died), tracked_run(inputs) as tracked:
        tracked.queue.enqueue(lambda: {}["a bug"])
        while not tracked.queue.failure:
            time.sleep(0.01)
        raise Died("of something else")
    [message] = caplog.messages
    assert message == "what the run logged was not stored: 'a bug'"
    [run] = runs_in(tmp_path)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"] == "Died: of something else"


def test_a_run_that_is_deleted_ends_at_once_with_the_words_of_the_store(inputs, caplog):
    started = time.monotonic()
    refused = r"tracking store sqlite:.*: The run \w+ must be in the 'active' state"
    with pytest.raises(TrackingError, match=refused), tracked_run(inputs) as tracked:
        mlflow.delete_run(tracked.run_id)
        tracked.queue.call(lambda: mlflow.log_metric("loss", 1))
    assert time.monotonic() - started < inputs.config.tracking.timeout
    [message] = caplog.messages
    assert message.startswith("the tracking store does not know that the run is FAILED: ")
    assert mlflow.active_run() is None


def test_a_deleted_run_and_another_error_are_both_told(inputs, caplog):
    with pytest.raises(Died), tracked_run(inputs) as tracked:
        mlflow.delete_run(tracked.run_id)
        tracked.queue.enqueue(lambda: mlflow.MlflowClient().set_tag(tracked.run_id, "a", "b"))
        while not tracked.queue.failure:
            time.sleep(0.01)
        raise Died
    not_stored, not_told = caplog.messages
    assert not_stored.startswith("what the run logged was not stored: The run ")
    assert not_told.startswith("the tracking store does not know that the run is FAILED: ")
