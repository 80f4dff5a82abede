"""Examples to tune and to search on: windows of text, or the user's sets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.nn import tokens_first, without_padding
from paperworks.training.losses import IGNORED

ENTRY = re.compile(r"^([^:\n()]+ \((?:noun|verb|adjective|adverb)\):)( .+)$", re.MULTILINE)
"""A line of the bundled dictionary: term (part of speech): definition."""


@dataclass(frozen=True)
class Examples:
    """int64 [n, T] each, padded on the right; ``labels`` are -100 where nothing is to be learned.

    Padding that is given on the left is moved to the right, so that a task's own loss need not know about it.
    """

    def __post_init__(self) -> None:
        order = tokens_first(self.attention_mask)
        for name in ("input_ids", "attention_mask", "labels"):
            object.__setattr__(self, name, getattr(self, name).gather(1, order))

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.input_ids)

    def take(self, rows: Any) -> Examples:
        """The examples of an index or a slice."""
        return Examples(self.input_ids[rows], self.attention_mask[rows], self.labels[rows])

    def batch(self, rows: Any, device: torch.device) -> dict[str, torch.Tensor]:
        """Keyword arguments of a model, cut to the longest example in it."""
        part = self.take(rows)
        columns = {name: getattr(part, name).to(device) for name in ("input_ids", "attention_mask", "labels")}
        return without_padding(columns)

    @property
    def targets(self) -> int:
        """Predicted tokens."""
        return int((self.labels[:, 1:] != IGNORED).sum())


def as_examples(data: Any, field: str, pad_id: int = 0) -> Examples:
    """Take token ids int64 [n, T], a dictionary of such tensors, a set of ``datasets``, or a list of rows
    {input_ids, attention_mask?, labels?}.

    Raises InputError naming ``field`` for an empty set, another form, or a row without a single target.
    """
    if isinstance(data, Examples):
        found = data
    elif isinstance(data, torch.Tensor):
        found = _checked({"input_ids": data}, field)
    elif hasattr(data, "input_ids"):
        columns = {name: getattr(data, name) for name in ("input_ids", "attention_mask") if hasattr(data, name)}
        found = _checked(columns, field)
    elif isinstance(data, Mapping):
        found = _checked({k: torch.as_tensor(v) for k, v in data.items() if v is not None}, field)
    else:
        found = _padded(data, field, pad_id)
    if len(found) == 0:
        raise InputError(field, "no examples", "at least one")
    empty = int(((found.labels[:, 1:] != IGNORED).sum(1) == 0).sum())
    if empty:
        raise InputError(field, f"{empty} examples whose labels are all -100", "at least one target in every example")
    return found


def _checked(columns: Mapping[str, torch.Tensor], field: str) -> Examples:
    ids = columns.get("input_ids")
    if ids is None or ids.ndim != 2 or ids.is_floating_point():
        raise InputError(field, "no integer input_ids [n, T]", "token ids")
    mask = columns.get("attention_mask", torch.ones_like(ids))
    labels = columns.get("labels", ids.masked_fill(mask == 0, IGNORED))
    if mask.shape != ids.shape or labels.shape != ids.shape:
        raise InputError(field, f"shapes {tuple(ids.shape)}, {tuple(mask.shape)}, {tuple(labels.shape)}", "one shape")
    return Examples(ids.long(), mask.long(), labels.long())


def _padded(rows: Iterable[Mapping[str, Any]], field: str, pad_id: int) -> Examples:
    found = []
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping) or "input_ids" not in row:
            raise InputError(f"{field}[{number}]", type(row).__name__, "a row with input_ids")
        ids = torch.as_tensor(row["input_ids"]).long()
        mask = torch.as_tensor(row.get("attention_mask", torch.ones_like(ids))).long()
        given = row.get("labels")
        labels = ids.masked_fill(mask == 0, IGNORED) if given is None else torch.as_tensor(given).long()
        found.append((ids, mask, labels))
    if not found:
        raise InputError(field, "no examples", "at least one")
    columns = [
        torch.nn.utils.rnn.pad_sequence(list(column), batch_first=True, padding_value=fill)
        for column, fill in zip(zip(*found, strict=True), (pad_id, 0, IGNORED), strict=True)
    ]
    return Examples(*columns)


def dictionary_text(text: str) -> str:
    """Only the dictionary lines of a text: one domain of the bundled mix."""
    return "\n\n".join(match[0] for match in ENTRY.finditer(text))
