"""What the policies keep, and the constant-time operations on it that their compiled steps share.

A page is a number ``0 <= page < n``; a resident page has a slot ``0 <= slot < k``. Everything but ``where`` and
``memory`` is indexed by slot, so that the working set of a replay grows with the cache and not with the trace.
Three structures live on the slots, and a policy uses those that it needs:

- a *partition* of the slots into consecutive regions of ``order`` (for instance unmarked, marked, free), in which a
  slot moves to another region by swaps at the borders, and a uniform choice within a region is one draw;
- an indexed *heap*, also in ``order``, with the largest ``key`` on top;
- doubly linked *lists* in ``links``, whose sentinels are the nodes ``k``, ``k + 1``, ...
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_njit: Any = numba.njit  # its types lack the options for wrappers, which are those of ``numba.extending.overload``

compiled: Any = _njit(cache=True, no_cfunc_wrapper=True)
"""For whole replays. (The cache of a function does not see changes in other files: after editing what it inlines,
remove ``__pycache__``.)"""

inlined: Any = numba.njit(inline="always")
"""For the steps and what they are made of: a call would cost more than the work."""

called: Any = _njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""For loops and other parts that policies share: compiled once. Inlining them would multiply the time to compile.
(Numbers are passed to them as ``np.int64``: a function is compiled anew for each literal among its arguments.)"""

called_in_place: Any = _njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)
"""The same for what LLVM should put in place of the call, because its arguments are known there."""

ABSENT = np.int32(-1)
LISTS = 2
"""Linked lists per state."""

# Counters in ``State.n``. A policy's partition has its borders in n[0], n[1], ...
REGIONS = 6
COUNT = 6  # resident pages (for policies without a partition)
EVICTED = 7  # pages in ``out``
PHASE = 8  # number of the current phase
TIME = 9  # requests so far
HEAP = 10  # slots in the heap
HAND = 11  # a policy's own
COUNTERS = 12


class State(NamedTuple):
    """The arrays of one policy; ``n`` pages, ``k`` slots."""

    where: np.ndarray  # int32 [n]: the page's slot, or ABSENT
    memory: np.ndarray  # int32 [n, 2]: what the policy remembers of a page, resident or not
    page: np.ndarray  # int32 [k]: the page in each slot
    bit: np.ndarray  # uint8 [k]: the bit that came with the page's latest request
    time: np.ndarray  # int64 [k]: the number of the page's latest request
    key: np.ndarray  # int64 [k]: the heap's key
    order: np.ndarray  # int32 [k]: slots, by region or as a heap
    rank: np.ndarray  # int32 [k]: each slot's place in ``order``, or ABSENT
    links: np.ndarray  # int32 [k + LISTS, 2]: previous and next slot
    n: np.ndarray  # int64 [COUNTERS]
    out: np.ndarray  # int32 [k + 1]: the pages evicted by the latest request
    rng: np.ndarray  # uint64 [1]


def empty_state(k: int, pages: int, seed: int) -> State:
    """The state of an empty cache of ``k`` slots for pages ``0 .. pages - 1``."""
    links = np.zeros((k + LISTS, 2), np.int32)
    links[k:] = np.arange(k, k + LISTS)[:, None]
    n = np.zeros(COUNTERS, np.int64)
    n[PHASE] = 1
    return State(
        where=np.full(pages, ABSENT, np.int32),
        memory=np.zeros((pages, 2), np.int32),
        page=np.full(k, ABSENT, np.int32),
        bit=np.zeros(k, np.uint8),
        time=np.zeros(k, np.int64),
        key=np.zeros(k, np.int64),
        order=np.arange(k, dtype=np.int32),
        rank=np.arange(k, dtype=np.int32),
        links=links,
        n=n,
        out=np.zeros(k + 1, np.int32),
        rng=np.array([seed], np.uint64),
    )


