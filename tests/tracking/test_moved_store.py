"""A store that was copied with its folder: told, and put right, without touching the original."""

import dataclasses
import shutil

import mlflow
import pytest
from sqlalchemy import create_engine, text

from conftest import QUICK, composed, runs_in
from fmnist.cli import doctor
from fmnist.common.errors import TrackingError
from fmnist.config.schema import Tracking
from fmnist.runs.run import run
from fmnist.tracking.artifacts import artifact
from fmnist.tracking.store import existing_store, open_store
from fmnist.tracking.store_uri import existing_uri


def content(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_copied_store_is_used_only_with_paths_of_its_own(tmp_path, monkeypatch, capsys):
    old, new = tmp_path / "old", tmp_path / "a new one"
    config = composed(old, *QUICK, "training.epochs=1")
    run_id = run(dataclasses.replace(config, output_dir=f"{old}/outputs")).run_id
    shutil.copytree(old, new)
    before, uri = content(old / "mlartifacts"), f"sqlite:///{new}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    told = f"in {old}/mlartifacts; if it was moved or copied: python -m fmnist doctor --fix"
    with pytest.raises(TrackingError, match=told):
        open_store(Tracking(uri, "fmnist", 0))
    with pytest.raises(TrackingError, match=told):
        existing_store(None)

    assert not doctor.run_checks(fix=False)
    assert f"its artifacts were in {old}/mlartifacts" in capsys.readouterr().out
    doctor.run_checks(fix=True)
    assert f"done: the former one is {new}/mlflow.db.before-" in capsys.readouterr().out
    assert existing_uri() == uri
    existing_store("fmnist")
    assert content(old / "mlartifacts") == before
    shutil.rmtree(old / "mlartifacts")
    assert artifact(run_id, "config/resolved.json")
    [copied] = runs_in(new)
    assert copied.data.tags["output_dir"] == f"{new}/outputs"
    [model] = mlflow.search_logged_models([copied.info.experiment_id], output_format="list")
    assert mlflow.artifacts.download_artifacts(f"models:/{model.model_id}")


@pytest.mark.slow
def test_a_database_server_is_used_from_many_folders(postgresql):
    with create_engine(postgresql, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("CREATE DATABASE shared"))
    uri = f"{postgresql.rpartition('/')[0]}/shared"
    mlflow.MlflowClient(uri).create_experiment("fmnist", "file:///of/another/clone/mlartifacts")
    assert open_store(Tracking(uri, "fmnist", 0)).experiment_id
