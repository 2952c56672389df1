"""Real processes that are killed, starved and cut off: nothing is lost. More: bench/faults.py."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import keras
import mlflow
import pytest

from conftest import (
    QUICK,
    composed,
    free_port,
    mlflow_server,
    runs_in,
    started,
    train,
)
from fmnist.data import download
from fmnist.runs.run import run

STOPPING = ("callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=0.01")
SIZED = (*QUICK[:-1], "training.epochs=20", "model=selu_dropout", "optimizer=adam", *STOPPING)


class Started:
    """`python train.py ...` in a process group of its own."""

    def __init__(self, folder, *arguments):
        self.popen = started(folder, *arguments)

    def reaches(self, epoch):
        return self.prints(f"epoch {epoch:>2}/")

    def prints(self, *beginnings):
        for line in self.popen.stdout:
            if line.startswith(beginnings):
                return self
        raise AssertionError(self.popen.stderr.read())

    def send(self, number):
        os.killpg(self.popen.pid, number)

    def ends(self):
        """Its status, and what it says from now on."""
        output, errors = self.popen.communicate(timeout=120)
        return self.popen.returncode, output, errors

    def ends_well(self):
        status, output, errors = self.ends()
        assert (status, errors) == (0, "")
        return output


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """Of both engines, what a run that nothing befell comes to, and its number of epochs."""
    found = {}
    for engine in ("compiled", "keras"):
        folder = tmp_path_factory.mktemp(engine)
        result = run(composed(folder, *SIZED, f"training.engine={engine}"))
        found[engine] = (result.digests, len(result.history["loss"]))
    return found


def check_whole(uri, references, folder, runs=2):
    """In a store there are only whole runs: nothing is missing, doubled or different."""
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("fmnist").experiment_id
    found = client.search_runs([experiment])
    assert [one.info.status for one in found] == ["FINISHED"] * runs
    models = client.search_logged_models([experiment])
    for tracked in found:
        run_id = tracked.info.run_id
        digests, epochs = references[tracked.data.params["training.engine"]]
        path = client.download_artifacts(run_id, "digests.json", str(folder))
        assert json.loads(Path(path).read_text()) == digests
        for name in ("val_accuracy", "dead_units"):
            history = client.get_metric_history(run_id, name)
            assert [point.step for point in history] == list(range(1, 1 + epochs))
        assert len(client.get_metric_history(run_id, "best_val_accuracy")) == 1
        assert len(client.list_artifacts(run_id, "images")) == 2 * (1 + epochs)
        own = [model.status for model in models if model.source_run_id == run_id]
        assert own == ["READY"]


def resumed(folder, run_id, *arguments):
    return Started(
        folder, f"resume={run_id}", *arguments, f"hydra.run.dir={folder}/resumed-{run_id}"
    )


@pytest.mark.slow
def test_two_runs_set_up_a_store_are_killed_and_lose_nothing(tmp_path, references):
    seed = time.time_ns()
    print(f"{seed=}")  # pytest shows it if the test fails
    draw = random.Random(seed)
    moments = {engine: (draw.randrange(1, 7), draw.uniform(0, 0.2)) for engine in references}

    def killed(engine):
        epoch, pause = moments[engine]
        asked = (f"training.engine={engine}", f"hydra.run.dir={tmp_path}/{engine}")
        process = Started(tmp_path, *SIZED, *asked).reaches(epoch)
        time.sleep(pause)
        process.send(signal.SIGKILL)
        assert process.ends()[0] == -signal.SIGKILL

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(killed, references))
    runs = {one.data.params["training.engine"]: one for one in runs_in(tmp_path)}
    assert runs.keys() == references.keys()
    both = [resumed(tmp_path, one.info.run_id) for one in runs.values()]
    for process in both:
        process.ends_well()
    check_whole(f"sqlite:///{tmp_path}/mlflow.db", references, tmp_path)


@pytest.mark.slow
def test_a_server_may_go_and_come_back(tmp_path, references):
    port = free_port()
    folders = {patience: tmp_path / patience for patience in ("600", "1")}
    with mlflow_server(tmp_path, port) as uri:
        patient, impatient = (
            Started(folder, *SIZED, f"tracking.uri={uri}", f"tracking.timeout={patience}")
            for patience, folder in folders.items()
        )
        patient.reaches(3), impatient.reaches(3)
    status, output, errors = impatient.ends()
    assert status == 1 and "| best" in output  # trained to its end
    [error] = errors.splitlines()
    assert f"error: tracking store {uri}: does not answer (" in error
    run_id = error.rpartition("resume=")[2]
    assert output.count("does not answer") == 1
    with mlflow_server(tmp_path, port):
        goes_on = resumed(folders["1"], run_id, f"tracking.uri={uri}")
        assert "\nepoch" not in goes_on.ends_well()
        assert patient.ends_well().count("does not answer") == 1
        check_whole(uri, references, tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 32 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs root, to mount a small disk; CI has it")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_run_outlasts_a_full_disk_two_interrupts_and_a_locked_store(
    tmp_path, small_disk, references
):
    process = Started(tmp_path, *SIZED, f"hydra.run.dir={small_disk}/output").reaches(3)
    process.send(signal.SIGSTOP)
    filler = small_disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(1 << 12)):
            pass
    process.send(signal.SIGCONT)
    status, _, errors = process.ends()
    [tracked] = runs_in(tmp_path)
    store = f"MLFLOW_TRACKING_URI=sqlite:///{tmp_path}/mlflow.db"
    resume_command = f"resume it: {store} python train.py resume={tracked.info.run_id}"
    assert (status, tracked.info.status) == (1, "FAILED")
    [error] = errors.splitlines()
    assert "No space left on device" in error and error.endswith(resume_command)
    keras.saving.load_model(small_disk / "output" / "best.keras")
    filler.unlink()

    process = resumed(tmp_path, tracked.info.run_id).prints("epoch")
    for _ in range(2):
        with suppress(ProcessLookupError):
            process.send(signal.SIGINT)
        time.sleep(0.2)
    status, _, errors = process.ends()
    assert status in (128 + signal.SIGINT, -signal.SIGINT)  # the second one at the very end
    assert errors.splitlines() == [f"stopped by SIGINT; {resume_command}"]

    process = resumed(tmp_path, tracked.info.run_id).prints("epoch", "| best")
    with closing(sqlite3.connect(tmp_path / "mlflow.db", timeout=30)) as other:
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(22)  # MLflow lets SQLite wait for twenty
    process.ends_well()
    check_whole(f"sqlite:///{tmp_path}/mlflow.db", references, tmp_path, runs=1)


def test_data_that_was_cut_short_is_told_and_never_trained_on(tmp_path):
    cache = tmp_path / "datasets" / "fashion-mnist"
    cache.mkdir(parents=True)
    for name in download.SUMS:
        (cache / f"{name}.gz").write_bytes(b"\x1f\x8b\x08")
    nowhere = {"KERAS_HOME": str(tmp_path), "PATH": ""}
    done = train("data.url=http://127.0.0.1:9", folder=tmp_path, **nowhere)
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: Fashion-MNIST cannot be found")
    assert "damaged or cut short" in error
    assert runs_in(tmp_path) == []