def grown(state: State, pages: int) -> State:
    """The same state with room for ``pages`` pages."""
    extra = pages - len(state.where)
    return state._replace(
        where=np.concatenate([state.where, np.full(extra, ABSENT, np.int32)]),
        memory=np.concatenate([state.memory, np.zeros((extra, 2), np.int32)]),
    )


def _owner_free(typing_context, value):
    """The same array, or the same tuple of arrays, without owners, so that passing it on counts no references."""

    def freed(context, builder, kind, array):
        view = context.make_array(kind)(context, builder, array)
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        view.parent = cgutils.get_null_value(view.parent.type)
        return view._getvalue()

    def generate(context, builder, signature, args):
        kind: Any = signature.args[0]
        if isinstance(kind, types.Array):
            return freed(context, builder, kind, args[0])
        arrays = [freed(context, builder, each, builder.extract_value(args[0], i)) for i, each in enumerate(kind)]
        return context.make_tuple(builder, kind, arrays)

    return value(value), generate


owner_free: Any = intrinsic(_owner_free)


def _ahead(typing_context, array, row):
    """Ask for the beginning of a row of an array, which is read later on; the processor does not wait for it."""

    def generate(context, builder, signature, args):
        view = context.make_array(signature.args[0])(context, builder, args[0])
        step = cgutils.unpack_tuple(builder, view.strides, signature.args[0].ndim)[0]
        place = builder.gep(builder.bitcast(view.data, cgutils.voidptr_t), [builder.mul(args[1], step)])
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, word, word, word])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(prefetch, [place, word(0), word(3), word(1)])  # to be read, to be kept close, data
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


ahead: Any = intrinsic(_ahead)


def _word_at(typing_context, array, at):
    """Eight bytes of a uint8 array from any place on as one number, the first byte lowest."""

    def generate(context, builder, signature, args):
        view = context.make_array(signature.args[0])(context, builder, args[0])
        word = ir.IntType(64)
        place = builder.gep(builder.bitcast(view.data, cgutils.voidptr_t), [args[1]])
        loaded = builder.load(builder.bitcast(place, word.as_pointer()), align=1)
        if sys.byteorder == "big":
            swap = cgutils.get_or_insert_function(builder.module, ir.FunctionType(word, [word]), "llvm.bswap.i64")
            loaded = builder.call(swap, [loaded])
        return loaded

    return types.uint64(array, types.int64), generate


word_at: Any = intrinsic(_word_at)


@inlined
def look_ahead(st, pages, t):
    """Ask for what later requests will read of the state: which page has a slot, and the slot's place in the lists."""
    _look_ahead(st.where, st.links, owner_free(pages), np.int64(t))


@called_in_place
def _look_ahead(where, links, pages, t):
    if t + 24 < len(pages):
        ahead(where, np.int64(pages[t + 24]))
        slot = where[pages[t + 8]]
        if slot >= 0:
            ahead(links, np.int64(slot))


# -- randomness ----------------------------------------------------------------------------------------------------


