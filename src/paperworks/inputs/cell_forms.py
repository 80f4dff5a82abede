"""Numbers as people write them: with decimal commas, with commas between thousands, with a sign of money or percent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

Commas = Literal["", "decimal", "thousands"]
"""What the commas of a column of numbers are; empty where it has none, or is no column of numbers."""

_DECIMAL = r"[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?([eE][+-]?\d+)?"
_THOUSANDS = r"[+-]?(\d{1,3}|[1-9]\d{0,2}(,\d{3})+)(\.\d+)?"
_FORMS: dict[Commas, str] = {"decimal": _DECIMAL, "thousands": _THOUSANDS}
_AMOUNT = re.compile(r"[+-]?\s?[$€£¥]\s?[+-]?\d[\d.,'\s]*|[+-]?\d[\d.,'\s]*[$€£¥%]")
_DATE = re.compile(r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2}))([T ,].*)?")
_LOOKED_AT = 200
"""Cells that are looked at before a note is made."""
_MOST = 0.9
"""Share of those cells that must have the form."""


def comma_forms(delimiter: str, cells: Iterable[str]) -> tuple[Commas, ...]:
    """What commas in a file's numbers may be, the likelier first, by its delimiter and some of its cells.

    A column such as ``8,123`` can be either. Between semicolons, which are used where the comma is a decimal one, it is
    8.123. Between commas, where a decimal comma would have ended the cell, it is 8123, and so it is elsewhere, unless a
    cell of the file can only have a decimal comma.
    """
    if delimiter == ",":
        return ("thousands",)
    decimal = delimiter == ";" or any(
        "," in cell and re.fullmatch(_DECIMAL, cell) and not re.fullmatch(_THOUSANDS, cell) for cell in cells
    )
    return ("decimal", "thousands") if decimal else ("thousands", "decimal")


def plain_numbers(cells: pd.Series, missing: pd.Series, forms: Sequence[Commas]) -> tuple[pd.Series, Commas]:
    """Cells as text with decimal points, where all that are present are numbers of one form and one has a comma.

    ``1.234,5`` and ``1,234.5`` are 1234.5. The first of ``forms`` that all cells have is taken (``comma_forms``).
    Anything else is left as it is.
    """
    present = cells[~missing.to_numpy()].astype(str)
    if not present.str.contains(",", regex=False).any():
        return cells, ""
    kind = next((form for form in forms if present.str.fullmatch(_FORMS[form]).all()), None)
    if kind is None:
        return cells, ""
    point, grouping = (",", ".") if kind == "decimal" else (".", ",")
    changed = cells.copy()
    written = present.str.replace(grouping, "", regex=False).str.replace(point, ".", regex=False)
    changed[written.index] = written.astype(object)
    return changed, kind


def text_note(column: str, cells: pd.Series) -> str | None:
    """What to tell of a column that is read as categorical, though its cells are amounts of money, shares or dates."""
    some = [text.strip() for text in cells.dropna().iloc[:_LOOKED_AT].astype(str)]
    first = next((text for text in some if text), "")
    amounts = sum(bool(_AMOUNT.fullmatch(text)) for text in some)
    dates = sum(bool(_DATE.fullmatch(text)) for text in some)
    if not some or max(amounts, dates) < _MOST * len(some):
        return None
    what, instead = ("dates", "days since one of them") if dates >= amounts else ("amounts", "numbers without a sign")
    return (
        f"column {column!r} is read as categorical: its cells are {what} such as {first!r}. "
        f"Write them as {instead} if they measure something, or leave the column out (drop)."
    )
