"""Samplers: fewer tokens from the map of an image. The self-mining sampler, and those it is compared with.

Every sampler takes a map ``[k, H, W, D]`` with a mask ``[k, H, W]`` (True: a token of the image, not of the padding)
and returns tokens ``[k, N, D]`` with their mask ``[k, N]``. ``SelfMiningSampler``, ``AveragePoolSampler`` and
``ConcatSampler`` give one token for each s x s window, in raster order; the others have learned queries.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.parameters import check_whole

SamplerName = Literal["self-mining", "avgpool", "concat", "qformer", "resampler"]
Sampled = tuple[torch.Tensor, torch.Tensor]


class SelfMiningSampler(nn.Module):
    """One token per s x s window: the window's average asks the tokens of its own window.

    ::

        Q_u = average of window u
        Z_u = Q_u + attention(LN(Q_u), LN(K_u), LN(V_u))       K_u = V_u = the s^2 tokens of the window
        Z_u = Z_u + FFN(LN(Z_u))

    Padding is left out of averages and of attention; a window of padding only gives no token. A map whose sides s
    does not divide is padded with masked tokens.

    Parameters
    ----------
    width, heads : of the attention; ``heads`` divides ``width``.
    window : side of a window, s.
    layers : how often the query asks; the next layer's query is the layer's output.
    expansion : width of the feed-forward part over ``width``.
    """

    def __init__(self, width: int, heads: int, *, window: int = 2, layers: int = 1, expansion: int = 4) -> None:
        super().__init__()
        _check_sizes(width, heads, window=window, layers=layers, expansion=expansion)
        self.width, self.window = width, window
        self.layers = nn.ModuleList([_CrossAttention(width, heads, expansion) for _ in range(layers)])

    def forward(self, whole: torch.Tensor, mask: torch.Tensor | None = None) -> Sampled:
        """Tokens float ``[k, N, D]`` and their mask bool ``[k, N]``, N = ceil(H / s) ceil(W / s)."""
        windows, inside = _windows(whole, mask, self.window)
        k, count, size, width = windows.shape
        query = _masked_mean(windows, inside).reshape(k * count, 1, width)
        keys, known = windows.reshape(k * count, size, width), inside.reshape(k * count, size)
        for layer in self.layers:
            query = layer(query, keys, known)
        found = inside.any(-1)
        return query.reshape(k, count, width) * found[..., None], found


class AveragePoolSampler(nn.Module):
    """One token per s x s window: its average."""

    def __init__(self, width: int, *, window: int = 2) -> None:
        super().__init__()
        _check_sizes(width, 1, window=window)
        self.width, self.window = width, window

    def forward(self, whole: torch.Tensor, mask: torch.Tensor | None = None) -> Sampled:
        """As ``SelfMiningSampler.forward``."""
        windows, inside = _windows(whole, mask, self.window)
        return _masked_mean(windows, inside), inside.any(-1)


class ConcatSampler(nn.Module):
    """One token per s x s window: a linear map of its tokens side by side (pixel unshuffle). Padding counts as 0."""

    def __init__(self, width: int, *, window: int = 2) -> None:
        super().__init__()
        _check_sizes(width, 1, window=window)
        self.width, self.window = width, window
        self.linear = nn.Linear(window * window * width, width)

    def forward(self, whole: torch.Tensor, mask: torch.Tensor | None = None) -> Sampled:
        """As ``SelfMiningSampler.forward``."""
        windows, inside = _windows(whole, mask, self.window)
        found = inside.any(-1)
        return self.linear((windows * inside[..., None]).flatten(2)) * found[..., None], found


class QFormerSampler(nn.Module):
    """R learned queries that ask each other and then the whole map, as in BLIP-2.

    Parameters
    ----------
    queries : tokens out, R.
    layers : each is self-attention among the queries, cross-attention to the map, and a feed-forward part.
    """

    def __init__(self, width: int, heads: int, *, queries: int = 16, layers: int = 1, expansion: int = 4) -> None:
        super().__init__()
        _check_sizes(width, heads, queries=queries, layers=layers, expansion=expansion)
        self.width, self.window = width, 1
        self.queries = nn.Parameter(torch.randn(1, queries, width) * 0.02)
        self.selves = nn.ModuleList([nn.MultiheadAttention(width, heads, batch_first=True) for _ in range(layers)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(layers)])
        self.layers = nn.ModuleList([_CrossAttention(width, heads, expansion) for _ in range(layers)])

    def forward(self, whole: torch.Tensor, mask: torch.Tensor | None = None) -> Sampled:
        """Tokens float ``[k, R, D]`` and their mask, all True."""
        keys, known = _flat(whole, mask)
        query = self.queries.expand(len(whole), -1, -1)
        for attend, norm, layer in zip(self.selves, self.norms, self.layers, strict=True):
            own = norm(query)
            query = query + attend(own, own, own, need_weights=False)[0]
            query = layer(query, keys, known)
        return query, torch.ones(query.shape[:2], dtype=torch.bool, device=query.device)


class ResamplerSampler(nn.Module):
    """R learned queries that ask the whole map once; keys have two-dimensional sine positions, as in Qwen-VL."""

    def __init__(self, width: int, heads: int, *, queries: int = 16, expansion: int = 4) -> None:
        super().__init__()
        _check_sizes(width, heads, queries=queries, expansion=expansion)
        if width % 4:
            raise InputError("width", width, "a multiple of 4, for positions in two dimensions")
        self.width, self.window = width, 1
        self.queries = nn.Parameter(torch.randn(1, queries, width) * 0.02)
        self.layer = _CrossAttention(width, heads, expansion)

    def forward(self, whole: torch.Tensor, mask: torch.Tensor | None = None) -> Sampled:
        """Tokens float ``[k, R, D]`` and their mask, all True."""
        keys, known = _flat(whole + _sine_positions(whole), mask)
        query = self.layer(self.queries.expand(len(whole), -1, -1), keys, known)
        return query, torch.ones(query.shape[:2], dtype=torch.bool, device=query.device)


def make_sampler(
    name: SamplerName, width: int, heads: int, *, window: int = 2, layers: int = 1, queries: int = 16
) -> nn.Module:
    """A sampler by name. ``window`` and ``layers``, or ``queries``, count where the sampler has them.

    Raises InputError for another name.
    """
    if name == "self-mining":
        return SelfMiningSampler(width, heads, window=window, layers=layers)
    if name == "avgpool":
        return AveragePoolSampler(width, window=window)
    if name == "concat":
        return ConcatSampler(width, window=window)
    if name == "qformer":
        return QFormerSampler(width, heads, queries=queries, layers=layers)
    if name == "resampler":
        return ResamplerSampler(width, heads, queries=queries)
    raise InputError("sampler", repr(name), "one of self-mining, avgpool, concat, qformer, resampler")


def token_count(grid: tuple[int, int], tokens_per_side: int, window: int, *, global_view: bool = True) -> int:
    """Tokens that the language model reads: ``(m h / s)(n w / s)``, and ``(h / s)(w / s)`` of the global view."""
    each = (-(-tokens_per_side // window)) ** 2
    rows, columns = (-(-count * tokens_per_side // window) for count in grid)
    return rows * columns + (each if global_view else 0)


class _CrossAttention(nn.Module):
    """``Z = Q + attention(LN(Q), LN(K), LN(V))``, ``Z = Z + FFN(LN(Z))``."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.norm_query, self.norm_keys, self.norm = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )

    def forward(self, query: torch.Tensor, keys: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        memory = self.norm_keys(keys)
        # a row without any key would be NaN: it may look at its keys, and its caller leaves it out
        hidden = ~known & known.any(1, keepdim=True)
        seen, _ = self.attention(self.norm_query(query), memory, memory, key_padding_mask=hidden, need_weights=False)
        query = query + seen
        return query + self.feed_forward(self.norm(query))


def _check_sizes(width: int, heads: int, **sizes: int) -> None:
    for name, value in {"width": width, "heads": heads, **sizes}.items():
        check_whole(name, value, 1)
    if width % heads:
        raise InputError("heads", heads, f"a divisor of the width {width}")


def _mask_of(whole: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    if whole.ndim != 4:
        raise InputError("whole", tuple(whole.shape), "a map [k, H, W, D]")
    if mask is None:
        return torch.ones(whole.shape[:3], dtype=torch.bool, device=whole.device)
    if mask.shape != whole.shape[:3]:
        raise InputError("mask", tuple(mask.shape), f"{tuple(whole.shape[:3])}, as the map")
    return mask.bool()


def _windows(whole: torch.Tensor, mask: torch.Tensor | None, side: int) -> Sampled:
    """Windows ``[k, N, s^2, D]`` in raster order, and which of their tokens are the image's ``[k, N, s^2]``."""
    known = _mask_of(whole, mask)
    below, right = -whole.shape[1] % side, -whole.shape[2] % side
    if below or right:
        whole = functional.pad(whole, (0, 0, 0, right, 0, below))
        known = functional.pad(known, (0, right, 0, below))
    k, rows, columns, width = whole.shape
    shape = (k, rows // side, side, columns // side, side)
    windows = whole.reshape(*shape, width).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return windows, known.reshape(shape).transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _masked_mean(windows: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    weights = inside.to(windows)[..., None]
    return (windows * weights).sum(2) / weights.sum(2).clamp(min=1)


def _flat(whole: torch.Tensor, mask: torch.Tensor | None) -> Sampled:
    return whole.flatten(1, 2), _mask_of(whole, mask).flatten(1)


def _sine_positions(whole: torch.Tensor) -> torch.Tensor:
    """Positions ``[1, H, W, D]``: a quarter of the width each for sine and cosine of row and column."""
    _, rows, columns, width = whole.shape
    quarter = width // 4
    rates = 10_000 ** (-torch.arange(quarter, device=whole.device) / quarter)
    parts = []
    for count, axis in ((rows, 0), (columns, 1)):
        angles = torch.arange(count, device=whole.device)[:, None] * rates
        table = torch.cat([angles.sin(), angles.cos()], 1)
        shape = (rows, 1, -1) if axis == 0 else (1, columns, -1)
        parts.append(table.reshape(shape).expand(rows, columns, -1))
    return torch.cat(parts, -1)[None].to(whole)
