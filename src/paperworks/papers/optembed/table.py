"""The embedding table that learns which rows it needs, and that any dimension of every field can be tried on.

::

    ids [B, n] --> rows e of E [F, D] --> e where ||e|| > threshold of its field, --> first d coordinates --> [B, n, D]
                                          else zeros, or the field's own vector       (training: d drawn for every
                                                                                      sample and field)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.optembed.bags import Bags, Pooling, check_ids
from paperworks.papers.optembed.compact import CompactEmbedding

Threshold = Literal["field", "feature"]
Pruned = Literal["zero", "oov"]


class StepWithSurrogate(torch.autograd.Function):
    """1 where z > 0, else 0; its derivative is replaced by the long-tailed estimator that the paper takes.

    The replacement is 2 - 4|z| for |z| <= 0.4, 0.4 for 0.4 < |z| <= 1, and 0 beyond.
    """

    @staticmethod
    def forward(ctx: Any, z: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(z)
        return (z > 0).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (z,) = ctx.saved_tensors
        size = z.abs()
        slope = torch.where(size <= 0.4, 2 - 4 * size, 0.4 * (size <= 1).to(size.dtype))
        return gradients[0] * slope


class OptEmbedding(nn.Module):
    """Embeddings of several fields in one table, with learned row thresholds and a dimension for every field.

    A drop-in for a table of embeddings: ids int64 ``[B, n]``, counted from 0 within each field, become float
    ``[B, n, dim]``. A field of several values has several columns of ids, -1 where a row has fewer, and the sum or mean
    of their vectors.

    Parameters
    ----------
    field_dims : number of values of each field, F_i.
    dim : the full dimension D.
    threshold : one threshold a field, or one a value ("feature").
    norm : the norm of a row that its threshold is held against: 1 (the paper's) or 2.
    scale_norm : divide the norm by the dimension (by its root for norm 2). The surrogate has no slope where the norm is
        more than 1 away from the threshold; with long rows nothing would reach the threshold otherwise.
    pruned : a row below its threshold gives zeros, or a learned vector of its field ("oov").
    rows : whether rows are pruned while training. Off, and with ``dimensions`` off, it is an ordinary table.
    dimensions : whether every sample and field draws a dimension while training.
    masked_norm : hold the norm of the row's first d coordinates, times D / d, against the threshold, where d was drawn
        (the mode "all2" of the authors' code); experimental.
    slots : columns of ids of each field; None is one each. pooling : "sum" or "mean", of fields of several values.

    Attributes
    ----------
    weight : the table ``[F, dim]``, uniform in +-sqrt(6 / (F + dim)) (Xavier) at the start.
    thresholds : ``[n]``, or ``[F]`` by value; 0 at the start.
    oov : ``[n, dim]`` with ``pruned="oov"``, else None.
    candidate : the dimensions that ``set_candidate`` fixed, int64 ``[n]``; D everywhere at the start.
    bags : slots and pooling of the fields.

    Raises
    ------
    InputError : in the forward pass, for an id outside its field (naming the field's number).

    References
    ----------
    OptEmbed (arXiv 2208.04482): redundant embedding pruning, and the supernet with uniform sampling.
    """

    field_of_row: torch.Tensor
    offsets: torch.Tensor
    column_sizes: torch.Tensor
    candidate: torch.Tensor
    kept: torch.Tensor

    def __init__(
        self,
        field_dims: Sequence[int],
        dim: int = 64,
        *,
        threshold: Threshold = "field",
        norm: Literal[1, 2] = 1,
        scale_norm: bool = False,
        pruned: Pruned = "zero",
        rows: bool = True,
        dimensions: bool = True,
        masked_norm: bool = False,
        slots: Sequence[int] | None = None,
        pooling: Pooling = "sum",
    ) -> None:
        super().__init__()
        sizes = [int(size) for size in field_dims]
        if not sizes or min(sizes) < 1:
            raise InputError("field_dims", list(field_dims), "at least one field, each with at least one value")
        _one_of("threshold", threshold, ("field", "feature"))
        _one_of("norm", norm, (1, 2))
        _one_of("pruned", pruned, ("zero", "oov"))
        if dim < 1:
            raise InputError("dim", dim, "1 or more")
        if masked_norm and not (rows and dimensions):
            raise InputError("masked_norm", "True", "rows and dimensions, both True")
        self.field_dims, self.dim, self.threshold, self.norm = sizes, dim, threshold, norm
        self.scale_norm, self.pruned, self.rows, self.dimensions = scale_norm, pruned, rows, dimensions
        self.masked_norm = masked_norm
        self.bags = Bags.of(len(sizes), slots, pooling)
        total, count = sum(sizes), len(sizes)
        self.weight = nn.Parameter(torch.empty(total, dim))
        self.thresholds = nn.Parameter(torch.zeros(count if threshold == "field" else total))
        self.oov = nn.Parameter(torch.zeros(count, dim)) if pruned == "oov" else None
        each = torch.tensor(sizes)
        self.register_buffer("field_of_row", torch.repeat_interleave(torch.arange(count), each))
        # of the columns of ids: where the rows of its field begin, and how many there are
        self.register_buffer("offsets", self.bags.per_column((torch.cumsum(each, 0) - each).tolist()))
        self.register_buffer("column_sizes", self.bags.per_column(sizes), persistent=False)
        self.register_buffer("candidate", torch.full((count,), dim))
        # rows that a mask was fixed to; all, until ``fix`` says otherwise
        self.register_buffer("kept", torch.ones(total, dtype=torch.bool))
        self.fixed = False
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table again, and set the thresholds to 0."""
        with torch.no_grad():
            bound = math.sqrt(6 / (len(self.weight) + self.dim))
            self.weight.uniform_(-bound, bound)
            self.thresholds.zero_()
            if self.oov is not None:
                self.oov.uniform_(-bound, bound)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Embeddings float ``[B, n, dim]`` of ids int64 ``[B, n]`` (``[B, columns]`` with fields of several values)."""
        index = self.row_index(ids)
        drawn = self._drawn(len(ids)) if self.training and self.dimensions and not self.fixed else None
        embedded = nn.functional.embedding(index, self.weight)
        if self.fixed:
            keep = self.kept[index].to(embedded.dtype).unsqueeze(-1)
        elif self.rows:
            keep = StepWithSurrogate.apply(self._above(embedded, index, drawn)).unsqueeze(-1)
        else:
            keep = None
        if keep is not None:
            embedded = keep * embedded
            if self.oov is not None:
                oov = self.oov if self.bags.plain else self.oov[self.bags.fields.to(index.device)]
                embedded = embedded + (1 - keep) * oov
        filled = self.bags.filled(ids)
        if filled is not None:
            embedded = self.bags.pool(embedded * filled.unsqueeze(-1), filled)
        return embedded * self._coordinates(drawn)

    def row_index(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows of the table, int64 ``[B, columns]``, of ids within fields; of an empty place, the field's first."""
        check_ids(ids, self.column_sizes, self.bags)
        return (ids if self.bags.plain else ids.clamp(min=0)) + self.offsets

    def row_norms(self) -> torch.Tensor:
        """The norm of every row, float ``[F]``, as it is held against the thresholds."""
        return self._norm(self.weight)

    def row_mask(self) -> torch.Tensor:
        """Which rows are above their threshold, or were fixed as kept: bool ``[F]``.

        Raises InputError naming ``weight``, for rows that are not finite: they would vanish without a word.
        """
        if self.fixed:
            return self.kept
        if not bool(torch.isfinite(self.weight).all()):
            raise InputError(
                "weight", "rows that are not finite", "a table without NaN (was the learning rate too high?)"
            )
        if not self.rows:
            return torch.ones_like(self.kept)
        with torch.no_grad():
            return self.row_norms() > self._threshold_of(torch.arange(len(self.weight), device=self.weight.device))

    def regularizer(self) -> torch.Tensor:
        """L_s, the sum of exp(-threshold): it pushes the thresholds up."""
        return torch.exp(-self.thresholds).sum()

    def set_candidate(self, dimensions: Sequence[int] | torch.Tensor | None) -> None:
        """Keep the first ``dimensions[i]`` coordinates of field i when not training; None is all of them."""
        count = len(self.field_dims)
        wanted = torch.full((count,), self.dim) if dimensions is None else torch.as_tensor(dimensions).long()
        if wanted.shape != (count,) or bool((wanted < 1).any()) or bool((wanted > self.dim).any()):
            raise InputError("dimensions", wanted.tolist(), f"{count} numbers from 1 to {self.dim}, one per field")
        self.candidate = wanted.to(self.candidate.device)

    def fix(self, kept: torch.Tensor, dimensions: Sequence[int] | torch.Tensor) -> None:
        """Hold both masks fixed, in training too: the retraining of the paper's third stage."""
        if kept.shape != self.kept.shape or kept.dtype != torch.bool:
            raise InputError("kept", f"{kept.dtype} of shape {tuple(kept.shape)}", f"bool [{len(self.kept)}]")
        self.set_candidate(dimensions)
        self.kept, self.fixed = kept.detach().clone().to(self.kept.device), True
        self.thresholds.requires_grad_(False)

    def parameters_kept(self, dimensions: Sequence[int] | torch.Tensor | None = None) -> int:
        """Numbers in the table: over the fields, kept rows times dimension (of the candidate, or of one given)."""
        chosen = self.candidate if dimensions is None else torch.as_tensor(dimensions)
        return int((self.kept_rows().cpu() * chosen.cpu()).sum())

    def kept_rows(self) -> torch.Tensor:
        """How many rows every field keeps, int64 ``[n]``."""
        kept = self.row_mask()
        return torch.zeros(len(self.field_dims), dtype=torch.long, device=kept.device).index_add_(
            0, self.field_of_row, kept.long()
        )

    def compact(self) -> CompactEmbedding:
        """The same embeddings in one dense matrix a field: kept rows and chosen coordinates only."""
        kept = self.row_mask().cpu()
        bounds = [0, *torch.cumsum(torch.tensor(self.field_dims), 0).tolist()]
        tables, places = [], []
        for field, size in enumerate(self.field_dims):
            rows = slice(bounds[field], bounds[field + 1])
            own = kept[rows]
            tables.append(self.weight.detach().cpu()[rows][own][:, : int(self.candidate[field])].clone())
            place = torch.full((size,), -1, dtype=torch.int32)
            place[own] = torch.arange(int(own.sum()), dtype=torch.int32)
            places.append(place)
        oov = None
        if self.oov is not None:
            oov = [vector[: int(d)].detach().cpu().clone() for vector, d in zip(self.oov, self.candidate, strict=True)]
        return CompactEmbedding(tables, places, self.dim, oov, slots=self.bags.slots, pooling=self.bags.pooling)

    def extra_repr(self) -> str:
        return f"{len(self.field_dims)} fields, {len(self.weight):,} rows of {self.dim}, norm {self.norm}"

    def _drawn(self, batch: int) -> torch.Tensor:
        """A dimension for every sample and field, int64 ``[batch, n]``, uniform in 1 to D."""
        return torch.randint(1, self.dim + 1, (batch, len(self.field_dims)), device=self.weight.device)

    def _coordinates(self, drawn: torch.Tensor | None) -> torch.Tensor:
        chosen = self.candidate if drawn is None else drawn
        if drawn is None and self.training and not self.fixed:
            chosen = torch.full_like(self.candidate, self.dim)
        places = torch.arange(self.dim, device=chosen.device)
        return (places < chosen.unsqueeze(-1)).to(self.weight.dtype)

    def _above(self, embedded: torch.Tensor, index: torch.Tensor, drawn: torch.Tensor | None) -> torch.Tensor:
        if self.masked_norm and drawn is not None:
            if not self.bags.plain:
                drawn = drawn[:, self.bags.fields.to(drawn.device)]
            length = self._norm(embedded * self._coordinates(drawn)) * self.dim / drawn
        else:
            length = self._norm(embedded)
        return length - self._threshold_of(index)

    def _threshold_of(self, index: torch.Tensor) -> torch.Tensor:
        return self.thresholds[self.field_of_row[index] if self.threshold == "field" else index]

    def _norm(self, rows: torch.Tensor) -> torch.Tensor:
        if self.norm == 1:
            return rows.abs().sum(-1) / (self.dim if self.scale_norm else 1)
        return rows.square().sum(-1).add(1e-24).sqrt() / (math.sqrt(self.dim) if self.scale_norm else 1)


def _one_of(name: str, found: Any, allowed: tuple[Any, ...]) -> None:
    if found not in allowed:
        raise InputError(name, repr(found), " or ".join(map(repr, allowed)))
