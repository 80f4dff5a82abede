"""Arrays, tensors, image sets and encoded texts as examples for a classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from paperworks.errors import InputError
from paperworks.inputs.images import ImageDataset
from paperworks.inputs.images.pixels import Fit

Data = Any
"""What the functions of this package take as examples:

- an array or tensor ``[n, ...]``, passed to the model as its only argument; float64 becomes float32;
- a mapping of arrays with equally many rows, passed by name (``input_ids`` and ``attention_mask``, ``pixel_values``);
- an ``ImageDataset`` (images of one size), or ``ImageExamples`` with a size, decoded batch by batch;
- a data set of PyTorch or a sequence of such mappings, one example each.
"""


class Indexed(Protocol):
    """A data set of PyTorch, or a sequence: one mapping per example."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


Examples = Mapping[str, torch.Tensor] | Indexed


class ImageExamples(Dataset[dict[str, torch.Tensor]]):
    """Images of a set as float32 tensors ``[channels, height, width]`` in [0, 1], decoded when they are asked for.

    Parameters
    ----------
    images : the set.
    size, channels, fit : see ``paperworks.inputs.images.as_batch``.
    name : name of the model's argument; "inputs" is its only one.
    prepare : function of a batch ``[n, channels, height, width]``, such as a normalisation.
    """

    def __init__(
        self,
        images: ImageDataset,
        *,
        size: tuple[int, int] | None = None,
        channels: Literal[1, 3] | None = None,
        fit: Fit = "stretch",
        name: str = "inputs",
        prepare: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.images, self.name, self.prepare = images, name, prepare
        self.options: dict[str, Any] = {"size": size, "channels": channels, "fit": fit}

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        """The images at these positions, ``[n, channels, height, width]``."""
        pixels = torch.from_numpy(self.images.array(rows, **self.options))
        return {self.name: pixels if self.prepare is None else self.prepare(pixels)}

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: value[0] for name, value in self.batch([index]).items()}


def as_examples(data: Data, labels: Any = None) -> Examples:
    """Examples in one of two forms: a mapping of tensors, or a sequence of mappings.

    Raises InputError for rows of different numbers, no rows, labels that are not whole numbers or not one per row.
    """
    examples: Any
    if isinstance(data, Mapping):
        examples = {name: _tensor(value, name) for name, value in data.items()}
        lengths = {name: len(value) for name, value in examples.items()}
        if len(set(lengths.values())) != 1:
            raise InputError("data", f"columns of {lengths} rows", "equally many rows")
    elif isinstance(data, ImageDataset):
        examples = ImageExamples(data)
    elif isinstance(data, (np.ndarray, torch.Tensor)):
        examples = {"inputs": _tensor(data, "data")}
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__") and len(data) and isinstance(data[0], Mapping):
        examples = data
    else:
        expected = "an array, a mapping of arrays, an ImageDataset, or a sequence of mappings"
        raise InputError("data", f"{type(data).__name__}", f"{expected}, not empty")
    if count_rows(examples) == 0:
        raise InputError("data", "no rows", "at least one")
    if labels is None:
        return examples
    codes = as_labels(labels, count_rows(examples))
    if isinstance(examples, Mapping):
        return {**examples, "labels": codes}
    return WithColumns(examples, {"labels": codes})


class WithColumns(Dataset[dict[str, Any]]):
    """Examples with further columns, one value per row."""

    def __init__(self, examples: Indexed, columns: Mapping[str, torch.Tensor]) -> None:
        self.examples, self.columns = examples, dict(columns)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.examples[index], **{name: column[index] for name, column in self.columns.items()}}

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        """Several rows at once."""
        chosen = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        return {**read_rows(self.examples, rows), **{n: column[chosen] for n, column in self.columns.items()}}


class RowSubset(Dataset[dict[str, Any]]):
    """Some rows of examples, read when they are asked for."""

    def __init__(self, examples: Indexed, rows: np.ndarray) -> None:
        self.examples, self.rows = examples, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.examples[int(self.rows[index])]

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        """Several rows at once."""
        return read_rows(self.examples, self.rows[np.asarray(rows, dtype=np.int64)])


def take_rows(data: Data, rows: Sequence[int] | np.ndarray) -> Examples:
    """Some of the examples, in the order of ``rows``."""
    examples, chosen = as_examples(data), np.asarray(rows, dtype=np.int64)
    return read_rows(examples, chosen) if isinstance(examples, Mapping) else RowSubset(examples, chosen)


def add_columns(examples: Examples, columns: Mapping[str, torch.Tensor]) -> Any:
    """The examples with further columns, one value per row."""
    return {**examples, **columns} if isinstance(examples, Mapping) else WithColumns(examples, columns)


def count_rows(examples: Examples) -> int:
    """Number of examples."""
    return len(next(iter(examples.values()))) if isinstance(examples, Mapping) else len(examples)


def read_rows(examples: Examples, rows: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
    """Some examples as one batch."""
    if isinstance(examples, Mapping):
        chosen = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        return {name: value[chosen] for name, value in examples.items()}
    if hasattr(examples, "batch"):
        return examples.batch(rows)
    some = [examples[int(row)] for row in rows]
    return {name: torch.stack([torch.as_tensor(one[name]) for one in some]) for name in some[0]}


def batches(examples: Examples, size: int, device: torch.device) -> Iterator[dict[str, torch.Tensor]]:
    """All examples in their order, ``size`` at a time, on a device."""
    if size < 1:
        raise InputError("batch_size", size, "1 or more")
    count = count_rows(examples)
    for start in range(0, count, size):
        batch = read_rows(examples, np.arange(start, min(start + size, count)))
        yield {name: value.to(device) for name, value in batch.items()}


def as_labels(labels: Any, count: int) -> torch.Tensor:
    """Class codes, int64 ``[n]``. Raises InputError for others, and for codes below 0 (examples without a label)."""
    codes = np.asarray(labels.cpu() if isinstance(labels, torch.Tensor) else labels)
    if codes.shape != (count,):
        raise InputError("labels", f"shape {codes.shape}", f"({count},), one per row")
    if not np.issubdtype(codes.dtype, np.integer):
        raise InputError("labels", f"type {codes.dtype}", "class codes, whole numbers from 0")
    below = np.flatnonzero(codes < 0)
    if len(below):
        raise InputError(f"labels[{below[0]}]", int(codes[below[0]]), "class codes from 0: every row needs a label")
    return torch.from_numpy(codes.astype(np.int64))


def _tensor(value: Any, name: str) -> torch.Tensor:
    tensor = value if isinstance(value, torch.Tensor) else torch.as_tensor(np.ascontiguousarray(value))
    if tensor.ndim == 0:
        raise InputError(name, "a single number", "an array with a row per example")
    return tensor.float() if tensor.dtype == torch.float64 else tensor
