"""NT-Xent and the supervised contrastive loss beside pytorch-metric-learning and lightly.

    PYTHONPATH=peers python benchmarks/contrastive_loss_peers.py [--pairs 64 512] [--dims 128] [--repeats 20]

Writes docs/benchmarks/contrastive-loss.md. Forward and backward of the same features, float32, one process, the
implementations in turn; the ratios are of the medians of processor time. Values and gradients are compared in float64.
The NT-Xent of pytorch-metric-learning holds an array of positive pairs times negative pairs, the third power of the
batch: it is left out above ``MOST_CUBIC`` pairs. ``pip install --no-deps --target peers lightly lightly-utils`` is
enough for lightly's loss; a peer that is not there is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from paperworks.embedding import nt_xent, supervised_contrastive_loss
from paperworks.runs.files import write_text

OUTPUT = Path(__file__).parent.parent / "docs" / "benchmarks" / "contrastive-loss.md"
TEMPERATURE, MOST_CUBIC = 0.2, 128
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
        if pairs <= MOST_CUBIC:
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


def there(peers: list[str]) -> dict[str, str]:
    """The peers that are installed, with their versions."""
    found = {}
    for peer in peers:
        try:
            found[peer] = version(peer)
        except PackageNotFoundError:
            print(f"{peer} is not installed and left out")
    return found


def compare(pairs: int, dims: int, classes: int, repeats: int, peers: list[str]) -> list[str]:
    """Rows of a table: a batch size, every loss, every implementation."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(pairs, dims, generator=generator) for _ in range(2))
    lines = []
    for name, functions in implementations(pairs, classes, peers).items():
        reference = next((peer for peer in peers if peer in functions), None)
        if reference is None:
            continue
        value, gradient = step(functions[reference], a.double(), b.double())
        seconds: dict[str, list[float]] = {key: [] for key in functions}
        for repeat in range(repeats + 1):
            for key, function in functions.items():
                started = time.process_time()
                step(function, a, b)
                if repeat:  # the first round warms up
                    seconds[key].append(time.process_time() - started)
        medians = {key: float(np.median(times)) for key, times in seconds.items()}
        for key, function in functions.items():
            found = step(function, a.double(), b.double())
            error = float((found[1] - gradient).abs().max())
            ratio = medians[key] / medians[reference]
            lines.append(
                f"| {pairs} | {name} | {key} | {1000 * medians[key]:.2f} | {ratio:.2f} | "
                f"{abs(found[0] - value):.1e} | {error:.1e} |"
            )
    return lines


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--dims", type=int, default=128)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(1)
    peers = there([METRIC_LEARNING, LIGHTLY])
    sizes = " ".join(map(str, given.pairs))
    versions = ", ".join(f"{peer} {found}" for peer, found in peers.items())
    rows = [
        row for pairs in given.pairs for row in compare(pairs, given.dims, given.classes, given.repeats, list(peers))
    ]
    lines = [
        "# Contrastive losses beside their peers",
        "",
        f"`PYTHONPATH=peers python benchmarks/contrastive_loss_peers.py --pairs {sizes} --repeats {given.repeats}`, "
        f"{platform.machine()}, torch {version('torch')}, one thread; {versions}.",
        "",
        f"Forward and backward of two views of {given.dims} dimensions at temperature {TEMPERATURE}. Milliseconds of "
        "the processor, medians in turn; the ratio is to the first peer of the same batch and loss. Differences in "
        "value and gradient are from that peer, in float64.",
        "",
        "| pairs | loss | implementation | ms | ratio | difference in value | in gradient |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        f"The NT-Xent of pytorch-metric-learning holds every positive pair beside every negative pair, the third power "
        f"of the batch, and is left out above {MOST_CUBIC} pairs. The supervised loss is measured with labels of "
        f"{given.classes} classes; lightly's NT-Xent takes no labels.",
        "",
    ]
    write_text(OUTPUT, "\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
