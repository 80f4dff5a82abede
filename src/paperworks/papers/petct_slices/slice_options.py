"""The options of ``SliceClassifier``, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from paperworks.errors import InputError
from paperworks.papers.petct_slices.examples import InputOptions
from paperworks.papers.petct_slices.losses import slice_loss
from paperworks.papers.petct_slices.network import ARCHITECTURES
from paperworks.papers.petct_slices.preprocessing import CT_WINDOW, PET_WINDOW, Scale, channel_names, check_window

CAW = ("balanced", "one-hot", "batchnorm")


@dataclass(frozen=True)
class SliceOptions:
    """Options of ``SliceClassifier``; see there."""

    input: Literal["pet", "ct", "petct"] = "pet"
    regime: Literal["cag", "caw"] = "cag"
    caw: Literal["balanced", "one-hot", "batchnorm"] = "balanced"
    channels: str | None = None
    image_size: int = 224
    network: str = "resnet18"
    pet_window: tuple[float, float] = PET_WINDOW
    ct_window: tuple[float, float] = CT_WINDOW
    pet_scale: Scale = "window"
    normalise: bool = False
    loss: Literal["focal", "bce"] = "focal"
    gamma: float = 2.0
    alpha: float = 0.25
    pos_weight: float = 1.0
    augment: bool = False
    epochs: float = 20
    batch_size: int = 64
    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    validation_size: float = 0.2
    threshold: str = "0.5"
    spacing: tuple[float | None, float | None, float | None] | None = None

    def __post_init__(self) -> None:
        channel_names(self.input, self.channels)
        check_window("pet_window", self.pet_window)
        check_window("ct_window", self.ct_window)
        slice_loss(self.loss, gamma=self.gamma, alpha=self.alpha, pos_weight=self.pos_weight)
        for name, known in (("regime", ("cag", "caw")), ("caw", CAW), ("network", tuple(ARCHITECTURES))):
            if getattr(self, name) not in known:
                raise InputError(name, repr(getattr(self, name)), f"one of {', '.join(known)}")

    @property
    def center_mode(self) -> str:
        """How the network knows the center: not at all, by a one-hot vector, or by a BatchNorm of its own."""
        return "none" if self.regime == "cag" or self.caw == "balanced" else self.caw

    def inputs(self) -> InputOptions:
        """How stored slices become the network's input."""
        channels = channel_names(self.input, self.channels)
        return InputOptions(channels, self.pet_window, self.ct_window, self.pet_scale, self.normalise)
