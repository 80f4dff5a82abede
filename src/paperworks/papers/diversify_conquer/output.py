"""Files of a run: the subset in the user's own form, ids, and the clusters."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.language.generation import InstructionFile, write_instructions
from paperworks.papers.diversify_conquer.pool import Pool, prompt_text


def write_subset(pool: Pool, rows: np.ndarray, run: runs.Run, form: str) -> str:
    """The chosen samples, in the order of the data; returns the file's name.

    "auto" copies lines of JSON lines and rows of Parquet as they are; other data become JSON lines of messages.
    """
    source = pool.records
    if form == "auto":
        form = "parquet" if source.kind == ".parquet" else "jsonl"
    name = f"subset.{form}"
    path = run.output(name)
    if form == "parquet":
        _write_parquet(source, rows, path)
    elif source.kind == ".jsonl":
        with path.open("wb") as out:
            for line in source.raw_lines(rows):
                out.write(line + b"\n")
    else:
        write_instructions(source.take(rows), path)
    return name


def _write_parquet(source: InstructionFile, rows: np.ndarray, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if source.kind == ".parquet":
        writer: Any = None
        for table in source.raw_tables(rows):
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
        writer.close()
        return
    records = source.take(rows)
    content = [{"id": r.id, "messages": [dict(m) for m in r.messages], **r.extra} for r in records]
    pq.write_table(pa.Table.from_pylist(content), path)


def write_chosen(
    pool: Pool, rows: np.ndarray, labels: np.ndarray, quality: np.ndarray | None, round_of: np.ndarray, run: runs.Run
) -> None:
    """``selected.csv``: row, id, cluster (empty without clusters), quality, round; and ``ids.txt``."""
    ids = pool.ids(rows)
    with run.output("selected.csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["row", "id", "cluster", "quality", "round"])
        for i, row in enumerate(rows):
            shown = "" if quality is None or np.isnan(quality[i]) else f"{quality[i]:.6g}"
            writer.writerow([row, ids[i], int(labels[i]), shown, int(round_of[i])])
    run.output("ids.txt").write_text("".join(f"{one}\n" for one in ids), encoding="utf-8")


def cluster_table(
    pool: Pool,
    rows: np.ndarray,
    labels: np.ndarray,
    distances: np.ndarray,
    chosen: np.ndarray,
    quality: np.ndarray | None,
    weights: np.ndarray | None,
    examples: int = 3,
) -> list[list[Any]]:
    """One row per cluster: number, its most typical samples, size, chosen, mean quality, weight over first weight."""
    k = int(labels.max()) + 1
    sizes, taken = np.bincount(labels, minlength=k), np.bincount(labels[chosen], minlength=k)
    order = np.lexsort((distances, labels))
    bounds = np.searchsorted(labels[order], np.arange(k + 1))
    means = np.full(k, np.nan)
    if quality is not None:
        known = ~np.isnan(quality)
        counts = np.bincount(labels[known], minlength=k)
        sums = np.bincount(labels[known], quality[known], minlength=k)
        means = np.divide(sums, counts, out=means, where=counts > 0)
    table: list[list[Any]] = []
    for cluster in range(k):
        near = order[bounds[cluster] : bounds[cluster + 1]][:examples]
        typical = " | ".join(short(prompt_text(r)) for r in pool.records.take(rows[near]))
        weight = float("nan") if weights is None else float(weights[cluster])
        table.append([cluster, typical, int(sizes[cluster]), int(taken[cluster]), float(means[cluster]), weight])
    return table


def write_clusters(table: list[list[Any]], run: runs.Run) -> None:
    """``clusters.csv``."""
    with run.output("clusters.csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["cluster", "typical samples", "size", "chosen", "mean quality", "weight over first weight"])
        for row in table:
            writer.writerow([f"{c:.6g}" if isinstance(c, float) and c == c else ("" if c != c else c) for c in row])


def short(text: str, most: int = 42) -> str:
    """The beginning of a text on one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1].rstrip() + "…"
