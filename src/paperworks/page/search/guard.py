"""Locks: for what many read and one changes, and for what few should do at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class ReadersAndWriter:
    """Any number of readers, or one writer."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writing = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold what is guarded as it is, beside other readers."""
        with self._changed:
            while self._writing:
                self._changed.wait()
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be alone with what is guarded; readers who come meanwhile wait."""
        with self._changed:
            while self._writing:
                self._changed.wait()
            self._writing = True  # no reader begins from here on
            while self._readers:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._changed.notify_all()


class Turns:
    """At most ``at_once`` threads at a time, in the order in which they came."""

    def __init__(self, at_once: int) -> None:
        self._lock = threading.Lock()
        self._free = at_once
        self._waiting: deque[threading.Lock] = deque()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, and have it during the block."""
        called: threading.Lock | None = None
        with self._lock:
            if self._free:
                self._free -= 1
            else:
                called = threading.Lock()
                called.acquire()
                self._waiting.append(called)
        if called is not None:
            called.acquire()
        try:
            yield
        finally:
            with self._lock:
                if self._waiting:
                    self._waiting.popleft().release()
                else:
                    self._free += 1
