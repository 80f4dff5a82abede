"""What a smaller table is held against: tables of the same size that are easier to have.

- a smaller dimension for every field;
- the most frequent rows only;
- masks of the same size drawn at random;
- quotient and remainder hashing (Shi et al. 2020);
- pruning of single entries by a learned soft threshold (PEP, Liu et al. 2021): a sparse table, no dense one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.optembed.bags import EMPTY, Bags
from paperworks.papers.optembed.evolution import Candidates
from paperworks.papers.optembed.table import OptEmbedding


class QREmbedding(nn.Module):
    """Quotient and remainder embeddings: id i gives ``Q[i // m] * R[i % m]``; two small tables a field.

    Parameters
    ----------
    field_dims : number of values of each field. dim : D.
    budget : the most parameters; fields whose own table is not larger than two small ones keep it.
    bags : of fields of several values.

    Raises
    ------
    InputError : naming ``budget``, where even the smallest tables (about 2 sqrt(F_i) rows) do not fit.

    References
    ----------
    Shi et al., Compositional Embeddings Using Complementary Partitions (KDD 2020).
    """

    def __init__(self, field_dims: Sequence[int], dim: int, budget: int, bags: Bags | None = None) -> None:
        super().__init__()
        self.field_dims, self.dim = [int(f) for f in field_dims], dim
        self.bags = bags or Bags.of(len(self.field_dims), None)
        rows = [_split(size, size) for size in self.field_dims]
        for collisions in range(1, max(self.field_dims) + 1):
            if dim * sum(map(sum, rows)) <= budget:
                break
            rows = [_split(size, max(math.ceil(size / collisions), math.isqrt(size))) for size in self.field_dims]
        if dim * sum(map(sum, rows)) > budget:
            raise InputError("budget", f"{budget:,} parameters", f"{dim * sum(map(sum, rows)):,} or more")
        self.moduli = [remainder for remainder, _ in rows]
        self.remainder = nn.ModuleList(nn.Embedding(r, dim) for r, _ in rows)
        self.quotient = nn.ModuleList(nn.Embedding(q, dim) if q else nn.Identity() for _, q in rows)
        bound = math.sqrt(6 / (sum(self.field_dims) + dim))
        for table in self.remainder:
            nn.init.uniform_(table.get_parameter("weight"), -bound, bound)
        for table in self.quotient:
            if isinstance(table, nn.Embedding):
                nn.init.uniform_(table.weight, 0.5, 1.5)  # about 1: the product starts as the remainder's vector

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Embeddings float ``[B, n, dim]`` of ids int64 ``[B, columns]``."""
        filled = self.bags.filled(ids)
        known = ids if filled is None else ids.clamp(min=0)
        found = []
        for column, field in enumerate(self.bags.fields.tolist()):
            own, modulus = known[:, column], self.moduli[field]
            vectors = self.remainder[field](own % modulus)
            if isinstance(self.quotient[field], nn.Embedding):
                vectors = vectors * self.quotient[field](own // modulus)
            found.append(vectors)
        stacked = torch.stack(found, 1)
        return stacked if filled is None else self.bags.pool(stacked * filled.unsqueeze(-1), filled)

    def counted_parameters(self) -> int:
        """Numbers of all tables."""
        return sum(p.numel() for p in self.parameters())


class PEPEmbedding(nn.Module):
    """A table whose entries shrink by a learned threshold: sign(v) relu(|v| - sigmoid(s)), one s for each entry.

    Parameters
    ----------
    field_dims : number of values of each field. dim : D.
    start : s at the start; lower keeps more. bags : of fields of several values.

    References
    ----------
    Liu et al., Learnable Embedding Sizes for Recommender Systems (ICLR 2021).
    """

    offsets: torch.Tensor
    mask: torch.Tensor

    def __init__(self, field_dims: Sequence[int], dim: int, start: float = -6.0, bags: Bags | None = None) -> None:
        super().__init__()
        sizes = torch.tensor(list(field_dims))
        self.bags = bags or Bags.of(len(sizes), None)
        self.register_buffer("offsets", self.bags.per_column((torch.cumsum(sizes, 0) - sizes).tolist()))
        total = int(sizes.sum())
        bound = math.sqrt(6 / (total + dim))
        self.weight = nn.Parameter(torch.empty(total, dim).uniform_(-bound, bound))
        self.s = nn.Parameter(torch.full((total, dim), start))
        self.register_buffer("mask", torch.ones(total, dim))
        self.fixed = False

    def table(self) -> torch.Tensor:
        """The entries after the threshold, or under the mask once it is fixed: float ``[F, dim]``."""
        if self.fixed:
            return self.weight * self.mask
        return torch.sign(self.weight) * torch.relu(self.weight.abs() - torch.sigmoid(self.s))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Embeddings float ``[B, n, dim]`` of ids int64 ``[B, columns]``."""
        filled = self.bags.filled(ids)
        if filled is None:
            return nn.functional.embedding(ids + self.offsets, self.table())
        vectors = nn.functional.embedding(ids.clamp(min=0) + self.offsets, self.table())
        return self.bags.pool(vectors * filled.unsqueeze(-1), filled)

    def keep_largest(self, count: int) -> None:
        """Fix the mask to the ``count`` entries of the largest size after the threshold, for retraining."""
        with torch.no_grad():
            size = self.table().abs().flatten()
            self.mask.zero_().view(-1)[size.topk(min(count, size.numel())).indices] = 1.0
        self.fixed = True
        self.s.requires_grad_(False)

    def counted_parameters(self) -> int:
        """Entries that are not 0."""
        return int((self.table() != 0).sum())


def uniform_dimension(parameters: int, field_dims: Sequence[int], dim: int) -> int:
    """The largest dimension D' for all fields whose table is not larger than ``parameters``; at least 1."""
    return max(1, min(dim, parameters // sum(field_dims)))


def most_frequent(counts: np.ndarray, rows: int) -> torch.Tensor:
    """A row mask bool ``[F]`` of the ``rows`` rows with the largest counts ``[F]`` in the training rows."""
    kept = torch.zeros(len(counts), dtype=torch.bool)
    kept[torch.from_numpy(np.argsort(-counts, kind="stable")[:rows].copy())] = True
    return kept


def row_counts(ids: np.ndarray, field_dims: Sequence[int], bags: Bags | None = None) -> np.ndarray:
    """How often every row of the table is looked up by ids ``[N, columns]``: int64 ``[F]``."""
    columns = (bags or Bags.of(len(field_dims), None)).fields.numpy()
    own = (ids[:, columns == field].ravel() for field in range(len(field_dims)))
    return np.concatenate([np.bincount(i[i != EMPTY], minlength=size) for i, size in zip(own, field_dims, strict=True)])


def random_masks(table: OptEmbedding, rng: np.random.Generator) -> tuple[torch.Tensor, tuple[int, ...]]:
    """As many kept rows in every field as a table has, and its dimensions, both in random places.

    Where that is larger than the table, dimensions are taken off at random.
    """
    kept, at, counts = torch.zeros(len(table.weight), dtype=torch.bool), 0, table.kept_rows().tolist()
    for size, count in zip(table.field_dims, counts, strict=True):
        kept[at + torch.from_numpy(rng.choice(size, count, replace=False))] = True
        at += size
    candidates = Candidates(counts, table.dim, max(table.parameters_kept(), sum(counts)), rng)
    return kept, candidates.reduced(rng.permutation(table.candidate.cpu().numpy()))


def _split(size: int, modulus: int) -> tuple[int, int]:
    """Rows of the remainder's and of the quotient's table; one table where two would not be smaller."""
    quotients = math.ceil(size / modulus)
    return (size, 0) if quotients <= 1 or modulus + quotients >= size else (modulus, quotients)
