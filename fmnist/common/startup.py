"""What is done to the process as a whole, each with its reason and what it saves."""

import atexit
import errno
import gc
import getpass
import io
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",  # TensorFlow's notices in C++
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # our commands say where to look
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray would send statistics to its makers
}
"""Environment variables that libraries read at import; a user's own values stay."""

LOG_LEVELS = {
    "tensorflow": logging.ERROR,  # warns that a sweep traces many models, which is intended
    "mlflow.utils.databricks_utils": logging.ERROR,  # warns of what the error then says
    "mlflow.store.db.utils": logging.CRITICAL,  # the delivery queue reports a locked database
    "mlflow.pyfunc.scoring_server": logging.ERROR,  # warns at each refusal of an unused key
    "hydra_plugins.hydra_joblib_launcher._core": logging.WARNING,  # our launcher says it
    "hydra_plugins.hydra_ray_launcher": logging.ERROR,
    "ray._private.authentication": logging.ERROR,
}

NOTICE = re.compile(r"(WARNING: All log messages before absl|[IWE]\d{4} \d\d:\d\d:\d\d|To enable )")
FULL_ERROR = "HYDRA_FULL_ERROR"
TRACEBACK_WANTED = bool(os.environ.get(FULL_ERROR))  # by the user; `prepare_command` sets it, too


def prepare_process() -> None:
    """Set what holds wherever the package is imported."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    os.environ["KERAS_BACKEND"] = "tensorflow"  # the only one here, whatever keras.json says
    try:
        getpass.getuser(), Path.home()
    except (KeyError, OSError, RuntimeError):  # a container's user may have no name and no home
        os.environ.setdefault("LOGNAME", "unknown")  # MLflow records it,
        os.environ.setdefault("HOME", tempfile.gettempdir())  # and cannot be imported without
    for name, level in LOG_LEVELS.items():
        logging.getLogger(name).setLevel(level)
    # Our launchers and sweepers in conf/hydra/ have the names of those that they replace.
    warnings.filterwarnings("ignore", "\\s*'hydra/(launcher|sweeper)/\\w+' is validated against")
    # joblib replaces workers that have grown, which is intended: XLA's programs are never freed.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given to the executor")
    # What TensorFlow and MLflow allocate at import lives to the end: searching it for garbage
    # takes about a second of the start, and more than that at exit.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)


class _Output(io.FileIO):
    """A standard stream that goes on into nothing when its reader or its terminal has gone."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.fileno())
            os.close(nothing)
            return len(data)


def prepare_streams() -> None:
    """Let what is printed neither end a command nor fail it.

    Else `| head` would end a study without its comparison, and so would a terminal whose encoding
    lacks a character.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f"__{name}__"):  # set already
            continue
        stream.flush()
        buffer = io.BufferedWriter(_Output(stream.fileno(), "w", closefd=False))
        as_before = {
            option: getattr(stream, option)
            for option in ("encoding", "line_buffering", "write_through")
        }
        setattr(sys, name, io.TextIOWrapper(buffer, errors="backslashreplace", **as_before))


def prepare_command(excepthook: Callable[..., object]) -> None:
    """Let a command print its errors itself.

    `excepthook` prints what reaches the interpreter all the same: a second Ctrl-C, which can come
    between two handlers of the first.
    """
    os.environ[FULL_ERROR] = "1"  # Hydra hands errors on to us, unformatted
    sys.excepthook = excepthook


def environment_of_child(**variables: str) -> dict[str, str]:
    """Return the environment for a command of ours: this one's, as the user set it."""
    given = {k: v for k, v in os.environ.items() if k != FULL_ERROR or TRACEBACK_WANTED}
    return given | variables


@contextmanager
def without_start_up_notices() -> Iterator[None]:
    """Keep TensorFlow's C++ notices off standard error while it is imported.

    TF_CPP_MIN_LOG_LEVEL does not reach what is written before absl's log is set up, so the file
    descriptor itself is redirected. Other lines, and all lines if the import fails, are printed
    afterwards. A user who sets TF_CPP_MIN_LOG_LEVEL below 3 sees everything.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "3":
        yield
        return
    sys.stderr.flush()
    terminal = os.dup(2)
    failed = True
    with tempfile.TemporaryFile("w+", errors="replace") as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            held_back.seek(0)
            sys.stderr.writelines(line for line in held_back if failed or not NOTICE.match(line))


@contextmanager
def without_modules(*names: str) -> Iterator[None]:
    """Let imports find none of these modules, unless they are imported already.

    Keras imports matplotlib and scikit-learn, if they are there, for what is not used here; that
    is a third of its start-up time.
    """
    absent = [name for name in names if name not in sys.modules]
    marks: dict[str, Any] = dict.fromkeys(absent)  # None is Python's mark of what has no module
    sys.modules.update(marks)
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@contextmanager
def importing_tensorflow() -> Iterator[None]:
    """Import TensorFlow and Keras here: without notices, and without what is not needed."""
    first = "tensorflow" not in sys.modules
    with without_start_up_notices(), without_modules("matplotlib", "sklearn"):
        yield
    if first:
        gc.freeze()  # else Keras searches TensorFlow for garbage before each model: half a second


def let_children_find_project() -> None:
    """Let what a launcher starts find this package, whatever folder it is started in."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    project = str(Path(__file__).resolve().parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, dict.fromkeys([project, *paths])))
