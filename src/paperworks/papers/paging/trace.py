"""Traces: sequences of requests to unit-size pages, with the pages numbered in the order of their first requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from paperworks.errors import InputError


@dataclass(frozen=True, eq=False)
class Trace:
    """A sequence of requests.

    Attributes
    ----------
    pages : int32 [T], page numbers ``0 .. distinct - 1`` in the order of first requests.
    ids : the pages' own ids, ``[distinct]``: integers or strings.
    name : where the trace comes from.
    notes : what reading it left out or assumed, one line each.
    understood : how the file was read, in words: which column holds the ids.
    """

    pages: np.ndarray
    ids: np.ndarray
    name: str = "trace"
    notes: tuple[str, ...] = field(default=())
    understood: str = ""

    def __post_init__(self) -> None:
        # A read-only or strided view is another type to compiled code, for which all of it would be compiled again.
        object.__setattr__(self, "pages", np.require(self.pages, np.int32, ["C", "W"]))

    def __len__(self) -> int:
        return len(self.pages)

    @property
    def distinct(self) -> int:
        """How many pages the trace requests."""
        return len(self.ids)

    def part(self, start: int, stop: int) -> Trace:
        """Requests ``start .. stop - 1`` as a trace of its own, its pages numbered afresh."""
        return self.chosen(slice(start, stop), f"{self.name} [{start}:{stop}]")

    def chosen(self, requests: slice | np.ndarray, name: str = "") -> Trace:
        """Some of the requests, in their order, as a trace of its own, its pages numbered afresh."""
        own = self.pages[requests]
        pages, first = number_pages(own)
        return Trace(pages, self.ids[own[first]], name or self.name, self.notes, self.understood)

    @classmethod
    def of(cls, ids: object, name: str = "trace") -> Trace:
        """The trace of a sequence of page ids (integers, strings, anything hashable).

        Raises InputError with the position of an id that is missing (None or NaN), and for an empty sequence.
        """
        array = np.asarray(ids) if not isinstance(ids, np.ndarray) else ids
        if array.ndim != 1:
            raise InputError("trace", f"an array of shape {array.shape}", "a sequence of page ids")
        if not len(array):
            raise InputError("trace", "no requests", "at least one request")
        if array.dtype.kind == "f":
            odd = ~(np.isfinite(array) & (array == np.floor(array)))
            if odd.any():
                at = int(odd.argmax())
                raise InputError("trace", f"{array[at]} at request {at}", "page ids that are whole numbers or strings")
            array = array.astype(np.int64)
        elif array.dtype.kind == "O":
            for at, page in enumerate(array):
                if page is None or page != page:
                    raise InputError("trace", f"{page!r} at request {at}", "a page id")
        elif array.dtype.kind not in "iuUSb":
            raise InputError("trace", f"page ids of type {array.dtype}", "whole numbers or strings")
        pages, first = number_pages(array)
        return cls(pages, array[first], name)


def number_pages(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers in the order of first appearance, int32 [T], and where each id appears first, int64 [distinct]."""
    if ids.dtype.kind in "iu" and ids.dtype.itemsize <= 8:
        from paperworks.papers.paging.numbering import number_keys

        pages, first = number_keys(np.require(ids, None, ["C", "W"]).astype(np.int64, copy=False))
        return pages, first
    import pandas

    numbers, _ = pandas.factorize(ids)
    numbers = np.require(numbers, np.int32, ["C", "W"])  # see Trace: one type for compiled code
    highest = np.maximum.accumulate(numbers) if len(numbers) else numbers
    new = np.flatnonzero(np.diff(highest, prepend=np.int32(-1)))
    return numbers, new


def as_trace(trace: Trace | Sequence | np.ndarray | object) -> Trace:
    """A Trace as it is; anything else through ``Trace.of``."""
    return trace if isinstance(trace, Trace) else Trace.of(trace)


def split_into_sets(trace: Trace, sets: int) -> list[np.ndarray]:
    """The requests of each set that is requested at all: int64 request numbers in order."""
    if isinstance(sets, bool) or not isinstance(sets, (int, np.integer)) or sets < 1:
        raise InputError("sets", repr(sets), "a whole number of at least 1")
    ids = trace.ids if trace.ids.dtype.kind in "iu" else np.arange(trace.distinct)
    members = (ids % ids.dtype.type(sets)).astype(np.int64)[trace.pages]
    order = np.argsort(members, kind="stable")
    borders = np.flatnonzero(np.diff(members[order])) + 1
    return np.split(order, borders)
