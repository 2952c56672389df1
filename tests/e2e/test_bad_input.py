"""Whatever is typed wrongly, or made to do harm: one line says so, and nothing is left behind."""

import gzip
import io
import os
import pickle
import shlex
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

import mlflow
import numpy as np
import pytest
from typist import Outcome, Typist

from conftest import ENVIRONMENT, PROJECT, train_command, write_idx
from fmnist.data.download import SYSTEM_FOLDER
from fmnist.tracking.model import DIGEST_TAG, digest
from fmnist.tracking.store_uri import environment_variables

TIMEOUT = 30.0  # seconds, on a machine that does other things, too
MOST_MEMORY = 1 << 30  # bytes
LONGEST_LINE = 2100  # characters
MADE = ("output", "mlflow.db", "mlflow.db.lock")  # what a command may make in its folder
LONG = "x" * 100_000  # Linux allows 131,071 for one argument


@dataclass(frozen=True, eq=False)
class Row:
    """A command as it is typed, HERE standing for a folder of its own, and what it is told.

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
    ("model=", "model=: choose one of batch_norm,"),
    ("model=../../etc/passwd", "choose one of batch_norm,"),
    ("data=../optimizer/sgd", "data._target_=keras.optimizers.SGD: choose one of fmnist.data."),
    ("data=/etc/passwd", "choose one of digits, fashion_mnist, idx"),
    ("+experiment=nosuch", "experiment=nosuch: choose one of quick, search,"),
    ("+model.dept=3", "model.dept: no such key; there are name, activation,"),
    ("epochs=3", "epochs: no such key; there are"),
    ("nonsense", "Error parsing override 'nonsense' missing EQUAL"),
    ("=3", "Config group override must be a string or a list"),
    ("--nosuch", "unrecognized arguments: --nosuch; --help tells what there is"),
    ("--cfg nosuch", "argument --cfg/-c: invalid choice: 'nosuch' (choose from 'job',"),
    ("--config-dir HERE/nowhere", "config directory 'HERE/nowhere' not found"),
    ("--config-name nosuch", "Cannot find primary config 'nosuch'"),
    ("--config-path /nowhere", "Check that the config directory '/nowhere' exists"),
    ("training.epochs=0", "training.epochs=0: must be at least 1"),
    ("training.epochs=ten", "training.epochs: Value 'ten' of type 'str' could not"),
    ("training.epochs=1e400", "training.epochs: Value 'inf' of type 'float' could not"),
    ("training.epochs=", "training.epochs: Value '' of type 'str' could not"),
    ("training.epochs=null", "training.epochs: a value is needed"),
    ("training.epochs=99999999999999999999999", "must be at least 1 and at most 1000000000"),
    (f"training.epochs={'9' * 5000}", "Exceeds the limit (4300 digits)"),
    ("training.threads=1000000000", "threads=1000000000: must be at least 1 and at most 1024"),
    ("training.engine=fast", "training.engine: Invalid value 'fast', expected one of"),
    ("data=digits training.batch_size=5000", "batch_size=5000: must be at most the 1200"),
    ("data=digits data.validation_size=1500", "validation_size=1500: must be below the 1500"),
    ("data=digits data.test_size=1797", "data.test_size=1797: must be below the 1797 images"),
    ("model.depth=1000000000", "model.depth=1000000000: must be at least 1 and at most 10000"),
    ("model.width=1000000000", "model.width=1000000000: must be smaller, at most 1,073,741,824"),
    ("model.dropout_rate=1", "model.dropout_rate=1.0: must be at least 0 and below 1"),
    ("model.name=", "model.name=: must be 1 to 250 printable characters"),
    ("optimizer.learning_rate=nan", "optimizer.learning_rate=nan: must be above 0"),
    ("seed=4294967296", "seed=4294967296: must be at least 0 and below 4294967296"),
    ("seed=1,2", "seed=1,2: several values are a sweep, which -m starts"),
    ("seed=1 seed=2 seed=x", "seed: Value 'x' of type 'str' could not"),
    ("promote=true", "promote=true: needs a sweep over several seeds (-m)"),
    ("model.name='\"unbalanced'", 'LexerNoViableAltException: model.name="unbalanced'),
    ("model.name=[1,2", "no viable alternative at input '[1,2'"),
    ("model.name='${oc.env:NOPE}'", "model.name: KeyError raised while resolving"),
    ("model.name='${model.name}'", "model.name: Recursive interpolation detected"),
    ("model.name='${'", "Error parsing override 'model.name=${'"),
    ("model.name='${oc.decode:\"[1\"}'", "model.name: GrammarParseError raised while"),
    (f"model.name={'[' * 5_000}", "model.name=[[[["),
    (f"model.name={LONG}", "100,011 characters, the most is 20,000"),
    (f"+{'a.' * 8_000}b=1", "File name too long"),
    ("~model", "model.name: a value is needed"),
    ("~callbacks.nosuch", "Could not delete from config. 'callbacks.nosuch' does not exist"),
    ("data=idx", "data.dir: a value is needed"),
    ("hydra.run.dir=/proc/nowhere", "No such file or directory: '/proc/nowhere'"),
    ("output_dir=null", "output_dir: a value is needed"),
    ("data.dir=/nowhere", "/nowhere: no such folder"),
    ("hydra/launcher=nosuch", "hydra/launcher=nosuch: choose one of basic"),
    ("resume=nosuch", "resume=nosuch: there is no such run in this store"),
    ("resume=", "resume=: there is no such run in this store"),
    ("resume=../../etc/passwd", "resume=../../etc/passwd: there is no such run in this store"),
    (f"resume={'a' * 9000}", "there is no such run in this store"),
    ("resume=abc seed=1", "resume=abc: goes on as it began, so without seed=1"),
    ("tracking.experiment=", "tracking.experiment=: must be 1 to 250 printable characters"),
    ("tracking.experiment='\"a\nb\"'", "tracking.experiment=a b: must be 1 to 250 printable"),
    (f"tracking.experiment={LONG[:10_000]}", "must be 1 to 250 printable characters"),
]

SWEEPS = [
    ("model=relu,selu study.baseline=gelu", "study.baseline=gelu: choose one of relu, selu"),
    ("model=relu,nosuch", "model=nosuch: choose one of batch_norm,"),
    ("optimizer=sgd,nosuch", "optimizer=nosuch: choose one of adam, momentum, sgd"),
    ("seed=1,1", "seed=1,1: name each seed once"),
    ("seed=1,b", "seed=b: must be a whole number"),
    ("seed=1,-1", "seed=-1: must be at least 0 and below 4294967296"),
    ("seed=1,2 callbacks=none", "study.metric=best_val_accuracy: needs callbacks.checkpoint"),
    ("'seed=range(0,1000000000)'", "seed: more than 10,000 jobs, which is the most"),
    ("'seed=range(0,9,0)'", "seed=range(0,9,0): is no range: range() arg 3 must not be zero"),
    ("'seed=range(0,nan)'", "seed=range(0,nan): is no range"),
    ("'seed=range(5,1)'", "seed=range(5,1): there is no such value"),
    ("'seed=choice()'", "empty choice is not legal"),
    ("'model=glob(z*)'", "model=glob(z*): there is no such value"),
    ("'optimizer.learning_rate=interval(0.1,1)'", "list the values, name a range, or search:"),
    ("resume=abc", "resume=: one run goes on, without -m"),
    ("hydra.sweep.dir=/proc/nowhere", "No such file or directory: '/proc/nowhere'"),
    ("study.min_effect=0", "study.min_effect=0.0: must be above 0 and below 1"),
    ("--cfg job", "Only one of --run, --multirun, --cfg"),
    ("hydra/sweeper=optuna", "hydra.sweeper.params: nothing is searched; KEY=interval(0.1,0.5)"),
    ("hydra/launcher=joblib hydra.launcher.n_jobs=0", "n_jobs=0: must be at least 1, or -1"),
    ("hydra/launcher=ray hydra.launcher.ray.init.address=127.0.0.1:9", "no Ray cluster answers"),
    ("+experiment=search hydra.sweeper.trials=abc", "sweeper.trials=abc: must be a whole number"),
    ("+experiment=search hydra.sweeper.batch=1.5", "sweeper.batch=1.5: must be a whole number"),
    ("+experiment=search hydra.sweeper.fresh_seeds=5", "fresh_seeds=5: must be a list of two"),
    ("+experiment=search hydra.sweeper.trials=0", "hydra.sweeper.trials=0: must be at least 1"),
    (
        "+experiment=search 'hydra.sweeper.fresh_seeds=[42,1]'",
        "fresh_seeds=[42, 1]: must be a list",
    ),
    ("+experiment=search hydra.sweeper.pruner.min_resource=-1", "`min_resource` is -1, but must"),
    ("+experiment=search seed=1,2", "seed: is not searched; hydra.sweeper.fresh_seeds judge"),
    ("+experiment=search study.baseline=relu", "a search compares its best with its start"),
    (
        "+experiment=search 'model.width=choice(16,32)'",
        "model.width: a search starts with what is configured, 100; that is none of 16, 32: add it",
    ),
    ("+experiment=search 'model=choice(relu,foo)'", "model=foo: choose one of batch_norm,"),
    ("+experiment=search 'model.depth=interval(9,1)'", "cannot be searched: `low <= high` must"),
    ("+experiment=search 'foo=range(1,3)'", "foo: no such key; there are"),
]

TOUCH = "touch HERE/canary"
IS_NONE = "is no keras.optimizers.Optimizer"
ATTACKS = [
    (f"optimizer._target_=os.system '+optimizer.command={TOUCH}'", IS_NONE),
    (f"data._target_=subprocess.Popen '+data.args={TOUCH}'", "choose one of fmnist.data."),
    ("data._target_=fmnist.fetch.find_or_fetch", "choose one of fmnist.data."),
    (
        '\'+callbacks.x={_target_:builtins.exec,_args_:["open(\\"HERE/canary\\",\\"w\\")"]}\'',
        "callbacks.x._target_=builtins.exec: is no keras.callbacks.Callback",
    ),
    (f"'data.dir={{_target_:os.system,command:{TOUCH}}}'", "data.dir: "),
    (f"'optimizer.learning_rate={{_target_:os.system,command:{TOUCH}}}'", "learning_rate: "),
    (
        f"'+optimizer.weight_decay={{_target_:os.system,command:{TOUCH}}}'",
        "optimizer.weight_decay._target_=os.system: is no keras.optimizers.schedules.",
    ),
    (
        "'+optimizer.clipnorm={_target_:keras.utils.get_file,origin:\"file:///etc/passwd\"}'",
        "_target_=keras.utils.get_file: is no keras.optimizers.schedules.",
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


def pickled(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(pickle.dumps(Touching(f"{folder}/canary")))


STORES = [
    ("nosuch://x", "tracking store nosuch://x: Model registry functionality is unavailable"),
    ("sqlite:///HERE/nowhere/mlflow.db", "HERE/nowhere/mlflow.db: no such folder"),
    ("sqlite:///HERE", "tracking store sqlite:///HERE: is a folder"),
    ("sqlite:////proc/x.db", "tracking store sqlite:////proc/x.db: unable to open database file"),
    ("sqlite://", "tracking store sqlite://: keeps nothing"),
    ("sqlite:///:memory:", "tracking store sqlite:///:memory:: keeps nothing"),
    ("sqlite:", "Could not parse SQLAlchemy URL"),
    ("databricks", "tracking store databricks: Reading Databricks credential"),
    ("file:///HERE/mlruns", "HERE/mlruns: The filesystem tracking backend"),
    ("http://127.0.0.1:9", "tracking store http://127.0.0.1:9: [Errno 111] Connection refused"),
    ("http://127.0.0.1:99999", "tracking store http://127.0.0.1:99999: Failed to parse"),
    ("'\"http://[::1\"'", "tracking store http://[::1: Invalid IPv6 URL"),
    ("http://user:geheim@127.0.0.1:9", "tracking.uri: no password here"),
    ("postgresql://nobody@127.0.0.1:9/x", "port 9 failed: Connection refused"),
    ("mysql://nobody@127.0.0.1:9/x", "No module named 'MySQLdb'"),
    ("mssql+nosuch://x", "Can't load plugin: sqlalchemy.dialects:mssql.nosuch"),
    ("'\"sqlite:///HERE/a\nb/mlflow.db\"'", "HERE/a b/mlflow.db: no such folder"),
]

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
CONFIGURATIONS: list[tuple[str | bytes, str]] = [
    (LAUGHS, "HERE/conf/model/evil.yaml: has more than 10,000 values, aliases written out"),
    ("name: &a [*a]\n", "has more than 10,000 values, aliases written out"),
    ("name: !!python/object/apply:os.system ['touch HERE/canary']\n", "could not determine a"),
    ("name: " + "[" * 20_000, "is nested too deeply, or refers to itself"),
    ("{a: " * 16_000, "is nested too deeply, or refers to itself"),
    (os.urandom(5000), "evil.yaml: is no YAML that can be read"),
    ("- a\n- b\n", "In 'model/evil': ValidationError raised while composing config"),
    ("just a text", "Key 'just a text' not in 'Model'"),
    ("a: b: c", "mapping values are not allowed here"),
    ("name: evil\nname: twice\n", 'evil.yaml", line 1, column 1 found duplicate key name'),
    ("name: ${oc.env:NOPE}\n", "model.name: KeyError raised while resolving"),
    ("defaults: [evil]\n", "is nested too deeply, or refers to itself"),
    ("defaults: [../../../../etc/passwd]\n", "Could not load 'model/../../../../etc/passwd'"),
    ("name: evil\n#" + " " * 100_000, "evil.yaml: has more than 65,536 bytes"),
    ('activation: relu\nname: "a\\nb"\n', "must be 1 to 250 printable characters"),
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
    (IMAGES, content(header(65535, 65535, 1) + bytes(9)), "too small for the 4294836225 values"),
    (IMAGES, content(header(2**32 - 1, 2**32 - 1, 2**32 - 1)), "cut short: too small for"),
    (IMAGES, content(header(40, 6, 5) + bytes(1000)), "cut short: too small for the 1200"),
    (IMAGES, content(header(40, 6, 5)[:9]), "cut short within its header"),
    (IMAGES, content(b""), "not an IDX file of unsigned bytes"),
    (IMAGES, content(b"\x89PNG\r\n"), "not an IDX file of unsigned bytes"),
    (IMAGES, sparse, "the 1097600000000 values it claims do not fit into memory"),
    (f"{IMAGES}.gz", bomb, "holds more than the 1200 values it claims"),
    (f"{IMAGES}.gz", content(gzip.compress(bytes(9999))[:-9]), "not an IDX file"),
    (f"{IMAGES}.gz", content(b"\x1f\x8b" + bytes(99)), "damaged or cut short"),
    (IMAGES, os.mkfifo, f"{IMAGES}[.gz] is missing"),
    (IMAGES, Path.mkdir, f"{IMAGES}[.gz] is missing"),
    (IMAGES, lambda path: path.symlink_to(path), f"{IMAGES}[.gz] is missing"),
    (IMAGES, lambda path: path.symlink_to("/proc/self/mem"), "Input/output error"),
    (LABELS, content(header(39) + bytes(39)), "40 train images, but 39 labels for them"),
    (LABELS, content(header(40) + bytes([9] * 40)), "data.class_names: 3 names for 10 classes"),
]
DATA_PLACES = [
    ("data=idx data.dir=HERE", f"{IMAGES}[.gz] is missing"),
    ("data=idx 'data.dir=\"~nosuchuser\"'", "Could not determine home directory"),
    ("data=idx data.dir=", f".: {IMAGES}[.gz] is missing"),
    ("data=idx data.dir=/dev/zero", "/dev/zero: no such folder"),
    (f"data=idx data.dir=/{'a' * 9000}", "data: [Errno 36] File name too long"),
    ("data.dir=HERE/data", "altered: the content's SHA-256 is"),
]

URLS = [
    ("file:///etc/passwd", "Not a directory: '/etc/passwd/train-images-idx3-ubyte.gz'"),
    ("ftp://127.0.0.1:9", "ftp://127.0.0.1:9 (<urlopen error [Errno 111]"),
    ("nosuch://x", "nosuch://x (<urlopen error unknown url type: nosuch>)"),
    ("/etc", "unknown url type: '/etc/train-images-idx3-ubyte.gz'"),
]
VARIABLES = [
    ("data=digits", {"MLFLOW_RUN_ID": "nosuch"}, "Run with id=nosuch not found"),
    (
        "tracking.uri=null",
        {"MLFLOW_TRACKING_URI": "http://u:geheim@127.0.0.1:9"},
        "http://127.0.0.1:9: ",
    ),
    ("tracking.uri=null", {"MLFLOW_TRACKING_URI": "http://[::1"}, "Invalid IPv6 URL"),
    (
        "tracking.uri=null",
        {"MLFLOW_TRACKING_URI": "nosuch"},
        "store nosuch: The filesystem tracking",
    ),
]

COMMANDS = [
    ("reproduce", "the following arguments are required: "),
    ("reproduce nowhere", "run nowhere: there is no such run in this store"),
    ("reproduce ../../etc/passwd", "run ../../etc/passwd: there is no such run in this store"),
    (f"reproduce {LONG[:9000]}", "there is no such run in this store"),
    ("reproduce nowhere --tolerance nan", "argument --tolerance: nan is not within 0 and 1"),
    ("reproduce nowhere --tolerance=-1", "argument --tolerance: -1.0 is not within 0 and 1"),
    ("doctor --mend", "unrecognized arguments: --mend"),
    ("", "the following arguments are required: COMMAND"),
    ("nosuch", "invalid choice: 'nosuch'"),
    (LONG, "invalid choice: 'xxxx"),
    ("compare --nosuch", "unrecognized arguments: --nosuch"),
    ("compare nowhere", "study nowhere: Run with id=nowhere not found"),
    ("compare ../../etc", "study ../../etc: Invalid value"),
    (f"compare {'9' * 9000}", "study 9999"),
    ("compare ''", "no study in this experiment yet"),
    ("compare", "no study in this experiment yet"),
    ("compare --runs", "no run matches: there is nothing to compare"),
    ("compare --experiment nosuch", "experiment nosuch: choose one of fmnist, Default"),
    ("compare --experiment ''", "experiment : choose one of fmnist, Default"),
    (f"compare --experiment {LONG}", "choose one of fmnist, Default"),
    ("compare --filter 'model is relu'", "filter model is relu: Invalid clause"),
    ("compare --filter \"params.x = ''; DROP TABLE runs; --\"", "filter params.x = "),
    ("compare --filter '('", "filter (: Invalid clause(s) in filter string"),
    (f"compare --filter '{'(' * 50_000}'", "filter (((("),
    ("compare --runs --filter x", "not allowed with argument"),
    ("compare --by model --metric x", "no study in this experiment yet"),
    ("compare --min-effect abc", "argument --min-effect: invalid float value: 'abc'"),
    ("compare --format x", "argument --format: invalid choice: 'x'"),
    ("compare --port 0", "argument --port: 0 is not within 1 and 65535"),
    ("ui --port 99999999", "argument --port: 99999999 is not within 1 and 65535"),
    ("ui --port -1", "argument --port: -1 is not within 1 and 65535"),
    ("ui --port abc", "argument --port: invalid port value: 'abc'"),
    ("ui --experiment nosuch", "experiment nosuch: choose one of fmnist, Default"),
    ("studies", "no study in this experiment yet"),
    ("promote", "no study in this experiment yet"),
    ("promote nosuch", "study nosuch: Run with id=nosuch not found"),
    ("promote --min-effect nan", "promotion.min_effect=nan: must be above 0 and below 1"),
    ("promote --min-effect -1", "promotion.min_effect=-1.0: must be above 0 and below 1"),
    ("promote --alpha 5", "promotion.alpha=5.0: must be above 0 and below 1"),
    ("history", "there was no champion yet"),
    ("rollback", "rollback: there is no earlier champion"),
    ("rollback --to 999", "version 999: is no earlier champion; there are none"),
    ("rollback --to -1", "version -1: is no earlier champion; there are none"),
    ("rollback --to x", "argument --to: invalid int value: 'x'"),
    (f"rollback --reason {LONG}", "reason: 100000 characters, the most is 500"),
    ("predict", "the following arguments are required: IMAGE"),
    ("predict HERE/x.png", "there is no champion yet"),
    ("predict HERE", "no .png, .jpg, .jpeg, .npy in this folder"),
    ("serve", "there is no champion yet"),
    ("serve --port 99999999", "bind(): port must be 0-65535"),
    ("serve --port -1", "bind(): port must be 0-65535"),
    ("serve --port x", "argument --port: invalid int value: 'x'"),
    ("serve --port TAKEN", "127.0.0.1:TAKEN: [Errno 98] Address already in use"),
    ("serve --host 192.0.2.1", "192.0.2.1:5001: [Errno 99] Cannot assign requested address"),
]
COMMAND_STORES = [
    ("doctor", "sqlite:///HERE/none.db", "none.db: there is none yet; train.py makes it"),
    ("doctor --fix", "sqlite:////etc/passwd", "tracking store sqlite:////etc/passwd: "),
    ("doctor", "http://127.0.0.1:9", "tracking store http://127.0.0.1:9: "),
    ("compare", "sqlite:///HERE/none.db", "none.db: there is none yet; train.py makes it"),
    ("history", "http://127.0.0.1:9", "tracking store http://127.0.0.1:9: [Errno 111]"),
    ("studies", "nosuch://x", "tracking store nosuch://x: Model registry functionality"),
    ("predict x.png", "sqlite:///HERE", "tracking store sqlite:///HERE: is a folder"),
    ("promote", "http://u:geheim@127.0.0.1:9", "tracking store http://127.0.0.1:9: [Errno 111]"),
    ("serve", "postgresql://u:geheim@127.0.0.1:9/x", "store postgresql://127.0.0.1:9/x: "),
]


USED_STORE = [
    ("reproduce RUN", "RUN: has no digests.json to compare with"),
    ("reproduce RUN --checkout", "RUN: recorded no commit to check out"),
    ("compare --runs --min-effect nan", "min_effect nan: must be above 0 and below 1"),
    ("compare --runs --min-effect -1", "min_effect -1.0: must be above 0 and below 1"),
    ("compare --runs --min-effect 5", "min_effect 5.0: must be above 0 and below 1"),
    ("compare --runs --metric loss", "metric loss: choose one of best_val_accuracy,"),
    ("compare --runs --by nosuch", "by nosuch: no run has such a param"),
    ("compare --runs --by ,", "by : no run has such a param"),
    ("compare --runs --allow data --baseline nosuch", "baseline nosuch: "),
    ("compare --runs --allow nosuch", "differ in more than model and seed: data.fingerprint is"),
    ("compare RUN", "is no study; without it the latest study is compared"),
    ("promote RUN", "is no study"),
    ("history", "was not made by `python -m fmnist promote`"),
    ("rollback", "was not made by `python -m fmnist promote`"),
    ("predict -", "-: is no PNG, JPEG or .npy file"),
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


def npy_file(description: str) -> Callable[[Path], object]:
    return written("x.npy", npy(description))


PREDICTIONS = [
    ("x.png", None, "HERE/x.png: No such file or directory"),
    (LONG[:9000], None, "File name too long"),
    ("x.npy", npy_of_objects, "HERE/x.npy: is no array that can be read"),
    ("x.npy", pickled("x.npy"), "HERE/x.npy: is no PNG, JPEG or .npy file"),
    (
        "x.npy",
        npy_file("{'descr': '|u1', 'fortran_order': False, 'shape': (127551020, 28, 28)}"),
        "is no array that can be read",
    ),
    (
        "x.npy",
        npy_file("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 28, 28)}"),
        "HERE/x.npy: ",
    ),
    ("x.npy", npy_file("__import__('os').system('touch HERE/canary')"), "is no array that"),
    ("x.npy", npy_file("(" * 100), "is no array that can be read"),
    ("x.png", written("x.png", png(100_000, 100_000, b"")), "has more than 50,000,000 pixels"),
    ("x.png", written("x.png", png(28, 28, b"\0")), "HERE/x.png: is damaged: "),
    ("x.png", written("x.png", "a text"), "HERE/x.png: is no PNG, JPEG or .npy file"),
    ("x.png", written("x.png", b""), "HERE/x.png: is no PNG, JPEG or .npy file"),
    ("x.png", lambda folder: os.mkfifo(folder / "x.png"), "is no file; - is standard input"),
    ("x.png", lambda folder: (folder / "x.png").symlink_to("x.png"), "Too many levels of symbolic"),
    ("x.png", lambda folder: (folder / "x.png").symlink_to("/dev/zero"), "is no file; - is"),
    ("x.png", lambda folder: (folder / "x.png").symlink_to("/proc/self/mem"), "Input/output"),
]


def rows() -> Iterator[Row]:
    for typed, words in OVERRIDES:
        yield Row(f"train.py {typed}", words)
    for typed, words in SWEEPS:
        yield Row(f"train.py -m {typed}", words)
    for typed, words in ATTACKS:
        yield Row(f"train.py data=digits {typed}", words, pickled("job"))
    typed = "train.py --experimental-rerun HERE/job"
    yield Row(typed, "--experimental-rerun: runs whatever the file holds", pickled("job"))
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
    for url, words in [] if SYSTEM_FOLDER.exists() else URLS:
        variables = {"KERAS_HOME": "HERE/output/keras", "PATH": ""}
        yield Row(f"train.py data.timeout=5 data.url={url}", words, variables=variables)
    for typed, variables, words in VARIABLES:
        yield Row(f"train.py {typed}", words, variables=variables)
    for typed, words in COMMANDS:
        yield Row(f"-m fmnist {typed}", words)
    for typed, store, words in COMMAND_STORES:
        yield Row(f"-m fmnist {typed}", words, variables={"MLFLOW_TRACKING_URI": store})
    for typed, words in USED_STORE:
        yield Row(f"-m fmnist {typed}", words, store="USED")
    for name, prepare, words in PREDICTIONS:
        yield Row(f"-m fmnist predict HERE/{name}", words, prepare, store="USED")


ROWS = list(rows())


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What stands in a command for folders with a store, the id of a run, and a taken port."""
    folder = tmp_path_factory.mktemp("stores")
    places = {"EMPTY": str(folder / "empty"), "USED": str(folder / "used")}
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        environment_variables(MLFLOW_TRACKING_URI=None),
    ):
        (folder / "empty").mkdir()
        client = mlflow.MlflowClient(f"sqlite:///{folder}/empty/mlflow.db")
        client.create_experiment("fmnist")
        shutil.copytree(folder / "empty", folder / "used")
        places["RUN"] = use(folder / "used")
        yield places | {"TAKEN": str(taken.getsockname()[1])}


