"""The compiled additive attention of pointer-networks beside torch's operations: scores and gradients, one thread.

    python benchmarks/pointer_networks_attention.py

For n points, a batch of 64 instances asks n + 1 times for the scores of n + 1 keys of width 128. Prints the processor
time of both, the ratio with a 95% interval over rounds in which each is measured in turn, and the largest difference.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from paperworks.metrics import ratio_interval
from paperworks.papers.pointer_networks.attention import additive_scores, torch_scores

Scores = Callable[[Tensor, Tensor, Tensor], Tensor]


def seconds(scores: Scores, parts: list[Tensor]) -> float:
    """Processor time of one forward and one backward pass."""
    started = time.process_time()
    scores(*parts).sum().backward()
    return time.process_time() - started


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=128)
    given = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    for n in (10, 50):
        shapes = ((given.batch, n + 1, given.hidden), (given.batch, n + 1, given.hidden), (given.hidden,))
        query, keys, v = (torch.randn(shape, generator=generator) for shape in shapes)
        parts = [part.requires_grad_() for part in (query, keys, v * given.hidden**-0.5)]
        with torch.no_grad():
            apart = float((additive_scores(*parts) - torch_scores(*parts)).abs().max())
        seconds(additive_scores, parts)
        times = [(seconds(torch_scores, parts), seconds(additive_scores, parts)) for _ in range(given.rounds)]
        ratio = ratio_interval([slow / fast for slow, fast in times])
        slow, fast = (1e3 * min(column) for column in zip(*times, strict=True))
        print(
            f"{n} points: torch {slow:.1f} ms, compiled {fast:.1f} ms; {ratio.estimate:.1f} times "
            f"[{ratio.low:.1f}, {ratio.high:.1f}]; largest difference of a score {apart:.1g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
