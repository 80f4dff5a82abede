"""How alike two pictures are: structural similarity of patches, a vector of colour layout and hash, cosines."""

from __future__ import annotations

import numpy as np
from PIL import Image

PATCH = 64
"""Side in pixels of the patches that are compared."""
WINDOW = 7
K1, K2 = 0.01, 0.03


def ssim(first: np.ndarray, second: np.ndarray, *, window: int = WINDOW, data_range: float = 255.0) -> float:
    """Mean structural similarity (Wang et al. 2004) of two pictures, with a flat window and sample covariances.

    Parameters
    ----------
    first, second : ``[h, w]`` or ``[h, w, c]``, at least ``window`` pixels a side; channels are averaged.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.ndim == 2:
        a, b = a[..., None], b[..., None]
    return float(np.mean([_ssim_map(a[..., c], b[..., c], window, data_range).mean() for c in range(a.shape[2])]))


def _ssim_map(a: np.ndarray, b: np.ndarray, window: int, data_range: float) -> np.ndarray:
    count = window * window
    mean_a, mean_b = _box(a, window), _box(b, window)
    unbiased = count / (count - 1)
    var_a = unbiased * (_box(a * a, window) - mean_a * mean_a)
    var_b = unbiased * (_box(b * b, window) - mean_b * mean_b)
    shared = unbiased * (_box(a * b, window) - mean_a * mean_b)
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * shared + c2)
    return top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))


def _box(values: np.ndarray, window: int) -> np.ndarray:
    """Means over all windows that lie inside, by summed areas."""
    table = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    np.cumsum(np.cumsum(values, 0), 1, out=table[1:, 1:])
    w = window
    return (table[w:, w:] - table[:-w, w:] - table[w:, :-w] + table[:-w, :-w]) / (w * w)


def patch_similarities(first: np.ndarray, second: np.ndarray, patch: int) -> np.ndarray:
    """SSIM of each patch of a grid that covers two grey pictures ``[h, w]``: one window is one patch, ``[rows, cols]``.

    A patch that differs (a cursor passes) does not change the others.
    """
    h, w = first.shape[0] // patch * patch, first.shape[1] // patch * patch
    a = first[:h, :w].astype(np.float32).reshape(h // patch, patch, w // patch, patch)
    b = second[:h, :w].astype(np.float32).reshape(h // patch, patch, w // patch, patch)
    mean_a, mean_b = a.mean((1, 3)), b.mean((1, 3))
    da, db = a - mean_a[:, None, :, None], b - mean_b[:, None, :, None]
    norm = patch * patch - 1
    var_a, var_b = (da * da).sum((1, 3)) / norm, (db * db).sum((1, 3)) / norm
    shared = (da * db).sum((1, 3)) / norm
    c1, c2 = (K1 * 255) ** 2, (K2 * 255) ** 2
    return (2 * mean_a * mean_b + c1) * (2 * shared + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))


def embed(picture: np.ndarray) -> np.ndarray:
    """A unit vector of 64 numbers: 4 x 4 mean colours (48) and low frequencies of the brightness (16).

    ``picture`` is uint8 ``[h, w, 3]``. It needs no training; cosines near 1 mean that layout and colours are the same.
    """
    small = np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.BOX), np.float64) / 255
    colours = small.reshape(4, 8, 4, 8, 3).mean((1, 3)).reshape(-1) - 0.5
    waves = _cosines(small.mean(2))[:5, :5].reshape(-1)[1:17] / 4
    vector = np.concatenate([colours, waves])
    norm = float(np.linalg.norm(vector))
    return vector / norm if norm > 0 else np.full(64, 1 / 8)


def perceptual_hash(picture: np.ndarray) -> int:
    """64 bits: signs of the 8 x 8 lowest frequencies of the brightness against their median (pHash)."""
    small = Image.fromarray(picture).convert("L").resize((32, 32), Image.Resampling.BOX)
    low = _cosines(np.asarray(small, np.float64))[:8, :8].reshape(-1)
    bits = low > np.median(low[1:])
    return int("".join("1" if bit else "0" for bit in bits), 2)


def _cosines(values: np.ndarray) -> np.ndarray:
    from scipy.fft import dctn

    return dctn(values, norm="ortho")
