"""Training ensembles: our stacked descent beside the usual loop of one module, autograd and SGD per network.

    python benchmarks/permutations_ntk_training.py [--bits 8] [--width 4096] [--networks 64]

Both train the same networks (same weights at the start, same learning rate, same steps) with one thread, taking turns;
the ratio is of the best of three. The trained outputs are compared, so that both have done the same work.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from paperworks.papers.permutations_ntk import NTKMLP
from paperworks.papers.permutations_ntk.ensemble import STACK_FLOATS
from paperworks.papers.permutations_ntk.kernels import unit_rows
from paperworks.papers.permutations_ntk.networks import Descent, NetworkSpec, draw_members


def stacked(spec: NetworkSpec, plan: Descent, count: int, targets: torch.Tensor, probe: torch.Tensor) -> torch.Tensor:
    """Ours: outputs on the probe rows (count, num, k)."""
    size = max(1, STACK_FLOATS // (spec.member_bytes // 4))
    outputs = []
    for start in range(0, count, size):
        members = draw_members(spec, 0, range(start, min(start + size, count)))
        members.descend(torch.eye(spec.inputs), targets, plan.learning_rate, plan.steps)
        outputs.append(members.outputs(probe))
    return torch.cat(outputs)


def one_by_one(
    spec: NetworkSpec, plan: Descent, count: int, targets: torch.Tensor, probe: torch.Tensor
) -> torch.Tensor:
    """The usual loop: the same outputs."""
    rows, outputs = torch.eye(spec.inputs), []
    for index in range(count):
        module = NTKMLP.of_member(draw_members(spec, 0, range(index, index + 1)), 0)
        optimiser = torch.optim.SGD(module.parameters(), lr=plan.learning_rate)
        for _ in range(plan.steps):
            optimiser.zero_grad()
            (module(rows) - targets).square().sum().div(2).backward()
            optimiser.step()
        with torch.no_grad():
            outputs.append(module(probe))
    return torch.stack(outputs)


def main() -> None:
    """Print milliseconds per network of both, and their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--networks", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    k, count = options.bits, options.networks
    targets = torch.eye(k).roll(1, 0)
    probe = torch.tensor(unit_rows(np.tril(np.ones((k, k)))), dtype=torch.float32)
    print(f"k = {k}, width {options.width}, {count} networks")
    print(f"{'parametrisation':<18}{'steps':>7}{'ours, ms':>11}{'autograd, ms':>14}{'ratio':>8}{'difference':>12}")
    for parametrization in ("ntk", "standard"):
        spec = NetworkSpec(k, k, options.width, parametrization)  # type: ignore[arg-type]
        plan = Descent.plan(spec, np.eye(k))
        best, found = {}, {}
        for _ in range(3):
            for function in (stacked, one_by_one):
                start = time.perf_counter()
                found[function] = function(spec, plan, count, targets, probe)
                best[function] = min(best.get(function, float("inf")), time.perf_counter() - start)
        ours, peer = (1000 * best[function] / count for function in (stacked, one_by_one))
        difference = float((found[stacked] - found[one_by_one]).abs().max())
        print(f"{parametrization:<18}{plan.steps:>7}{ours:>11.2f}{peer:>14.2f}{peer / ours:>8.2f}{difference:>12.1e}")


if __name__ == "__main__":
    main()
