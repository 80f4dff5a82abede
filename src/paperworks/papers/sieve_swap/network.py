"""The network of ProcX: features of frames to a set of segments, each with class, box, state, and the count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from paperworks.papers.sieve_swap.attention import (
    DeformableAttention,
    feed_forward,
    inverse_sigmoid,
    sine_positions,
)
from paperworks.papers.sieve_swap.settings import ProcXConfig

LONGEST_SECONDS = 256
"""Length of the unary vector of the duration; longer videos count as so long."""
PRIOR = 0.01


@dataclass
class Memory:
    """What the encoder gives: ``[B, S, d]``, the lengths of the levels, and the duration's embedding inside."""

    values: torch.Tensor
    lengths: tuple[int, ...]
    padding: torch.Tensor | None


@dataclass
class Layer:
    """Predictions of one decoder layer: logits ``[B, N]``, boxes (centre, length) ``[B, N, 2]``, counts, states."""

    logits: torch.Tensor
    boxes: torch.Tensor
    counts: torch.Tensor
    states: torch.Tensor


class BaseEncoder(nn.Module):
    """Levels of temporal scale: convolutions with group normalisation, and positions of time and duration."""

    def __init__(self, config: ProcXConfig, width: int) -> None:
        super().__init__()
        d, groups = config.dim, math.gcd(32, config.dim)
        first = nn.Sequential(nn.Conv1d(width, d, 1), nn.GroupNorm(groups, d))
        second = [nn.Sequential(nn.Conv1d(width, d, 3, 2, 1), nn.GroupNorm(groups, d))] if config.levels > 1 else []
        rest = [
            nn.Sequential(nn.Conv1d(d, d, 3, 2, 1), nn.GroupNorm(groups, d)) for _ in range(max(0, config.levels - 2))
        ]
        self.levels = nn.ModuleList([first, *second, *rest])
        self.duration = nn.Linear(LONGEST_SECONDS, d - d // 2)
        self.level = nn.Parameter(torch.randn(config.levels + bool(config.text_width), d) * 0.02)
        self.text = nn.Linear(config.text_width, d) if config.text_width else None
        self.time_width = d // 2

    def forward(
        self, features: torch.Tensor, duration: torch.Tensor, text: torch.Tensor | None, padding: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[int, ...], torch.Tensor | None]:
        """Features ``[B, T, C]`` and seconds ``[B]`` to (memory ``[B, S, d]``, its positions, lengths, padding)."""
        x = features.transpose(1, 2)
        maps: list[torch.Tensor] = [self.levels[0](x)]
        for number, level in enumerate(self.levels[1:]):
            maps.append(level(x if number == 0 else maps[-1]))
        if self.text is not None:
            assert text is not None
            maps.append(self.text(text).transpose(1, 2))
        unary = (torch.arange(LONGEST_SECONDS, device=x.device)[None] < duration[:, None]).to(x.dtype)
        seconds = self.duration(unary)
        flat, places = [], []
        for number, one in enumerate(maps):
            length = one.shape[2]
            time = sine_positions(length, self.time_width, x.device).expand(len(x), -1, -1)
            place = torch.cat([time, seconds[:, None].expand(-1, length, -1)], 2)
            flat.append(one.transpose(1, 2))
            places.append(place + self.level[number])
        lengths = tuple(one.shape[2] for one in maps)
        hidden = None
        if padding is not None:
            parts = [
                functional.interpolate(padding[:, None].float(), size=n, mode="nearest")[:, 0] > 0.5 for n in lengths
            ]
            hidden = torch.cat(parts, 1)
        return torch.cat(flat, 1), torch.cat(places, 1), lengths, hidden


class EncoderLayer(nn.Module):
    """Deformable self-attention of the memory; plain, as keys and values of every position would be large."""

    def __init__(self, config: ProcXConfig, levels: int) -> None:
        super().__init__()
        d, p = config.dim, config.dropout
        self.attention = DeformableAttention(d, config.heads, levels, config.points, config.key_aware_encoder)
        self.inner = feed_forward(d, config.feed_forward, p)
        self.norms = nn.ModuleList([nn.LayerNorm(d), nn.LayerNorm(d)])
        self.dropout = nn.Dropout(p)

    def forward(
        self,
        x: torch.Tensor,
        place: torch.Tensor,
        reference: torch.Tensor,
        lengths: Sequence[int],
        padding: torch.Tensor | None,
    ) -> torch.Tensor:
        """``[B, S, d]`` to the same."""
        x = self.norms[0](x + self.dropout(self.attention(x + place, reference, x, lengths, padding)))
        return self.norms[1](x + self.dropout(self.inner(x)))


class DecoderLayer(nn.Module):
    """Self-attention of the queries, and their deformable attention to the memory."""

    def __init__(self, config: ProcXConfig, levels: int) -> None:
        super().__init__()
        d, p = config.dim, config.dropout
        self.own = nn.MultiheadAttention(d, config.heads, dropout=p, batch_first=True)
        self.cross = DeformableAttention(d, config.heads, levels, config.points, config.key_aware)
        self.inner = feed_forward(d, config.feed_forward, p)
        self.norms = nn.ModuleList([nn.LayerNorm(d) for _ in range(3)])
        self.dropout = nn.Dropout(p)

    def forward(self, x: torch.Tensor, place: torch.Tensor, reference: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Queries ``[B, N, d]`` to the same."""
        q = x + place
        x = self.norms[0](x + self.dropout(self.own(q, q, x, need_weights=False)[0]))
        found = self.cross(x + place, reference, memory.values, memory.lengths, memory.padding)
        x = self.norms[1](x + self.dropout(found))
        return self.norms[2](x + self.dropout(self.inner(x)))


class BoxHead(nn.Module):
    """Three linear layers to a change of centre and length. At first it changes nothing."""

    def __init__(self, dim: int, first: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 2))
        last: Any = self.layers[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        if first:
            with torch.no_grad():
                last.bias[1] = -2.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, N, d]`` to ``[B, N, 2]``."""
        return self.layers(x)


class SegmentDetector(nn.Module):
    """Encoder, decoder and heads of ProcX, without captions.

    Parameters
    ----------
    config : sizes.
    width : C, columns of the features.
    """

    def __init__(self, config: ProcXConfig, width: int) -> None:
        super().__init__()
        d = config.dim
        self.config, self.width = config, width
        levels = config.levels + bool(config.text_width)
        self.base = BaseEncoder(config, width)
        self.encoder = nn.ModuleList([EncoderLayer(config, levels) for _ in range(config.encoder_layers)])
        self.decoder = nn.ModuleList([DecoderLayer(config, levels) for _ in range(config.decoder_layers)])
        self.queries = nn.Embedding(config.queries, 2 * d)
        self.reference = nn.Linear(d, 1)
        nn.init.xavier_uniform_(self.reference.weight)
        nn.init.zeros_(self.reference.bias)
        layers = config.decoder_layers
        self.classes = nn.ModuleList([nn.Linear(d, 1) for _ in range(layers)])
        for head in self.classes:
            nn.init.constant_(head.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]
        self.boxes = nn.ModuleList([BoxHead(d, number == 0) for number in range(layers)])
        self.counts = nn.ModuleList([nn.Linear(d, config.max_count + 1) for _ in range(layers)])

    def encode(
        self,
        features: torch.Tensor,
        duration: torch.Tensor,
        text: torch.Tensor | None = None,
        padding: torch.Tensor | None = None,
    ) -> Memory:
        """Features ``[B, T, C]`` and durations in seconds ``[B]`` to the memory."""
        x, place, lengths, hidden = self.base(features, duration, text, padding)
        middles = torch.cat([(torch.arange(n, device=x.device) + 0.5) / n for n in lengths])
        reference = middles[None, :, None, None].expand(len(x), -1, len(lengths), 1)
        for layer in self.encoder:
            x = layer(x, place, reference, lengths, hidden)
        return Memory(x, lengths, hidden)

    def decode(self, memory: Memory) -> list[Layer]:
        """Predictions of every decoder layer, the last one last; boxes are refined from layer to layer."""
        batch, levels = len(memory.values), len(memory.lengths)
        place, x = self.queries.weight[None].expand(batch, -1, -1).chunk(2, dim=2)
        reference = torch.sigmoid(self.reference(place))
        out = []
        for number, layer in enumerate(self.decoder):
            x = layer(x, place, reference[:, :, None].expand(-1, -1, levels, -1), memory)
            change = self.boxes[number](x)
            if reference.shape[-1] == 1:
                box = torch.cat([change[..., :1] + inverse_sigmoid(reference), change[..., 1:]], -1).sigmoid()
            else:
                box = (change + inverse_sigmoid(reference)).sigmoid()
            counts = self.counts[number](x.amax(1))
            out.append(Layer(self.classes[number](x)[..., 0], box, counts, x))
            reference = box.detach()
        return out

    def forward(
        self,
        features: torch.Tensor,
        duration: torch.Tensor,
        text: torch.Tensor | None = None,
        padding: torch.Tensor | None = None,
    ) -> tuple[list[Layer], Memory]:
        """``encode`` and ``decode``."""
        memory = self.encode(features, duration, text, padding)
        return self.decode(memory), memory
