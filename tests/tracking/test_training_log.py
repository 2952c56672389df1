"""What MLflow gets of a training while it lasts."""

import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas
import pytest
from PIL import Image

from fmnist.config.schema import Engine
from fmnist.evidence.layer_health import QUANTITIES
from fmnist.tracking.delivery_queue import DeliveryQueue
from fmnist.tracking.training_log import TrainingLog, as_written


@pytest.mark.parametrize(
    ("value", "written"),
    [(float(np.float32(0.3)), 0.3), (1 / 3, 1 / 3), (0.01, 0.01), (1e300, 1e300)],
)
def test_only_a_float32_is_written_as_one(value, written):
    assert as_written(value) == written


def test_table_pictures_and_metrics_of_every_epoch_are_logged(run, store):
    result = run("model=relu")
    client = mlflow.MlflowClient(f"sqlite:///{store}/mlflow.db")
    folder = client.download_artifacts(result.run_id, "")
    table = pandas.read_json(f"{folder}/layer_health.json", orient="split")
    layers = ["dense", "dense_1", "dense_2", "dense_3"]
    assert list(table["layer"]) == 3 * layers and list(table["epoch"]) == sorted([0, 1, 2] * 4)
    assert (table["update_ratio"][:4] == 0).all() and (table["update_ratio"][4:] > 0).all()
    last = table[table["epoch"] == 2]
    metrics = client.get_run(result.run_id).data.metrics
    assert metrics["gradient_norm"] == pytest.approx(np.linalg.norm(last["gradient_norm"]))
    assert "layer_health.json" in client.get_run(result.run_id).data.tags["mlflow.loggedArtifacts"]
    first, third = last["gradient_norm"].iloc[0], last["gradient_norm"].iloc[2]
    assert metrics["gradient_ratio"] == pytest.approx(first / third)
    assert metrics["dead_units"] == pytest.approx(last["dead_units"][:3].mean())
    pictures = client.list_artifacts(result.run_id, "images")
    steps = {file.path.split("+")[2] for file in pictures if file.path.endswith(".png")}
    assert steps == {"0", "1", "2"}
    for file in pictures:
        Image.open(f"{folder}/{file.path}").verify()


def test_the_table_keeps_vanishing_gradients(run, store):
    result = run("model=relu", "training.epochs=1", "~callbacks.layer_health")
    progress = SimpleNamespace(
        engine=Engine.keras,
        planned=1,
        epochs=[],
        ended=[],
        measures_health=True,
        layers=["dense"],
        health=[np.full((1, len(QUANTITIES)), 1.2345e-30)],
    )
    with closing(DeliveryQueue(10)) as queue:
        # A stopped process had measured it: it is logged although no epoch is left to train.
        TrainingLog(result.run_id, queue).on_train_begin(progress)
        queue.flush()
    client = mlflow.MlflowClient(f"sqlite:///{store}/mlflow.db")
    folder = client.download_artifacts(result.run_id, "")
    [row] = json.loads(Path(folder, "layer_health.json").read_text())["data"]
    assert row == [0, "dense"] + [1.2345e-30] * len(QUANTITIES)
