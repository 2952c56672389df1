"""Real commands with bad input, one of each kind: a status, one line, and nothing left behind.

The wording of all others: test_bad_values, test_bad_stores, test_bad_sweeps and test_bad_commands.
"""

import gzip
import io
import os
import pickle
import re
import shlex
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import numpy as np
import pytest

from commands import Command
from conftest import ENVIRONMENT, PROJECT, lay_store, train_command, used_store, write_idx
from fmnist.data.download import SYSTEM_FOLDER

TIMEOUT = 120.0  # seconds, on a machine that does other things, too
MAX_PEAK = 3 << 29  # bytes; half a gigabyte of it is TensorFlow
LONGEST_LINE = 2100  # characters
MADE = ("output", "mlflow.db", "mlflow.db.lock")  # what a command may make in its folder


@dataclass(frozen=True, eq=False)
class Row:
    """A command as it is typed, HERE standing for a folder of its own, and what it answers.

    In that folder is a store: EMPTY, or USED, with some runs and a champion.
    """

    typed: str
    words: str
    prepare: Callable[[Path], object] | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    store: str = "EMPTY"

    @property
    def id(self) -> str:
        return self.typed if len(self.typed) < 80 else f"{self.typed[:70]}... ({len(self.typed)})"


def written(name: str, content: bytes | str) -> Callable[[Path], object]:
    """Prepare a file."""

    def prepare(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(whole.replace(b"HERE", str(folder).encode()))

    return prepare


OVERRIDES = [
    ("model=foo", "model=foo: choose one of batch_norm, batch_norm_before, relu,"),
    ("nonsense", "Error parsing override 'nonsense' missing EQUAL"),
    ("--nosuch", "unrecognized arguments: --nosuch; see --help"),
    ("--cfg nosuch", "argument --cfg/-c: invalid choice: 'nosuch' (choose from 'job',"),
    ("--config-dir HERE/nowhere", "config directory 'HERE/nowhere' not found"),
    ("--config-name nosuch", "Cannot find primary config 'nosuch'"),
    ("--config-path /nowhere", "Check that the config directory '/nowhere' exists"),
    (f"training.epochs={'9' * 5000}", "Exceeds the limit (4300 digits)"),
    (f"model.name={'[' * 5_000}", "model.name=[[[["),
    ("data=digits training.batch_size=5000", "batch_size=5000: must be at most the 1200"),
    ("promote=true", "promote=true: needs a sweep over several seeds (-m)"),
    ("hydra.run.dir=/proc/nowhere", "No such file or directory: '/proc/nowhere'"),
    ("hydra/launcher=nosuch", "hydra/launcher=nosuch: choose one of basic"),
    ("resume=../../etc/passwd", "resume=../../etc/passwd: there is no such run in this store"),
    ("resume=abc seed=1", "resume=abc: cannot be combined with other overrides: seed=1"),
]

SWEEPS = [
    ("model=relu,nosuch", "model=nosuch: choose one of batch_norm,"),
    ("'seed=range(0,1000000000)'", "seed: more than 10,000 jobs; that is the maximum"),
    ("resume=abc", "resume=: resumes one run; omit -m"),
    ("hydra.sweep.dir=/proc/nowhere", "No such file or directory: '/proc/nowhere'"),
    ("--cfg job", "Only one of --run, --multirun, --cfg"),
    ("hydra/launcher=joblib hydra.launcher.n_jobs=0", "n_jobs=0: must be at least 1, or -1"),
    ("hydra/launcher=ray hydra.launcher.ray.init.address=127.0.0.1:9", "no Ray cluster answers"),
    ("+experiment=search hydra.sweeper.trials=abc", "sweeper.trials=abc: must be a whole number"),
]

TOUCH = "touch HERE/canary"
ATTACKS = [
    (
        f"optimizer._target_=os.system '+optimizer.command={TOUCH}'",
        "is not a keras.optimizers.Optimizer",
    ),
    (
        f"+hydra.callbacks.x._target_=os.system '+hydra.callbacks.x.command={TOUCH}'",
        "Target 'os.system' is blocklisted",
    ),
]


class Touching:
    """A pickle that makes a file when it is read."""

    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.canary}",)


