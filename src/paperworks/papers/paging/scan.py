"""Reading one column of a mapped text in compiled code: each id as its number, in the order of first appearance."""

from __future__ import annotations

import numpy as np

from paperworks.papers.paging.numbering import BLOCK, empty_table, find_slot, grown, has_room, slot_of
from paperworks.papers.paging.state import ahead, called, compiled, owner_free, word_at

DONE, FIELDS, NOT_A_NUMBER = 0, 1, 2
"""How a scan ended: at its end, at a line with another number of fields, at an id that is no whole number."""

BLANKS = 32
"""As delimiter: fields are separated by runs of blanks and tabs."""

_NEWLINE, _RETURN, _TAB, _MINUS, _ZERO = 10, 13, 9, 45, 48
_DIGITS = 20  # of the largest number in 64 bits
_TENTH, _LARGEST = np.uint64((2**64 - 1) // 10), np.uint64(2**63 - 1)


@compiled
def count_lines(data):
    """Lines of a text; the last one need not end."""
    lines = 0
    for i in range(len(data)):
        lines += data[i] == _NEWLINE
    return lines + (len(data) > 0 and data[len(data) - 1] != _NEWLINE)


@compiled
def holds(data, byte):
    """Whether the text has this byte anywhere."""
    for start in range(0, len(data), 1 << 16):
        seen = 0
        for i in range(start, min(len(data), start + (1 << 16))):
            seen += data[i] == byte
        if seen:
            return True
    return False


@compiled
def skip_lines(data, lines):
    """Where the line after this many begins."""
    at = 0
    while lines > 0 and at < len(data):
        lines -= data[at] == _NEWLINE
        at += 1
    return at


@called
def _byte(data, at):
    return data[np.uint64(at)]  # an unsigned index is not looked at for being negative


@called
def _all_digits(eight):
    """Whether eight bytes are digits: none below 0, and none that reaches 128 when 70 is added."""
    below, above = eight - np.uint64(0x3030303030303030), eight + np.uint64(0x4646464646464646)
    return (eight | below | above) & np.uint64(0x8080808080808080) == np.uint64(0)


@called
def _eight_digits(eight):
    """The number that eight digits write, the first in the lowest byte: pairs, then fours, then all, in three steps."""
    two = eight & np.uint64(0x0F0F0F0F0F0F0F0F)
    two = (np.uint64(10) * two + (two >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    four = (np.uint64(100) * two + (two >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    return (np.uint64(10_000) * four + (four >> np.uint64(32))) & np.uint64(0xFFFFFFFF)


@called
def _blanks(data, at):
    """Where the blanks at ``at`` end."""
    while at < len(data) and (_byte(data, at) == 32 or _byte(data, at) == _TAB):
        at += 1
    return at


@called
def _to_column(data, at, delimiter, column):
    """Where the column's field begins in the line at ``at``, without its blanks; -1 if the line ends before."""
    size = len(data)
    if delimiter == BLANKS:
        at = _blanks(data, at)
    while column > 0:
        if at >= size:
            return -1
        byte = _byte(data, at)
        if byte == _NEWLINE:
            return -1
        at += 1
        if delimiter == BLANKS:
            if byte == 32 or byte == _TAB:
                at = _blanks(data, at)
                column -= 1
        elif byte == delimiter:
            column -= 1
    if delimiter != BLANKS and delimiter != _TAB:
        at = _blanks(data, at)
    return at


@called
def _to_next_line(data, at, delimiter):
    """From the end of a field: where the next line begins, and how many fields are left in this one."""
    size, more = len(data), 0
    while at < size:
        byte = _byte(data, at)
        if byte == _NEWLINE:
            at += 1
            break
        if delimiter == BLANKS and (byte == 32 or byte == _TAB):
            at = _blanks(data, at)
            more += at < size and _byte(data, at) != _NEWLINE and _byte(data, at) != _RETURN
        else:
            more += byte == delimiter
            at += 1
    return at, more


@called
def _end_of_field(data, at, delimiter):
    """Where the field ends whose last character is before ``at``; -1 if it goes on. Blanks after it are passed."""
    if delimiter != BLANKS:
        at = _blanks(data, at)
    if at < len(data):
        byte = _byte(data, at)
        if byte == _RETURN:
            if at + 1 < len(data) and _byte(data, at + 1) != _NEWLINE:
                return -1
        elif byte != _NEWLINE and byte != delimiter and not (delimiter == BLANKS and byte == _TAB):
            return -1
    return at


@compiled
def _numbers(data, at, line, lines, delimiter, column, fields, table, pages, ids, found, large, minus):
    """Scan until the end, a fault or a table that is nearly full.

    Returns state, line, where it begins, ids found, whether one is above int64, whether one is below 0.
    """
    data, table, pages, ids = owner_free(data), owner_free(table), owner_free(pages), owner_free(ids)
    size, state, mask = len(data), DONE, len(table) - 1
    keys, slots = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    while line < lines and state == DONE and has_room(table, found):
        count = 0
        while count < BLOCK and line + count < lines:
            here = _to_column(data, at, delimiter, column)
            if here < 0:
                state = FIELDS
                break
            negative = here < size and _byte(data, here) == _MINUS
            here += negative
            begin, value, shorter = here, np.uint64(0), np.uint64(0)
            while here + 8 <= size:
                eight = word_at(data, here)
                if not _all_digits(eight):
                    break
                value = np.uint64(100_000_000) * value + _eight_digits(eight)
                here += 8
            while here < size:
                digit = np.uint64(_byte(data, here)) - np.uint64(_ZERO)  # characters before 0 become huge
                if digit > np.uint64(9):
                    break
                shorter = value
                value = np.uint64(10) * value + digit
                here += 1
            digits = here - begin
            # 007 is another id than 7, and numbers that do not fit are text.
            if digits < 1 or digits > _DIGITS or (_byte(data, begin) == _ZERO and (digits > 1 or negative)):
                state = NOT_A_NUMBER
                break
            if digits == _DIGITS and (shorter > _TENTH or value < shorter):
                state = NOT_A_NUMBER
                break
            large |= value > _LARGEST
            minus |= negative
            if large and minus:
                state = NOT_A_NUMBER
                break
            here = _end_of_field(data, here, delimiter)
            if here < 0:
                state = NOT_A_NUMBER
                break
            here, more = _to_next_line(data, here, delimiter)
            if fields > 0 and column + 1 + more != fields:
                state = FIELDS
                break
            keys[count] = -np.int64(value) if negative else np.int64(value)
            slots[count] = slot_of(keys[count], mask)
            ahead(table, slots[count])
            count += 1
            at = here
        for i in range(count):
            slot = find_slot(table, slots[i], keys[i])
            if not table[slot, 1]:
                ids[found] = keys[i]
                found += 1
                table[slot, 0], table[slot, 1] = keys[i], found
            pages[line + i] = table[slot, 1] - 1
        line += count
    return state, line, at, found, large, minus


def scan_numbers(
    data: np.ndarray, start: int, lines: int, delimiter: int, column: int, fields: int
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """One column of whole numbers: pages, the ids in order (int64, or uint64 if one is so large), how it ended, lines.

    Parameters
    ----------
    data : uint8, the file. ``start`` is where the first line begins, ``lines`` how many are wanted.
    delimiter : the byte between fields; 0 for none, BLANKS for runs of blanks.
    column, fields : the column, from 0, and how many fields a line has (0: any number that has the column).
    """
    pages, ids = np.empty(lines, np.int32), np.empty(lines, np.int64)
    table = empty_table()
    state, line, at, found, large, minus = DONE, 0, start, 0, False, False
    while line < lines and state == DONE:
        state, line, at, found, large, minus = _numbers(
            data, at, line, lines, delimiter, column, fields, table, pages, ids, found, large, minus
        )
        table = grown(table) if line < lines and state == DONE else table
    numbers = ids[:found].copy()
    return pages[:line], numbers.view(np.uint64) if large else numbers, state, line


@called
def _same(data, one, other, length):
    i = 0
    while i < length and _byte(data, one + i) == _byte(data, other + i):
        i += 1
    return i == length


@called
def _text_field(data, begin, delimiter):
    """The end of the field without the blanks behind it, its end with them, and a hash of its bytes (FNV-1a)."""
    at, end = begin, begin
    mixed = kept = np.uint64(14695981039346656037)
    while at < len(data):
        byte = _byte(data, at)
        ends = byte == _NEWLINE or (delimiter == BLANKS and byte == _TAB)
        if ends or byte == delimiter:
            break
        mixed = (mixed ^ np.uint64(byte)) * np.uint64(1099511628211)
        at += 1
        if byte != 32 and byte != _TAB and byte != _RETURN:
            end, kept = at, mixed
    return end, at, np.int64(kept)


@compiled
def _texts(data, at, line, lines, delimiter, column, fields, table, pages, where, found):
    data = owner_free(data)
    mask = len(table) - 1
    begins, ends, keys = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    state = DONE
    while line < lines and state == DONE and has_room(table, found):
        count = 0
        while count < BLOCK and line + count < lines:
            begin = _to_column(data, at, delimiter, column)
            if begin < 0:
                state = FIELDS
                break
            end, here, key = _text_field(data, begin, delimiter)
            following, more = _to_next_line(data, here, delimiter)
            if fields > 0 and column + 1 + more != fields:
                state = FIELDS
                break
            begins[count], ends[count], keys[count] = begin, end, key
            ahead(table, slot_of(key, mask))
            count += 1
            at = following
        for i in range(count):
            one = table[slot_of(keys[i], mask), 1]
            if one:
                ahead(where, np.int64(one - 1))
        for i in range(count):
            begin, end, key = begins[i], ends[i], keys[i]
            slot = slot_of(key, mask)
            while table[slot, 1]:
                one = table[slot, 1] - 1
                alike = table[slot, 0] == key and where[one, 1] - where[one, 0] == end - begin
                if alike and _same(data, where[one, 0], begin, end - begin):
                    break
                slot = (slot + 1) & mask
            if not table[slot, 1]:
                where[found, 0], where[found, 1], where[found, 2] = begin, end, line + i
                found += 1
                table[slot, 0], table[slot, 1] = key, found
            pages[line + i] = table[slot, 1] - 1
        line += count
    return state, line, at, found


def scan_text(
    data: np.ndarray, start: int, lines: int, delimiter: int, column: int, fields: int
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """One column of any bytes, as ``scan_numbers``: pages, where each id is first (begin, end, line), end, lines."""
    pages, where, table = np.empty(lines, np.int32), np.empty((lines, 3), np.int64), empty_table()
    state, line, at, found = DONE, 0, start, 0
    while line < lines and state == DONE:
        state, line, at, found = _texts(data, at, line, lines, delimiter, column, fields, table, pages, where, found)
        table = grown(table) if line < lines and state == DONE else table
    return pages[:line], where[:found].copy(), state, line
