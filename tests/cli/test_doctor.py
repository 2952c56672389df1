"""What is wrong with a store, its files and the data is found, printed and fixed."""

import hashlib
import sqlite3
import time

import mlflow
import pytest
from alembic import command
from alembic.config import Config as AlembicConfig
from mlflow.store import db_migrations
from mlflow.store.db import utils
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase
from sqlalchemy import create_engine

from conftest import QUICK, composed, runs_in, write_idx
from fmnist.cli import doctor
from fmnist.config.schema import Tracking
from fmnist.data import download
from fmnist.evidence.comparison import StudyDesign
from fmnist.registry.decision_log import open_decision_log
from fmnist.runs import run
from fmnist.tracking import studies
from fmnist.tracking.store import Store, open_store


class Died(Exception):
    """What a test ends a run with."""


@pytest.fixture
def keras_home(tmp_path, monkeypatch, small_arrays):
    """A good copy of a small data set in Keras's cache and in the system's folder."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    cache = write_idx(download.cache_folder(), small_arrays)
    system = write_idx(tmp_path / "system", small_arrays)
    monkeypatch.setattr(download, "SYSTEM_FOLDER", system)
    for path in cache.iterdir():
        monkeypatch.setitem(download.SUMS, path.name, hashlib.sha256(path.read_bytes()).hexdigest())
    return cache


@pytest.fixture
def check(tmp_path, monkeypatch, capsys, keras_home):
    """`check(fix)`: whether all is well in the store of `tmp_path`, and what is printed."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")

    def check(fix: bool = False) -> tuple[bool, str]:
        capsys.readouterr()
        return doctor.run_checks(fix), capsys.readouterr().out

    return check


def dies(*arguments: object) -> None:
    raise Died


def left_running(folder, monkeypatch, *overrides: str) -> str:
    """Train until the model is to be logged, and leave the run as a killed process does."""
    with monkeypatch.context() as patched, pytest.raises(Died):
        patched.setattr(run, "record", dies)
        run.run(composed(folder, *QUICK, "callbacks.layer_health=null", *overrides))
    run_id = runs_in(folder)[0].info.run_id
    mlflow.MlflowClient().update_run(run_id, "RUNNING")
    return run_id


@pytest.mark.slow
def test_what_a_killed_process_left_is_found_and_fixed(tmp_path, monkeypatch, check):
    trained = left_running(tmp_path, monkeypatch)
    client = mlflow.MlflowClient()
    experiment_id = client.get_run(trained).info.experiment_id
    store = Store(f"sqlite:///{tmp_path}/mlflow.db", experiment_id)
    (tmp_path / "s").mkdir()
    opened = studies.begin(
        Tracking(store.uri, "fmnist"),
        StudyDesign("?"),
        studies.Sweep("sweep", str(tmp_path / "s"), "python train.py -m", None, 1),
    )
    ledger = open_decision_log(store, "fmnist-digits")
    long_ago = int(1000 * (time.time() - 3600))
    proposed = client.create_run(ledger.experiment_id, start_time=long_ago, run_name="proposed: x")
    killed = client.create_run(experiment_id)
    client.set_terminated(killed.info.run_id, "KILLED")
    half = client.create_logged_model(experiment_id, source_run_id=killed.info.run_id)
    stray = tmp_path / "mlartifacts" / ("0" * 32)
    stray.mkdir()
    private = tmp_path / "home"  # which a store may name, and the doctor shall not touch
    (private / ("1" * 32)).mkdir(parents=True)
    client.create_experiment("evil", artifact_location=private.as_uri())
    (tmp_path / "mlartifacts" / "2").mkdir()  # of a server that uses the same folder

    well, output = check()
    assert not well
    assert "data: good" in output
    assert f"run {trained} (selu_dropout seed 42): was interrupted\n    trained, but not" in output
    assert (
        f"run {opened.run_id} (sweep): was interrupted\n    is a sweep; resume it with: " in output
    )
    assert f"decision {proposed.info.run_id}: never recorded in the log" in output
    assert f"model {half.model_id}: half logged" in output
    assert f"1 of no run of this store: {stray.name}" in output
    assert client.get_run(trained).info.status == "RUNNING"  # looking changes nothing
    assert stray.exists()

    well, output = check(fix=True)
    assert well, output
    ended = {run: client.get_run(run).info.status for run in (trained, opened.run_id)}
    assert ended == {trained: "FINISHED", opened.run_id: "KILLED"}
    assert client.get_run(proposed.info.run_id).info.status == "KILLED"
    assert (tmp_path / "mlartifacts" / "stray" / stray.name).exists() and not stray.exists()
    assert list(private.iterdir()) and (tmp_path / "mlartifacts" / "2").exists()
    assert check()[0]


def test_a_run_that_has_epochs_to_go_is_not_trained_by_the_doctor(tmp_path, monkeypatch, check):
    run_id = left_running(tmp_path, monkeypatch)
    record = tmp_path / "mlartifacts" / run_id / "artifacts" / "config" / "resolved.json"
    record.write_text(record.read_text().replace('"epochs": 2', '"epochs": 9'))
    well, output = check()
    assert (
        not well
        and "interrupted after epoch 2\n    " in output
        and f"python train.py resume={run_id}" in output
    )
    assert check(fix=True)[0]
    assert mlflow.get_run(run_id).info.status == "KILLED"


def test_a_damaged_data_set_is_replaced(tmp_path, check, keras_home):
    open_store(Tracking(f"sqlite:///{tmp_path}/mlflow.db", "fmnist"))
    assert check()[0]
    path = keras_home / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    well, output = check()
    assert not well and f"data: {path}: " in output
    assert check(fix=True)[0] and not any(keras_home.iterdir())  # the system's copy is good
    assert check()[0]


def older_store(uri: str) -> str:
    """Make a database as an older MLflow has it; return its revision."""
    engine = create_engine(uri)
    InitialBase.metadata.create_all(engine)
    config = AlembicConfig()
    config.set_main_option("script_location", db_migrations.__path__[0])
    script = utils.ScriptDirectory.from_config(config)
    [head] = script.get_heads()
    revision = script.get_revision(head).down_revision
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    return revision


def test_an_older_store_is_migrated_on_request_and_copied_before(tmp_path, check):
    revision = older_store(f"sqlite:///{tmp_path}/mlflow.db")
    well, output = check()
    assert not well and f"made for MLflow's version {revision}, but here is" in output
    assert "the rest of the store cannot be checked" in output
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert database.execute("select * from alembic_version").fetchall() == [(revision,)]
    assert check(fix=True)[0]
    [copy] = tmp_path.glob("mlflow.db.before-*")
    with sqlite3.connect(copy) as database:
        assert database.execute("select * from alembic_version").fetchall() == [(revision,)]
    assert check()[0]


def test_a_store_of_a_newer_mlflow_is_left_alone(tmp_path, check):
    open_store(Tracking(f"sqlite:///{tmp_path}/mlflow.db", "fmnist"))
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("update alembic_version set version_num = 'of-the-future'")
    for fix in (False, True):
        well, output = check(fix)
        assert not well and "a newer MLflow made it" in output