def use(folder: Path) -> str:
    """Put some runs and a champion into a store, and return the id of one."""
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    for model, seed, fingerprint in (("relu", 1, "a"), ("relu", 2, "a"), ("selu", 1, "b")):
        run_id: str = client.create_run("1", tags={"data.fingerprint": fingerprint}).info.run_id
        client.log_param(run_id, "model", model)
        client.log_param(run_id, "seed", seed)
        client.log_metric(run_id, "best_val_accuracy", 0.9)
        client.set_terminated(run_id)
    crown(folder)
    return run_id


def crown(folder: Path) -> None:
    """Make a model champion that takes images and has no network: what it says is not the point."""
    (folder / "all_alike.py").write_text(
        "def _load_pyfunc(path): return Model()\nclass Model:\n"
        "    def predict(self, images, params=None): raise AssertionError(images.shape)\n"
    )
    tensor = mlflow.types.TensorSpec(np.dtype(np.uint8), (-1, 28, 28))
    mlflow.pyfunc.save_model(
        str(folder / "model"),
        loader_module="all_alike",
        code_paths=[str(folder / "all_alike.py")],
        signature=mlflow.models.ModelSignature(mlflow.types.Schema([tensor])),
        input_example=np.zeros((1, 28, 28), np.uint8),
        pip_requirements=[],
    )
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    client.create_registered_model("fmnist")
    tags = {DIGEST_TAG: digest(folder / "model")}
    version = client.create_model_version("fmnist", f"file://{folder}/model", tags=tags).version
    client.set_registered_model_alias("fmnist", "champion", version)


