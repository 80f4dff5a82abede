"""Products with weights of eight bits: half the time of the float32 product, where the processor adds eight-bit
products in one instruction (VNNI).

Weights have one scale per output, activations one per row, both symmetric: ``x W + b`` is, but for rounding,
``s_row * s_out * (q_x q_W) + b`` with the product of the integers exact in 32 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

if TYPE_CHECKING:
    import torch

STEPS = 127
_LANES = 64  # maxima kept side by side, so that a row's maximum is found with whole registers


def supported() -> bool:
    """Whether this processor and this torch gain from eight bits."""
    import torch

    asked = getattr(torch.cpu, "_is_vnni_supported", None)
    return asked is not None and bool(asked()) and hasattr(torch, "_int_mm") and torch.backends.mkldnn.is_available()


class EightBitLinear:
    """A linear layer. ``weights``: float32 [in, out]; ``bias``: float32 [out]."""

    def __init__(self, weights: torch.Tensor, bias: torch.Tensor) -> None:
        import torch

        scales = (weights.abs().amax(0) / STEPS).clamp_min(1e-12)
        self._weights = (weights / scales).round().to(torch.int8).contiguous()
        self._scales, self._bias = scales.numpy(), bias.numpy()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """From float32 [n, in] to float32 [n, out]."""
        import torch

        rounded = torch.empty(x.shape, dtype=torch.int8)
        scales = np.empty(len(x), np.float32)
        _round_rows(x.contiguous().numpy(), rounded.numpy(), scales)
        sums = torch._int_mm(rounded, self._weights)
        out = torch.empty(sums.shape)
        _scaled(sums.numpy(), scales, self._scales, self._bias, out.numpy())
        return out


@njit(nogil=True, cache=True, fastmath=True)
def _round_rows(x: Any, out: Any, scales: Any) -> None:  # pragma: no cover - compiled
    width = x.shape[1]
    whole = width - width % _LANES
    for i in range(x.shape[0]):
        lanes = np.zeros(_LANES, np.float32)
        for start in range(0, whole, _LANES):
            for lane in range(_LANES):
                size = abs(x[i, start + lane])
                lanes[lane] = size if size > lanes[lane] else lanes[lane]
        top = np.float32(1e-12)
        for lane in range(_LANES):
            top = max(top, lanes[lane])
        for j in range(whole, width):
            top = max(top, abs(x[i, j]))
        scales[i] = top / np.float32(STEPS)
        factor = np.float32(STEPS) / top
        for j in range(width):  # rounds to the nearest: what is truncated is positive
            out[i, j] = np.int8(np.int32(x[i, j] * factor + np.float32(STEPS + 1.5)) - (STEPS + 1))


@njit(nogil=True, cache=True, fastmath=True)
def _scaled(sums: Any, rows: Any, columns: Any, bias: Any, out: Any) -> None:  # pragma: no cover - compiled
    for i in range(sums.shape[0]):
        scale = rows[i]
        for j in range(sums.shape[1]):
            out[i, j] = np.float32(sums[i, j]) * (scale * columns[j]) + bias[j]
