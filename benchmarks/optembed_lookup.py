"""Lookup in OptEmbed's compact table beside one dense torch.nn.Embedding a field, in one run; and its size on disk.

    python benchmarks/optembed_lookup.py [--fields 26] [--rows 20000] [--dim 16] [--batch 4096] [--rounds 15]

All are asked in turn for the same ids, 20 batches a round. Half of the rows are pruned, and dimensions are drawn from 1
to D. Each output is ``[batch, fields, D]``: the dense one stacks its vectors, the compact one pads them. Side by side
without padding (``concatenated``) is what a perceptron with a cut first layer reads. One thread, processor time; ratios
are of paired rounds, with 95 % intervals.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from paperworks.metrics import ratio_interval
from paperworks.papers.optembed import OptEmbedding

DENSE = "dense nn.Embedding"
BATCHES = 20
"""In a round: processor time may be counted in steps of 4 ms, which one batch takes."""


def main() -> None:
    """Print medians and ratios of paired rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=int, default=26)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = [given.rows] * given.fields
    table = OptEmbedding(sizes, given.dim)
    table.fix(torch.rand(sum(sizes)) < 0.5, torch.randint(1, given.dim + 1, (given.fields,)))
    compact = table.compact()
    dense = nn.ModuleList(nn.Embedding(size, given.dim) for size in sizes)
    ids = torch.randint(0, given.rows, (BATCHES, given.batch, given.fields))
    eight = compact.quantized()
    ways: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        DENSE: lambda rows: torch.stack([e(rows[:, i]) for i, e in enumerate(dense)], 1),
        "compact, padded": compact,
        "compact, side by side": compact.concatenated,
        "compact in eight bits, padded": eight,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with torch.no_grad():
        for number in range(given.rounds + 1):
            for name, way in ways.items():
                start = time.process_time()
                for rows in ids:
                    way(rows)
                if number:  # the first round warms up
                    seconds[name].append((time.process_time() - start) / BATCHES)
    base = np.array(seconds[DENSE])
    for name, values in seconds.items():
        ratio = ratio_interval(np.array(values) / base) if name != DENSE else None
        words = "" if ratio is None else f", {ratio.estimate:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] of the dense time"
        print(f"{name:30} {1e3 * np.median(values):7.3f} ms a batch of {given.batch:,}{words}")
    numbers, places = compact.counted_parameters(), 4 * sum(sizes)
    for words, table, width in (("", compact, 4), (" in eight bits", eight, 1)):
        with tempfile.TemporaryDirectory() as folder:
            table.save_pretrained(Path(folder) / "e")
            stored = (Path(folder) / "e" / "embedding.safetensors").stat().st_size
        rest = stored - width * numbers - places
        print(
            f"on disk{words} {stored:,} bytes: {width * numbers:,} of {numbers:,} numbers, {places:,} of places, "
            f"{rest:,} of names and scales; the dense tables are {4 * sum(sizes) * given.dim:,} bytes"
        )


if __name__ == "__main__":
    main()
