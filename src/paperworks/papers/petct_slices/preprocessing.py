"""Slices as the network sees them: turned for display, resized, clipped to a window, stacked to channels.

The order is that of the follow-up code: resize first, then clip. Near hot voxels (bladder, brain) the other order gives
other values.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from paperworks.errors import InputError

Scale = Literal["window", "patient"]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PET_WINDOW, CT_WINDOW = (0.0, 50.0), (-500.0, 500.0)


def display(planes: np.ndarray) -> np.ndarray:
    """Slices ``[X, Y, ...]`` as one looks at them, ``[rows, columns, ...]``: turned by 270 degrees, then mirrored."""
    return np.flip(np.rot90(planes, 3, axes=(0, 1)), axis=1)


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Bilinear, without anti-aliasing: float32 ``[n, size, size]`` of ``[n, H, W]``.

    Centres of pixels are at half numbers, and outside of the image the outermost value counts, as in
    ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``.
    """
    height, width = images.shape[1:]
    if (height, width) == (size, size):
        return images.astype(np.float32)
    rows, columns = _weights(height, size), _weights(width, size)
    return np.einsum("ih,nhw,jw->nij", rows, images.astype(np.float32), columns, optimize=True).astype(np.float32)


def resize_mask(masks: np.ndarray, size: int) -> np.ndarray:
    """Nearest pixel (order 0): ``[n, size, size]`` of ``[n, H, W]``."""
    rows, columns = (((np.arange(size) + 0.5) * n / size).astype(int) for n in masks.shape[1:])
    return masks[:, rows][:, :, columns]


def _weights(length: int, size: int) -> np.ndarray:
    places = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
    low = np.minimum(places.astype(int), max(length - 2, 0))
    share = (places - low).astype(np.float32)
    matrix = np.zeros((size, length), dtype=np.float32)
    matrix[np.arange(size), low] += 1 - share
    matrix[np.arange(size), np.minimum(low + 1, length - 1)] += share
    return matrix


def to_window(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Values clipped to a window and mapped to [0, 1], float32."""
    low, high = window
    return ((np.clip(values, low, high) - low) / (high - low)).astype(np.float32)


def check_window(name: str, window: tuple[float, float]) -> tuple[float, float]:
    """The window as two numbers. Raises InputError naming it unless they ascend and are finite."""
    numbers = np.asarray(window, dtype=np.float64)
    if numbers.shape != (2,) or not np.isfinite(numbers).all() or not numbers[0] < numbers[1]:
        raise InputError(name, window, "two numbers, the lower end first")
    return float(numbers[0]), float(numbers[1])


def channel_names(modalities: str, channels: str | None) -> tuple[str, ...]:
    """The channels of the network's input: three times the PET for ``pet``, ``pet,ct`` for ``petct``, or as asked for.

    Raises InputError for an unknown input, a channel that is none, or channels that leave a modality out.
    """
    usual = {"pet": "pet,pet,pet", "ct": "ct,ct,ct", "petct": "pet,ct"}
    if modalities not in usual:
        raise InputError("input", repr(modalities), "pet, ct or petct")
    names = tuple(name.strip() for name in (channels or usual[modalities]).split(","))
    wanted = {"pet", "ct"} if modalities == "petct" else {modalities}
    if set(names) != wanted:
        expected = f"{' and '.join(sorted(wanted))}, separated by commas, such as {usual[modalities]}"
        raise InputError("channels", repr(channels), expected)
    return names


def stack_channels(
    planes: dict[str, np.ndarray],
    channels: tuple[str, ...],
    *,
    pet_window: tuple[float, float],
    ct_window: tuple[float, float],
    scale: Scale,
    statistics: np.ndarray | None,
    normalise: bool,
) -> np.ndarray:
    """Resized slices as the network's input, float32 ``[n, channels, size, size]``.

    Parameters
    ----------
    planes : ``pet`` in SUV and ``ct`` in HU, each ``[n, size, size]``.
    scale : ``window`` clips the SUV; ``patient`` subtracts the mean of the patient's scans and divides by their
        standard deviation, ``statistics [n, 2]``.
    normalise : subtract ImageNet's mean and divide by its standard deviation (the follow-up code does not).
    """
    ready = {}
    if "pet" in channels:
        if scale == "patient":
            assert statistics is not None
            mean, deviation = statistics[:, 0, None, None], np.maximum(statistics[:, 1, None, None], 1e-6)
            ready["pet"] = ((planes["pet"] - mean) / deviation).astype(np.float32)
        else:
            ready["pet"] = to_window(planes["pet"], pet_window)
    if "ct" in channels:
        ready["ct"] = to_window(planes["ct"], ct_window)
    stacked = np.stack([ready[name] for name in channels], axis=1)
    if normalise:
        places = np.arange(len(channels)) % 3
        mean, deviation = (np.array(v, dtype=np.float32)[places] for v in (IMAGENET_MEAN, IMAGENET_STD))
        stacked = (stacked - mean[:, None, None]) / deviation[:, None, None]
    return stacked
