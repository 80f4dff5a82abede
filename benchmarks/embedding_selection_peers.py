"""Facility location and k-means selection of Paperworks beside apricot-select and faiss, on the same rows in one run.

    python benchmarks/embedding_selection_peers.py [--facility-rows 2000] [--choose 100]
        [--rows 1000000] [--dims 384] [--clusters 1000] [--passes 10] [--folder DIR]

First part: faiss alone trains on 256 rows per cluster and assigns all rows; ours does the same through ``KMeans``, and
then draws a twentieth of the rows by quality inside the clusters. Rows are a memory-mapped float32 file. ``--rows 0``
leaves the part out; ``--rows 100000 --clusters 200`` takes half a minute.

Second part: apricot's FacilityLocationSelection (lazy, numba compiled beforehand) gets the similarities; ours gets the
vectors, and computes similarities itself. Both must choose the same rows.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.embedding import KMeans, facility_location
from paperworks.papers.diversify_conquer import KMeansSelector

ROWS_PER_CLUSTER = 256


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


def rows_file(path: Path, count: int, dims: int) -> np.ndarray:
    """Unit rows around 5,000 directions, written in chunks; memory-mapped."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((5000, dims), dtype=np.float32)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (count, dims))
    for start in range(0, count, 50_000):
        size = min(50_000, count - start)
        block = directions[rng.integers(0, 5000, size)] + rng.standard_normal((size, dims), dtype=np.float32)
        out[start : start + size] = block / np.linalg.norm(block, axis=1, keepdims=True)
    out.flush()
    return np.load(path, mmap_mode="r")


def clustering(folder: Path, count: int, dims: int, clusters: int, passes: int) -> None:
    """Time of both, and what the draw adds."""
    import faiss

    rows = rows_file(folder / "rows.npy", count, dims)
    faiss.Kmeans(dims, 2, niter=1).train(np.asarray(rows[:100]))  # threads are started before anything is timed
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, used = time.perf_counter(), time.process_time()
    fitted = KMeans(clusters, init="random", max_iter=passes, tol=0.0, max_rows_per_cluster=ROWS_PER_CLUSTER).fit(rows)
    kmeans, kmeans_cpu = time.perf_counter() - started, time.process_time() - used
    selector = KMeansSelector(clusters, "quality", 0.05)
    quality = np.random.default_rng(1).standard_normal(count)
    chosen = selector.use_clusters(rows, fitted.labels_, fitted.cluster_centers_, quality).indices_
    ours = time.perf_counter() - started
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    started, used = time.perf_counter(), time.process_time()
    trainer = faiss.Kmeans(dims, clusters, niter=passes, seed=0, max_points_per_centroid=ROWS_PER_CLUSTER)
    trainer.train(rows)
    distances, _ = trainer.index.search(rows, 1)
    alone, alone_cpu = time.perf_counter() - started, time.process_time() - used
    print(
        f"{count:,} rows of {dims}, {clusters:,} clusters, {passes} passes, {faiss.omp_get_max_threads()} threads: "
        f"faiss alone {alone:.1f} s (sum of squared distances {distances.sum(dtype=np.float64):.0f}), "
        f"ours {kmeans:.1f} s ({fitted.inertia_:.0f}), ratio {kmeans / alone:.2f}, "
        f"of processor time {kmeans_cpu / alone_cpu:.2f} "
        f"({kmeans_cpu:.1f} s and {alone_cpu:.1f} s); "
        f"with distances and a draw of {len(chosen):,} {ours:.1f} s, ratio {ours / alone:.2f}; "
        f"memory above the start {memory:.2f} GiB, mapped pages included"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (
        ("facility-rows", 2000),
        ("choose", 100),
        ("rows", 1_000_000),
        ("dims", 384),
        ("clusters", 1000),
        ("passes", 10),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    if given.rows:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            clustering(Path(folder), given.rows, given.dims, given.clusters, given.passes)
    if given.facility_rows:
        facility(given.facility_rows, given.choose)


if __name__ == "__main__":
    main()
