"""Stores of negatives: a memory bank with one vector for each example, and a queue of a momentum encoder's keys."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.parameters import check_seed


class MemoryBank(nn.Module):
    """One unit vector for each training example (Wu et al. 2018), a buffer ``[n, dim]``.

    A step: ``a = f(view(x_b)); p = bank(ids); loss(a, p, bank.vectors, anchor_ids=ids, negative_ids=bank.ids)``,
    backward, optimiser step, then ``bank.update(ids, a)``.

    Parameters
    ----------
    n, dim : examples, and columns of a vector.
    momentum : m of ``v <- normalise(m v + (1 - m) a)``.
    seed : vectors start as normalised Gaussian ones; the first epoch's loss means little.
    """

    vectors: torch.Tensor
    ids: torch.Tensor

    def __init__(self, n: int, dim: int, momentum: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        check_seed("seed", seed)
        _check_size(n, dim)
        if not 0 <= momentum < 1:
            raise InputError("momentum", momentum, "from 0 to below 1")
        self.momentum = momentum
        start = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("vectors", functional.normalize(start, dim=1))
        self.register_buffer("ids", torch.arange(n), persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """The vectors of examples ``[B]``: their positives, float ``[B, dim]``."""
        return self.vectors[ids]

    @torch.no_grad()
    def update(self, ids: torch.Tensor, features: torch.Tensor) -> None:
        """Move those of ``ids`` [B] to unit ``features`` [B, dim]; of an id that stands twice, the last counts."""
        last = torch.full((len(self.vectors),), -1, device=ids.device)
        order = torch.arange(len(ids), device=ids.device)
        last = last.scatter_reduce(0, ids, order, "amax")
        chosen = last[last >= 0]
        where, new = ids[chosen], features[chosen].to(self.vectors.dtype)
        moved = self.momentum * self.vectors[where] + (1 - self.momentum) * new
        self.vectors[where] = functional.normalize(moved, dim=1)


class MomentumQueue(nn.Module):
    """The last keys of a momentum encoder (MoCo, He et al. 2020): first in, first out.

    Parameters
    ----------
    size, dim : keys held, and columns of a key. Keys start as normalised Gaussian ones.
    seed : of the first keys.
    """

    vectors: torch.Tensor
    place: torch.Tensor

    def __init__(self, size: int, dim: int, seed: int = 0) -> None:
        super().__init__()
        check_seed("seed", seed)
        _check_size(size, dim)
        start = torch.randn(size, dim, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("vectors", functional.normalize(start, dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def enqueue(self, keys: torch.Tensor) -> None:
        """Put unit keys [B, dim] in, in the place of the oldest; of more than the queue holds, the last stay."""
        size = len(self.vectors)
        skipped = max(0, len(keys) - size)
        where = (self.place + skipped + torch.arange(len(keys) - skipped, device=keys.device)) % size
        self.vectors[where] = keys[skipped:].to(self.vectors.dtype)
        self.place += len(keys)
        self.place %= size


@torch.no_grad()
def update_momentum_copy(copy: nn.Module, model: nn.Module, momentum: float = 0.999) -> None:
    """``copy <- momentum * copy + (1 - momentum) * model`` for parameters; buffers are taken over."""
    if not 0 <= momentum < 1:
        raise InputError("momentum", momentum, "from 0 to below 1")
    for mine, theirs in zip(copy.parameters(), model.parameters(), strict=True):
        mine.lerp_(theirs, 1 - momentum)
    for held, taken in zip(copy.buffers(), model.buffers(), strict=True):
        held.copy_(taken)


def _check_size(n: int, dim: int) -> None:
    for name, value in (("n", n), ("dim", dim)):
        if value < 1:
            raise InputError(name, value, "1 or more")
