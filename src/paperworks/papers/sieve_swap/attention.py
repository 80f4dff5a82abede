"""Deformable attention over several temporal scales, plain and key-aware."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


def sample_linear(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Values at fractional places of a line, by linear interpolation, zeros outside.

    Equal to ``grid_sample(align_corners=False, padding_mode="zeros")`` in one dimension.

    Parameters
    ----------
    values : ``[B, T, H, c]``.
    places : ``[B, Q, H, P]`` in [0, 1]: the middle of position t is ``(t + 0.5) / T``.

    Returns
    -------
    ``[B, Q, H, P, c]``.
    """
    batch, length, heads, width = values.shape
    at = places * length - 0.5
    low = at.floor()
    share = (at - low).unsqueeze(-1)
    flat = values.permute(0, 2, 1, 3)  # [B, H, T, c]

    def pick(index: torch.Tensor) -> torch.Tensor:
        inside = ((index >= 0) & (index < length)).unsqueeze(-1)
        safe = index.clamp(0, length - 1).long().permute(0, 2, 1, 3).reshape(batch, heads, -1, 1)
        found = flat.gather(2, safe.expand(-1, -1, -1, width))
        found = found.view(batch, heads, places.shape[1], places.shape[3], width).permute(0, 2, 1, 3, 4)
        return found * inside

    return pick(low) * (1 - share) + pick(low + 1) * share


