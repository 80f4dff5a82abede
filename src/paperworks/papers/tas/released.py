"""The shapes that the authors released with their code (configs/NeurIPS-2019): found on CIFAR-10 and CIFAR-100."""

from __future__ import annotations

from typing import Literal, get_args

from paperworks.errors import InputError
from paperworks.papers.tas.shapes import NetworkShape, cifar_resnet

CifarName = Literal["cifar10", "cifar100"]

RELEASED: dict[tuple[str, int], tuple[str, tuple[int, int, int]]] = {
    ("cifar10", 20): (
        "16 6 4 4 4 4 4 32 32 12 19 32 28 64 64 64 64 64 44",
        (3, 3, 3),
    ),
    ("cifar10", 32): (
        "16 6 4 12 4 4 16 9 9 6 14 32 32 9 19 28 9 32 19 32 9 64 64 64 64 64 64 64 32 38 32",
        (5, 5, 5),
    ),
    ("cifar10", 56): (
        "16 16 16 14 11 9 16 12 16 6 16 4 8 4 14 6 4 4 4 32 32 32 32 32 32 22 28 32 32 19 9 19 16 9 25 16 "
        "9 64 64 64 64 64 64 64 64 64 51 19 19 32 19 19 32 19 25",
        (5, 5, 5),
    ),
    ("cifar10", 110): (
        "16 14 16 14 16 16 16 16 16 14 16 16 16 12 16 16 16 9 16 8 16 4 16 4 4 4 16 4 4 4 4 6 6 4 6 11 4 "
        "32 32 32 32 32 32 32 32 28 32 32 28 22 22 22 32 32 25 28 9 9 28 12 9 12 32 9 9 22 12 16 9 12 9 9 "
        "9 64 64 64 64 64 64 64 64 64 64 64 64 64 64 64 38 64 25 19 19 19 19 19 25 32 19 19 25 25 19 19 "
        "38 38 19 19 51",
        (11, 11, 9),
    ),
    ("cifar100", 20): (
        "16 4 4 4 4 6 4 32 32 9 19 32 28 64 64 64 64 64 64",
        (3, 3, 3),
    ),
    ("cifar100", 32): (
        "16 4 4 6 11 6 4 8 4 4 4 32 32 9 28 28 28 28 28 32 32 64 64 64 64 64 64 64 64 64 64",
        (5, 5, 5),
    ),
    ("cifar100", 56): (
        "16 16 9 14 16 14 16 8 16 8 14 4 4 4 8 4 6 4 4 32 32 32 28 32 32 32 22 32 32 32 9 25 19 25 12 9 9 "
        "64 64 64 64 64 64 64 64 64 51 19 19 19 19 25 38 19 19",
        (5, 5, 7),
    ),
    ("cifar100", 110): (
        "16 14 16 11 14 16 16 11 16 9 14 12 16 16 16 8 16 14 16 12 4 11 16 4 4 4 16 12 4 8 4 9 4 6 14 4 4 "
        "32 32 32 32 28 28 32 32 32 32 32 28 32 28 25 32 32 32 9 9 32 32 9 25 28 32 28 9 9 32 12 12 9 22 "
        "12 9 64 64 64 64 64 64 64 64 64 64 64 64 64 64 64 44 64 57 19 19 19 19 25 19 25 19 25 19 19 25 "
        "19 19 19 25 25 19",
        (13, 9, 11),
    ),
}
"""By data set and layers: the widths of all convolutions (of those that leave, too), and the blocks by stage."""


def released_shape(data: CifarName, depth: int) -> NetworkShape:
    """The released shape of a residual network with 20, 32, 56 or 110 layers. Raises InputError for another."""
    if (data, depth) not in RELEASED:
        known = ", ".join(sorted({str(d) for _, d in RELEASED}, key=int))
        raise InputError("depth", f"{depth} on {data}", f"{known} on {' or '.join(get_args(CifarName))}")
    widths, depths = RELEASED[data, depth]
    full = cifar_resnet(depth, outputs=10 if data == "cifar10" else 100)
    return full.resized(tuple(map(int, widths.split())), depths)
