"""Turns: never more than were said, in the order of coming, and given on after an error."""

from __future__ import annotations

import threading
import time

import pytest

from paperworks.page.search.guard import Turns


@pytest.mark.parametrize("at_once", [1, 3])
def test_never_more_at_once(at_once: int) -> None:
    turns = Turns(at_once)
    lock = threading.Lock()
    running = most = served = 0

    def work() -> None:
        nonlocal running, most, served
        for _ in range(20):
            with turns.turn():
                with lock:
                    running += 1
                    most = max(most, running)
                time.sleep(0.0005)
                with lock:
                    running -= 1
                    served += 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (most, served) == (at_once, 160)


def test_first_come_first_served_also_after_an_error() -> None:
    turns = Turns(1)
    order: list[int] = []

    def work(number: int) -> None:
        with turns.turn():
            order.append(number)

    threads = []
    with pytest.raises(RuntimeError), turns.turn():
        for number in range(6):
            threads.append(threading.Thread(target=work, args=(number,)))
            threads[-1].start()
            deadline = time.monotonic() + 10
            while len(turns._waiting) <= number and time.monotonic() < deadline:
                time.sleep(0.001)
        assert not order
        raise RuntimeError
    for thread in threads:
        thread.join(20)
    assert order == [0, 1, 2, 3, 4, 5]
    with turns.turn():  # nothing is left taken
        pass
