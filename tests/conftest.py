"""Shared by all tests: composed configurations, small data files and one real run to look at."""

import atexit
import gzip
import os
import pickle
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import mlflow
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from mlflow.entities import Run

from commands import Command
from fmnist import PROJECT
from fmnist.common.files import file_lock
from fmnist.config.schema import Config
from fmnist.data.idx_files import DIMENSIONS
from fmnist.sweeps.overrides import parsed
from fmnist.tracking import tag
from fmnist.tracking.model import digest

# In the background of a shell SIGINT is ignored, here and in all children: heed it again.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
for variable in ("TRACKING_URI", "RUN_ID", "EXPERIMENT_ID", "EXPERIMENT_NAME"):
    os.environ.pop(f"MLFLOW_{variable}", None)
os.environ.pop("KERAS_HOME", None)
ENVIRONMENT = dict(os.environ)  # for child processes, untouched by what MLflow sets in this one

QUICK = ("data=digits", "model.depth=3", "model.width=30", "training.epochs=2")


def composed(folder: Path, *overrides: str) -> Config:
    """Compose conf/ as train.py does, for a run that writes below `folder` only."""
    lay_store(folder)
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


@pytest.fixture
def swept_config():
    """`swept_config(*overrides)`: what `train.py -m` composes of them, and the parsed overrides."""

    def compose(*typed: str):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("train", list(typed), RunMode.MULTIRUN)
        task = config.hydra.overrides.task
        return config, parsed(config.hydra.sweeper.params or {}, task)

    with initialize_config_dir(version_base="1.3", config_dir=str(PROJECT / "conf")):
        yield compose


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one tracking store for all tests that only add runs to it."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def run(store: Path):
    """`run(*overrides)` trains for real, on digits in the shared store unless told otherwise."""
    from fmnist.runs.run import run

    return lambda *overrides: run(composed(store, *QUICK, *overrides))


def runs_in(folder: Path) -> list[Run]:
    """All runs in the store of `folder`, the latest first."""
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


@cache
def empty_store() -> Path:
    """A database as MLflow makes it, in a second and a half, for a new store."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mlflow.db")
        mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
        kept = Path(tempfile.mkstemp(suffix=".db")[1])
        shutil.copy(path, kept)
    atexit.register(kept.unlink)
    return kept


def lay_store(folder: Path) -> None:
    """Let `folder` have a store, an empty one if it has none."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "mlflow.db").exists():
        shutil.copy(empty_store(), folder / "mlflow.db")


def used_store(folder: Path) -> str:
    """Put three runs and a champion into a store that has one experiment; return a run's id.

    The champion takes images and is untrained.
    """
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    for model, seed, fingerprint in (("relu", 1, "a"), ("relu", 2, "a"), ("selu", 1, "b")):
        run_id: str = client.create_run("1", tags={"data.fingerprint": fingerprint}).info.run_id
        client.log_param(run_id, "model", model)
        client.log_param(run_id, "seed", seed)
        client.log_metric(run_id, "best_val_accuracy", 0.9)
        client.set_terminated(run_id)
    save_untrained_model(folder / "model")
    client.create_registered_model("fmnist")
    tags = {tag.MODEL_DIGEST: digest(folder / "model")}
    version = client.create_model_version("fmnist", f"file://{folder}/model", tags=tags).version
    client.set_registered_model_alias("fmnist", "champion", version)
    return run_id


def save_untrained_model(folder: Path) -> None:
    """Save a small network as a run logs its model."""
    import keras

    layers = [keras.Input((28, 28), dtype="uint8"), keras.layers.Flatten(), keras.layers.Dense(2)]
    file = folder.with_name("model.keras")
    keras.Sequential(layers).save(file)
    tensor = mlflow.types.TensorSpec(np.dtype(np.uint8), (-1, 28, 28))
    mlflow.pyfunc.save_model(
        str(folder),
        loader_module="served_model",
        data_path=str(file),
        signature=mlflow.models.ModelSignature(mlflow.types.Schema([tensor])),
        pip_requirements=[],
        metadata={"class_names": ["cat", "dog"]},
    )


def listing(folder: Path) -> set[str]:
    """All that lies in a folder, but for a store's files."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*"))
    return {name for name in names if not name.startswith("mlflow.db")}


def train(
    *arguments: str, folder: Path, timeout: float = 240, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Type `python train.py ...`, with all that it writes below `folder`."""
    process = started(folder, *arguments, **variables)
    output, errors = process.communicate(timeout)
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


