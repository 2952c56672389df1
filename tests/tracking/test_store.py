"""The store itself: opened safely by many at once, and refused with a reason."""

import concurrent.futures
import os
import socket
import sqlite3
import subprocess
import sys

import mlflow
import pytest

from conftest import ENVIRONMENT, PROJECT
from fmnist.common.errors import TrackingError
from fmnist.config.schema import Tracking
from fmnist.tracking import store, store_uri

OPEN = """
import sys
from fmnist.config.schema import Tracking
from fmnist.tracking.store import open_store
print(open_store(Tracking(sys.argv[1], "shared")).experiment_id)
"""


@pytest.mark.slow
def test_four_processes_may_open_a_new_store_at_once(tmp_path):
    command = [sys.executable, "-c", OPEN, f"sqlite:///{tmp_path}/mlflow.db"]
    processes = [
        subprocess.Popen(
            command, cwd=PROJECT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    assert len({output for output, _ in outputs}) == 1
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    assert [e.name for e in client.search_experiments()].count("shared") == 1


def test_artifacts_lie_beside_a_sqlite_file(tmp_path):
    opened = store.open_store(Tracking(f"sqlite:///{tmp_path}/mlflow.db", "here"))
    experiment = mlflow.MlflowClient().get_experiment(opened.experiment_id)
    assert experiment.artifact_location == f"file://{tmp_path}/mlartifacts"


def test_the_option_wins_over_the_environment_and_both_over_the_default(tmp_path, monkeypatch):
    option, variable = (f"sqlite:///{tmp_path}/{name}.db" for name in ("option", "variable"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
    assert store.open_store(Tracking(option, "x")).uri == option
    monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
    assert store.open_store(Tracking(None, "x")).uri == variable
    assert store_uri.default_uri() == f"sqlite:///{PROJECT}/mlflow.db"


def test_a_deleted_experiment_is_named_with_its_cure(tmp_path):
    config = Tracking(f"sqlite:///{tmp_path}/mlflow.db", "gone")
    opened = store.open_store(config)
    mlflow.MlflowClient().delete_experiment(opened.experiment_id)
    with pytest.raises(TrackingError, match=r"gone: was deleted; .*mlflow experiments restore"):
        store.open_store(config)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"this is no database, " * 100, "file is not a database"), (None, "out-of-date database")],
)
def test_a_file_that_is_no_store_of_this_version_is_refused(tmp_path, content, message):
    path = tmp_path / "mlflow.db"
    if content is None:
        store.open_store(Tracking(f"sqlite:///{path}", "x"))
        with sqlite3.connect(path) as database:
            database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        path = path.rename(tmp_path / "newer.db")
    else:
        path.write_bytes(content)
    with pytest.raises(TrackingError, match=message):
        store.open_store(Tracking(f"sqlite:///{path}", "x"))


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite:////nowhere/x.db", "/nowhere/x.db: no such folder"),
        ("carrier-pigeon://x", "carrier-pigeon://x: .*carrier-pigeon"),
        ("file:///tmp/mlruns", "maintenance mode"),
        ("/tmp/mlruns", "maintenance mode"),
    ],
)
def test_a_store_that_mlflow_cannot_use_is_named(uri, message):
    with pytest.raises(TrackingError, match=message):
        store.open_store(Tracking(uri, "x"))


def test_mlflows_variables_name_the_experiment_and_the_command_line_wins(
    tmp_path, config, monkeypatch
):
    def experiment(*overrides):
        opened = store.open_store(config(*overrides).tracking)
        return mlflow.get_experiment(opened.experiment_id).name

    assert experiment() == "fmnist"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    assert experiment() == "mine"
    assert experiment("tracking.experiment=other") == "other"
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    mine = mlflow.get_experiment_by_name("mine").experiment_id
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", mine)
    assert experiment() == "mine"
    assert experiment("tracking.experiment=other") == "other"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert store.existing_store("fmnist").experiment_id == mine
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "77")
    with pytest.raises(TrackingError, match="MLFLOW_EXPERIMENT_ID=77: there is no such experiment"):
        experiment()


def test_a_relative_store_is_the_same_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert store_uri.address_of("sqlite:///my.db") == f"sqlite:///{tmp_path}/my.db"
    assert store_uri.address_of("sqlite:////a/my.db") == "sqlite:////a/my.db"


def test_a_server_that_never_answers_is_given_up_within_ten_seconds(monkeypatch):
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with (
            pytest.raises(TrackingError, match=uri),
            concurrent.futures.ThreadPoolExecutor() as pool,
        ):
            pool.submit(store.open_store, Tracking(uri, "x")).result(timeout=10)
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ  # later calls keep MLflow's patience


def test_a_server_gets_a_password_that_nobody_quoted(monkeypatch):
    for name in ("USERNAME", "PASSWORD"):  # which it sets
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")
    assert store_uri.address_of("https://me:a/b@c@host:5000/x") == "https://host:5000/x"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "me"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "a/b@c"


def test_the_default_store_lies_in_a_folder_of_any_name(tmp_path, monkeypatch):
    folder = tmp_path / "a {y} 50%20 #c Tim's ? b"
    folder.mkdir()
    monkeypatch.setattr(store_uri, "PROJECT", folder)
    uri = store_uri.default_uri()
    assert store_uri.sqlite_file(uri) == folder / "mlflow.db"
    store.open_store(Tracking(uri, "x"))
    assert (folder / "mlflow.db").stat().st_size > 0
