"""How a command ends: one line for what the user can put right, a status, a signal heeded."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser

from fmnist.common.errors import ConfigError, can_be_put_right, one_line

FULL_ERROR = "HYDRA_FULL_ERROR"
TRACEBACK_WANTED = bool(os.environ.get(FULL_ERROR))
NOT_WRITABLE = (errno.EROFS, errno.EACCES)
OUTPUTS = "outputs"  # where Hydra writes unless conf/train.yaml is overridden


def check_command_line() -> None:
    """End the program with one line if Hydra does not know an option; it would print its usage."""
    parser = get_args_parser()

    def usage_error(message: str) -> NoReturn:
        parser.exit(2, f"error: {one_line(ConfigError(message))}; --help tells what there is\n")

    parser.error = usage_error  # type: ignore[method-assign]
    parser.parse_args()


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

    An error before any run has begun is about the command line, whatever its type. With
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
        if "fmnist.runs.run" in sys.modules and not can_be_put_right(error):
            raise
        sys.exit(closing_line(error))
    except KeyboardInterrupt as stop:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends what is left, silently
        number = signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT
        print(_stopped_by(number, stop), file=sys.stderr)
        sys.exit(128 + number)


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
