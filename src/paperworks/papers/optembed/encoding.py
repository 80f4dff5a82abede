"""Columns of a table as fields of ids: vocabularies, numbers in buckets, and cells of several values.

Every field ends with the id of values that were not seen (or seen too rarely) when it was fitted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from paperworks.errors import InputError
from paperworks.papers.optembed.bags import EMPTY, Bags, Pooling

Numbers = Literal["auto", "log", "quantile", "values"]
MISSING = ""
"""The text of a missing cell: a value of its own."""

_SAMPLE = 200_000
_BUCKETS = 32


@dataclass
class Field:
    """One column.

    Attributes
    ----------
    name, kind : the column, and how its cells become values: "category", "log", "quantile", "values", or "several".
    slots : the most values of a cell that are taken, 1 but for "several"; separator : between the values of a text.
    edges : of quantile buckets.
    vocabulary : value -> id; the id after the last is that of unknown values.
    """

    name: str
    kind: str
    edges: list[float] = field(default_factory=list)
    vocabulary: dict[str, int] = field(default_factory=dict)
    slots: int = 1
    separator: str = "|"

    @property
    def size(self) -> int:
        """How many ids there are, the unknown one included."""
        return len(self.vocabulary) + 1

    def values(self, cells: pd.Series) -> pd.Series:
        """The text that is looked up, for every cell; of several values a row for each, with the cell's label."""
        if self.kind == "several":
            return cells.map(lambda cell: split_cell(cell, self.separator)).explode().dropna()
        gone = cells.isna()
        if self.kind == "category":
            text = cells.astype(str)
            if pd.api.types.is_float_dtype(cells):  # whole numbers beside a missing cell: 7, not 7.0
                text = text.str.removesuffix(".0")
            return text.mask(gone, MISSING)
        numbers = as_numbers(cells).to_numpy(dtype=np.float64)
        if self.kind == "log":
            found = log_bucket(numbers)
        elif self.kind == "quantile":
            found = np.searchsorted(np.array(self.edges), numbers, side="right").astype(np.float64)
            found[np.isnan(numbers)] = np.nan
        else:
            found = numbers
        text = pd.Series(found, index=cells.index).map(number_text)
        return text.mask(gone, MISSING)


def is_time(cells: pd.Series) -> bool:
    """Whether a column has points in time or durations."""
    return pd.api.types.is_datetime64_any_dtype(cells) or pd.api.types.is_timedelta64_dtype(cells)