@called
def draw(rng, bound):
    """A uniform integer in ``[0, bound)``, ``bound < 2**32``: SplitMix64 (Steele, Lea, Flood 2014), scaled by product.

    The state is the policy's own, so that a replay neither reads nor moves any other generator. The scaling favours
    no value by more than one part in ``2**32 / bound``.
    """
    rng[0] += np.uint64(0x9E3779B97F4A7C15)
    z = rng[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.int64(((z >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32))


# -- slots ---------------------------------------------------------------------------------------------------------


@inlined
def release(st, slot):
    """The page of ``slot`` leaves the cache and is noted in ``out``. Returns the page."""
    page = st.page[slot]
    st.where[page] = ABSENT
    st.out[st.n[EVICTED]] = page
    st.n[EVICTED] += 1
    return page


@inlined
def occupy(st, slot, page):
    """``page`` takes ``slot``."""
    st.page[slot] = page
    st.where[page] = slot


@inlined
def note(st, t, log, ends, logged):
    """Append what request ``t`` evicted to ``log``, unless no log is kept. Returns the new length of the log."""
    return _note(st.n, st.out, np.int64(t), owner_free(log), owner_free(ends), np.int64(logged))


@called_in_place
def _note(n, out, t, log, ends, logged):
    if len(ends):
        for i in range(n[EVICTED]):
            log[logged] = out[i]
            logged += 1
        ends[t] = logged
    return logged


# -- partition: region i is order[n[i - 1] : n[i]] (region 0 starts at 0); what follows the last region is free ------


@inlined
def move(st, slot, source, target):
    """Move ``slot`` from region ``source`` to region ``target`` by one swap per border."""
    _move(st.n, st.order, st.rank, np.int64(slot), np.int64(source), np.int64(target))


@called_in_place
def _move(n, order, rank, slot, source, target):
    step = 1 if target > source else -1
    while source != target:
        border = source if step > 0 else source - 1
        n[border] -= step > 0
        i, j = np.int64(rank[slot]), n[border]
        other = order[j]
        order[i], order[j] = other, slot
        rank[other], rank[slot] = i, j
        n[border] += step < 0
        source += step


@inlined
def any_of(st, first, end):
    """A uniformly random slot of ``order[first:end]``."""
    return st.order[first + draw(st.rng, end - first)]


# -- lists: node ``k + which`` is the sentinel; its next is the oldest slot ------------------------------------------


@inlined
def unlink(st, slot):
    """Take a slot out of its list."""
    before, after = st.links[slot, 0], st.links[slot, 1]
    st.links[before, 1] = after
    st.links[after, 0] = before


@inlined
def append(st, slot, sentinel):
    """Put a slot at the young end of a list."""
    last = st.links[sentinel, 0]
    st.links[slot, 0], st.links[slot, 1] = last, sentinel
    st.links[last, 1] = slot
    st.links[sentinel, 0] = slot


@inlined
def clear(st, sentinel):
    """Empty a list."""
    st.links[sentinel, 0] = sentinel
    st.links[sentinel, 1] = sentinel


# -- heap: the largest key is on top; among equal keys the least recently requested page -----------------------------


@called
def _settle(key, time, order, rank, at, size):
    """Restore the heap of ``size`` slots around the place ``at``, whose slot has a new key."""
    slot = order[at]
    own_key, own_time = key[slot], time[slot]
    while at > 0:
        parent = (at - 1) >> 1
        above = order[parent]
        if key[above] > own_key or (key[above] == own_key and time[above] <= own_time):
            break
        order[at] = above
        rank[above] = at
        at = parent
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        below = order[child]
        if child + 1 < size:
            beside = order[child + 1]
            if key[beside] > key[below] or (key[beside] == key[below] and time[beside] < time[below]):
                child += 1
                below = beside
        if key[below] < own_key or (key[below] == own_key and time[below] >= own_time):
            break
        order[at] = below
        rank[below] = at
        at = child
    order[at] = slot
    rank[slot] = at


@inlined
def heap_add(st, slot):
    """Put a slot on the heap, by its key."""
    at = st.n[HEAP]
    st.n[HEAP] += 1
    st.order[at] = slot
    _settle(st.key, st.time, st.order, st.rank, at, at + 1)


@inlined
def heap_change(st, slot):
    """Restore the heap after the slot's key changed."""
    _settle(st.key, st.time, st.order, st.rank, np.int64(st.rank[slot]), st.n[HEAP])


@inlined
def heap_remove(st, slot):
    """Take a slot off the heap."""
    at = np.int64(st.rank[slot])
    st.n[HEAP] -= 1
    st.rank[slot] = ABSENT
    if at < st.n[HEAP]:
        st.order[at] = st.order[st.n[HEAP]]
        _settle(st.key, st.time, st.order, st.rank, at, st.n[HEAP])
