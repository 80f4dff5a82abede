"""The base of all policies: one request at a time with any hashable pages, or whole traces in compiled code."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.paging.lazy import ONE, Follower, empty_follower, follow_one, grown_follower, replay_lazily
from paperworks.papers.paging.state import EVICTED, empty_state, grown
from paperworks.parameters import check_whole

Prediction = Literal["none", "discard", "phase", "next_time"]
"""What comes with a request: nothing, a discard bit, a phase bit, or the predicted number of the page's next request
(the first request of a trace has number 0)."""

MOST_PAGES = 2**31 - 2
_NO_LOG = np.empty(0, np.int32)
_NO_ENDS = np.empty(0, np.int64)


class Evictions(NamedTuple):
    """What each request of a replay evicted: request ``t`` evicted ``pages[ends[t - 1] : ends[t]]``."""

    pages: np.ndarray  # int32 [evictions]
    ends: np.ndarray  # int64 [requests]


class Policy:
    """A replacement policy for a cache of ``k`` unit-size pages that starts empty.

    Parameters
    ----------
    k : slots of the cache, at least 1.
    random_state : seed in ``[0, 2**64)``, or a ``numpy.random.Generator`` from which one is drawn. A policy has its own
        stream: the same seed, ``k`` and requests give the same misses.
    lazy : follow the algorithm with a cache that evicts only when it needs the slot, and then the least recently
        requested page that the algorithm does not hold. It never misses more often than the algorithm. For policies
        that evict one page per miss, and only when the cache is full, nothing changes.

    Raises InputError for a ``k`` below 1.
    """

    name: str = ""
    prediction: Prediction = "none"
    randomised: bool = False

    def __init__(self, k: int, *, random_state: int | np.random.Generator = 0, lazy: bool = False) -> None:
        self.seed = checked_seed(random_state)
        self.k = checked_size(k)
        self.lazy = bool(lazy)
        self.reset()

    def __repr__(self) -> str:
        seed = f", random_state={self.seed}" if self.randomised else ""
        return f"{type(self).__name__}({self.k}{seed}{', lazy=True' if self.lazy else ''})"

    def clone(self, *, k: int | None = None, random_state: int | None = None) -> Policy:
        """An empty policy of the same kind, with another size or seed where one is given."""
        return type(self)(
            self.k if k is None else k,
            random_state=self.seed if random_state is None else random_state,
            lazy=self.lazy,
        )

    # -- one request at a time ---------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Empty the cache, forget all pages and start the random stream again."""
        self._number: dict[Hashable, int] = {}
        self._pages: list[Hashable] = []
        self._follower: Follower | None = empty_follower(self.k, 16, 1, self.seed) if self.lazy else None
        self.requests = 0
        self.misses = 0
        self._begin(16)

    def access(self, page: Hashable, prediction: int = 0) -> bool:
        """Serve one request and return whether it was a hit.

        ``prediction`` is what comes with the request, of the kind that ``self.prediction`` names; policies without
        predictions ignore it. The pages that left the cache are then in ``evicted``. Memory grows by some 40 bytes and
        a dictionary entry per distinct page.
        """
        self._check_prediction(prediction)
        number = self._number.get(page)
        if number is None:
            number = self._new_page(page)
        hit = self._serve(number, prediction)
        self.requests += 1
        self.misses += not hit
        return hit

    @property
    def evicted(self) -> tuple[Hashable, ...]:
        """The pages that the latest request drove out, in order; Mark0 may drive out the requested page itself."""
        return tuple(self._pages[i] for i in self._gone())

    def __contains__(self, page: Hashable) -> bool:
        number = self._number.get(page)
        return number is not None and self._holds(number)

    def __iter__(self) -> Iterator[Hashable]:
        return (page for page, number in self._number.items() if self._holds(number))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    # -- whole traces ------------------------------------------------------------------------------------------------

    def replay(
        self, pages: np.ndarray, predictions: np.ndarray, *, distinct: int, log: bool = False
    ) -> tuple[np.ndarray, int, Evictions | None]:
        """Serve a trace from an empty cache, leaving this object's own cache alone.

        Parameters
        ----------
        pages : int32 [T], page numbers below ``distinct``.
        predictions : uint8 [T] (bits) or int64 [T] (times); ignored by policies without predictions.
        log : also return what was evicted.

        Returns
        -------
        Missed requests (bool [T]), the number of evictions, and the evictions if asked for.
        """
        if not self.lazy:
            return self._replay_eagerly(pages, predictions, distinct, log)
        miss, _, evictions = self._replay_eagerly(pages, predictions, distinct, True)
        assert evictions is not None
        return replay_lazily(pages, [miss], [evictions], self.k, distinct, log=log)

    def _replay_eagerly(
        self, pages: np.ndarray, predictions: np.ndarray, distinct: int, log: bool
    ) -> tuple[np.ndarray, int, Evictions | None]:
        state = self._empty(distinct)
        miss = np.empty(len(pages), np.bool_)
        ends = np.empty(len(pages) if log else 0, np.int64)
        # A page that is evicted was loaded, so that there are no more evictions than requests.
        logged = np.empty(len(pages) if log else 0, np.int32)
        self._replay(state, pages, predictions, miss, logged, ends)
        evictions = Evictions(logged[: ends[-1] if len(ends) else 0], ends) if log else None
        return miss, int(miss.sum()) - self._residents(state), evictions

    # -- what a policy defines: a compiled replay on its state -------------------------------------------------------

    def _replay(self, state: Any, pages: Any, predictions: Any, miss: Any, log: Any, ends: Any) -> None:
        """Serve requests: ``miss[t]`` per request, and the evictions into ``log`` and ``ends`` unless they are empty.

        The pages that the last one evicted are left in ``state.out``.
        """
        raise NotImplementedError

    def _empty(self, pages: int) -> Any:
        return empty_state(self.k, pages, self.seed)

    def _residents(self, state: Any) -> int:
        return int((state.where >= 0).sum())

    def _begin(self, pages: int) -> None:
        self._state: Any = self._empty(pages)
        # One request is a trace of one: what is compiled for traces serves it.
        self._request = np.zeros(1, np.int32)
        self._prediction = np.zeros(1, np.int64 if self.prediction == "next_time" else np.uint8)
        self._miss = np.zeros(1, np.bool_)

    def _advance(self, number: int, prediction: int) -> bool:
        self._request[0] = number
        if self.prediction != "none":
            self._prediction[0] = prediction
        self._replay(self._state, self._request, self._prediction, self._miss, _NO_LOG, _NO_ENDS)
        return not self._miss[0]

    def _out(self) -> np.ndarray:
        """The page numbers that the algorithm evicted at the latest request."""
        return self._state.out[: self._state.n[EVICTED]]

    def _room(self) -> int:
        """Pages for which the arrays have room."""
        return len(self._state.where)

    def _make_room(self, pages: int) -> None:
        self._state = grown(self._state, pages)
        if self._follower is not None:
            self._follower = grown_follower(self._follower, pages)

    # -- parts -------------------------------------------------------------------------------------------------------

    def _serve(self, number: int, prediction: int) -> bool:
        hit = self._advance(number, prediction)
        if self._follower is not None:
            hit = follow_one(self._follower, ONE, number, [not hit], [self._out()])
        return hit

    def _gone(self) -> np.ndarray:
        """The page numbers that left the cache at the latest request."""
        return self._out() if self._follower is None else self._follower.victims()

    def _holds(self, number: int) -> bool:
        return bool(self._state.where[number] >= 0 if self._follower is None else self._follower.present[number])

    def _new_page(self, page: Hashable) -> int:
        if page is None or page != page:
            raise InputError("page", repr(page), "a page id that equals itself (not None, not NaN)")
        number = len(self._pages)
        if number > MOST_PAGES:
            raise InputError("page", f"page number {number}", f"at most {MOST_PAGES} distinct pages")
        if number >= (room := self._room()):
            self._make_room(2 * room)
        self._number[page] = number
        self._pages.append(page)
        return number

    def _check_prediction(self, prediction: Any) -> None:
        if self.prediction in ("discard", "phase") and prediction not in (0, 1):
            raise InputError("prediction", repr(prediction), f"a {self.prediction} bit, 0 or 1")


def checked_size(k: int, field: str = "k") -> int:
    """``k`` as an int. Raises InputError unless it is a whole number of at least 1."""
    return check_whole(field, k, 1, MOST_PAGES, "slots")


def checked_seed(random_state: int | np.random.Generator) -> int:
    """A seed of 64 bits."""
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63))
    return check_whole("random_state", random_state, 0, 2**64 - 1, "or a numpy.random.Generator")
