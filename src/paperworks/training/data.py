"""Examples for the training loop: windows over a long stream of tokens, cut anew in every epoch."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset

from paperworks.errors import InputError


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
