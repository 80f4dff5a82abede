"""k-means and the draw of a subset beside faiss alone: the same rows, clusters and passes, in one process.

    python benchmarks/embedding_kmeans.py [--rows 1000000] [--dims 384] [--clusters 1000] [--passes 10]
        [--rows-per-cluster 256] [--init random] [--repeats 1] [--folder DIR]

Both read a memory-mapped float32 file, train on ``--rows-per-cluster`` rows for each cluster (faiss's own default; 0 is
all rows), and then give every row its nearest centre, since ``KMeans`` returns labels too. Ours then computes the
distances to the centres and draws a twentieth of the rows by quality, as ``paperworks run diversify-conquer`` does. The
ratios are of medians over ``--repeats``. Seconds of processor time stand beside those of the clock, which other work on
the machine makes longer. ``--rows 100000 --clusters 200`` takes half a minute.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from paperworks.embedding import KMeans
from paperworks.papers.diversify_conquer import KMeansSelector


def rows_file(path: Path, count: int, dims: int, seed: int) -> np.ndarray:
    """Unit rows around 5,000 directions, written in chunks; memory-mapped."""
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((5000, dims), dtype=np.float32)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (count, dims))
    for start in range(0, count, 50_000):
        size = min(50_000, count - start)
        block = directions[rng.integers(0, 5000, size)] + rng.standard_normal((size, dims), dtype=np.float32)
        out[start : start + size] = block / np.linalg.norm(block, axis=1, keepdims=True)
    out.flush()
    return np.load(path, mmap_mode="r")


class Timed:
    """Seconds of the clock and of the processor of one call, and what it returned."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        started, used = time.perf_counter(), time.process_time()
        self.value = function(*arguments)
        self.clock, self.processor = time.perf_counter() - started, time.process_time() - used


def faiss_alone(rows: np.ndarray, clusters: int, passes: int, most: int, init: str, seed: int) -> float:
    """Sum of squared distances of all rows."""
    method = {
        "random": faiss.ClusteringInitMethod_RANDOM,
        "k-means++": faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
    }[init]
    trainer = faiss.Kmeans(
        rows.shape[1], clusters, niter=passes, seed=seed, max_points_per_centroid=most or len(rows), init_method=method
    )
    trainer.train(rows)
    return float(trainer.index.search(rows, 1)[0].sum(dtype=np.float64))


def ours(rows: np.ndarray, clusters: int, passes: int, most: int, init: str, seed: int) -> KMeans:
    """The same through ``KMeans``."""
    fitted = KMeans(clusters, init=init, max_iter=passes, tol=0.0, max_rows_per_cluster=most or None, random_state=seed)
    return fitted.fit(rows)


def draw(rows: np.ndarray, fitted: KMeans) -> int:
    """Choose a twentieth of the rows by quality inside their clusters."""
    quality = np.random.default_rng(1).standard_normal(len(rows))
    selector = KMeansSelector(fitted.n_clusters, "quality", 0.05)
    return len(selector.use_clusters(rows, fitted.labels_, fitted.cluster_centers_, quality).indices_)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("rows", 1_000_000), ("dims", 384), ("clusters", 1000), ("passes", 10), ("repeats", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rows-per-cluster", type=int, default=256)
    parser.add_argument("--init", choices=["random", "k-means++"], default="random")
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    kept: dict[str, list[Timed]] = {"KMeans": [], "draw": [], "faiss alone": []}
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        rows = rows_file(Path(folder) / "rows.npy", given.rows, given.dims, 0)
        options = (given.clusters, given.passes, given.rows_per_cluster, given.init)
        faiss.Kmeans(given.dims, 2, niter=1).train(
            np.asarray(rows[:100])
        )  # threads are started before anything is timed
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for repeat in range(given.repeats):
            kept["KMeans"].append(Timed(ours, rows, *options, repeat))
            kept["draw"].append(Timed(draw, rows, kept["KMeans"][-1].value))
            if not repeat:
                memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
            kept["faiss alone"].append(Timed(faiss_alone, rows, *options, repeat))
    print(
        f"{given.rows:,} rows of {given.dims}, {given.clusters:,} clusters, {given.passes} passes, init {given.init}, "
        f"{given.rows_per_cluster or 'all'} rows per cluster; {faiss.omp_get_max_threads()} threads, "
        f"{given.repeats} repeats, load of the machine {os.getloadavg()[0]:.1f}"
    )
    clock = {name: float(np.median([t.clock for t in timed])) for name, timed in kept.items()}
    processor = {name: float(np.median([t.processor for t in timed])) for name, timed in kept.items()}
    for name, timed in kept.items():
        value = timed[-1].value
        said = (
            f"{value:,} rows"
            if name == "draw"
            else f"sum of squared distances {getattr(value, 'inertia_', value):,.0f}"
        )
        print(f"{name:12} {clock[name]:8.1f} s   processor {processor[name]:8.1f} s   {said}")
    for name, seconds in (("clock", clock), ("processor", processor)):
        alone = seconds["faiss alone"]
        print(
            f"{name:9} ratio {seconds['KMeans'] / alone:.2f}, "
            f"with the draw {(seconds['KMeans'] + seconds['draw']) / alone:.2f}"
        )
    print(f"largest resident memory above the start {memory:.2f} GiB, pages of the mapped file included")


if __name__ == "__main__":
    main()
