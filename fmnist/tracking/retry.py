"""Which errors of the store pass by themselves, and calling it again until they do."""

import re
import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

import requests
from mlflow.exceptions import InvalidUrlException, MlflowException, RestException
from sqlalchemy import exc as database_errors

from fmnist.common.errors import TrackingError

Result = TypeVar("Result")

STORE_ERRORS = (MlflowException, database_errors.SQLAlchemyError, sqlite3.Error, OSError)
"""What a call of the store may raise, whether it passes or not."""

RETRY_INTERVAL = 1.0  # seconds between attempts

TRANSIENT_CODES = (
    *("DEADLINE_EXCEEDED", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"),
    "TEMPORARILY_UNAVAILABLE",  # also an OperationalError of a server's database
)
TRANSIENT_TEXTS = re.compile(
    "API request to .* failed with (timeout )?exception"
    "|failed with error code (429|5..)"
    "|(429 Client|5.. Server) Error"
    # Two processes log the same new data set at once; the next attempt finds it there.
    "|UNIQUE constraint failed|duplicate key value"
)
LASTING_DATABASE_TEXTS = re.compile("no such (table|column)|readonly database")
TRANSIENT_DATABASE_ERRORS = (
    database_errors.OperationalError,
    database_errors.InterfaceError,
    database_errors.TimeoutError,
    sqlite3.OperationalError,
)
LASTING_OS_ERRORS = (FileNotFoundError, NotADirectoryError, PermissionError)


def call_with_retry(
    call: Callable[[], Result],
    timeout: float,
    on_retry: Callable[[Exception], object] = lambda error: None,
) -> Result:
    """Return what `call` returns; while it fails transiently, call it again for `timeout` seconds.

    Each transient error is passed to `on_retry`, which may raise to end the attempts.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return call()
        except Exception as error:
            if not is_transient(error):
                raise
            on_retry(error)
            if time.monotonic() > deadline:
                raise
        time.sleep(RETRY_INTERVAL)


def is_transient(error: BaseException | None) -> bool:
    """Tell whether the same call may succeed later.

    A store may be out of reach, busy or locked for a while; a deleted run, a refused value or a
    missing permission lasts.
    """
    if isinstance(error, TrackingError):
        return is_transient(error.__cause__)
    if isinstance(error, MlflowException):
        return _is_transient_answer(error)
    if isinstance(error, requests.HTTPError):
        return bool(TRANSIENT_TEXTS.search(str(error)))
    if isinstance(error, TRANSIENT_DATABASE_ERRORS):
        return not LASTING_DATABASE_TEXTS.search(str(error))
    return isinstance(error, OSError) and not isinstance(error, LASTING_OS_ERRORS)


def _is_transient_answer(error: MlflowException) -> bool:
    if isinstance(error, InvalidUrlException):
        return False
    if TRANSIENT_TEXTS.search(str(error)):
        return True
    if error.__cause__:
        return is_transient(error.__cause__)
    if error.error_code == "INTERNAL_ERROR":  # of the server, or of anything in this process
        return isinstance(error, RestException) or is_transient(error.__context__)
    return error.error_code in TRANSIENT_CODES
