"""The delivery queue: sends to the tracking store in a thread, while the next epoch trains.

A store that does not answer neither delays nor ends training; what it refuses ends it.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread
from typing import TypeVar

from fmnist.common.errors import TrackingError, one_line
from fmnist.tracking.retry import call_with_retry, is_transient

Task = Callable[[], object]
Result = TypeVar("Result")

HEARTBEAT_INTERVAL = 60.0  # seconds between heartbeats

log = logging.getLogger(__name__)


class UndeliveredError(TrackingError):
    """The store did not answer in time."""


class DeliveryQueue:
    """Calls tasks one after another in a thread, each until it succeeds."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout  # seconds that `flush` and `call` wait for a store without answer
        self.failure: Exception | None = None  # a lasting error, which has stopped the thread
        self.heartbeat: Task | None = None  # called each HEARTBEAT_INTERVAL seconds
        self._tasks: deque[Task] = deque()
        self._last_error: str | None = None  # of the task that is under way
        self._warned = False
        self._open = True
        self._changed = Condition()
        Thread(target=self._deliver, daemon=True).start()

    def enqueue(self, task: Task) -> None:
        """Call `task` later; raise the error of an earlier one that will never succeed.

        It must be safe to call again after it failed half way.
        """
        if self.failure:
            raise self.failure
        with self._changed:
            self._tasks.append(task)
            self._changed.notify_all()

    def flush(self, within: float = math.inf) -> None:
        """Wait until all tasks are done, at most `within` seconds, and `timeout` for each.

        Raises:
            UndeliveredError: if the store does not answer in time.
            Exception: the error of a task that will never succeed.
        """
        deadline = time.monotonic() + within
        with self._changed:
            while self._tasks and not self.failure:
                limit = min(self.timeout, deadline - time.monotonic())
                if limit <= 0 or not self._changed.wait(limit):
                    raise UndeliveredError(
                        self._last_error or f"no answer within {self.timeout:g} s"
                    )
        if self.failure:
            raise self.failure

    def call(self, task: Callable[[], Result]) -> Result:
        """Call `task` in this thread, after all others; raises what `flush` raises."""
        self.flush()
        try:
            return self._call(task, self.timeout)
        except Exception as error:
            if is_transient(error):
                raise UndeliveredError(one_line(error)[:300]) from error
            raise

    def close(self) -> None:
        """End the thread when no task is left, or when the store does not answer."""
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def _call(self, task: Callable[[], Result], timeout: float) -> Result:
        result = call_with_retry(task, timeout, self._on_retry)
        self._last_error = None
        return result

    def _on_retry(self, error: Exception) -> None:
        """Warn once; not at a first error, after which another attempt often succeeds."""
        again = self._last_error is not None
        self._last_error = one_line(error)[:300]
        if again and not self._warned:
            self._warned = True
            log.warning(
                "the tracking store does not answer; training continues, "
                "and what it logs waits in memory: %s",
                self._last_error,
            )
        if not self._open:
            raise error

    def _deliver(self) -> None:
        due = time.monotonic() + HEARTBEAT_INTERVAL
        try:
            while self._wait_for_task():
                if self.heartbeat and time.monotonic() > due:
                    due = time.monotonic() + HEARTBEAT_INTERVAL
                    self._call(self.heartbeat, math.inf)
                if self._tasks:
                    self._call(self._tasks[0], math.inf)
                    with self._changed:
                        self._tasks.popleft()
                        self._changed.notify_all()
        except Exception as error:  # raised again in the thread that trains
            with self._changed:
                self.failure = error
                self._changed.notify_all()

    def _wait_for_task(self) -> bool:
        """Wait for a task or a heartbeat; False: the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._tasks or not self._open, HEARTBEAT_INTERVAL)
            return bool(self._tasks) or self._open
