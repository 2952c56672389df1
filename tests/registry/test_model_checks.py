"""A model is checked by a process that knows no more than the one that will answer with it."""

import shutil
import sys
from pathlib import Path

import keras
import mlflow
import pytest

from fmnist.common.errors import DataError
from fmnist.registry.model_checks import ModelFiles, check_in_fresh_process
from fmnist.registry.safe_loading import load_pyfunc
from fmnist.registry.validation import predictions_of
from fmnist.tracking.model import logged_models
from fmnist.tracking.run_inputs import data_of_run


@keras.saving.register_keras_serializable("mine")
class OfMyOwn(keras.layers.Layer):
    def call(self, inputs):
        return inputs


@pytest.fixture(scope="module")
def trained(store, run):
    result = run("seed=77", "training.epochs=1")
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    return mlflow.get_run(result.run_id), predictions_of(result.run_id)


@pytest.fixture
def files(trained, tmp_path) -> ModelFiles:
    """A copy of a logged model."""
    run, _ = trained
    source = logged_models(run)[0].artifact_location.removeprefix("file://")
    shutil.copytree(source, tmp_path / "model")
    return ModelFiles(str(tmp_path / "model"), data_of_run(run), run.data.tags["data.fingerprint"])


def test_a_model_of_keras_layers_passes(files, trained):
    checks = check_in_fresh_process(files, trained[1])
    assert [check.name for check in checks] == ["data", "signature", "predictions", "answers"]
    assert all(check.passed for check in checks)


def test_a_model_that_only_this_process_can_load_is_refused(files, trained):
    path = Path(files.folder, "data", "model.keras")
    layers = [*keras.saving.load_model(path).layers, OfMyOwn()]
    keras.Sequential([keras.Input((8, 8), dtype="uint8"), *layers]).save(path)
    load_pyfunc(Path(files.folder))  # here it can be loaded
    refused = check_in_fresh_process(files, trained[1])[-1]
    assert (refused.name, refused.passed) == ("loading", False)
    assert refused.found == (
        "its model cannot be loaded: OfMyOwn is not of Keras, and only the process that trained "
        "it knows it"
    )


def test_a_process_that_dies_is_a_failed_check(files, trained, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    [check] = check_in_fresh_process(files, trained[1])
    assert (check.name, check.passed) == ("loading", False)
    assert check.found == "the process that loads it ended with status 1: no reason given"


def test_missing_data_are_no_fault_of_the_model(files, trained, tmp_path):
    target = {"_target_": "fmnist.data.idx", "dir": str(tmp_path), "class_names": None}
    missing = ModelFiles(files.folder, target | {"validation_size": 3}, files.fingerprint)
    with pytest.raises(DataError, match="is missing"):
        check_in_fresh_process(missing, trained[1])
