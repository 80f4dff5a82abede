"""The five base models of click-through prediction, each on any table of embeddings.

::

    FM      linear + pairs of embeddings
    DeepFM  linear + pairs + perceptron(embeddings)
    FNN     perceptron(embeddings)
    IPNN    perceptron(embeddings, inner products of all pairs)
    DCN     linear(perceptron(embeddings), six cross layers of the embeddings)

A model is called with ids int64 ``[B, n]`` and gives logits ``[B]``; where the table has fields of several values
(``bags``), with ids ``[B, columns]``, and the linear term pools them as the table does. ``model.embedding`` is the
table; the weights of the linear term, one for every value, are no part of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from paperworks.errors import InputError, nearest
from paperworks.papers.optembed.bags import Bags
from paperworks.papers.optembed.config import WIDEST


class LinearTerm(nn.Embedding):
    """Weights of the values; Xavier at the start, and where they are drawn anew."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.xavier_uniform_(self.weight)


class ClickModel(nn.Module):
    """Base of the five: a table of embeddings, and a logit from what it gives.

    Parameters
    ----------
    embedding : ids int64 ``[B, n]`` to float ``[B, n, D]``: an ``OptEmbedding``, a ``CompactEmbedding``, or your own;
        its ``bags``, if it has any, say which fields have several values.
    field_dims : number of values of each field.
    dim : D.
    hidden : widths of the perceptron's layers.
    dropout : share of the hidden values that is dropped in training.
    """

    has_linear = False
    has_perceptron = True
    starts: torch.Tensor

    def __init__(
        self,
        embedding: nn.Module,
        field_dims: Sequence[int],
        dim: int,
        *,
        hidden: Sequence[int] = (1024, 512, 256),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if any(not 1 <= width <= WIDEST for width in hidden):
            raise InputError("hidden", list(hidden), f"widths from 1 to {WIDEST}")
        if not 0 <= dropout < 1:
            raise InputError("dropout", dropout, "a share from 0 to below 1")
        self.embedding, self.fields, self.dim = embedding, len(field_dims), dim
        sizes = torch.tensor(list(field_dims))
        known: Bags | None = getattr(embedding, "bags", None)
        self.bags = Bags.of(self.fields, None) if known is None else known
        starts = self.bags.per_column((torch.cumsum(sizes, 0) - sizes).tolist())
        self.register_buffer("starts", starts, persistent=False)
        if self.has_linear:
            self.linear = LinearTerm(int(sizes.sum()), 1)
            self.bias = nn.Parameter(torch.zeros(1))
        if self.has_perceptron:
            self.layers = _perceptron(self.inputs(), hidden, dropout)
            self.output = nn.Linear(self.outputs(hidden), 1)
        self.add_layers()

    def add_layers(self) -> None:
        """Make what a model has besides linear term and perceptron."""

    def inputs(self) -> int:
        """How many numbers the perceptron reads."""
        return self.fields * self.dim

    def outputs(self, hidden: Sequence[int]) -> int:
        """How many numbers the last layer reads."""
        return hidden[-1] if hidden else self.inputs()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits float ``[B]`` of ids int64 ``[B, n]``."""
        return self.logit(self.embedding(inputs), inputs)

    def logit(self, embedded: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Logits of embeddings float ``[B, n, D]``."""
        raise NotImplementedError

    def _wide(self, ids: torch.Tensor) -> torch.Tensor:
        filled = self.bags.filled(ids)
        if filled is None:
            return self.linear(ids + self.starts).sum((1, 2)) + self.bias
        weights = self.linear(ids.clamp(min=0) + self.starts) * filled.unsqueeze(-1)
        return self.bags.pool(weights, filled).sum((1, 2)) + self.bias

    def _deep(self, flat: torch.Tensor) -> torch.Tensor:
        return self.output(self.layers(flat)).squeeze(-1)


class FM(ClickModel):
    """Factorisation machine (Rendle 2010): a linear term and the inner products of all pairs of embeddings."""

    has_linear, has_perceptron = True, False

    def logit(self, embedded: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self._wide(ids) + pairs(embedded)


class DeepFM(ClickModel):
    """A factorisation machine and a perceptron on the same embeddings (Guo et al. 2017)."""

    has_linear = True

    def logit(self, embedded: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self._wide(ids) + pairs(embedded) + self._deep(embedded.flatten(1))


class FNN(ClickModel):
    """A perceptron on the embeddings side by side (Zhang et al. 2016)."""

    def logit(self, embedded: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self._deep(embedded.flatten(1))


class IPNN(ClickModel):
    """A perceptron on the embeddings and the inner products of all their pairs (Qu et al. 2016)."""

    def inputs(self) -> int:
        return self.fields * self.dim + self.fields * (self.fields - 1) // 2

    def logit(self, embedded: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        first, second = torch.triu_indices(self.fields, self.fields, 1, device=embedded.device)
        products = (embedded @ embedded.transpose(1, 2))[:, first, second]
        return self._deep(torch.cat([embedded.flatten(1), products], 1))


class DCN(ClickModel):
    """A perceptron beside six cross layers, x_{l+1} = x_0 (w_l . x_l) + b_l + x_l (Wang et al. 2017)."""

    cross_layers = 6

    def add_layers(self) -> None:
        width = self.inputs()
        self.cross = nn.ModuleList(nn.Linear(width, 1, bias=False) for _ in range(self.cross_layers))
        self.cross_bias = nn.ParameterList(nn.Parameter(torch.zeros(width)) for _ in range(self.cross_layers))

    def outputs(self, hidden: Sequence[int]) -> int:
        return super().outputs(hidden) + self.inputs()

    def logit(self, embedded: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        flat = embedded.flatten(1)
        crossed = flat
        for weight, bias in zip(self.cross, self.cross_bias, strict=True):
            crossed = flat * weight(crossed) + bias + crossed
        return self.output(torch.cat([self.layers(flat), crossed], 1)).squeeze(-1)


MODELS: dict[str, type[ClickModel]] = {"fm": FM, "deepfm": DeepFM, "fnn": FNN, "ipnn": IPNN, "dcn": DCN}
"""The base models by name."""


def make_model(
    name: str,
    embedding: nn.Module,
    field_dims: Sequence[int],
    dim: int,
    *,
    hidden: Sequence[int] = (1024, 512, 256),
    dropout: float = 0.0,
) -> ClickModel:
    """A base model by name. Raises InputError naming ``model`` for a name that ``MODELS`` lacks."""
    if name not in MODELS:
        raise InputError("model", repr(name), f"one of {', '.join(MODELS)}{nearest(name, MODELS)}")
    return MODELS[name](embedding, field_dims, dim, hidden=hidden, dropout=dropout)


def pairs(embedded: torch.Tensor) -> torch.Tensor:
    """Sum of the inner products of all pairs of fields, float ``[B]``, in time linear in their number."""
    return 0.5 * (embedded.sum(1).square() - embedded.square().sum(1)).sum(1)


def _perceptron(inputs: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU()]
        layers += [nn.Dropout(dropout)] if dropout else []
        inputs = width
    return nn.Sequential(*layers)
