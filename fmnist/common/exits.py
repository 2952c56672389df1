"""How a command ends: one line for what the user can put right, a status, a signal heeded."""

import argparse
import errno
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from fmnist.common.errors import ConfigError, can_be_put_right, one_line

Result = TypeVar("Result")

FULL_ERROR = "HYDRA_FULL_ERROR"
TRACEBACK_WANTED = bool(os.environ.get(FULL_ERROR))
NOT_WRITABLE = (errno.EROFS, errno.EACCES)
OUTPUTS = "outputs"  # where Hydra writes unless conf/train.yaml is overridden
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
