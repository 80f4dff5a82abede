"""From the figures of methods and seeds to tables."""

from __future__ import annotations

import csv
import io
import math
import statistics
from typing import Any

from paperworks import runs

Row = dict[str, Any]


def method_notes(rows: list[Row]) -> list[str]:
    """What the methods say of their fits: once, with the seeds where it is not true of all of them."""
    said: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for note in dict.fromkeys(row.get("notes", [])):
            said.setdefault((row["method"], note), []).append(str(row["seed"]))
    found = []
    for (method, note), seeds in said.items():
        of_all = len(seeds) == sum(row["method"] == method for row in rows)
        which = "" if of_all else f", seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"
        found.append(f"{method}{which}: {note}")
    return found


def summarise(method: str, rows: list[Row]) -> dict[str, Any]:
    """Means over the seeds of a method that did not fail; NaN where all did."""
    good = [r for r in rows if "error" not in r]

    def mean(values: list[float]) -> float:
        return statistics.fmean(values) if values else math.nan

    found: dict[str, Any] = {"method": method}
    for when in ("before", "after"):
        values = [r[when]["perplexity"] for r in good]
        found[when] = mean(values)
        found[f"{when} spread"] = max(values) - min(values) if values else math.nan
    for name in ("acc", "acc_norm"):
        found[name] = mean([r["after"][f"choice {name}"] for r in good if f"choice {name}" in r["after"]])
    for name in ("parameters", "macs", "cache", "bytes", "seconds", "memory", "steps"):
        found[name] = mean([r[name] for r in good])
    for name in ("prefill", "decode", "latency", "prefill ratio", "decode ratio"):
        found[name] = mean([r["speed"][name] for r in good])
    return found


def shown(table: list[list[Any]]) -> list[list[Any]]:
    """Cells of methods that failed are empty."""
    return [[None if isinstance(cell, float) and math.isnan(cell) else cell for cell in row] for row in table]


def by_seed(rows: list[Row]) -> runs.Table:
    """Perplexities of every method and seed."""
    return runs.Table(
        "Perplexity by seed",
        ["method", "seed", "after pruning", "after all steps"],
        [[r["method"], r["seed"], r["before"]["perplexity"], r["after"]["perplexity"]] for r in rows if "before" in r],
    )


def failures(rows: list[Row]) -> runs.Table:
    """Why methods have no figures."""
    return runs.Table(
        "Methods that did not get there",
        ["method", "seed", "reason"],
        [[r["method"], r["seed"], r["error"]] for r in rows],
    )


def as_csv(rows: list[Row]) -> str:
    """Every figure of every method and seed, a row each."""
    flat = []
    for row in rows:
        line: Row = {}
        for name, value in row.items():
            if isinstance(value, dict):
                line |= {f"{name} {inner}": v for inner, v in value.items()}
            else:
                line[name] = "; ".join(value) if isinstance(value, list) else value
        flat.append(line)
    columns = list(dict.fromkeys(name for line in flat for name in line))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns)
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()
