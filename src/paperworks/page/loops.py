"""Loops of processes that run for months: an error ends one turn of a loop and never the loop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from paperworks.page.database import is_unavailable

T = TypeVar("T")
FIRST_SECONDS = 0.5
LONGEST_SECONDS = 30.0
"""Pauses after failures in a row: each is twice the one before, up to this."""

log = logging.getLogger("paperworks.page.loops")


class Backoff:
    """Pauses that grow from failure to failure, and end early when ``stop`` is set."""

    def __init__(self, stop: threading.Event, first: float | None = None) -> None:
        self._stop = stop
        self._first = FIRST_SECONDS if first is None else first
        self.failures = 0

    def succeeded(self) -> None:
        """Begin again with the shortest pause."""
        self.failures = 0

    def wait(self) -> bool:
        """Pause after a failure; returns whether ``stop`` was set."""
        seconds = min(LONGEST_SECONDS, self._first * 2 ** min(self.failures, 20))
        self.failures += 1
        return self._stop.wait(seconds)


def run_loop(what: str, turn: Callable[[], bool], stop: threading.Event, idle_seconds: float) -> None:
    """Call ``turn`` again and again until ``stop`` is set.

    ``turn`` returns whether there may be more to do at once; otherwise the next call is ``idle_seconds`` later. After
    an exception it is called again, after a pause that grows with the failures in a row. ``what`` names the loop in the
    log.
    """
    backoff = Backoff(stop)
    while not stop.is_set():
        try:
            more = turn()
        except Exception as error:
            _report(what, error, backoff.failures)
            backoff.wait()
            continue
        if backoff.failures:
            log.warning("%s: works again after %d failures", what, backoff.failures)
        backoff.succeeded()
        if not more:
            stop.wait(idle_seconds)


def call_until_available(what: str, call: Callable[[], T], stop: threading.Event) -> T:
    """The result of ``call``, which is repeated while the database is locked, full or away.

    Raises whatever else it raises, and the last error of the database once ``stop`` is set.
    """
    backoff = Backoff(stop)
    while True:
        try:
            return call()
        except Exception as error:
            if not is_unavailable(error):
                raise
            _report(what, error, backoff.failures)
            if backoff.wait():
                raise


def _report(what: str, error: Exception, failures: int) -> None:
    if is_unavailable(error):  # a database that is away for an hour does not fill the log with tracebacks
        log.warning("%s: the database cannot be used (%s); trying again", what, str(error).partition("\n")[0])
    else:
        log.error("%s failed; trying again", what, exc_info=error, stack_info=False)
