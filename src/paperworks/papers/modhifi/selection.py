"""Which units of a traced network go: those in no output's high-fidelity set, or those with the least score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from paperworks.errors import InputError
from paperworks.papers.modhifi.analyzer import CenterChoice, center_for, score_for
from paperworks.papers.modhifi.layers import ReadLayer, is_readable
from paperworks.papers.modhifi.moments import Moments
from paperworks.papers.modhifi.scores import contribution_scores
from paperworks.structure.trace import TracedGroup, TracedGroups
from paperworks.structure.units import Key

Rank = Literal["sum", "share", "entry"]
KINDS = ("channel", "ffn")
"""Kinds that are pruned unless others are named: channels of convolutions, inner features of linear layers."""


@dataclass(frozen=True)
class Reader:
    """A layer that reads the units of a group: ``columns`` int64 [n_units, m] of its matrix."""

    layer: ReadLayer
    columns: torch.Tensor
    positions: torch.Tensor
    """Of the units along the layer's input axis, int64 [n_units, m]."""


@dataclass(frozen=True)
class Prunable:
    """A group of units whose readers can be measured."""

    group: TracedGroup
    readers: tuple[Reader, ...]


def prunable_groups(
    groups: TracedGroups, model: nn.Module, kinds: Sequence[str] = KINDS, names: Sequence[str] | None = None
) -> tuple[dict[str, Prunable], list[str]]:
    """Groups of the given kinds with at least one reader, by name; and what is left out or read elsewhere, in words.

    ``names`` : these groups only, also where plans do not include them by default.
    """
    found: dict[str, Prunable] = {}
    notes = []
    for name in names or ():
        groups[name]  # raises for names that are not there
    modules = dict(model.named_modules())
    for name, group in groups.items():
        if names is None and (not group.by_default or group.kind not in kinds):
            continue
        if names is not None and name not in names:
            continue
        readers, others = [], []
        for piece in group.units.slices:
            module = modules.get(piece.module)
            if module is not None and is_readable(module) and piece.param.endswith(".weight"):
                layer = ReadLayer(piece.module, module)
                if piece.axis == layer.axis and layer.inputs > 1:
                    readers.append(Reader(layer, layer.columns(piece.index.table), piece.index.table))
            elif piece.axis == _input_axis(module) and not piece.param.endswith(".bias"):
                others.append(piece.module)
        if not readers:
            notes.append(f"{name} stays: no linear layer or convolution reads it")
            continue
        if others:
            notes.append(f"{name} is also read by {', '.join(others)}, which is not measured")
        found[name] = Prunable(group, tuple(readers))
    if not found:
        listed = "; ".join(f"{g.name} ({g.kind}{', ' + g.note if g.note else ''})" for g in list(groups.values())[:5])
        raise InputError(
            "model",
            f"no group of kind {' or '.join(kinds)} that a linear layer or a convolution reads",
            f"a model with a layer that reads another's output; it has {listed or 'no groups'}",
        )
    return found, notes


def _input_axis(module: nn.Module | None) -> int | None:
    """The axis of the weight along which a layer that is not measured reads; None for one that only makes units."""
    if isinstance(module, nn.Embedding):
        return None
    return 0 if isinstance(module, _ConvTransposeNd) else 1


def reader_scores(
    prunable: Prunable, moments: Mapping[str, Moments], score: str, center: CenterChoice, normalised: Mapping[str, str]
) -> list[torch.Tensor]:
    """Scores of the units for every output of every reader: float64 [c_out, n_units] each."""
    found = []
    for reader in prunable.readers:
        layer = reader.layer
        gram = moments[layer.path].matrix(center_for(center, layer.path in normalised))
        found.append(contribution_scores(layer.matrix(), gram, reader.columns, score_for(score, layer)))
    return found


def unit_scores(scores: Sequence[torch.Tensor], rank: Rank) -> torch.Tensor:
    """One score for each unit, float64 [n_units].

    - ``sum``: over outputs, each reader divided by its total, summed over readers;
    - ``share``: every output divided by its own total first, so that weak outputs count as much as strong ones;
    - ``entry``: 1 less the smallest share p at which a unit enters the union of the outputs' best p; ties by ``sum``.
    """
    if rank == "share":
        return torch.stack([(_by_total(s, 1)).mean(0) for s in scores]).sum(0)
    summed = torch.stack([_by_total(s.sum(0), 0) for s in scores]).sum(0)
    if rank == "sum":
        return summed
    if rank != "entry":
        raise InputError("rank", repr(rank), "sum, share or entry")
    n = len(summed)
    entry = torch.stack([_ranks(s).amin(0) for s in scores]).amin(0)
    tie = _ranks(summed[None])[0] / (n + 1)
    return 1 - (entry + tie) / n


def _by_total(scores: torch.Tensor, axis: int) -> torch.Tensor:
    total = scores.abs().sum(axis, keepdim=True)
    return torch.where(total > 0, scores / total.clamp(min=1e-300), torch.zeros_like(scores))


def _ranks(scores: torch.Tensor) -> torch.Tensor:
    """0 for the best of each row, n - 1 for the worst; of equal ones the earlier is better."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    ranks = torch.empty_like(scores)
    ranks.scatter_(1, order, torch.arange(scores.shape[1], dtype=scores.dtype).expand_as(scores))
    return ranks


def union_of_best(scores: Sequence[torch.Tensor], share: float) -> torch.Tensor:
    """Units that are among the best ``share`` of at least one output of one reader, bool [n_units]."""
    if not 0 < share <= 1:
        raise InputError("p", share, "a share above 0, at most 1")
    kept = torch.zeros(scores[0].shape[1], dtype=torch.bool)
    for rows in scores:
        count = max(1, math.ceil(share * rows.shape[1] - 1e-9))
        kept |= (_ranks(rows) < count).any(0)
    return kept


def by_key(prunable: Mapping[str, Prunable], scores: Mapping[str, torch.Tensor]) -> dict[Key, torch.Tensor]:
    """Unit scores under the keys that plans use."""
    return {prunable[name].group.key: score for name, score in scores.items()}