STORES = [
    ("sqlite:////proc/x.db", "tracking store sqlite:////proc/x.db: [Errno 2] No such file"),
    ("http://127.0.0.1:9", "tracking store http://127.0.0.1:9: [Errno 111] Connection refused"),
    ("http://user:geheim@127.0.0.1:9", "tracking.uri: no password here"),
]

CONFIGURATIONS = [
    ("name: !!python/object/apply:os.system ['touch HERE/canary']\n", "could not determine a"),
    ("a: b: c", "mapping values are not allowed here"),
    ("activation: relu\nname: a\n_target_: os.system\n", "Key '_target_' not in 'Model'"),
]


def header(*shape: int) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


ARRAYS = {
    "train-images-idx3-ubyte": np.arange(40 * 30).reshape(40, 6, 5),
    "train-labels-idx1-ubyte": np.arange(40) % 3,
    "t10k-images-idx3-ubyte": np.arange(12 * 30).reshape(12, 6, 5),
    "t10k-labels-idx1-ubyte": np.arange(12) % 3,
}
IMAGES, LABELS = list(ARRAYS)[:2]


def idx_file(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    """Prepare the four files, one of them bad."""

    def prepare(folder: Path) -> None:
        write_idx(folder / "data", ARRAYS)
        path = folder / "data" / name
        (folder / "data" / name.removesuffix(".gz")).unlink()
        make(path)

    return prepare


def bomb(path: Path) -> None:
    """Write a file that claims 40 images, and expands to 4 GB."""
    member = gzip.compress(bytes(64 << 20))
    path.write_bytes(gzip.compress(header(40, 6, 5)) + 64 * member)


def sparse(path: Path) -> None:
    """Make a file that holds a terabyte, as it claims, without a disk for it."""
    path.write_bytes(header(1_400_000_000, 28, 28))
    os.truncate(path, 16 + 1_400_000_000 * 28 * 28)


def content(whole: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(whole)


DATA = [
    (IMAGES, sparse, "the 1097600000000 values it claims do not fit into memory"),
    (f"{IMAGES}.gz", bomb, "holds more than the 1200 values it claims"),
    (IMAGES, os.mkfifo, f"{IMAGES}[.gz] is missing"),
    (IMAGES, lambda path: path.symlink_to(path), f"{IMAGES}[.gz] is missing"),
    (IMAGES, lambda path: path.symlink_to("/proc/self/mem"), "Input/output error"),
    (LABELS, content(header(40) + bytes([9] * 40)), "data.class_names: 3 names for 10 classes"),
]
DATA_PLACES = [
    ("data=idx 'data.dir=\"~nosuchuser\"'", "Could not determine home directory"),
    ("data=idx data.dir=/dev/zero", "/dev/zero: no such folder"),
    (f"data=idx data.dir=/{'a' * 9000}", "data: [Errno 36] File name too long"),
    ("data.dir=HERE/data", "altered: the content's SHA-256 is"),
]
VARIABLES = [
    (
        "data=digits",
        {"MLFLOW_RUN_ID": "nosuch"},
        "nosuch: is not in this store; only a new",
    ),
    (
        "tracking.uri=null",
        {"MLFLOW_TRACKING_URI": "http://u:geheim@127.0.0.1:9"},
        "http://127.0.0.1:9: ",
    ),
]
COMMANDS = [
    ("nosuch", "No such command 'nosuch'", "EMPTY"),
    ("compare nowhere", "study nowhere: Run with id=nowhere not found", "EMPTY"),
    (f"compare --filter '{'(' * 50_000}'", "filter ((((", "EMPTY"),
    ("serve --port TAKEN", "127.0.0.1:TAKEN: [Errno 98] Address already in use", "EMPTY"),
    ("reproduce RUN --checkout", "RUN: recorded no commit to check out", "USED"),
    ("predict -", "-: is empty", "USED"),
]


def png(width: int, height: int, pixels: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    size = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", size), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def npy(description: str) -> bytes:
    whole = description.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(whole)) + whole


def npy_of_objects(folder: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([Touching(f"{folder}/canary")], object), allow_pickle=True)
    (folder / "x.npy").write_bytes(stream.getvalue())


def pickled(folder: Path) -> None:
    (folder / "x.npy").write_bytes(pickle.dumps(Touching(f"{folder}/canary")))


CLAIMING = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (127551020, 28, 28)}")
EVALUATED = npy("__import__('os').system('touch HERE/canary')")
PREDICTIONS = [
    ("x.npy", npy_of_objects, "HERE/x.npy: is not a readable array"),
    ("x.npy", pickled, "HERE/x.npy: is not a PNG, JPEG, WebP, GIF or .npy file"),
    ("x.npy", written("x.npy", CLAIMING), "is not a readable array"),
    ("x.npy", written("x.npy", EVALUATED), "is not a readable array"),
    ("x.png", written("x.png", png(100_000, 100_000, b"")), "has more than 50,000,000 pixels"),
    ("x.png", lambda folder: os.mkfifo(folder / "x.png"), "is not a file; use - for"),
    ("x.png", lambda folder: (folder / "x.png").symlink_to("x.png"), "Too many levels of symbolic"),
    ("x.png", lambda folder: (folder / "x.png").symlink_to("/dev/zero"), "is not a file; use -"),
    ("x.png", lambda folder: (folder / "x.png").symlink_to("/proc/self/mem"), "Input/output"),
]


def rows() -> Iterator[Row]:
    for typed, words in OVERRIDES:
        yield Row(f"train.py {typed}", words)
    for typed, words in SWEEPS:
        yield Row(f"train.py -m {typed}", words)
    for typed, words in ATTACKS:
        yield Row(f"train.py data=digits {typed}", words)
    for typed, words in STORES:
        yield Row(f"train.py data=digits data.test_size=9999 tracking.uri={typed}", words)
    text = written("mlflow.db", "a text")
    yield Row("train.py data=digits", "mlflow.db: file is not a database", text)
    for yaml, words in CONFIGURATIONS:
        typed = "train.py --config-dir HERE/conf model=evil data=digits"
        yield Row(typed, words, written("conf/model/evil.yaml", yaml))
    for name, make, words in DATA:
        typed = "data=idx data.dir=HERE/data data.validation_size=1 data.class_names=[a,b,c]"
        yield Row(f"train.py {typed}", words, idx_file(name, make))
    for typed, words in DATA_PLACES:
        yield Row(f"train.py {typed}", words, lambda folder: write_idx(folder / "data", ARRAYS))
    if not SYSTEM_FOLDER.exists():
        variables = {"KERAS_HOME": "HERE/output/keras", "PATH": ""}
        typed = "train.py data.timeout=5 data.url=file:///etc/passwd"
        yield Row(typed, "file:///etc/passwd", variables=variables)
    for typed, variables, words in VARIABLES:
        yield Row(f"train.py {typed}", words, variables=variables)
    for typed, words, store in COMMANDS:
        yield Row(f"-m fmnist {typed}", words, store=store)
    for name, prepare, words in PREDICTIONS:
        yield Row(f"-m fmnist predict HERE/{name}", words, prepare, store="USED")


ROWS = list(rows())


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What stands in a command for folders with a store, the id of a run, and a taken port."""
    folder = tmp_path_factory.mktemp("stores")
    places = {"EMPTY": str(folder / "empty"), "USED": str(folder / "used")}
    lay_store(folder / "empty")
    client = mlflow.MlflowClient(f"sqlite:///{folder}/empty/mlflow.db")
    client.create_experiment("fmnist")
    shutil.copytree(folder / "empty", folder / "used")
    places["RUN"] = used_store(folder / "used")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield places | {"TAKEN": str(taken.getsockname()[1])}


def prepared(row: Row, folder: Path, places: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Make the folder of a row, and return the words of its command and its variables."""
    (folder / "tmp").mkdir(parents=True)
    shutil.copy(Path(places[row.store], "mlflow.db"), folder)
    with sqlite3.connect(folder / "mlflow.db") as database:  # else it is a store that was moved
        change = "UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)"
        database.execute(change, (places[row.store], str(folder)))
    if row.prepare:
        row.prepare(folder)
    here = places | {"HERE": str(folder)}
    words = [filled(word, here) for word in shlex.split(row.typed)]
    if words[0] == "train.py":
        words = train_command(folder, *words[1:])[1:]
    variables = {"MLFLOW_TRACKING_URI": "sqlite:///HERE/mlflow.db", "TMPDIR": "HERE/tmp"}
    variables |= row.variables
    return words, {name: filled(value, here) for name, value in variables.items()}


def filled(text: str, places: dict[str, str]) -> str:
    for name, place in places.items():
        text = text.replace(name, place)
    return text


def listing(folder: Path) -> set[str]:
    """All that lies in a folder, and beside it, but for what a command may make there."""
    paths = (path.relative_to(folder.parent) for path in folder.parent.rglob("*"))
    return {str(path) for path in paths if not set(path.parts[1:2]) & set(MADE)}


QUICK_ROWS = {row.id for row in ROWS[::4]}  # a share of each kind; the rest is slow


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=row.id, marks=() if row.id in QUICK_ROWS else pytest.mark.slow)
        for row in ROWS
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(row, places, tmp_path):
    folder = tmp_path / "here"
    words, variables = prepared(row, folder, places)
    before, runs = listing(folder), runs_of(folder / "mlflow.db")
    command = Command(words, ENVIRONMENT | variables)
    stdout, stderr = command.communicate(TIMEOUT)
    assert command.returncode in (1, 2), (command.returncode, stderr[-3000:])
    [line] = stderr.splitlines()
    assert line.startswith("error: ") and len(line) < LONGEST_LINE
    assert filled(row.words, places | {"HERE": str(folder)}) in line
    assert "Traceback" not in stdout + stderr
    assert "geheim" not in stdout + stderr
    assert listing(folder) == before
    assert runs_of(folder / "mlflow.db") == runs
    assert 0 < command.peak < MAX_PEAK


