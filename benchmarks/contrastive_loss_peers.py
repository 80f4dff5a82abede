"""NT-Xent and the supervised contrastive loss beside pytorch-metric-learning (and lightly, where installed).

    python benchmarks/contrastive_loss_peers.py [--pairs 64] [--dims 128] [--repeats 20]

Forward and backward of the same features, float32, one process, the implementations in turn; the ratio is of the
medians. Values and gradients are compared in float64. The peer's NT-Xent holds an array of positive pairs times
negative pairs, the third power of the batch: the default batch is small for that reason.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from paperworks.embedding import nt_xent, supervised_contrastive_loss

TEMPERATURE = 0.2
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def implementations(pairs: int, classes: int) -> dict[str, dict[str, Loss]]:
    """Loss -> implementation -> function of two views [pairs, dims]."""
    from pytorch_metric_learning.losses import NTXentLoss, SupConLoss

    ids = torch.arange(pairs).repeat(2)
    labels = torch.arange(pairs).repeat(2) % classes
    theirs, supervised = NTXentLoss(TEMPERATURE), SupConLoss(TEMPERATURE)
    found: dict[str, dict[str, Loss]] = {
        "NT-Xent": {
            "Paperworks": lambda a, b: nt_xent(a, b, temperature=TEMPERATURE),
            "Paperworks, chunks of 256": lambda a, b: nt_xent(a, b, temperature=TEMPERATURE, chunk=256),
            "pytorch-metric-learning": lambda a, b: theirs(torch.cat([a, b]), ids),
        },
        f"supervised, {classes} classes": {
            "Paperworks": lambda a, b: supervised_contrastive_loss(torch.cat([a, b]), labels, temperature=TEMPERATURE),
            "pytorch-metric-learning": lambda a, b: supervised(torch.cat([a, b]), labels),
        },
    }
    try:
        from lightly.loss import NTXentLoss as LightlyLoss
    except ImportError:
        return found
    lightly = LightlyLoss(TEMPERATURE)
    found["NT-Xent"]["lightly"] = lambda a, b: lightly(a, b)
    return found


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
    given = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(given.pairs, given.dims, generator=generator) for _ in range(2))
    print(f"{given.pairs} pairs, {given.dims} dimensions, temperature {TEMPERATURE}, {torch.get_num_threads()} threads")
    for name, functions in implementations(given.pairs, given.classes).items():
        value, gradient = step(functions["pytorch-metric-learning"], a.double(), b.double())
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
            print(
                f"{name:24} {key:26} {1000 * medians[key]:8.1f} ms  ratio to the peer "
                f"{medians[key] / medians['pytorch-metric-learning']:.2f}  difference in value "
                f"{abs(found[0] - value):.1e}, gradient {error:.1e}"
            )


if __name__ == "__main__":
    main()
