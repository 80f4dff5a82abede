"""Sentences searched among a million written steps: block-wise, beside the whole matrix and sentence-transformers.

    python benchmarks/sieve_swap_million.py [--steps 1000000] [--sentences 50] [--dimensions 384]

Each search runs in a process of its own, so that its peak memory is its own. Vectors are random: time and memory do not
depend on what they mean. Ratios are of one run.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.papers.sieve_swap.similarity import DenseIndex, top_steps, unit

BLOCK = 2**14
K = 16


class _Nothing:
    """An encoder that is never asked: the vectors are there."""

    name = "random"

    def encode(self, items: Any) -> np.ndarray:
        return np.ones((len(items), 1), np.float32)


def make_vectors(path: Path, steps: int, dimensions: int) -> None:
    """Random unit vectors in float32, written block by block."""
    rng = np.random.default_rng(0)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (steps, dimensions))
    for start in range(0, steps, BLOCK):
        size = min(BLOCK, steps - start)
        out[start : start + size] = unit(rng.standard_normal((size, dimensions), dtype=np.float32))
    out.flush()


def search(kind: str, path: Path, sentences: int) -> dict[str, float]:
    """Seconds, and anonymous memory in MiB (mapped pages of the vectors are not counted)."""
    vectors = np.load(path, mmap_mode="r")
    queries = unit(np.random.default_rng(1).standard_normal((sentences, vectors.shape[1]), dtype=np.float32))
    index = DenseIndex(_Nothing(), ["a step"])
    index.vectors, index.count = vectors, len(vectors)
    if kind == "semantic_search":
        import sentence_transformers.util  # noqa: F401 - importing is not measured
    before = _anonymous_peak()
    start = time.perf_counter()
    if kind == "blocks":
        values, found = top_steps(index, queries, K)
    elif kind == "semantic_search":
        import torch
        from sentence_transformers.util import semantic_search

        hits = semantic_search(torch.from_numpy(queries), torch.from_numpy(vectors), top_k=K)
        found = np.array([[hit["corpus_id"] for hit in row] for row in hits])
        values = np.array([[hit["score"] for hit in row] for row in hits])
    else:
        whole = queries @ np.asarray(vectors).T
        found = np.argsort(-whole, axis=1, kind="stable")[:, :K]
        values = np.take_along_axis(whole, found, 1)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "MiB": _anonymous_peak() - before,
        "checksum": float(values.sum()),
        "steps": float(found.sum()),
    }


def _anonymous_peak() -> float:
    """Peak of private memory in MiB where Linux tells it, else of all memory."""
    status = Path("/proc/self/status")
    if status.is_file():
        values = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        mapped = float(values["RssFile"].split()[0]) / 1024
        return float(values["VmHWM"].split()[0]) / 1024 - mapped
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Print a line for each search, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--sentences", type=int, default=50)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(search(given.child[0], Path(given.child[1]), given.sentences)))
        return 0
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "steps.npy"
        make_vectors(path, given.steps, given.dimensions)
        for kind in ("blocks", "whole", "semantic_search"):
            command = [sys.executable, __file__, "--sentences", str(given.sentences), "--child", kind, str(path)]
            found[kind] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(f"{kind}: {found[kind]['seconds']:.2f} s, {found[kind]['MiB']:,.0f} MiB on top of the mapped vectors")
    print(f"the matrix alone: {given.steps * given.sentences * 4 / 2**20:,.0f} MiB")
    for kind in ("whole", "semantic_search"):
        same = found["blocks"]["steps"] == found[kind]["steps"]
        seconds, memory = (found["blocks"][figure] / found[kind][figure] for figure in ("seconds", "MiB"))
        print(
            f"blocks / {kind}: time {seconds:.2f}, memory {memory:.3f}; the same {K} steps: {'yes' if same else 'no'}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