def runs_of(database: Path) -> int:
    try:
        with sqlite3.connect(database) as store:
            return int(store.execute("SELECT count(*) FROM runs").fetchone()[0])
    except sqlite3.DatabaseError:  # is none, which is the point of the row
        return 0


@pytest.fixture(scope="module", autouse=True)
def project() -> Iterator[None]:
    """Nothing new in the project when all is done."""
    command = ["git", "status", "--porcelain", "--ignored", "-uall", "--", ".", ":!.venv"]
    before = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True, text=True)
    yield
    after = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True, text=True)
    new = set(after.stdout.splitlines()) - set(before.stdout.splitlines())
    assert {line for line in new if not re.search("cache|hypothesis", line)} == set()


REAL = ("train.py model=foo", "-m fmnist compare nowhere")


@pytest.mark.slow
@pytest.mark.parametrize("typed", REAL)
def test_a_fresh_process_comes_to_the_same(typed, places, tmp_path):
    row = next(row for row in ROWS if row.typed == typed)
    words, variables = prepared(row, tmp_path / "here", places)
    environment = ENVIRONMENT | variables
    fresh = subprocess.run(
        [sys.executable, *words], cwd=PROJECT, env=environment, capture_output=True, text=True
    )
    forked = Command(words, environment).completed(TIMEOUT)
    answers = [(done.returncode, done.stdout, done.stderr) for done in (fresh, forked)]
    assert answers[0] == answers[1]
