"""What a user can put right: our exceptions, and how any such error becomes one line."""

import argparse
import errno
import functools
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

Result = TypeVar("Result")


class FmnistError(Exception):
    """Base of every error that the user can put right; its text is one helpful line."""


class ConfigError(FmnistError):
    """A value in the configuration is impossible or does not fit the data."""


class DataError(FmnistError):
    """The data set is missing, damaged or not what it claims to be."""


class TrackingError(FmnistError):
    """The tracking store cannot be used."""


class ComparisonError(FmnistError):
    """The runs cannot be compared as asked."""


class PromotionError(FmnistError):
    """The registry cannot be used, or not as asked."""


class ModelError(FmnistError):
    """A logged model is missing, or was altered since it was trained."""


class ImageError(FmnistError):
    """A file is no image that the model can be shown."""


class ReproductionError(FmnistError):
    """A run cannot be trained again."""


class TrainingError(FmnistError):
    """Training came to no usable result."""


FULL_ERROR = "HYDRA_FULL_ERROR"
TRACEBACK_WANTED = bool(os.environ.get(FULL_ERROR))
USER_ERRORS = (FmnistError, HydraException, OmegaConfBaseException, OSError)
REFUSED = re.compile(r"API request to endpoint \S*/mlflow/(\S+) failed with error code (401|403)")
REMEDIES = {
    "401": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of a user it knows",
    "403": "this user may not do that; an admin of the server gives permissions",
}
NOT_INSTALLED = "is not installed; pip install '.[scale]'"
LAUNCHERS = ("joblib", "ray", "submitit_local", "submitit_slurm")  # of the extra `scale`
NOT_WRITABLE = (errno.EROFS, errno.EACCES)
OUTPUTS = "outputs"  # where Hydra writes unless conf/train.yaml is overridden
LONGEST_LINE = 2000  # characters; what was typed may be longer, and is part of many messages
job_has_begun = False


def usage_error(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    """End the program with one line, where argparse would print the usage, too."""
    parser.exit(2, f"error: {one_line(ConfigError(message))}; --help tells what there is\n")


class Parser(argparse.ArgumentParser):
    """A parser, also of subcommands, whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """End the program."""
        usage_error(self, message)


class Terminated(KeyboardInterrupt):
    """The process was asked to stop by SIGTERM."""


def one_line(error: BaseException) -> str:
    """Say what was wrong, and what is allowed, in one line."""
    line = " ".join(_reason(error).split()) or type(error).__name__
    if "maximum recursion depth" in line:
        return "the configuration is nested too deeply, or refers to itself"
    half = LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[:half]} ... {line[-half:]}"


def _reason(error: BaseException) -> str:
    """Return the message of an error.

    Hydra's and OmegaConf's messages span several lines and leave the key to a footer; here the
    key comes first, and a wrong choice is followed by the choices.
    """
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = (error.missing_cfg_file or "").rpartition("/")
        if group == "hydra/launcher" and choice in LAUNCHERS:
            other = "or one after another: hydra/launcher=basic"
            return f"{group}={choice}: {NOT_INSTALLED}, {other}"
        return f"{group}={choice}: choose one of {', '.join(error.options)}"
    if isinstance(error.__cause__, OmegaConfBaseException):
        error = error.__cause__
    if not isinstance(error, OmegaConfBaseException):
        text = " ".join(str(error).split())
        if refused := REFUSED.match(text):
            return f"the server refuses {refused[1]} ({refused[2]}): {REMEDIES[refused[2]]}"
        if ambiguous := re.match("Ambiguous value for argument '(.*?)'", text):
            return f"{ambiguous[1]}: several values are a sweep, which -m starts"
        if isinstance(error, OverrideParseException) and error.override not in text:
            return f"{error.override}: {text}"
        return text
    reason = str(error.msg).partition("\n")[0]
    if isinstance(error, MissingMandatoryValue) or "is not Optional" in reason:
        reason = "a value is needed"
    elif isinstance(error, ConfigAttributeError | ConfigKeyError) and error.parent_node is not None:
        reason = f"no such key; there are {', '.join(error.parent_node)}"
    return f"{error.full_key}: {reason}"


def closing_line(error: Exception) -> str:
    """Return the line that ends the program: what was wrong, and what to type then."""
    remedies = _notes(error)
    if (
        isinstance(error, OSError)
        and error.errno in NOT_WRITABLE
        and str(error.filename).startswith(OUTPUTS)
    ):
        remedies.append("another place: hydra.run.dir=FOLDER, or with -m hydra.sweep.dir=FOLDER")
    return "; ".join([f"error: {one_line(error)}", *remedies])


def _notes(error: BaseException | None) -> list[str]:
    """Return what was noted of an error and of those during which it came, a first Ctrl-C say."""
    if error is None:
        return []
    return [*getattr(error, "__notes__", ()), *_notes(error.__context__)]


def _stopped_by(number: signal.Signals, stop: BaseException) -> str:
    kept = "; ".join(_notes(stop)) or "what was tracked until now is kept"
    return f"stopped by {number.name}; {kept}"


def _last_words(kind: type[BaseException], error: BaseException, where: Any) -> None:
    """Print one line, too, if a second Ctrl-C came between two of the handlers of the first."""
    if issubclass(kind, KeyboardInterrupt):
        print(_stopped_by(signal.SIGINT, error), file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, where)


def environment_of_child(**variables: str) -> dict[str, str]:
    """Return the variables for a command of ours: this one's own, as the user set them."""
    given = {k: v for k, v in os.environ.items() if k != FULL_ERROR or TRACEBACK_WANTED}
    return given | variables


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the program with one line and status 1 for a user's error, 128 + n for signal n.

    An error before any job has begun is about the command line, whatever its type. With
    HYDRA_FULL_ERROR=1 in the environment the traceback is shown instead.
    """
    if TRACEBACK_WANTED:
        yield
        return
    sys.excepthook = _last_words
    os.environ[FULL_ERROR] = "1"  # Hydra passes errors on to us, unformatted
    try:
        yield
    except Exception as error:
        if job_has_begun and not can_be_put_right(error):
            raise
        sys.exit(closing_line(error))
    except KeyboardInterrupt as stop:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends what is left, silently
        number = signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT
        print(_stopped_by(number, stop), file=sys.stderr)
        sys.exit(128 + number)


def can_be_put_right(error: BaseException) -> bool:
    """Tell a user's error from a bug; MLflow, which is imported late, has no type for a refusal."""
    return isinstance(error, USER_ERRORS) or is_refused(error)


def is_refused(error: BaseException) -> bool:
    """Tell whether a server refused a request for want of permission."""
    return bool(REFUSED.match(str(error)))


def job(task: Callable[..., Result]) -> Callable[..., Result]:
    """Let a Hydra job end a single run with one line; in a sweep it costs only itself."""

    @functools.wraps(task)
    def wrapper(*args: object) -> Result:
        global job_has_begun
        job_has_begun = True
        try:
            return task(*args)
        except Exception as error:
            in_sweep = HydraConfig.get().mode is RunMode.MULTIRUN
            if in_sweep or TRACEBACK_WANTED or not can_be_put_right(error):
                raise
            sys.exit(closing_line(error))

    return wrapper


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into `Terminated`, so that whatever is open is closed on the way out."""

    def terminate(signum: int, frame: FrameType | None) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
