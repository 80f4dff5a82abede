"""Examples for the training loop: their forms, their order, and windows over a long stream of tokens, cut anew in every
epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from paperworks.errors import InputError

Examples = Dataset[Any] | Sequence[Mapping[str, torch.Tensor]] | torch.Tensor | Mapping[str, torch.Tensor]


class RandomWindows(Dataset[dict[str, torch.Tensor]]):
    """Non-overlapping windows of a token stream, whose borders move from epoch to epoch.

    A window that always starts at the same token is seen with the same context in every epoch; shifting all borders by
    a random offset costs nothing and gives each epoch other contexts.

    Parameters
    ----------
    tokens : integers ``[N]`` (any width; a memory-mapped array is fine), N of at least ``2 * length``.
    length : tokens in a window.
    seed : the offsets of the epochs come from this seed and the epoch's number only.
    """

    def __init__(self, tokens: np.ndarray, length: int, seed: int = 0) -> None:
        if length < 2:
            raise InputError("length", length, "at least 2 tokens")
        if len(tokens) < 2 * length:
            raise InputError("tokens", f"{len(tokens)} tokens", f"at least 2 windows of {length} tokens")
        self.tokens = tokens
        self.length = length
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the borders of the given epoch. The training loop calls this before it draws from the set."""
        self.offset = int(np.random.default_rng([self.seed, epoch]).integers(self.length))

    def __len__(self) -> int:
        # one window fewer than fit, so that the number does not depend on the offset
        return len(self.tokens) // self.length - 1

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        start = self.offset + index * self.length
        window = np.asarray(self.tokens[start : start + self.length], dtype=np.int64)
        return {"input_ids": torch.from_numpy(window)}


class Shuffled:
    """The rows of every step: ``n`` rows are shuffled anew in each epoch, and epochs follow each other without gaps.

    They are a function of the seed and of the step's number only.
    """

    def __init__(self, n: int, per_step: int, seed: int) -> None:
        self.n, self.per_step, self.seed = n, per_step, seed
        self._epoch, self._order = -1, np.arange(0)

    def rows(self, step: int) -> list[tuple[int, int]]:
        """(epoch, row) of every example of a step, counted from 0."""
        found = []
        for position in range(step * self.per_step, (step + 1) * self.per_step):
            epoch, index = divmod(position, self.n)
            if epoch != self._epoch:
                self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.n)
            found.append((epoch, int(self._order[index])))
        return found


class _Rows:
    """A dictionary of tensors, row by row."""

    def __init__(self, columns: Mapping[str, torch.Tensor]) -> None:
        lengths = {name: len(tensor) for name, tensor in columns.items()}
        if len(set(lengths.values())) != 1:
            raise InputError("data", f"columns of {lengths} rows", "tensors of equally many rows")
        self.columns, self.length = dict(columns), next(iter(lengths.values()))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: tensor[index] for name, tensor in self.columns.items()}


def as_examples(data: Examples) -> Any:
    """A set with a length and rows. Raises InputError for tensors of another form, and for no examples at all."""
    if isinstance(data, torch.Tensor):
        if data.ndim != 2:
            raise InputError("data", f"a tensor of shape {tuple(data.shape)}", "token ids [n, T]")
        data = {"input_ids": data}
    examples: Any = _Rows(data) if isinstance(data, Mapping) else data
    if len(examples) == 0:
        raise InputError("data", "no examples", "at least one example")
    return examples
