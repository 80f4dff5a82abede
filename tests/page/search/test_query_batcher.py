"""QueryBatcher: every question has its own answer, batches and threads are bounded, and nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from paperworks.page.search.query_batcher import QueryBatcher


class Squares:
    """Answers numbers with their squares, and counts; ``hold`` keeps it from answering."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.batches: list[list[int]] = []
        self.most = self._running = 0
        self._lock = threading.Lock()
        self._seconds = seconds
        self.hold = threading.Event()
        self.hold.set()

    def __call__(self, numbers: list[int]) -> list[int]:
        with self._lock:
            self.batches.append(list(numbers))
            self._running += 1
            self.most = max(self.most, self._running)
        try:
            assert self.hold.wait(20)
            time.sleep(self._seconds)
            if any(n < 0 for n in numbers):
                raise ValueError("negative")
            if 666 in numbers:
                raise KeyboardInterrupt
            return [n * n for n in numbers]
        finally:
            with self._lock:
                self._running -= 1


def in_threads(function: Callable[[int], int], arguments: Sequence[int], between: Callable[[int], None] | None = None):
    """What each call gave or raised, in order; ``between`` is called after each thread is started."""
    results: list = [None] * len(arguments)

    def call(number: int) -> None:
        try:
            results[number] = function(arguments[number])
        except BaseException as error:
            results[number] = error

    threads = []
    for number in range(len(arguments)):
        threads.append(threading.Thread(target=call, args=(number,), daemon=True))
        threads[-1].start()
        if between is not None:
            between(number)
    return threads, results


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert condition()


@pytest.mark.parametrize(("at_once", "largest"), [(1, 16), (1, 1), (3, 4), (16, 2)])
def test_each_thread_has_its_own_answers(at_once: int, largest: int) -> None:
    squares = Squares(0.0002)
    ask = QueryBatcher(squares, largest=largest, at_once=at_once)
    right: list[bool] = []

    def read(number: int) -> int:
        right.extend(ask(n) == n * n for n in range(number % 5, 120, 1 + number % 3))
        return number

    threads, results = in_threads(read, range(12))
    for thread in threads:
        thread.join(30)
    assert results == list(range(12))
    assert len(right) == sum(len(range(n % 5, 120, 1 + n % 3)) for n in range(12))
    assert all(right)
    assert max(map(len, squares.batches)) <= largest
    assert squares.most <= at_once


def test_who_waits_is_answered_together_in_the_order_of_coming() -> None:
    squares = Squares()
    ask = QueryBatcher(squares, largest=4)
    squares.hold.clear()
    threads, results = in_threads(
        ask, range(10), lambda n: until(lambda: len(squares.batches) == 1 and len(ask._waiting) == n)
    )
    squares.hold.set()
    for thread in threads:
        thread.join(20)
    assert results == [n * n for n in range(10)]
    assert squares.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]]
    assert ask(3) == 9  # nothing is left taken, nothing is remembered
    assert squares.batches[-1] == [3]


def test_equal_questions_that_wait_are_one() -> None:
    squares = Squares()
    ask = QueryBatcher(squares)
    squares.hold.clear()
    callers = lambda: sum(len(a.callers) for a in [*ask._waiting.values(), *ask._under_way.values()])  # noqa: E731
    threads, results = in_threads(ask, [1, 1, 2, 2, 2, 1], lambda n: until(lambda: callers() == n))
    squares.hold.set()
    for thread in threads:
        thread.join(20)
    assert results == [1, 1, 4, 4, 4, 1]
    assert squares.batches == [[1], [2]]


def test_an_error_reaches_those_who_asked_for_it_alone() -> None:
    squares = Squares()
    ask = QueryBatcher(squares)
    squares.hold.clear()
    threads, results = in_threads(
        ask, [0, 1, -2, 3, -2], lambda n: until(lambda: len(squares.batches) == 1 and len(ask._waiting) == min(n, 3))
    )
    squares.hold.set()
    for thread in threads:
        thread.join(20)
    assert [isinstance(r, ValueError) for r in results] == [False, False, True, False, True]
    assert (results[1], results[3]) == (1, 9)
    with pytest.raises(ValueError, match="negative"):
        ask(-1)
    assert ask(4) == 16


def test_nobody_waits_for_a_thread_that_was_interrupted() -> None:
    squares = Squares()
    ask = QueryBatcher(squares)
    squares.hold.clear()
    threads, results = in_threads(
        ask, [0, 666, 2], lambda n: until(lambda: len(squares.batches) == 1 and len(ask._waiting) == n)
    )
    squares.hold.set()
    for thread in threads:
        thread.join(20)
    assert results[0] == 0
    assert all(isinstance(r, KeyboardInterrupt) for r in results[1:])
    assert ask(5) == 25
