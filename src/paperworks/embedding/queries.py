"""Encoding the queries of many readers at once: recent ones are remembered, concurrent ones share a batch."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from paperworks.embedding.text import Encode

MOST_REMEMBERED = 4096
LARGEST_BATCH = 16
MOST_BATCHES = 2


class QueryEncoder:
    """One query to its unit vector [d], from any number of threads.

    A thread whose query is not remembered puts it into a queue; whichever thread finds fewer than ``batches`` batches
    under way encodes what is waiting. A batch of queries takes far less time than its queries one by one.

    Parameters
    ----------
    encode : from texts to unit vectors [n, d].
    remembered : so many recent queries are not encoded again.
    largest : queries in a batch at most.
    batches : batches encoded at the same time.
    turn : entered before a batch is chosen and left when it is encoded, to wait for whatever else the process does:
        meanwhile the batch grows.
    """

    def __init__(
        self,
        encode: Encode,
        remembered: int = MOST_REMEMBERED,
        largest: int = LARGEST_BATCH,
        batches: int = MOST_BATCHES,
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._encode = encode
        self._most = remembered
        self._largest = largest
        self._batches = batches
        self._turn = turn
        self._running = 0
        self._known: OrderedDict[str, np.ndarray] = OrderedDict()
        self._waiting: OrderedDict[str, _Wish] = OrderedDict()
        self._changed = threading.Condition()

    def __call__(self, query: str) -> np.ndarray:
        """The query's vector [d]. Whatever ``encode`` raises is raised in every thread that waited for it."""
        with self._changed:
            if query in self._known:
                self._known.move_to_end(query)
                return self._known[query]
            wish = self._waiting.setdefault(query, _Wish())
            while not wish.done:
                if self._running < self._batches and any(not w.taken for w in self._waiting.values()):
                    self._lead()
                else:
                    self._changed.wait()
        if wish.error is not None:
            raise wish.error
        assert wish.vector is not None
        return wish.vector

    def _lead(self) -> None:
        """Encode what is waiting. Called and left with the lock held; it is released in between."""
        self._running += 1
        self._changed.release()
        chosen: list[tuple[str, _Wish]] = []
        vectors: np.ndarray | None = None
        error: BaseException | None = None
        try:
            with self._turn():
                with self._changed:
                    free = [(q, w) for q, w in self._waiting.items() if not w.taken]
                    share = -(-len(free) // (self._batches - self._running + 1))
                    chosen = free[: min(share, self._largest)]
                    for _, wish in chosen:
                        wish.taken = True
                if chosen:
                    vectors = self._encode([q for q, _ in chosen])
        except BaseException as raised:
            error = raised
        finally:
            self._changed.acquire()
            self._running -= 1
            for row, (query, wish) in enumerate(chosen):
                wish.done, wish.error = True, error
                del self._waiting[query]
                if vectors is not None:
                    wish.vector = vectors[row]
                    self._known[query] = vectors[row]
            while len(self._known) > self._most:
                self._known.popitem(last=False)
            self._changed.notify_all()


class _Wish:
    __slots__ = ("done", "error", "taken", "vector")

    def __init__(self) -> None:
        self.vector: np.ndarray | None = None
        self.error: BaseException | None = None
        self.taken = False
        self.done = False
