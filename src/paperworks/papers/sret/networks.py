"""Networks for images of any size: the released variants, and small ones for small images."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Literal, get_args

from paperworks.errors import InputError, nearest
from paperworks.inputs.images import ImageDataset
from paperworks.papers.sret.configuration import VARIANTS, SReTConfig, variant_config
from paperworks.papers.sret.recursion import divisors

NetworkName = Literal["auto", "micro", "tiny", "tiny-large", "small"]
NETWORKS: tuple[str, ...] = get_args(NetworkName)
RELEASED_FROM = 96
"""Side in pixels from which on "auto" is SReT_T."""
MICRO_GRID = 16
"""Most tokens along a side of the first stage of a small network."""


def network_config(
    name: str,
    image_size: tuple[int, int],
    channels: int,
    classes: int,
    *,
    sliced: bool = True,
    loops: int = 2,
    **options: Any,
) -> SReTConfig:
    """A configuration for images of about this size, whose group counts divide its numbers of tokens.

    ``micro`` has stages of widths 32 and 64 with one and two distinct blocks, each applied twice; 4 and 2 groups in
    the first pass and 2 in the second; and a stem of two convolutions, whose strides depend on the image size. The
    others are the released variants. ``auto`` is ``micro`` below 96 pixels, else ``tiny``.

    Parameters
    ----------
    image_size : height and width in pixels; they are rounded up to what the network can have.
    sliced : False is one group everywhere.
    loops : passes of each block.
    options : others of ``SReTConfig``, in place of these.
    """
    if name not in NETWORKS:
        raise InputError("network", repr(name), f"one of {', '.join(NETWORKS)}{nearest(name, NETWORKS)}")
    if name == "auto":
        name = "micro" if min(image_size) < RELEASED_FROM else "tiny"
    values = variant_config(name, sliced=sliced).to_dict() if name in VARIANTS else _micro(min(image_size))
    values["depth"] = [distinct * loops for distinct in values["recursive_num"]]
    values.update(options)
    strides, stages = values["stem_strides"], len(values["depth"])
    step = prod(strides) * 2 ** (stages - 1)
    sides = [-(-side // step) * step for side in image_size]
    grids = [prod((side // prod(strides)) >> stage for side in sides) for stage in range(stages)]
    for field in ("groups1", "groups2"):
        if field not in options:
            wanted = values[field] if sliced else [1] * stages
            values[field] = [_fitting(count, tokens) for count, tokens in zip(wanted, grids, strict=True)]
    if not sliced and "drop_path_rate" not in options:
        values["drop_path_rate"] = 0.0
    kept = {k: v for k, v in values.items() if k not in ("id2label", "label2id", "architectures", "dtype")}
    return SReTConfig(**{**kept, "image_size": sides, "num_channels": channels, "num_labels": classes})


def image_sides(images: ImageDataset, image_size: int | Sequence[int] | None) -> tuple[int, int]:
    """Height and width that images are resized to: those asked for, or their own.

    Raises InputError for images of several sizes where none is asked for.
    """
    if image_size is not None:
        given = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if len(given) != 2 or any(side < 1 for side in given):
            raise InputError("image_size", image_size, "a side in pixels, or (height, width)")
        return given[0], given[1]
    known = set() if images.shapes is None else {(int(h), int(w)) for h, w, _ in images.shapes.tolist()}
    if len(known) != 1:
        some = ", ".join(f"{h} x {w}" for h, w in sorted(known)[:4])
        raise InputError("image_size", f"images of {len(known)} sizes ({some})", "a size to resize all to")
    return known.pop()


def _micro(side: int) -> dict[str, Any]:
    strides = [1, 1]
    while side / prod(strides) > MICRO_GRID:
        strides[0 if strides[0] <= strides[1] else 1] *= 2
        if strides == [4, 4]:
            break
    return {
        "base_dims": [16, 16],
        "heads": [2, 4],
        "depth": [2, 4],
        "recursive_num": [1, 2],
        "groups1": [4, 2],
        "groups2": [2, 2],
        "mlp_ratio": 2.0,
        "stem_strides": strides,
        "drop_path_rate": 0.0,
    }


def _fitting(wanted: int, tokens: int) -> int:
    """The largest number of groups of at most ``wanted`` that divides ``tokens``."""
    return max(count for count in divisors(tokens) if count <= wanted)
