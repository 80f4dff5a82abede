"""NT-Xent and the supervised contrastive loss beside pytorch-metric-learning and lightly.

    python benchmarks/contrastive_loss_peers.py [--pairs 64] [--dims 128] [--repeats 20] [--peers lightly]

Forward and backward of the same features, float32, one process, the implementations in turn; the ratios are of the
medians. Values and gradients are compared in float64. The NT-Xent of pytorch-metric-learning holds an array of positive
pairs times negative pairs, the third power of the batch: the default batch is small for that reason, and ``--peers
lightly`` compares larger ones. ``pip install --no-deps lightly`` is enough for its loss.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from typing import ClassVar

import numpy as np
import torch

from paperworks.embedding import nt_xent, supervised_contrastive_loss

TEMPERATURE = 0.2
METRIC_LEARNING, LIGHTLY = "pytorch-metric-learning", "lightly"
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def implementations(pairs: int, classes: int, peers: list[str]) -> dict[str, dict[str, Loss]]:
    """Loss -> implementation -> function of two views [pairs, dims]."""
    labels = torch.arange(pairs).repeat(2) % classes
    contrastive: dict[str, Loss] = {
        "Paperworks": lambda a, b: nt_xent(a, b, temperature=TEMPERATURE),
        "Paperworks, chunks of 256": lambda a, b: nt_xent(a, b, temperature=TEMPERATURE, chunk=256),
    }
    supervised: dict[str, Loss] = {
        "Paperworks": lambda a, b: supervised_contrastive_loss(torch.cat([a, b]), labels, temperature=TEMPERATURE)
    }
    if METRIC_LEARNING in peers:
        from pytorch_metric_learning.losses import NTXentLoss, SupConLoss

        ids = torch.arange(pairs).repeat(2)
        theirs, with_labels = NTXentLoss(TEMPERATURE), SupConLoss(TEMPERATURE)
        contrastive[METRIC_LEARNING] = lambda a, b: theirs(torch.cat([a, b]), ids)
        supervised[METRIC_LEARNING] = lambda a, b: with_labels(torch.cat([a, b]), labels)
    if LIGHTLY in peers:
        with _torchvision_names():
            from lightly.loss import NTXentLoss as LightlyLoss
        lightly = LightlyLoss(TEMPERATURE)
        contrastive[LIGHTLY] = lambda a, b: lightly(a, b)
    return {"NT-Xent": contrastive, f"supervised, {classes} classes": supervised}


class _Names(types.ModuleType):
    """A module in which every name is ``torch.nn.Identity``."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> type[torch.nn.Module]:
        if name.startswith("__"):
            raise AttributeError(name)
        return torch.nn.Identity


@contextmanager
def _torchvision_names() -> Iterator[None]:
    """Let lightly be imported without torchvision: its package names layers that its loss does not use."""
    if importlib.util.find_spec("torchvision") is not None:
        yield
        return
    names = [f"torchvision{end}" for end in ("", ".ops", ".models", ".transforms")]
    modules = {name: _Names(name) for name in names}
    for name, module in modules.items():
        module.__spec__ = ModuleSpec(name, None)
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def step(loss: Loss, a: torch.Tensor, b: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The value, and the gradient to the first view."""
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    value = loss(a, b)
    value.backward()
    assert a.grad is not None
    return float(value.detach()), a.grad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--dims", type=int, default=128)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument(
        "--peers", default=METRIC_LEARNING, help="peers, separated by commas; the first is the reference"
    )
    given = parser.parse_args()
    peers = given.peers.split(",")
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(given.pairs, given.dims, generator=generator) for _ in range(2))
    print(f"{given.pairs} pairs, {given.dims} dimensions, temperature {TEMPERATURE}, {torch.get_num_threads()} threads")
    for name, functions in implementations(given.pairs, given.classes, peers).items():
        reference = next((peer for peer in peers if peer in functions), None)
        if reference is None:
            continue
        value, gradient = step(functions[reference], a.double(), b.double())
        seconds: dict[str, list[float]] = {key: [] for key in functions}
        for _ in range(given.repeats):
            for key, function in functions.items():
                started = time.perf_counter()
                step(function, a, b)
                seconds[key].append(time.perf_counter() - started)
        medians = {key: float(np.median(times)) for key, times in seconds.items()}
        for key, function in functions.items():
            found = step(function, a.double(), b.double())
            error = float((found[1] - gradient).abs().max())
            ratio = medians[key] / medians[reference]
            print(
                f"{name:24} {key:26} {1000 * medians[key]:8.1f} ms  {ratio:.2f} of {reference}"
                f"  difference in value {abs(found[0] - value):.1e}, gradient {error:.1e}"
            )


if __name__ == "__main__":
    main()
