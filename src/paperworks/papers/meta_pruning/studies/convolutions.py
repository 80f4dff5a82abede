"""A network of four convolutions with batch norms on digits: edges of two types, 9 and 1, and the same protocol."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from paperworks import runs
from paperworks.papers.meta_pruning.meta_training import MetaSettings
from paperworks.papers.meta_pruning.studies.digits import FAST, curve_findings
from paperworks.papers.meta_pruning.studies.protocol import NORMS, REG, RHO, measured
from paperworks.runs import Finding, Run

SEEDS = (0, 1, 2)
OPTIONS = {"hidden": 16, "layers": 4, "rho": RHO}
SETTINGS = MetaSettings(epochs=15, batches=3, reg=REG, norms=NORMS, select_every=5)
WIDTHS = (8, 12, 12, 16)


class FourConvolutions(nn.Sequential):
    """Four 3x3 convolutions with batch norms, the second with stride 2; mean over positions; a linear layer."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        before = 1
        for number, width in enumerate(WIDTHS):
            stride = 2 if number == 1 else 1
            layers += [nn.Conv2d(before, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


def make(seed: int) -> nn.Module:
    """A network with weights of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FourConvolutions()


@runs.study(claims=["slower-accuracy-loss"], title="Networks of four convolutions on digits", minutes=6)
def convolutions(run: Run, fast: bool) -> Iterator[Finding]:
    """Three seeds, the protocol and the settings of the perceptrons."""
    seeds = SEEDS[:2] if fast else SEEDS
    settings = FAST if fast else SETTINGS
    rows = [measured(run, "cnn", seed, make, OPTIONS, settings, fast=fast) for seed in run.progress(seeds, "seeds")]
    yield from curve_findings(rows, "four convolutions")