class DeformableAttention(nn.Module):
    """Attention of queries to a few sampled points of every level.

    Plain deformable attention predicts the weights of the points from the query. The key-aware form (Lite-DETR) samples
    keys as well and weighs the points by ``softmax(q k / sqrt(d_h))``, jointly over levels and points.

    Sampled keys and values ``[B, Q, H, L * P, d_h]`` are never made. Interpolation is linear: products with all keys
    are interpolated, and the weights of points are spread over positions, ``[B, H, Q, S]``. The result is the same.

    Parameters
    ----------
    dim, heads, levels, points : d, H, L, P. ``dim`` is a multiple of ``heads``.
    key_aware : weigh by keys.
    """

    def __init__(self, dim: int, heads: int = 8, levels: int = 4, points: int = 4, key_aware: bool = True) -> None:
        super().__init__()
        self.dim, self.heads, self.levels, self.points, self.key_aware = dim, heads, levels, points, key_aware
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)
        self.offsets = nn.Linear(dim, heads * levels * points)
        if key_aware:
            self.key = nn.Linear(dim, dim)
            self.query = nn.Linear(dim, dim)
        else:
            self.weights = nn.Linear(dim, heads * levels * points)
        self._reset()

    def _reset(self) -> None:
        nn.init.zeros_(self.offsets.weight)
        direction = torch.cos(torch.arange(self.heads) * (2 * math.pi / self.heads))
        direction = torch.where(direction >= 0, 1.0, -1.0)  # heads look to one side or the other
        steps = torch.arange(1, self.points + 1, dtype=torch.float32)
        bias = direction[:, None, None] * steps[None, None]
        with torch.no_grad():
            self.offsets.bias.copy_(bias.expand(-1, self.levels, -1).reshape(-1))
        layers = [self.value, self.output, *([self.key, self.query] if self.key_aware else [])]
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        if not self.key_aware:
            nn.init.zeros_(self.weights.weight)
            nn.init.zeros_(self.weights.bias)

    def places(self, query: torch.Tensor, reference: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """Where the points are: ``[B, Q, H, L, P]`` in units of the whole length."""
        batch, count, _ = query.shape
        offsets = self.offsets(query).view(batch, count, self.heads, self.levels, self.points)
        if reference.shape[-1] == 1:
            size = torch.tensor(lengths, dtype=query.dtype, device=query.device)
            return reference[:, :, None, :, :] + offsets / size[None, None, None, :, None]
        centre, width = reference[:, :, None, :, :1], reference[:, :, None, :, 1:]
        return centre + offsets * width / (2 * self.points)

    def forward(
        self,
        query: torch.Tensor,
        reference: torch.Tensor,
        memory: torch.Tensor,
        lengths: Sequence[int],
        padding: torch.Tensor | None = None,
        places: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attend.

        Parameters
        ----------
        query : ``[B, Q, d]``.
        reference : ``[B, Q, L, 1]`` points, or ``[B, Q, L, 2]`` centre and width, in [0, 1].
        memory : ``[B, sum of lengths, d]``, the levels one after the other.
        lengths : positions of each level.
        padding : bool ``[B, sum of lengths]``, true where nothing is.
        places : given points, in place of those that the query asks for.

        Returns
        -------
        ``[B, Q, d]``.
        """
        batch, count, _ = query.shape
        where = self.places(query, reference, lengths) if places is None else places
        width = self.dim // self.heads
        spots = [_spots(where[:, :, :, level].transpose(1, 2), n) for level, n in enumerate(lengths)]
        values = self._heads(self.value(memory), padding).split(list(lengths), dim=2)
        if self.key_aware:
            asked = self.query(query).view(batch, count, self.heads, width).transpose(1, 2) / math.sqrt(width)
            keys = self._heads(self.key(memory), padding).split(list(lengths), dim=2)
            # the product with an interpolated key is the interpolation of the products with the keys
            scores = torch.cat(
                [_read(asked @ key.transpose(2, 3), spot) for key, spot in zip(keys, spots, strict=True)], -1
            )
        else:
            scores = self.weights(query).view(batch, count, self.heads, -1).transpose(1, 2)
        weights = scores.softmax(-1).split(self.points, dim=-1)
        mixed = sum(
            _spread(weight, spot, n) @ value
            for weight, spot, n, value in zip(weights, spots, lengths, values, strict=True)
        )
        assert isinstance(mixed, torch.Tensor)
        return self.output(mixed.transpose(1, 2).reshape(batch, count, self.dim))

    def _heads(self, memory: torch.Tensor, padding: torch.Tensor | None) -> torch.Tensor:
        """``[B, S, d]`` to ``[B, H, S, c]``, zeros where nothing is."""
        if padding is not None:
            memory = memory.masked_fill(padding.unsqueeze(-1), 0.0)
        return memory.view(*memory.shape[:2], self.heads, -1).transpose(1, 2)


_Spots = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def _spots(places: torch.Tensor, length: int) -> _Spots:
    """Of places ``[..., P]`` the positions on both sides and their weights, 0 where a position is outside."""
    at = places * length - 0.5
    low = at.floor()
    share = at - low

    def side(index: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inside = (index >= 0) & (index < length)
        return index.clamp(0, length - 1).long(), weight * inside

    left, left_weight = side(low, 1 - share)
    right, right_weight = side(low + 1, share)
    return left, left_weight, right, right_weight


def _read(line: torch.Tensor, spots: _Spots) -> torch.Tensor:
    """Values of lines ``[..., T]`` at spots: ``[..., P]``."""
    left, left_weight, right, right_weight = spots
    return line.gather(-1, left) * left_weight + line.gather(-1, right) * right_weight


def _spread(weights: torch.Tensor, spots: _Spots, length: int) -> torch.Tensor:
    """The transpose of ``_read``: weights of points ``[..., P]`` as weights of positions ``[..., T]``."""
    left, left_weight, right, right_weight = spots
    line = weights.new_zeros(*weights.shape[:-1], length)
    return line.scatter_add(-1, left, weights * left_weight).scatter_add(-1, right, weights * right_weight)


def sine_positions(length: int, dim: int, device: torch.device | None = None) -> torch.Tensor:
    """Sine and cosine of positions ``[length, dim]``; the line is 2 pi long."""
    at = (torch.arange(length, device=device, dtype=torch.float32) + 0.5) / length * 2 * math.pi
    half = -(-dim // 2)
    rates = 10_000 ** (torch.arange(half, device=device, dtype=torch.float32) / max(1, half))
    angles = at[:, None] / rates[None] * length / (2 * math.pi)
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :dim]


def inverse_sigmoid(x: torch.Tensor, epsilon: float = 1e-5) -> torch.Tensor:
    """Logits of values in [0, 1], clamped."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=epsilon) / (1 - x).clamp(min=epsilon))


def feed_forward(dim: int, inner: int, dropout: float) -> nn.Sequential:
    """Two linear layers with ReLU."""
    return nn.Sequential(nn.Linear(dim, inner), nn.ReLU(), nn.Dropout(dropout), nn.Linear(inner, dim))


def resample(features: torch.Tensor, positions: int, mode: str = "linear") -> torch.Tensor:
    """Features ``[T, C]`` at ``positions`` places, the first and the last kept: "linear" or "nearest"."""
    if len(features) == positions:
        return features
    if mode == "nearest":
        index = torch.linspace(0, len(features) - 1, positions).round().long()
        return features[index]
    if len(features) == 1:
        return features.expand(positions, -1)
    return functional.interpolate(features.T[None], size=positions, mode="linear", align_corners=True)[0].T