@dataclass(frozen=True)
class Typed:
    """What came of a row, where, and what lay there before."""

    outcome: Outcome
    folder: Path
    before: set[str]
    runs: int


@pytest.fixture(scope="module")
def typed(request, places, tmp_path_factory) -> Iterator[dict[Row, Future[Typed]]]:
    """The rows that are tested, typed by two typists at once."""
    picked = [item for item in request.session.items if item.path == request.path]
    rows = dict.fromkeys(item.callspec.params["row"] for item in picked)
    typists: SimpleQueue[Typist] = SimpleQueue()
    for _ in range(2):
        typists.put(Typist(ENVIRONMENT))
    folder = tmp_path_factory.mktemp("rows")
    with ThreadPoolExecutor(2) as pool:
        yield {
            row: pool.submit(type_row, row, folder / str(place) / "here", places, typists)
            for place, row in enumerate(rows)
        }
        pool.shutdown(cancel_futures=True)
    while not typists.empty():
        typists.get().leave()


def type_row(row: Row, folder: Path, places: dict[str, str], typists: SimpleQueue[Typist]) -> Typed:
    command, variables = prepared(row, folder, places)
    before, runs = listing(folder), runs_of(folder / "mlflow.db")
    typist = typists.get()
    try:
        return Typed(typist.type(command, variables, TIMEOUT), folder, before, runs)
    finally:
        typists.put(typist)


