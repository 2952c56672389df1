"""What is on its way to the tracking store: sent while the next epoch trains, kept till it arrives.

A store that does not answer neither delays nor ends training. The user is told once.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Thread
from typing import TypeVar

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from fmnist.common.errors import TrackingError, one_line

Task = Callable[[], object]
Thing = TypeVar("Thing")

TRANSIENT_ERRORS = (MlflowException, SQLAlchemyError, OSError)
RETRY_INTERVAL = 1.0  # seconds between attempts
HEARTBEAT_INTERVAL = 60.0  # seconds between signs of life

log = logging.getLogger(__name__)


class UndeliveredError(TrackingError):
    """The store did not take all that a run had to say."""


class DeliveryQueue:
    """Tasks that speak to the store, done one after another in a thread, each until it succeeds.

    Args:
        timeout: seconds that `flush` and `call_with_retry` wait for a store that does not answer.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.tasks: deque[Task] = deque()
        self.reason: str | None = None  # why the store did not answer
        self.told = False
        self.broken: Exception | None = None
        self.open = True
        self.heartbeat: Task | None = None  # done each HEARTBEAT_INTERVAL seconds
        self.changed = Condition()
        Thread(target=self._deliver, daemon=True).start()

    def enqueue(self, task: Task) -> None:
        """Do `task` later; it must bear being done again if it failed half way."""
        with self.changed:
            self.tasks.append(task)
            self.changed.notify_all()

    def flush(self, within: float = math.inf) -> None:
        """Wait until all is done, at most `within` seconds, and `timeout` for each task.

        Raises:
            UndeliveredError: if the store does not answer in time.
        """
        end = time.monotonic() + within
        with self.changed:
            while self.tasks and not self.broken:
                limit = min(self.timeout, end - time.monotonic())
                if limit <= 0 or not self.changed.wait(limit):  # for the next one to be done
                    raise UndeliveredError(self.reason or f"no answer within {self.timeout:g} s")
        if self.broken:
            raise self.broken

    def call_with_retry(self, task: Callable[[], Thing]) -> Thing:
        """Do `task` now, behind all others; again, until it succeeds.

        Raises:
            UndeliveredError: if the store does not answer in time.
        """
        self.flush()
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                return task()
            except TRANSIENT_ERRORS as error:
                self._tell(error)
                if time.monotonic() > deadline:
                    raise UndeliveredError(self.reason) from error
                time.sleep(RETRY_INTERVAL)

    def close(self) -> None:
        """End the thread when nothing is left to do."""
        with self.changed:
            self.open = False
            self.changed.notify_all()

    def _deliver(self) -> None:
        due = time.monotonic() + HEARTBEAT_INTERVAL
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.tasks or not self.open, HEARTBEAT_INTERVAL)
                if self.heartbeat and self.open and time.monotonic() > due:
                    due = time.monotonic() + HEARTBEAT_INTERVAL
                    self.tasks.append(self.heartbeat)
                if not self.tasks:
                    if not self.open:
                        return
                    continue
            try:
                self.tasks[0]()
            except TRANSIENT_ERRORS as error:
                self._tell(error)
                if not self.open:
                    return
                time.sleep(RETRY_INTERVAL)
                continue
            except Exception as error:  # told by `flush`, in the thread that can be stopped by it
                with self.changed:
                    self.broken = error
                    self.changed.notify_all()
                return
            with self.changed:
                self.tasks.popleft()
                self.changed.notify_all()

    def _tell(self, error: Exception) -> None:
        again, self.reason = self.reason is not None, one_line(error)[:300]
        if again and not self.told:  # two jobs that write the same at once only need another try
            self.told = True
            log.warning(
                "the tracking store does not answer; training goes on, what it logs is kept: %s",
                self.reason,
            )


def retry_until(call: Callable[[], Thing], timeout: float) -> Thing:
    """Do `call`; while it finds that the store does not answer, again for `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return call()
        except (TrackingError, *TRANSIENT_ERRORS):
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_INTERVAL)


@contextmanager
def opened(timeout: float) -> Iterator[DeliveryQueue]:
    """Yield a queue, and close it afterwards."""
    queue = DeliveryQueue(timeout)
    try:
        yield queue
    finally:
        queue.close()
