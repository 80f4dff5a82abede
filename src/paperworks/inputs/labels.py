"""Whether a column can be the label of a classifier."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from paperworks.errors import InputError

FEWEST_ROWS = 20
"""Below this many rows, labels may all differ by chance."""


def require_classes(labels: Iterable[Any], field: str = "label") -> None:
    """Raise InputError for a label of which most rows have a value of their own: a quantity, or a column of names.

    Missing labels (None) count as one value.
    """
    rows = [str(label) for label in labels]
    different = len(set(rows))
    if len(rows) < FEWEST_ROWS or different <= len(rows) / 2:
        return
    kind = "numbers" if all(map(_is_number, set(rows))) else "values"
    found = f"{different:,} different {kind} in {len(rows):,} rows, such as {rows[0]!r}"
    expected = "classes that many rows share; a quantity has to be cut into a few, such as low and high"
    raise InputError(field, found, expected)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
