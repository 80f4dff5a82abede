"""ProcX without one of its parts, on the simulated videos of its study: plain attention, no contrastive loss.

    python benchmarks/sieve_swap_ablations.py [--seeds 2]

Needs `paperworks data get wikibooks-recipes`. Every variant sees the same videos, seeds and steps; figures are means
over the seeds, of one run.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import numpy as np

from paperworks.papers.sieve_swap.studies.learning import CONFIG, World

VARIANTS = {
    "ProcX": CONFIG,
    "plain deformable attention": replace(CONFIG, key_aware=False),
    "no contrastive objective": replace(CONFIG, contrastive=0.0),
}


def main() -> int:
    """Print a line for each variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for seed in range(given.seeds):
        world = World(seed, fast=False)
        for name, config in VARIANTS.items():
            rows[name].append(world.scores(world.train(config, world.training)))
            print(f"seed {seed}, {name}: F1 {rows[name][-1]['f1']:.3f}", file=sys.stderr)
    for name, found in rows.items():
        means = {figure: float(np.mean([row[figure] for row in found])) for figure in found[0]}
        print(f"{name}: " + ", ".join(f"{figure} {value:.3f}" for figure, value in means.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