def started(folder: Path, *arguments: str, **variables: str) -> Command | subprocess.Popen[str]:
    """Start `python train.py ...`, in a process group of its own, to be stopped."""
    command, environment = train_command(folder, *arguments), ENVIRONMENT | variables
    if not any(word.startswith("tracking.uri=") for word in arguments):
        lay_store(folder)
    launched = any(word.startswith(("hydra/launcher=", "+experiment=")) for word in arguments)
    if not launched or "hydra/launcher=basic" in arguments:
        return Command(command[1:], environment)
    return subprocess.Popen(  # its launcher begins processes of its own
        command,
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
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


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first of pytest's processes lets `make` fill, for all of them."""
    parent = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        parent = parent.parent
    folder, mark = parent / name, parent / f"{name}.made"
    with file_lock(parent / f"{name}.lock", timeout=600):
        if not mark.exists():
            folder.mkdir()
            make(folder)
            mark.touch()
    return folder


@pytest.fixture(scope="session")
def study_command(tmp_path_factory: pytest.TempPathFactory):
    """A small study that ran as a sweep: the folder of its store, and what the command printed."""
    sweep = ("+experiment=quick", "model=relu,selu", "seed=1,2", "study.question=Does SELU help?")

    def make(folder: Path) -> None:
        done = train("-m", *QUICK, *sweep, "hydra/launcher=basic", folder=folder)
        (folder / "done.pickle").write_bytes(pickle.dumps(done))

    folder = made_once(tmp_path_factory, "study", make)
    return folder, pickle.loads((folder / "done.pickle").read_bytes())


@pytest.fixture(scope="session")
def study(study_command) -> Path:
    """The folder of the store of a small study."""
    folder, done = study_command
    assert done.returncode == 0, done.stderr
    return folder


def check_here(files, predictions):
    """Do what `check_in_fresh_process` does in this process, which has imported TensorFlow."""
    from fmnist.registry.model_checks import until_failure

    return until_failure(files.checks(predictions))


@pytest.fixture
def checks_in_this_process(monkeypatch):
    """Spare each promotion the ten seconds of a fresh process; test_model_checks.py has those."""
    from fmnist.registry import validation

    monkeypatch.setattr(validation, "check_in_fresh_process", check_here)


RATE = "optimizer.learning_rate"
RATES = ("0.003", "0.01", "0.1")


def train_rates(folder: Path) -> None:
    """Make a store with three studies of one learning rate each; the larger, the better, by far."""
    from fmnist.config.schema import Tracking
    from fmnist.evidence.comparison import StudyDesign
    from fmnist.runs.run import run
    from fmnist.tracking import studies

    sized = (*QUICK[:-1], "training.epochs=4", "model=selu")
    statement = StudyDesign("Which rate?", by=(RATE,), seeds=(1, 2, 3, 4), variants=1)
    for rate in RATES:
        tracking = Tracking(f"sqlite:///{folder}/mlflow.db", "fmnist")
        opened = studies.begin(tracking, statement, studies.Sweep(rate, rate, rate, None, 1))
        for seed in statement.seeds:
            config = composed(folder, *sized, f"{RATE}={rate}", f"seed={seed}")
            mlflow.MlflowClient().set_tag(run(config).run_id, "mlflow.parentRunId", opened.run_id)
        mlflow.MlflowClient().set_terminated(opened.run_id)


@pytest.fixture(scope="session")
def rates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store as `train_rates` fills it."""
    return made_once(tmp_path_factory, "rates", train_rates)


@pytest.fixture
def copied_rates(rates: Path, tmp_path: Path) -> Path:
    """A copy of the folder `rates` to change; it becomes MLflow's store."""
    folder = tmp_path / "copy"
    copy_store(rates, folder)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    return folder


def copy_store(folder: Path, target: Path) -> None:
    """Copy a store and its artifacts; their addresses in it are changed."""
    shutil.copytree(folder / "mlartifacts", target / "mlartifacts")
    with sqlite3.connect(folder / "mlflow.db") as old, sqlite3.connect(target / "mlflow.db") as new:
        new.executescript("\n".join(old.iterdump()).replace(str(folder), str(target)))


def free_port() -> int:
    """A port of the loopback that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def mlflow_server(folder: Path, port: int, **variables: str) -> Iterator[str]:
    """The address of an `mlflow server` that answers; what it keeps is in `folder`."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db"]
    command += ["--artifacts-destination", f"{folder}/artifacts"]
    variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | variables
    with answering(command, port, folder / "server.log", **variables) as uri:
        yield uri


@contextmanager
def answering(command: list[str], port: int, log: Path, **variables: str) -> Iterator[str]:
    """The address of the server that `command` starts, when it answers, and until it is killed."""
    uri, until = f"http://127.0.0.1:{port}", time.monotonic() + 90
    with log.open("w") as file:
        server = subprocess.Popen(
            command,
            stdout=file,
            stderr=file,
            cwd=PROJECT,
            env=ENVIRONMENT | variables,
            start_new_session=True,
        )
    try:
        while not answers(uri):
            if server.poll() is not None or time.monotonic() > until:
                raise TimeoutError(log.read_text())
            time.sleep(0.1)
        yield uri
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answers(uri: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=5):
        return True
    return False


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of an empty database on a PostgreSQL server of its own."""
    debian = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")))
    tools = next(filter(None, [shutil.which("pg_ctl"), *debian]), None)
    if tools is None:
        pytest.skip("needs PostgreSQL; .ci/run installs it")
    # The server refuses to run as root.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as place:
        if user:
            shutil.chown(place, "postgres")
        control = [*user, tools, "-D", f"{place}/data", "-w", "-s"]
        port = free_port()
        options = f"-p {port} -k {place} -c listen_addresses=127.0.0.1 -c fsync=off"
        subprocess.run([*control, "initdb", "-o", "-A trust -U postgres"], check=True, cwd="/")
        trusted = Path(place, "data/pg_hba.conf")  # all but the role of deploy/databases.sql
        trusted.write_text(f"host all mlflow all scram-sha-256\n{trusted.read_text()}")
        started = [*control, "-l", f"{place}/log", "-o", options, "start"]
        subprocess.run(started, check=True, cwd="/")
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, cwd="/")
