"""Facility location of Paperworks beside apricot-select, on the same rows in one run.

    python benchmarks/embedding_selection_peers.py [--rows 2000] [--choose 100]

apricot's FacilityLocationSelection (lazy, numba compiled beforehand) gets the similarities; ours gets the vectors, and
computes similarities itself. Both must choose the same rows. apricot is no dependency: ``pip install apricot-select``.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from paperworks.embedding import facility_location


def facility(rows: int, choose: int) -> None:
    """Time and choice of both on vectors around 40 random centres."""
    from apricot import FacilityLocationSelection

    rng = np.random.default_rng(0)
    centers = rng.normal(size=(40, 64))
    x = centers[rng.integers(40, size=rows)] + 0.7 * rng.normal(size=(rows, 64))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)

    def theirs(count: int) -> Any:
        similarity = np.maximum(unit @ unit.T, 0)
        return FacilityLocationSelection(count, metric="precomputed", optimizer="lazy").fit(similarity).ranking

    theirs(2)
    started = time.perf_counter()
    ranking = theirs(choose)
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    ours = facility_location(x, choose)
    own = time.perf_counter() - started
    same = int((ours == ranking).sum())
    print(
        f"facility location, {choose} of {rows:,} rows: apricot {seconds:.2f} s, ours {own:.2f} s, "
        f"ratio {own / seconds:.2f}, {same} of {choose} choices the same"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--choose", type=int, default=100)
    given = parser.parse_args()
    facility(given.rows, given.choose)


if __name__ == "__main__":
    main()
