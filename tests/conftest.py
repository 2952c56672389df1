"""Shared by all tests: composed configurations, small data files and one real run to look at."""

import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import mlflow
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from mlflow.entities import Run

from fmnist import PROJECT
from fmnist.config import Config
from fmnist.idx import DIMENSIONS

# In the background of a shell SIGINT is ignored, here and in all children: heed it again.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "KERAS_HOME"):
    os.environ.pop(variable, None)
ENVIRONMENT = dict(os.environ)  # for child processes, untouched by what MLflow sets in this one

QUICK = ("data=digits", "model.depth=3", "model.width=30", "training.epochs=2")


def composed(folder: Path, *overrides: str) -> Config:
    """Compose conf/ as train.py does, for a run that writes below `folder` only."""
    with initialize_config_dir(version_base="1.3", config_dir=str(PROJECT / "conf")):
        config = compose(
            "train",
            [f"output_dir={folder}", f"tracking.uri=sqlite:///{folder}/mlflow.db", *overrides],
        )
    return Config.from_hydra(config)


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Config]:
    """`config(*overrides)`: a configuration whose run writes below `tmp_path` only."""
    return lambda *overrides: composed(tmp_path, *overrides)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one tracking store for all tests that only add runs to it."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def run(store: Path):
    """`run(*overrides)` trains for real, on digits in the shared store unless told otherwise."""
    from fmnist.experiment import run

    return lambda *overrides: run(composed(store, *QUICK, *overrides))


def runs_in(folder: Path) -> list[Run]:
    """All runs in the store of `folder`, the latest first; none where there is no store."""
    if not (folder / "mlflow.db").exists():
        return []
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


def write_idx(folder: Path, arrays: Mapping[str, np.ndarray], zipped: bool = False) -> Path:
    """Write arrays (n, ...) uint8 as the IDX files that their keys name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        content = header + array.astype(np.uint8).tobytes()
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(content) if zipped else content)
    return folder


@pytest.fixture(scope="session")
def small_arrays() -> dict[str, np.ndarray]:
    """Images of 6 x 5 pixels in 3 classes: 40 to train on, 12 to test."""
    draw = np.random.default_rng(0)
    shapes = {"train-images": (40, 6, 5), "t10k-images": (12, 6, 5)}
    arrays = {}
    for name in DIMENSIONS:
        part, kind = name.split("-")[:2]
        images = shapes[f"{part}-images"]
        if kind == "images":
            arrays[name] = draw.integers(0, 256, images).astype(np.uint8)
        else:
            arrays[name] = (np.arange(images[0]) % 3).astype(np.uint8)
    return arrays


def train(
    *arguments: str, folder: Path, timeout: float = 240, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Type `python train.py ...` in the project, with all that it writes below `folder`."""
    return subprocess.run(
        train_command(folder, *arguments),
        cwd=PROJECT,
        env=ENVIRONMENT | variables,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def train_command(folder: Path, *arguments: str) -> list[str]:
    """`python train.py` with store and output below `folder`, unless the arguments say where."""
    places = {
        "hydra.run.dir": f"{folder}/output",
        "hydra.sweep.dir": f"{folder}/output",
        "tracking.uri": f"sqlite:///{folder}/mlflow.db",
    }
    given = {argument.partition("=")[0] for argument in arguments}
    defaults = [f"{key}={value}" for key, value in places.items() if key not in given]
    return [sys.executable, "train.py", *arguments, *defaults]


@pytest.fixture(scope="session")
def study_command(tmp_path_factory: pytest.TempPathFactory):
    """A small study that ran as a sweep: the folder of its store, and what the command printed."""
    folder = tmp_path_factory.mktemp("study")
    asked = ("+experiment=quick", "model=relu,selu", "seed=1,2", "study.question=Does SELU help?")
    return folder, train("-m", *QUICK, *asked, folder=folder)


@pytest.fixture(scope="session")
def study(study_command) -> Path:
    """The folder of the store of a small study."""
    folder, done = study_command
    assert done.returncode == 0, done.stderr
    return folder
