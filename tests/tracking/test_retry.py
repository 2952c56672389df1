"""Which errors of real stores pass by themselves, and which last."""

import json
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import mlflow
import numpy as np
import pytest
import sqlalchemy
from mlflow.data.numpy_dataset import from_numpy
from mlflow.exceptions import MlflowException

from conftest import lay_store
from fmnist.common.errors import TrackingError
from fmnist.config.schema import Tracking
from fmnist.tracking import retry
from fmnist.tracking.delivery_queue import DeliveryQueue
from fmnist.tracking.retry import call_with_retry, is_transient
from fmnist.tracking.store import open_store


def error_of(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


@contextmanager
def server(*answers: tuple[int, str]) -> Iterator[str]:
    """The address of a server that gives these answers one after another, and then the last."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def answer(code: str, message: str = "x") -> str:
    return json.dumps({"error_code": code, "message": message})


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr(retry, "RETRY_INTERVAL", 0.05)


@pytest.fixture
def client(tmp_path) -> mlflow.MlflowClient:
    lay_store(tmp_path)
    return mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.mark.parametrize(
    ("status", "body", "transient"),
    [
        (503, "<html>back soon</html>", True),
        (503, answer("TEMPORARILY_UNAVAILABLE"), True),
        (500, answer("INTERNAL_ERROR"), True),
        (502, "<html>bad gateway</html>", True),
        (504, "", True),
        (429, "slow down", True),
        (429, answer("REQUEST_LIMIT_EXCEEDED"), True),
        (400, answer("BAD_REQUEST", "UNIQUE constraint failed: datasets.name"), True),
        (400, answer("BAD_REQUEST", "duplicate key value violates unique constraint"), True),
        (400, answer("INVALID_PARAMETER_VALUE"), False),
        (404, answer("RESOURCE_DOES_NOT_EXIST"), False),
        (404, "<html>no such page</html>", False),
        (401, "You are not authenticated.", False),
        (403, "Permission denied", False),
    ],
)
def test_a_server_that_refuses_is_told_from_one_that_is_busy(status, body, transient):
    with server((status, body)) as uri:
        error = error_of(lambda: mlflow.MlflowClient(uri).set_tag("run", "key", "value"))
    assert is_transient(error) is transient, error


def test_a_server_that_is_down_or_silent_may_come_back():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        down = mlflow.MlflowClient(f"http://127.0.0.1:{listener.getsockname()[1]}")
        assert is_transient(error_of(lambda: down.set_tag("run", "key", "value")))
        listener.listen()
        assert is_transient(error_of(lambda: down.set_tag("run", "key", "value")))


def test_a_server_that_is_busy_for_a_while_gets_everything():
    busy = (503, "<html>back soon</html>")
    with server(busy, busy, (200, "{}")) as uri, closing(DeliveryQueue(timeout=30)) as queue:
        client = mlflow.MlflowClient(uri)
        queue.enqueue(lambda: client.set_tag("run", "key", "value"))
        queue.flush()
        queue.call(lambda: client.set_tag("run", "key", "value"))


def test_what_a_database_refuses_lasts(client):
    run_id = client.create_run("0").info.run_id
    client.log_param(run_id, "seed", 1)
    assert not is_transient(error_of(lambda: client.log_param(run_id, "seed", 2)))
    assert not is_transient(error_of(lambda: client.log_metric(run_id, "a\nb", 1)))
    assert not is_transient(error_of(lambda: client.get_run("nowhere")))
    client.delete_run(run_id)
    assert not is_transient(error_of(lambda: client.log_metric(run_id, "loss", 1)))


def test_a_damaged_database_lasts_and_a_locked_one_does_not(client, tmp_path):
    path = tmp_path / "mlflow.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{path}?timeout=0.1")

    def read() -> None:  # as MLflow does, which waits for twenty seconds
        try:
            with engine.connect() as connection:
                connection.execute(sqlalchemy.text("SELECT * FROM runs"))
        except sqlalchemy.exc.OperationalError as error:
            raise MlflowException(str(error)) from error

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert is_transient(error_of(read))
        other.execute("ROLLBACK")
        read()
        other.execute("PRAGMA foreign_keys = OFF")
        other.execute("DROP TABLE tags")
    engine.dispose()
    assert not is_transient(error_of(lambda: client.create_run("0")))


def test_several_that_log_the_same_new_data_set_at_once_only_need_another_try(client):
    dataset = from_numpy(np.zeros((2, 2)), name="new")._to_mlflow_entity()
    inputs = [mlflow.entities.DatasetInput(dataset, [])]
    run_ids = [client.create_run("0").info.run_id for _ in range(6)]
    together = threading.Barrier(len(run_ids))
    failures = []

    def log(run_id: str) -> None:
        together.wait()
        try:
            call_with_retry(lambda: client.log_inputs(run_id, inputs), timeout=30)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=log, args=(run_id,)) for run_id in run_ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for run_id in run_ids:
        assert client.get_run(run_id).inputs.dataset_inputs[0].dataset.name == "new"


def test_a_store_that_cannot_be_opened_is_asked_again_only_if_that_may_help():
    impossible = error_of(lambda: open_store(Tracking("sqlite:////nowhere/x.db", "x")))
    assert isinstance(impossible, TrackingError) and not is_transient(impossible)
    with server((503, "")) as uri:
        busy = error_of(lambda: open_store(Tracking(uri, "x")))
    assert isinstance(busy, TrackingError) and is_transient(busy)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (OSError(28, "No space left on device"), True),
        (PermissionError(13, "no"), False),
        (FileNotFoundError(2, "no"), False),
        (ValueError(), False),
    ],
)
def test_errors_of_the_system_and_of_the_program(error, transient):
    assert is_transient(error) is transient