def prepared(row: Row, folder: Path, places: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Make the folder of a row, and return the words of its command and its variables."""
    (folder / "tmp").mkdir(parents=True)
    shutil.copy(Path(places[row.store], "mlflow.db"), folder)
    if row.prepare:
        row.prepare(folder)
    here = places | {"HERE": str(folder)}
    words = [filled(word, here) for word in shlex.split(row.typed)]
    if words[0] == "train.py" and "--experimental-rerun" not in words:
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
    found = (path.relative_to(folder.parent) for path in folder.parent.rglob("*"))
    return {str(path) for path in found if not set(path.parts[1:2]) & set(MADE)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_bad_input_is_one_line_and_leaves_nothing(row, typed, places):
    done = typed[row].result()
    outcome, folder = done.outcome, done.folder
    assert outcome.status in (1, 2), (outcome.status, outcome.seconds, outcome.stderr[-3000:])
    [line] = outcome.stderr.splitlines()
    assert line.startswith("error: ") and len(line) < LONGEST_LINE
    assert filled(row.words, places | {"HERE": str(folder)}) in line
    assert "Traceback" not in outcome.stdout + outcome.stderr
    assert "geheim" not in outcome.stdout + outcome.stderr
    assert listing(folder) == done.before
    assert runs_of(folder / "mlflow.db") == done.runs
    assert outcome.peak < MOST_MEMORY


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
    assert {line for line in new if "cache" not in line} == set()


REAL = ("train.py model=foo", "train.py --config-dir HERE/conf", "-m fmnist compare nowhere")


@pytest.mark.parametrize(
    "row",
    [next(row for row in ROWS if row.typed.startswith(begin)) for begin in REAL],
    ids=lambda row: row.id,
)
def test_a_process_of_its_own_comes_to_the_same(row, typed, places, tmp_path):
    command, variables = prepared(row, tmp_path / "here", places)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=PROJECT,
        env=ENVIRONMENT | variables,
        capture_output=True,
        text=True,
    )
    here = typed[row].result()
    stderr = done.stderr.replace(str(tmp_path / "here"), str(here.folder))
    expected = here.outcome.status, here.outcome.stdout, here.outcome.stderr
    assert (done.returncode, done.stdout, stderr) == expected
