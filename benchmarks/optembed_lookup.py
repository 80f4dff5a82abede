"""Lookup in OptEmbed's compact table beside one dense torch.nn.Embedding a field, in one run; and its size on disk.

    python benchmarks/optembed_lookup.py [--fields 26] [--rows 20000] [--dim 16] [--batch 4096] [--rounds 200]

Both are asked in turn for the same ids. Half of the rows are pruned, and dimensions are drawn from 1 to D. Each output
is ``[batch, fields, D]``: the dense one stacks its vectors, the compact one pads them. Side by side without padding
(``concatenated``) is what a perceptron with a cut first layer reads. One thread, processor time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from paperworks.papers.optembed import OptEmbedding


def main() -> None:
    """Print medians and ratios of paired rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=int, default=26)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=200)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = [given.rows] * given.fields
    table = OptEmbedding(sizes, given.dim)
    table.fix(torch.rand(sum(sizes)) < 0.5, torch.randint(1, given.dim + 1, (given.fields,)))
    compact = table.compact()
    dense = nn.ModuleList(nn.Embedding(size, given.dim) for size in sizes)
    ids = torch.randint(0, given.rows, (given.rounds, given.batch, given.fields))
    ways = {
        "dense nn.Embedding": lambda rows: torch.stack([e(rows[:, i]) for i, e in enumerate(dense)], 1),
        "compact, padded": compact,
        "compact, side by side": compact.concatenated,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with torch.no_grad():
        for rows in ids:
            for name, way in ways.items():
                start = time.process_time()
                way(rows)
                seconds[name].append(time.process_time() - start)
    base = np.array(seconds["dense nn.Embedding"])
    for name, values in seconds.items():
        ratio = np.median(np.array(values) / base)
        print(f"{name:24} {1e3 * np.median(values):8.3f} ms a batch of {given.batch:,}, {ratio:5.2f} of the dense time")
    with tempfile.TemporaryDirectory() as folder:
        compact.save_pretrained(Path(folder) / "e")
        stored = (Path(folder) / "e" / "embedding.safetensors").stat().st_size
    numbers, places = 4 * compact.counted_parameters(), 4 * sum(sizes)
    print(
        f"on disk {stored:,} bytes: {numbers:,} of {compact.counted_parameters():,} numbers, {places:,} of places, "
        f"{stored - numbers - places:,} of names; the dense tables are {4 * sum(sizes) * given.dim:,} bytes"
    )


if __name__ == "__main__":
    main()
