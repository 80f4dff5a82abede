"""k-means of Paperworks beside faiss alone: the same rows, clusters and passes, in one process.

    python benchmarks/embedding_kmeans.py [--rows 1000000] [--dims 384] [--clusters 1000] [--passes 20] [--init random]

Both read a memory-mapped float32 file. faiss trains on all rows (``max_points_per_centroid`` is n) and then assigns
each row, since ``KMeans`` returns labels too. The two are run in turn, ``--repeats`` times; the ratio is of the
medians. ``--rows 50000 --clusters 200 --passes 5`` takes a minute.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np

from paperworks.embedding import KMeans


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


def faiss_alone(rows: np.ndarray, clusters: int, passes: int, init: str, seed: int) -> tuple[float, float]:
    """(seconds, sum of squared distances)."""
    method = {
        "random": faiss.ClusteringInitMethod_RANDOM,
        "k-means++": faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
    }[init]
    started = time.perf_counter()
    trainer = faiss.Kmeans(
        rows.shape[1], clusters, niter=passes, seed=seed, max_points_per_centroid=len(rows), init_method=method
    )
    trainer.train(rows)
    distances, _ = trainer.index.search(rows, 1)
    return time.perf_counter() - started, float(distances.sum(dtype=np.float64))


def ours(rows: np.ndarray, clusters: int, passes: int, init: str, seed: int) -> tuple[float, float]:
    """(seconds, inertia)."""
    started = time.perf_counter()
    fitted = KMeans(clusters, init=init, max_iter=passes, tol=0.0, random_state=seed).fit(rows)
    return time.perf_counter() - started, fitted.inertia_


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, default=384)
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--init", choices=["random", "k-means++"], default="random")
    parser.add_argument("--repeats", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = rows_file(Path(folder) / "rows.npy", given.rows, given.dims, 0)
        options = (given.clusters, given.passes, given.init)
        faiss.Kmeans(given.dims, 2, niter=1).train(rows[:100])  # threads are started before anything is timed
        measured: dict[str, list[tuple[float, float]]] = {"faiss alone": [], "KMeans": []}
        for repeat in range(given.repeats):
            measured["KMeans"].append(ours(rows, *options, seed=repeat))
            measured["faiss alone"].append(faiss_alone(rows, *options, seed=repeat))
    print(
        f"{given.rows:,} rows, {given.dims} dimensions, {given.clusters} clusters, {given.passes} passes, "
        f"init {given.init}, {faiss.omp_get_max_threads()} threads"
    )
    medians = {}
    for name, runs in measured.items():
        medians[name] = float(np.median([s for s, _ in runs]))
        print(f"{name:12} {medians[name]:9.1f} s   sum of squared distances {np.median([v for _, v in runs]):.1f}")
    print(f"ratio {medians['KMeans'] / medians['faiss alone']:.2f}")
    print(f"largest resident memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
