"""What many threads ask at the same time is answered together, by one of them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")

LARGEST_BATCH = 16
GATHER_SECONDS = 0.0003
"""Readers who just had an answer get so long to ask again before the next of them answers for all."""


class QueryBatcher(Generic[Q, A]):
    """Questions to answers, from any number of threads::

        thread 1   asks a, answers a ------.
        thread 2     asks b, waits         '-> answers b c d -----.
        thread 3       asks c, waits ----------------- has c      '-> answers e
        thread 4         asks d, waits --------------- has d
        thread 1                                  asks e, waits ----- has e

    The thread that finds nobody at work answers; those who come meanwhile wait, and the first of them is woken to
    answer whatever has come until then. So a question costs one change of threads at most, and what answers of a batch
    share (products of matrices, a read of the database) is done once. Equal questions that wait are one.

    Parameters
    ----------
    answer : from a list of different questions to their answers, in their order.
    largest : questions in a list at most.
    at_once : so many threads answer at the same time.
    """

    def __init__(self, answer: Callable[[list[Q]], list[A]], largest: int = LARGEST_BATCH, at_once: int = 1) -> None:
        self._answer = answer
        self._largest = largest
        self._free = at_once
        self._crowd = False  # whether the last batch was of several questions
        self._lock = threading.Lock()
        # While one of these waits, none of the ``at_once`` is free: whoever ends calls the first of them.
        self._waiting: OrderedDict[Q, _PendingQuery[A]] = OrderedDict()
        self._under_way: dict[Q, _PendingQuery[A]] = {}

    def __call__(self, question: Q) -> A:
        """The answer. Whatever ``answer`` raises for this question alone is raised in every thread that asked it."""
        own: _Waiter | None = None
        with self._lock:
            asked = self._waiting.get(question) or self._under_way.get(question)
            if asked is None:
                asked = _PendingQuery()
                if self._free:
                    self._free -= 1
                    self._under_way[question] = asked
                else:
                    self._waiting[question] = asked
                    own = _Waiter()
            else:
                own = _Waiter()
            if own is not None:
                asked.callers.append(own)
        if own is not None:
            own.called.acquire()
        if own is None or own.leads:
            self._lead(question, asked)
        if asked.error is not None:
            raise asked.error
        return asked.answer[0]

    def _lead(self, question: Q, asked: _PendingQuery[A]) -> None:
        """Answer this question and what waits, and hand over."""
        batch = [(question, asked)]
        try:
            if self._crowd:
                time.sleep(GATHER_SECONDS)
            with self._lock:
                while self._waiting and len(batch) < self._largest:
                    batch.append(self._waiting.popitem(last=False))
                self._under_way.update(batch)
                self._crowd = len(batch) > 1
            self._fill(batch)
        except BaseException as error:  # the leader is interrupted: nobody may wait for ever
            for _, one in batch:
                if not one.answer:
                    one.error = one.error or error
            raise
        finally:
            with self._lock:
                for answered, one in batch:
                    del self._under_way[answered]
                    for caller in one.callers:
                        if not caller.leads:
                            caller.called.release()
                if self._waiting:
                    # Its other questions are taken when it runs: more will have come by then.
                    first, one = self._waiting.popitem(last=False)
                    self._under_way[first] = one
                    one.callers[0].leads = True
                    one.callers[0].called.release()
                else:
                    self._free += 1

    def _fill(self, batch: list[tuple[Q, _PendingQuery[A]]]) -> None:
        try:
            answers = self._answer([question for question, _ in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].error = error
            else:  # what is wrong with one of them is not the others' fault
                for one in batch:
                    self._fill([one])
            return
        for (_, asked), found in zip(batch, answers, strict=True):
            asked.answer = [found]


class _PendingQuery(Generic[A]):
    """A question that waits or is being answered."""

    __slots__ = ("answer", "callers", "error")

    def __init__(self) -> None:
        self.answer: list[A] = []
        self.error: BaseException | None = None
        self.callers: list[_Waiter] = []


class _Waiter:
    """A thread that waits: it is called when its answer is there, or to lead."""

    __slots__ = ("called", "leads")

    def __init__(self) -> None:
        self.called = threading.Lock()
        self.called.acquire()
        self.leads = False
