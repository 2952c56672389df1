"""How a command ends: one line for what the user can put right, a status, a signal."""

import errno
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from fmnist import __version__
from fmnist.common.errors import ConfigError, is_user_error, one_line
from fmnist.common.startup import TRACEBACK_WANTED, prepare_command, prepare_streams

USAGE_ERROR = 2
COMMAND_LINE = {"cli", "common", "config", "sweeps"}
"""The floors that read what was typed, with Hydra and click, which may raise anything."""


class Terminated(KeyboardInterrupt):
    """SIGTERM asked the process to stop."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the program with one line and status 1 for a user's error, 128 + n for signal n.

    An error of any type is the user's as long as only the floors of `COMMAND_LINE` are at work;
    later it may be a bug, which shows its traceback. With HYDRA_FULL_ERROR=1 in the environment
    every error does.
    """
    prepare_streams()
    if TRACEBACK_WANTED:
        yield
        return
    prepare_command(_print_uncaught)
    try:
        yield
    except Exception as error:
        if not is_user_error(error) and _is_beyond_command_line(error):
            raise
        _write_output()
        sys.exit(closing_line(error))
    except KeyboardInterrupt as stop:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends what is left, silently
        number = signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT
        _write_output()
        print(_stopped_by(number, stop), file=sys.stderr)
        sys.exit(128 + number)


def _write_output() -> None:
    """Write what was printed before the closing line: both may go into one file."""
    with suppress(OSError):  # of a full disk, which is the error already
        sys.stdout.flush()


def _is_beyond_command_line(error: Exception) -> bool:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    modules = [str(frame.f_globals.get("__name__")) for frame in frames]
    floors = {module.split(".")[1] for module in modules if module.startswith("fmnist.")}
    return not floors <= COMMAND_LINE


def check_command_line() -> None:
    """End the program with one line if Hydra does not know an option, or if one is dangerous."""
    if "--version" in sys.argv[1:]:  # Hydra would print its own
        print(__version__)
        sys.exit()
    parser = get_args_parser()
    parser.error = usage_error  # type: ignore[method-assign]
    if parser.parse_args().experimental_rerun:
        raise ConfigError("--experimental-rerun: runs whatever the file holds; type the overrides")


def usage_error(message: str) -> NoReturn:
    """End the program with the line and the status of a wrong command line."""
    line = one_line(ConfigError(message)).removesuffix(".")
    print(f"error: {line}; see --help", file=sys.stderr)
    sys.exit(USAGE_ERROR)


def closing_line(error: Exception) -> str:
    """Return the line that ends the program: what was wrong, and what to type then."""
    remedies = _notes(error)
    if (
        isinstance(error, OSError)
        and error.errno in (errno.EROFS, errno.EACCES)
        and str(error.filename).startswith("outputs")  # as conf/train.yaml has it
    ):
        remedies.append(
            "choose another folder: hydra.run.dir=FOLDER, or with -m hydra.sweep.dir=FOLDER"
        )
    return "; ".join([f"error: {one_line(error)}", *remedies])


def _notes(error: BaseException | None) -> list[str]:
    """Return the notes of an error and of those that it interrupted, such as a first Ctrl-C."""
    return [*getattr(error, "__notes__", ()), *_notes(error.__context__)] if error else []


def _stopped_by(number: signal.Signals, stop: BaseException) -> str:
    kept = "; ".join(_notes(stop)) or "what was tracked until now is kept"
    return f"stopped by {number.name}; {kept}"


def _print_uncaught(
    kind: type[BaseException], error: BaseException, where: TracebackType | None
) -> None:
    """Print one line for a second Ctrl-C that came while the first was being handled."""
    if issubclass(kind, KeyboardInterrupt):
        print(_stopped_by(signal.SIGINT, error), file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, where)


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
