"""The settings of SliceGPT, checked together, and the widths that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.nn import resolve_device, resolve_dtype
from paperworks.papers.slicegpt.basis import BasisKind
from paperworks.papers.slicegpt.widths import (
    Schedule,
    constant_cuts,
    given_cuts,
    scheduled_cuts,
    target_cuts,
    width_at,
    width_by_variance,
)
from paperworks.parameters import check_seed
from paperworks.structure.cost import StreamCost
from paperworks.structure.residual_stream import check_ends

IN_FINGERPRINT = (
    "slicing",
    "target",
    "variance_discarded",
    "round_to",
    "orientation",
    "basis",
    "slice_head",
    "seed",
)


@dataclass(frozen=True)
class Settings:
    """What ``SliceGPT`` was told. See there for the meaning of each."""

    slicing: float
    target: int | str | None
    dims: Sequence[int] | None
    schedule: Schedule
    variance_discarded: float
    round_to: int
    orientation: str
    basis: BasisKind
    pca_dtype: torch.dtype
    slice_head: bool
    seed: int
    device: str | torch.device
    dtype: torch.dtype | str | None
    activation_budget: float
    spill_dir: str | Path | None
    checkpoint_dir: str | Path | None

    def check(self) -> None:
        """Raise InputError for the first setting that cannot be used, whatever the model."""
        for field, choices in (("orientation", ("random", "pca")), ("basis", ("pca", "axis", "random"))):
            if getattr(self, field) not in choices:
                raise InputError(field, getattr(self, field), " or ".join(choices))
        if self.pca_dtype not in (torch.float64, torch.float32):
            raise InputError("pca_dtype", self.pca_dtype, "torch.float64 or torch.float32")
        if not callable(self.schedule) and self.schedule not in ("constant", "variance"):
            raise InputError("schedule", self.schedule, "constant, variance, or a function of depth")
        chosen = [name for name in ("target", "dims") if getattr(self, name) is not None]
        if self.schedule != "constant":
            chosen.append("schedule")
        if len(chosen) > 1:
            raise InputError(chosen[0], f"{chosen[1]} as well", "one way to choose the widths")
        if not 0 <= self.variance_discarded < 1:
            raise InputError("variance_discarded", self.variance_discarded, "a fraction, at least 0 and below 1")
        check_seed("seed", self.seed)
        if not isinstance(self.activation_budget, (int, float)) or not self.activation_budget >= 0:
            raise InputError("activation_budget", self.activation_budget, "a number of bytes, 0 or more")
        if self.spill_dir is not None and not Path(self.spill_dir).is_dir():
            raise InputError("spill_dir", self.spill_dir, "a folder that exists")
        self.torch_device()
        self.torch_dtype()

    def torch_device(self) -> torch.device:
        """``device``, with ``auto`` resolved. Raises InputError for what is no device."""
        return resolve_device(self.device)

    def torch_dtype(self) -> torch.dtype | None:
        """``dtype`` as torch knows it. Raises InputError for another type."""
        return None if self.dtype in (None, "auto") else resolve_dtype(self.dtype)

    def width_of(self, cost: StreamCost, target: int | None = None) -> Callable[[int, torch.Tensor], int]:
        """A function from the number of a cut and its spectrum to its width. Raises InputError for wrong widths.

        ``target``: the most parameters that ``self.target`` comes to.
        """
        if self.schedule == "variance":
            return lambda cut, spectrum: width_by_variance(spectrum, self.variance_discarded, self.round_to)
        if callable(self.schedule):
            cuts = scheduled_cuts(cost, self.schedule, self.round_to, self.slice_head)
        elif self.dims is not None:
            cuts = given_cuts(cost, self.dims, self.round_to, self.slice_head)
        elif target is not None:
            cuts = target_cuts(cost, target, self.round_to, self.slice_head)
        else:
            cuts = constant_cuts(cost, width_at(self.slicing, cost.width, self.round_to), self.slice_head)
        check_ends(cost.family, cuts[0], cuts[-1])
        return lambda cut, spectrum: cuts[cut]

    def to_dict(self) -> dict[str, Any]:
        """What decides the result, as plain values."""
        found: dict[str, Any] = {name: getattr(self, name) for name in IN_FINGERPRINT}
        found["dims"] = None if self.dims is None else [int(d) for d in self.dims]
        found["schedule"] = "function" if callable(self.schedule) else self.schedule
        found["pca_dtype"] = str(self.pca_dtype).removeprefix("torch.")
        found["dtype"] = None if self.dtype is None else str(self.dtype).removeprefix("torch.")
        return found
