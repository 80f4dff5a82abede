"""Free embeddings beside a plain PyTorch loop: seconds of an iteration, memory, and what both solve.

    python benchmarks/embedding_limits_solver.py [--d 8] [--n 28] [--iterations 400] [--threads 2] [--solve]

The plain loop is written as one would write the paper's algorithm: autograd, torch.optim.Adam, a projection, the
loss read in every iteration, and accuracy by topk in every 50th. Both do the same number of iterations from the same
starting point, in turn; the ratio is of the medians. ``--solve`` compares instead from how many of three starting
points the two reach accuracy 1 at n, n + 1 and n + 2 documents.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from paperworks.papers.embedding_limits import FreeEmbeddings, all_subsets
from paperworks.papers.embedding_limits.free import _unit_vectors

SEEDS = (42, 43, 44)
LR, TEMPERATURE, PATIENCE, MIN_DELTA, EVERY = 0.01, 0.1, 1000, 1e-5, 50


def plain(n: int, d: int, iterations: int, seed: int, *, stop: bool = True) -> tuple[float, int]:
    """Best accuracy and iterations of the plain loop on all pairs of n documents."""
    qrels = all_subsets(n)
    m = qrels.shape[0]
    relevant = torch.from_numpy(qrels.toarray()).float()
    start = _unit_vectors(seed, m, n, d)
    queries, documents = (part.clone().requires_grad_() for part in (start[:m], start[m:]))
    adam = torch.optim.Adam([queries, documents], lr=LR)
    best, lowest, waited = 0.0, float("inf"), 0
    for step in range(1, iterations + 1):
        adam.zero_grad()
        log_p = functional.log_softmax(queries @ documents.T / TEMPERATURE, dim=1)
        loss = -(log_p * relevant).sum() / relevant.sum()
        loss.backward()
        adam.step()
        with torch.no_grad():
            queries.div_(queries.norm(dim=1, keepdim=True))
            documents.div_(documents.norm(dim=1, keepdim=True))
        value = loss.item()
        if value < lowest - MIN_DELTA:
            lowest, waited = value, 0
        else:
            waited += 1
        if step % EVERY == 0:
            with torch.no_grad():
                top = (queries @ documents.T).topk(2, dim=1).indices
                best = max(best, float(relevant.gather(1, top).sum() / relevant.sum()))
        if stop and (best == 1.0 or waited >= PATIENCE):
            break
    return best, step


def seconds(n: int, d: int, iterations: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Median seconds of an iteration of both, run in turn: on the wall's clock, and of processors."""
    taken: dict[str, list[tuple[float, float]]] = {"plain loop": [], "FreeEmbeddings": []}
    qrels = all_subsets(n)
    for repeat in range(repeats + 1):
        marks = [(time.perf_counter(), time.process_time())]
        plain(n, d, iterations, repeat, stop=False)
        marks.append((time.perf_counter(), time.process_time()))
        # lr so small that no start succeeds: every iteration is done
        FreeEmbeddings(d, max_iter=iterations, patience=iterations + 1, seed=repeat, lr=1e-9).fit(qrels)
        marks.append((time.perf_counter(), time.process_time()))
        if repeat:  # the first warms up
            for some, (a, b) in zip(taken.values(), pairwise(marks), strict=True):
                some.append(((b[0] - a[0]) / iterations, (b[1] - a[1]) / iterations))
    return {name: tuple(np.median(some, axis=0).tolist()) for name, some in taken.items()}


def peak(solver: str, n: int, d: int) -> float:
    """Peak memory in MiB of ten iterations on all pairs of n documents, in a process of its own, above its imports."""
    command = [sys.executable, __file__, "--memory", solver, "--n", str(n), "--d", str(d)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory(solver: str, n: int, d: int) -> None:
    """Print how far ten iterations raise the memory of this process at their peak, in MiB (Linux)."""
    qrels = all_subsets(n)
    plain(6, 2, 50, 0)
    FreeEmbeddings(2, max_iter=50).fit(all_subsets(6))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _kibibytes("VmRSS")
    if solver == "plain":
        plain(n, d, 10, 0)
    else:
        FreeEmbeddings(d, max_iter=10, log_every=10).fit(qrels)
    print((_kibibytes("VmHWM") - before) / 1024)


def _kibibytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def solve(first: int, d: int) -> None:
    """Print for how many of three starting points both reach accuracy 1, at three numbers of documents."""
    for n in range(first, first + 3):
        solved = {
            "plain loop": [plain(n, d, 100_000, seed)[0] == 1.0 for seed in SEEDS],
            "FreeEmbeddings": [FreeEmbeddings(d, seed=s).fit(all_subsets(n)).accuracy_ == 1.0 for s in SEEDS],
        }
        shown = ", ".join(f"{name} {sum(found)}" for name, found in solved.items())
        print(f"d = {d}, n = {n}: solved from {len(SEEDS)} starting points: {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d", type=int, default=8)
    parser.add_argument("--n", type=int, default=28)
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--solve", action="store_true")
    parser.add_argument("--memory", default="")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.memory:
        memory(given.memory, given.n, given.d)
        return
    if given.solve:
        solve(given.n, given.d)
        return
    for n, d in ((given.n, given.d), (120, 20)):
        iterations = given.iterations if n < 100 else max(10, given.iterations // 20)
        found = seconds(n, d, iterations, given.repeats)
        shown = ", ".join(f"{name} {1e6 * wall:.0f} ({1e6 * used:.0f})" for name, (wall, used) in found.items())
        ratios = [a / b for a, b in zip(found["plain loop"], found["FreeEmbeddings"], strict=True)]
        print(
            f"d = {d}, n = {n}, {n * (n - 1) // 2} queries, {given.threads} threads, us an iteration (of processors): "
            f"{shown}; ratio {ratios[0]:.2f} ({ratios[1]:.2f})",
            flush=True,
        )
    for n in (200, 400):
        print(
            f"peak memory at n = {n}, {n * (n - 1) // 2} queries: plain loop {peak('plain', n, 16):.0f} MiB, "
            f"FreeEmbeddings {peak('ours', n, 16):.0f} MiB (scores alone are {4 * n * n * (n - 1) / 2 / 2**20:.0f} MiB)"
        )


if __name__ == "__main__":
    main()