def as_numbers(cells: pd.Series) -> pd.Series:
    """Cells as numbers, NaN where they are none: points in time in seconds since 1970 (UTC), durations in seconds."""
    if pd.api.types.is_datetime64_any_dtype(cells):
        return (pd.to_datetime(cells, utc=True) - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    if pd.api.types.is_timedelta64_dtype(cells):
        return cells / pd.Timedelta(seconds=1)
    return pd.to_numeric(cells, errors="coerce")


def number_text(value: float) -> str:
    """A number as a text that no other number has; whole ones without a point; of NaN, that of a missing cell."""
    if np.isnan(value):
        return MISSING
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def is_several(cell: Any) -> bool:
    """Whether a cell holds a list, a tuple, a set or an array of values."""
    return isinstance(cell, (list, tuple, set, frozenset, np.ndarray))


def split_cell(cell: Any, separator: str) -> list[str]:
    """The values of a cell as texts, without missing ones: of a list, or of a text with separators."""
    if is_several(cell):
        values = sorted(cell, key=str) if isinstance(cell, (set, frozenset)) else list(cell)
    elif isinstance(cell, str):
        values = cell.split(separator)
    else:
        values = [] if pd.isna(cell) else [cell]
    texts = (str(value).strip() for value in values if is_several(value) or not pd.isna(value))
    return [text for text in texts if text]


def several_columns(frame: pd.DataFrame) -> list[str]:
    """The columns of a frame with lists or arrays in their cells."""
    unclear = (c for c in frame.columns if frame[c].dtype == object and pd.api.types.infer_dtype(frame[c]) == "mixed")
    return [str(c) for c in unclear if frame[c].map(is_several).any()]


def log_bucket(values: np.ndarray) -> np.ndarray:
    """Buckets of counts, as in the preparation of Criteo: floor(ln(v)^2) above 2, else the whole part; NaN stays."""
    values = np.asarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(values > 2, np.floor(np.log(np.maximum(values, 1)) ** 2), np.trunc(values))


class FieldEncoder:
    """Turns columns into ids, field by field; fitted at once, or on one chunk after another.

    Parameters
    ----------
    categorical : columns that are categories though they hold numbers.
    min_count : values that were seen less often share the field's unknown id. It does not hold for numeric fields.
    numbers : buckets of numeric columns. "log" is ``log_bucket``; "quantile" has at most 32 buckets of equal counts;
        "values" takes every number as a value; "auto" is values up to 32 different ones, else log for whole numbers
        from 0 on, else quantile. Points in time and durations (pandas' types) have quantile buckets in place of log.
    columns : the columns to take, in order; None takes those of the first chunk.
    several : columns of texts that hold several values with a ``separator`` between them. Columns of lists or arrays
        are found by themselves. A missing or empty cell has no value.
    most_values : the most values of a cell that are taken, from the first.

    Attributes
    ----------
    fields_ : the fitted fields. field_dims_ : their sizes. slots_ : columns of ids of each.
    """

    def __init__(
        self,
        *,
        categorical: Sequence[str] = (),
        min_count: int = 2,
        numbers: Numbers = "auto",
        columns: Sequence[str] | None = None,
        several: Sequence[str] = (),
        separator: str = "|",
        most_values: int = 16,
    ) -> None:
        if most_values < 1:
            raise InputError("most_values", most_values, "1 or more")
        if not separator:
            raise InputError("separator", repr(separator), "one character or more")
        if min_count < 1:
            raise InputError("min_count", min_count, "1 or more")
        if numbers not in ("auto", "log", "quantile", "values"):
            raise InputError("numbers", repr(numbers), "auto, log, quantile or values")
        self.categorical, self.min_count, self.numbers = tuple(categorical), min_count, numbers
        self.columns = None if columns is None else list(columns)
        self.several, self.separator, self.most_values = tuple(several), separator, most_values
        self.fields_: list[Field] = []
        self._longest: dict[str, int] = {}
        self._samples: dict[str, list[np.ndarray]] = {}
        self._text: set[str] = set()
        self._times: set[str] = set()
        self._counts: dict[str, pd.Series] = {}

    @property
    def field_dims_(self) -> list[int]:
        """The number of ids of every field."""
        return [f.size for f in self.fields_]

    @property
    def slots_(self) -> list[int]:
        """The columns of ids of every field: more than 1 for cells of several values."""
        return [f.slots for f in self.fields_]

    def bags(self, pooling: Pooling = "sum") -> Bags:
        """How the columns of ids make fields."""
        return Bags(tuple(self.slots_), pooling)

    def fit(self, frame: pd.DataFrame) -> Self:
        """Learn the fields of a whole table."""
        self.look(frame)
        self.decide()
        self.count(frame)
        return self.finish()

    def look(self, frame: pd.DataFrame) -> None:
        """First pass over chunks: which columns are numbers, and a sample of them."""
        if self.columns is None:
            self.columns = [str(c) for c in frame.columns]
        for option, names in (("several", self.several), ("categorical", self.categorical)):
            for name in names:
                if name not in self.columns:
                    raise InputError(option, repr(name), f"a column of the table: {', '.join(self.columns[:12])}")
        found = {*self.several, *several_columns(frame), *self._longest}
        for name in self.columns:
            if name in found:
                lengths = frame[name].map(lambda cell: len(split_cell(cell, self.separator)))
                self._longest[name] = max(self._longest.get(name, 1), int(lengths.max() if len(lengths) else 0))
                self._samples.pop(name, None)
                continue
            if name in self.categorical or name in self._text:
                continue
            cells = frame[name].dropna()
            numbers = as_numbers(cells)
            if is_time(cells):
                self._times.add(name)
            if pd.api.types.is_bool_dtype(cells) or numbers.isna().any():
                self._text.add(name)
                self._samples.pop(name, None)
                continue
            taken = self._samples.setdefault(name, [])
            room = _SAMPLE - sum(map(len, taken))
            if room > 0:
                sample = numbers.to_numpy(dtype=np.float64)
                taken.append(sample[np.isfinite(sample)][:room])

    def decide(self) -> None:
        """After the first pass: the kind of every field."""
        for name in self.columns or []:
            sample = np.concatenate(self._samples[name]) if self._samples.get(name) else np.zeros(0)
            kind = "category"
            if len(sample):
                kind = self.numbers if self.numbers != "auto" else _bucketing(sample)
                kind = "quantile" if kind == "log" and name in self._times else kind
            if name in self._longest:
                slots = min(self._longest[name], self.most_values)
                self.fields_.append(Field(name, "several", slots=slots, separator=self.separator))
                continue
            edges: list[float] = []
            if kind == "quantile":
                edges = np.unique(np.quantile(sample, np.linspace(0, 1, _BUCKETS + 1)[1:-1])).tolist()
            self.fields_.append(Field(name, kind, edges))

    def count(self, frame: pd.DataFrame) -> None:
        """Second pass over chunks: how often every value is there."""
        for f in self.fields_:
            seen = f.values(frame[f.name]).value_counts(sort=False)
            before = self._counts.get(f.name)
            self._counts[f.name] = seen if before is None else before.add(seen, fill_value=0).astype(np.int64)

    def finish(self) -> Self:
        """After the second pass: the vocabularies, most frequent value first."""
        for f in self.fields_:
            counts = self._counts[f.name]
            least = self.min_count if f.kind in ("category", "several") else 1
            kept = counts[counts >= least]
            order = sorted(kept.index, key=lambda value, c=kept: (-c[value], value))  # type: ignore[misc]
            f.vocabulary = {value: number for number, value in enumerate(order)}
        self._counts, self._samples = {}, {}
        return self

    def transform(self, frame: pd.DataFrame) -> np.ndarray:
        """Ids int32 ``[rows, columns]``, a column for each field but several for cells of several values, -1 where a
        cell has fewer. Raises InputError for a column that is missing.
        """
        out = np.full((len(frame), sum(self.slots_)), EMPTY, dtype=np.int32)
        at = 0
        for f in self.fields_:
            if f.name not in frame.columns:
                raise InputError(
                    "table", f"no column {f.name!r}", f"the columns {', '.join(x.name for x in self.fields_)}"
                )
            if f.kind == "several":
                unknown = len(f.vocabulary)
                for row, cell in enumerate(frame[f.name]):
                    own = [f.vocabulary.get(v, unknown) for v in split_cell(cell, f.separator)[: f.slots]]
                    out[row, at : at + len(own)] = own
            else:
                out[:, at] = f.values(frame[f.name]).map(f.vocabulary).fillna(len(f.vocabulary)).to_numpy()
            at += f.slots
        return out

    def to_json(self) -> str:
        """All that ``transform`` needs."""
        fields = [
            {
                "name": f.name,
                "kind": f.kind,
                "edges": f.edges,
                "values": list(f.vocabulary),
                **({"slots": f.slots, "separator": f.separator} if f.kind == "several" else {}),
            }
            for f in self.fields_
        ]
        return json.dumps({"min_count": self.min_count, "numbers": self.numbers, "fields": fields})

    @classmethod
    def from_json(cls, text: str) -> FieldEncoder:
        """An encoder from ``to_json``."""
        content: dict[str, Any] = json.loads(text)
        encoder = cls(min_count=content["min_count"], numbers=content["numbers"])
        encoder.fields_ = [
            Field(
                f["name"],
                f["kind"],
                f["edges"],
                {value: i for i, value in enumerate(f["values"])},
                f.get("slots", 1),
                f.get("separator", "|"),
            )
            for f in content["fields"]
        ]
        encoder.columns = [f.name for f in encoder.fields_]
        return encoder


def _bucketing(sample: np.ndarray) -> str:
    if len(np.unique(sample)) <= _BUCKETS:
        return "values"
    whole = bool((sample == np.trunc(sample)).all()) and sample.min() >= 0
    return "log" if whole else "quantile"
