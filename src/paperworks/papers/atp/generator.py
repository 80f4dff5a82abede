"""The pruning-decision generator: a small transformer over the layers that gives logits for every mask."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.parameters import check_seed
from paperworks.structure.units import Key

Head = Literal["separate", "mlp", "experts"]
Smoothing = Literal["none", "momentum", "adaptive"]


class _Experts(nn.Module):
    """A mixture of MLPs with a softmax gate over the best ``top``."""

    def __init__(self, width: int, hidden: int, outputs: int, number: int = 4, top: int = 2) -> None:
        super().__init__()
        self.experts = nn.ModuleList(_mlp(width, hidden, outputs) for _ in range(number))
        self.gate = nn.Linear(width, number)
        self.top = top

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[L, width] -> [L, outputs]."""
        best, which = self.gate(x).topk(self.top, dim=-1)
        weights = torch.zeros(len(x), len(self.experts), dtype=x.dtype, device=x.device)
        weights = weights.scatter(1, which, best.softmax(-1))
        return torch.einsum("le,elo->lo", weights, torch.stack([expert(x) for expert in self.experts]))


def _mlp(width: int, hidden: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class DecisionGenerator(nn.Module):
    """Logits for all masks of a model; the layers are the sequence that the transformer reads.

    ``generation`` 1: fixed orthogonal inputs [L, 64], 2 encoder layers (4 heads, feed-forward 256, dropout 0.1),
    LayerNorm, and for every layer and mask a linear map of its own without bias. ``generation`` 2: trained layer
    embeddings and positions [L, 128], 4 encoder layers (1 head, feed-forward 512), LayerNorm, and one MLP
    128-256-ReLU-S for all layers, or a mixture of 4 of them of which 2 count; logits are smoothed over the steps.

    Parameters
    ----------
    sizes : number of units by (layer, kind).
    generation : 1 or 2.
    head : ``separate`` for generation 1, ``mlp`` or ``experts`` for 2.
    smoothing : of generation 2: z = (1 - mu) z_before + mu z_new with mu = 0.1, or
        mu = 0.1 + 0.8 exp(-5 ||z_before - z|| / ||z_before||). ``experts`` add 0.1 z_before.
    seed : of the weights; the global generator is left as it was.
    """

    inputs: torch.Tensor
    before: torch.Tensor

    def __init__(
        self,
        sizes: Mapping[Key, int],
        *,
        generation: int = 1,
        head: Head | None = None,
        smoothing: Smoothing | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_seed("seed", seed)
        head = head or ("separate" if generation == 1 else "mlp")
        self.smoothing: Smoothing = smoothing or ("none" if generation == 1 else "momentum")
        if generation not in (1, 2):
            raise InputError("generator", generation, "generation 1 or 2")
        if head not in ("separate", "mlp", "experts"):
            raise InputError("head", head, "separate, mlp or experts")
        if self.smoothing not in ("none", "momentum", "adaptive"):
            raise InputError("smoothing", smoothing, "none, momentum or adaptive")
        self.head_kind = head
        self.sizes = dict(sizes)
        layers = sorted({layer for layer, _ in sizes if layer is not None})
        self.place = {layer: row for row, layer in enumerate(layers)}
        per_layer = {layer: [key for key in sizes if key[0] == layer] for layer in layers}
        self.offsets: dict[Key, int] = {}
        for keys in per_layer.values():
            start = 0
            for key in keys:
                self.offsets[key] = start
                start += self.sizes[key]
        self.total = max(sum(self.sizes[key] for key in keys) for keys in per_layer.values())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if generation == 1:
                width, encoder = 64, nn.TransformerEncoderLayer(64, 4, 256, 0.1, batch_first=True)
                start_inputs = torch.empty(len(layers), width)
                nn.init.orthogonal_(start_inputs)
                self.register_buffer("inputs", start_inputs)
            else:
                width, encoder = 128, nn.TransformerEncoderLayer(128, 1, 512, 0.1, batch_first=True)
                self.inputs = nn.Parameter(torch.randn(len(layers), width))
                self.positions = nn.Parameter(0.1 * torch.randn(len(layers), width))
            self.encoder = nn.TransformerEncoder(encoder, 2 if generation == 1 else 4, enable_nested_tensor=False)
            self.norm = nn.LayerNorm(width)
            if head == "separate":
                self.heads = nn.ModuleDict(
                    {f"{key[0]}-{key[1]}": nn.Linear(width, n, bias=False) for key, n in self.sizes.items()}
                )
            else:
                self.shared = (_mlp if head == "mlp" else _Experts)(width, 256, self.total)
        self.register_buffer("before", torch.full((len(layers), self.total), math.nan))

    def forward(self) -> dict[Key, torch.Tensor]:
        """Logits [n_units] by (layer, kind). In training mode the smoothed logits are kept for the next step."""
        x = self.inputs + self.positions if hasattr(self, "positions") else self.inputs
        x = self.norm(self.encoder(x[None])[0])
        if self.head_kind == "separate":
            return {key: self.heads[f"{key[0]}-{key[1]}"](x[self.place[key[0]]]) for key in self.sizes}  # type: ignore[index]
        z = self._smooth(self.shared(x))
        return {
            key: z[self.place[key[0]], start : start + self.sizes[key]]  # type: ignore[index]
            for key, start in self.offsets.items()
        }

    def _smooth(self, new: torch.Tensor) -> torch.Tensor:
        if self.smoothing == "none":
            return new
        z = new
        if not bool(self.before.isnan().any()):
            before = self.before
            mu = torch.tensor(0.1, device=new.device)
            if self.smoothing == "adaptive":
                change = (before - new.detach()).norm() / before.norm().clamp(min=1e-12)
                mu = 0.1 + 0.8 * (-5 * change).exp()
            z = (1 - mu) * before + mu * new
            if self.head_kind == "experts":
                z = z + 0.1 * before
        if self.training:
            self.before.copy_(z.detach())
        return z
