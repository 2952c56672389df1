"""What is sent arrives in order, late if need be; what cannot arrive is told."""

import time
from contextlib import closing

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from conftest import lay_store
from fmnist.tracking import delivery_queue
from fmnist.tracking.delivery_queue import DeliveryQueue, UndeliveredError


def test_it_delivers_in_order_what_failed_at_first(caplog):
    delivered, failures = [], [ConnectionError("down"), ConnectionError("down")]

    def first():
        if failures:
            raise failures.pop()
        delivered.append(1)

    with closing(DeliveryQueue(timeout=10)) as queue:
        queue.enqueue(first)
        queue.enqueue(lambda: delivered.append(2))
        queue.flush()
        assert delivered == [1, 2]
        assert queue.call(lambda: 3) == 3
    assert len(caplog.messages) == 1 and "training continues" in caplog.messages[0]


def test_it_sends_heartbeats(monkeypatch):
    monkeypatch.setattr(delivery_queue, "HEARTBEAT_INTERVAL", 0.05)
    beats = []
    with closing(DeliveryQueue(timeout=1)) as queue:
        queue.heartbeat = lambda: beats.append(time.monotonic())
        time.sleep(1)
    assert len(beats) >= 3


def test_it_gives_up_after_its_timeout():
    def fails():
        raise ConnectionError("still down")

    with closing(DeliveryQueue(timeout=0.5)) as queue:
        queue.enqueue(fails)
        started = time.monotonic()
        with pytest.raises(UndeliveredError, match="still down"):
            queue.flush()
        assert time.monotonic() - started < 5


def test_what_the_store_refuses_is_told_at_once_in_its_words(tmp_path):
    lay_store(tmp_path)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run_id = client.create_run("0").info.run_id
    client.delete_run(run_id)

    def log_metric():
        client.log_metric(run_id, "loss", 1)

    started, later = time.monotonic(), []
    with closing(DeliveryQueue(timeout=60)) as queue:
        queue.enqueue(log_metric)
        queue.enqueue(lambda: later.append(1))
        for use in (queue.flush, lambda: queue.enqueue(log_metric), lambda: queue.call(log_metric)):
            with pytest.raises(MlflowException, match="must be in the 'active' state"):
                use()
    with (
        closing(DeliveryQueue(timeout=60)) as queue,
        pytest.raises(MlflowException, match="must be in the 'active' state"),
    ):
        queue.call(log_metric)
    assert time.monotonic() - started < 20 and later == []


def test_a_bug_is_raised_as_it_is():
    with closing(DeliveryQueue(timeout=60)) as queue:
        queue.enqueue(lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            queue.flush()
