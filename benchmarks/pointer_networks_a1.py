"""A1 of pointer-networks beside the package tsp-solver2, which the paper's A1 comes from, on the same points.

    pip install tsp-solver2
    python benchmarks/pointer_networks_a1.py

Prints the mean lengths over 300 uniform instances, and the mean difference with its standard error.
"""

from __future__ import annotations

import argparse

import numpy as np

from paperworks.papers.pointer_networks.heuristics import greedy_edge
from paperworks.papers.pointer_networks.tours import distances, tour_length


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=300)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    from tsp_solver.greedy import solve_tsp

    rng = np.random.default_rng(given.seed)
    for n in (10, 50):
        points = [rng.random((n, 2)) for _ in range(given.instances)]
        ours = np.array([tour_length(p, greedy_edge(p)) for p in points])
        theirs = np.array([tour_length(p, np.array(solve_tsp(distances(p).tolist()))) for p in points])
        difference = ours - theirs
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        means = f"A1 {ours.mean():.3f}, tsp-solver2 {theirs.mean():.3f}"
        print(f"{n} points: {means}, difference {difference.mean():.3f} +- {error:.3f}", flush=True)


if __name__ == "__main__":
    main()
