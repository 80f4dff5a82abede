"""How much slower this machine runs at the moment than a quiet reference machine.

A processor second is not the same amount of work everywhere: a slower machine does less in it, and so does a loaded
one, where neighbours take the caches. A fixed piece of work is therefore timed beside the tests, after every three
seconds of their processor time. It makes and reads many small objects, as most tests do; arithmetic on arrays slows
down less.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

REFERENCE_SECONDS = 0.0035
"""Processor seconds of the work on two cores that do nothing else, with CPython 3.11."""
EVERY_SECONDS = 3.0
"""As much as a test may take (``budget.TEST_SECONDS``): after a test over its budget, the pace is read anew."""
REPEATS = 3

_ROWS = [{"name": f"row {i}", "values": [i, i * 1.5, str(i)]} for i in range(2000)]


def slowness() -> float:
    """At least 1: the median of some times of the work, as a multiple of the reference machine's."""
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        json.loads(json.dumps(_ROWS))
        times.append(time.process_time() - started)
    return max(1.0, sorted(times)[REPEATS // 2] / REFERENCE_SECONDS)


class Pace:
    """Turns processor seconds of this machine into those of the reference machine."""

    def __init__(self, measure: Callable[[], float] = slowness) -> None:
        self.measure = measure
        self.last = measure()
        self.since = 0.0

    def at_reference(self, seconds: float) -> float:
        """The seconds of work that has just ended, divided by the larger of the slowness before and after it."""
        before = self.last
        self.since += seconds
        if self.since >= EVERY_SECONDS:
            self.since, self.last = 0.0, self.measure()
        return seconds / max(before, self.last)
