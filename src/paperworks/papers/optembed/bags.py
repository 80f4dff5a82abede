"""Fields of several values at once: their ids stand in columns side by side, and their vectors are pooled.

::

    ids [B, columns]: | shop | hour | tag  tag  tag |      -1 where a row has fewer tags
    vectors [B, columns, D] --> [B, fields, D]: the sum or the mean over the tags of a row, zeros where it has none
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from paperworks.errors import InputError

Pooling = Literal["sum", "mean"]
EMPTY = -1
"""The id of a place without a value, in fields of several values."""


@dataclass(frozen=True)
class Bags:
    """How columns of ids make fields.

    Attributes
    ----------
    slots : columns of each field; 1 is an ordinary field.
    pooling : "sum" or "mean" of the vectors of a row's values. Pruned values count in the mean, with their zeros, as
        they do in torchrec's bags.
    """

    slots: tuple[int, ...]
    pooling: Pooling = "sum"

    def __post_init__(self) -> None:
        if not self.slots or min(self.slots) < 1:
            raise InputError("slots", list(self.slots), "1 or more for each field")
        if self.pooling not in ("sum", "mean"):
            raise InputError("pooling", repr(self.pooling), "sum or mean")

    @classmethod
    def of(cls, fields: int, slots: Sequence[int] | None, pooling: Pooling = "sum") -> Bags:
        """Bags of a number of fields; without ``slots`` every field has one value."""
        found = cls((1,) * fields if slots is None else tuple(int(s) for s in slots), pooling)
        if len(found.slots) != fields:
            raise InputError("slots", list(found.slots), f"{fields} numbers, one for each field")
        return found

    @property
    def plain(self) -> bool:
        """Whether every field has one value."""
        return max(self.slots) == 1

    @property
    def fields(self) -> torch.Tensor:
        """The field of every column, int64 ``[columns]``."""
        return torch.repeat_interleave(torch.arange(len(self.slots)), torch.tensor(self.slots))

    def per_column(self, values: Sequence[int]) -> torch.Tensor:
        """A number of each field, for every column: int64 ``[columns]``."""
        return torch.tensor(list(values))[self.fields]

    def pool(self, vectors: torch.Tensor, filled: torch.Tensor | None) -> torch.Tensor:
        """Vectors ``[B, columns, ...]`` as ``[B, fields, ...]``.

        Places that are not ``filled`` (bool ``[B, columns]``) must hold zeros.
        """
        if self.plain:
            return vectors
        place = self.fields.to(vectors.device)
        found = vectors.new_zeros(len(vectors), len(self.slots), *vectors.shape[2:]).index_add_(1, place, vectors)
        if self.pooling == "mean" and filled is not None:
            counts = vectors.new_zeros(len(vectors), len(self.slots)).index_add_(1, place, filled.to(vectors.dtype))
            found = found / counts.clamp(min=1).view(*counts.shape, *[1] * (vectors.ndim - 2))
        return found

    def filled(self, ids: torch.Tensor) -> torch.Tensor | None:
        """Which places hold a value, bool ``[B, columns]``; None where all fields have one value."""
        return None if self.plain else ids != EMPTY

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"slots": list(self.slots), "pooling": self.pooling}


def check_ids(ids: torch.Tensor, sizes: torch.Tensor, bags: Bags) -> None:
    """Raise InputError for ids that are no whole numbers ``[B, columns]``, or are outside of their field.

    ``sizes``: int64 ``[columns]``, the number of values of each column's field, on the device of the ids.
    """
    columns = len(sizes)
    if ids.ndim != 2 or ids.shape[1] != columns:
        expected = "an id for each field" if bags.plain else f"columns of the fields' values {list(bags.slots)}"
        raise InputError("ids", f"shape {tuple(ids.shape)}", f"[rows, {columns}], {expected}")
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise InputError("ids", f"dtype {str(ids.dtype).removeprefix('torch.')}", "whole numbers, int64 or int32")
    wrong = (ids < 0) | (ids >= sizes)
    if not bags.plain:
        several = bags.per_column(bags.slots).to(ids.device) > 1
        wrong &= ~((ids == EMPTY) & several)
    if bool(wrong.any()):
        row, column = (int(i) for i in wrong.nonzero()[0])
        found = f"{int(ids[row, column])} in field {int(bags.fields[column])} (row {row})"
        raise InputError("ids", found, f"0 to {int(sizes[column]) - 1}")
