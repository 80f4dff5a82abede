"""Numbering ids in the order of their first appearance, in compiled code.

A hash table keeps key and number side by side, so that a look-up reads one line of memory; it is asked for a block of
keys ahead of the look-up, so that the processor does not wait for it.
"""

from __future__ import annotations

import numpy as np

from paperworks.papers.paging.state import ahead, called, compiled, owner_free

BLOCK = 64
"""Keys that are looked up together, and by which a table is asked ahead."""

_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)


@called
def slot_of(key, mask):
    """Where a key belongs in a table of ``mask + 1`` slots if it is alone there."""
    mixed = np.uint64(key) * _MIX
    return np.int64((mixed ^ (mixed >> _SHIFT)) & np.uint64(mask))


@compiled
def _fill(table, new):
    """Put the keys of one table into a larger one that is empty."""
    mask = len(new) - 1
    for old in range(len(table)):
        if old + BLOCK < len(table):
            ahead(new, slot_of(table[old + BLOCK, 0], mask))
        if table[old, 1]:
            slot = slot_of(table[old, 0], mask)
            while new[slot, 1]:
                slot = (slot + 1) & mask
            new[slot, 0], new[slot, 1] = table[old, 0], table[old, 1]


def empty_table() -> np.ndarray:
    """Slots with a key and its number, counted from 1; 0 is an empty slot."""
    return np.zeros((4096, 2), np.int64)


def grown(table: np.ndarray) -> np.ndarray:
    """The same keys in a table four times as large."""
    new = np.zeros((4 * len(table), 2), np.int64)
    _fill(table, new)
    return new


@called
def has_room(table, found):
    """Whether a block of new keys leaves a quarter of the table empty."""
    return 4 * (found + BLOCK) <= 3 * len(table)


@called
def find_slot(table, slot, key):
    """The slot of a key, or the empty one where it belongs, from the slot where it would be alone."""
    mask = len(table) - 1
    while table[slot, 1] and table[slot, 0] != key:
        slot = (slot + 1) & mask
    return slot


@called
def _key(source, at):
    """The id of a record (see ``number_records``), or of an array of ids."""
    if source.ndim == 2:
        return np.int64(source[at, 1]) | np.int64(source[at, 2]) << 32
    return np.int64(source[at])


@called
def _sized(source, at):
    if source.ndim == 2:
        return source[at, 3] != 1
    return False


@called
def _ask(source, at, table, slots):
    """Note the slot of the key at ``at``, and have its line of the table brought."""
    slot = slot_of(_key(source, at), len(table) - 1)
    slots[at & (BLOCK - 1)] = slot
    ahead(table, slot)


@compiled
def _keys(source, at, table, pages, first, found):
    """Number keys from ``at`` on, until the table is nearly full.

    Returns where it stopped, how many ids there are, whether the size of a record is not 1.
    """
    source, table, pages, first = owner_free(source), owner_free(table), owner_free(pages), owner_free(first)
    slots, sized = np.empty(BLOCK, np.int64), False
    for i in range(at, min(at + BLOCK, len(source))):
        _ask(source, i, table, slots)
    while at < len(source) and has_room(table, found):
        for i in range(at, min(at + BLOCK, len(source))):
            key = _key(source, i)
            slot = find_slot(table, slots[i & (BLOCK - 1)], key)
            if i + BLOCK < len(source):
                _ask(source, i + BLOCK, table, slots)
            if not table[slot, 1]:
                found += 1
                table[slot, 0], table[slot, 1] = key, found
                first[found - 1] = i
            pages[i] = table[slot, 1] - 1
            sized |= _sized(source, i)
        at = min(at + BLOCK, len(source))
    return at, found, sized


def number_keys(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64 keys [T] as page numbers, int32 [T], and where each appears first, int64 [distinct]."""
    pages, first, _ = number_records(keys)
    return pages, first


def number_records(words: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """24-byte records as uint32 [T, 6] (time, id in two, size, next in two): pages, first, if a size is not 1."""
    # Memory that is never written to takes no room, so that the arrays may be as long as there can be ids.
    pages, first, table = np.empty(len(words), np.int32), np.empty(len(words), np.int64), empty_table()
    at, found, sized = 0, 0, False
    while at < len(words):
        at, found, some = _keys(words, at, table, pages, first, found)
        sized |= bool(some)
        table = grown(table) if at < len(words) else table
    return pages, first[:found].copy(), sized
