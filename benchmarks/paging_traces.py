"""Policies and learned bits on three traces in public file formats, beside libcachesim on the same requests.

    pip install libcachesim
    python benchmarks/paging_traces.py [--requests 200000]

The traces are written by generators, since no public trace comes with a package: block reads in the format of MSR
Cambridge (a hot set that moves, and scans of files), keys in the format of Twitter's traces (Zipf's law with keys that
grow old), and objects in oracleGeneral (YCSB's scrambled Zipf law, exponent 0.99). ``--trace FILE`` takes a real one in
their place. Policies count on the whole trace; learned bits are fitted on its first half and replayed on its second.
Writes docs/benchmarks/paging-traces.md.
"""

from __future__ import annotations

import argparse
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.papers.paging import (
    ARC,
    LRU,
    S3FIFO,
    FlushWhenAll0s,
    LearnedPredictor,
    Mark0,
    MarkAndPredict,
    Sieve,
    Trace,
    belady,
    read_trace,
    simulate,
    write_oracle_general,
)
from paperworks.runs.files import write_text

OUTPUT = Path(__file__).parent.parent / "docs" / "benchmarks" / "paging-traces.md"
PAGE = 4096


def zipf(rng: np.random.Generator, requests: int, items: int, exponent: float) -> np.ndarray:
    """Ranks from 0, drawn by Zipf's law."""
    weights = np.cumsum(1.0 / np.arange(1, items + 1) ** exponent)
    return np.searchsorted(weights, rng.random(requests) * weights[-1])


def write_msr(path: Path, requests: int, rng: np.random.Generator) -> None:
    """Block reads: three of four from a hot set of 2,000 pages that moves, the others scans of 200 pages."""
    lines, time = [], 128166372003061629
    while len(lines) < requests:
        start = len(lines) // (requests // 8) * 10_000
        if rng.random() < 0.02:
            first = int(rng.integers(200_000, 400_000))
            pages = list(range(first, first + 200))
        else:
            pages = (start + zipf(rng, 12, 2000, 0.8)).tolist()
        for page in pages:
            time += int(rng.integers(1, 100_000))
            lines.append(f"{time},usr,0,Read,{page * PAGE},{PAGE},1331")
    path.write_text("\n".join(lines[:requests]) + "\n")


def write_twitter(path: Path, requests: int, rng: np.random.Generator) -> None:
    """Keys by Zipf's law; new ones come, and old ones are asked for less and less."""
    newest = 5000 + np.arange(requests) // 20
    keys = newest - zipf(rng, requests, 5000, 1.0)
    rows = (f"{t // 100},key{key},16,200,{key % 40},get,0" for t, key in enumerate(keys.tolist()))
    path.write_text("\n".join(rows) + "\n")


def write_ycsb(path: Path, requests: int, rng: np.random.Generator) -> None:
    """YCSB's scrambled Zipf law over 20,000 records."""
    names = rng.integers(1, 2**62, 20_000)
    write_oracle_general(Trace.of(names[zipf(rng, requests, len(names), 0.99)]), path)


def counts(libcachesim: Any, trace: Trace, k: int, folder: Path) -> tuple[dict[str, int], bool]:
    """Misses of the policies, and whether libcachesim counts as many."""
    path = folder / "same.oracleGeneral"
    path.unlink(missing_ok=True)
    write_oracle_general(trace, path)
    parameters = libcachesim.ReaderInitParam()
    parameters.ignore_obj_size = True
    reader = libcachesim.TraceReader(str(path), libcachesim.TraceType.ORACLE_GENERAL_TRACE, parameters)
    found, same = {"OPT": belady(trace, k).misses}, True
    for policy in (LRU(k), Sieve(k), S3FIFO(k), ARC(k)):
        found[policy.name] = simulate(policy, trace).misses
    for name, kind in (("OPT", "Belady"), ("LRU", "LRU"), ("SIEVE", "Sieve"), ("S3-FIFO", "S3FIFO"), ("ARC", "ARC")):
        reader.reset()
        ratio, _ = getattr(libcachesim, kind)(k).process_trace(reader)
        same &= round(ratio * len(trace)) == found[name]
    return found, same


def with_learned_bits(trace: Trace, k: int) -> dict[str, int]:
    """Misses on the second half: policies without bits, and those whose bits were learned on the first."""
    half = len(trace) // 2
    first, rest = trace.part(0, half), trace.part(half, len(trace))
    found = {p.name: simulate(p, rest).misses for p in (LRU(k), Sieve(k), S3FIFO(k), ARC(k))}
    discard, phase = (LearnedPredictor(target).fit(first, k).predict(rest) for target in ("discard", "phase"))
    found["FlushWhenAll0s, learned bits"] = simulate(FlushWhenAll0s(k), rest, discard).misses
    found["Mark0 lazy, learned bits"] = simulate(Mark0(k, lazy=True), rest, discard).misses
    found["Mark&Predict, learned bits"] = simulate(MarkAndPredict(k), rest, phase).misses
    return {"OPT": belady(rest, k).misses, **found}


def table(rows: dict[str, dict[str, int]]) -> list[str]:
    """Misses by trace and policy, as lines of Markdown; the fewest after the optimum in bold."""
    heads = list(next(iter(rows.values())))
    lines = ["| trace | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    for name, row in rows.items():
        best = min(value for head, value in row.items() if head != "OPT")
        cells = [f"**{v:,}**" if v == best and head != "OPT" else f"{v:,}" for head, v in row.items()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    import libcachesim

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--trace", type=Path, nargs="*", help="trace files to use instead")
    parser.add_argument("--out", type=Path, default=OUTPUT, help="the page to write")
    options = parser.parse_args()
    whole, halves, same = {}, {}, True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = {"msr.csv": write_msr, "twitter.csv": write_twitter, "ycsb.oracleGeneral": write_ycsb}
        if not options.trace:
            for number, (file, write) in enumerate(made.items()):
                write(folder / file, options.requests, np.random.default_rng(number))
        for path in options.trace or [folder / file for file in made]:
            trace = read_trace(path)
            title = f"{path.name} ({len(trace):,} requests, {trace.distinct:,} pages)"
            whole[title], alike = counts(libcachesim, trace, options.k, folder)
            halves[title] = with_learned_bits(trace, options.k)
            same &= alike
            print(title, trace.understood, whole[title], halves[title], f"as libcachesim: {alike}", flush=True)
    said = "as many as" if same else "NOT as many as"
    lines = [
        "# Paging: three traces in public formats",
        "",
        f"Written by `python benchmarks/paging_traces.py --requests {options.requests} --k {options.k}`; do not edit.",
        "",
        "The traces are generated (see the benchmark): none is a public recording. Each is read from its file: "
        "block reads as MSR Cambridge writes them, keys as in Twitter's traces, objects in oracleGeneral.",
        "",
        f"Misses on the whole trace, {options.k:,} pages; libcachesim {version('libcachesim')} counts {said} ours "
        "for all five policies on all traces.",
        "",
        *table(whole),
        "",
        "Misses on the second half, with bits that gradient-boosted trees learned on the first (`LearnedPredictor`):",
        "",
        *table(halves),
    ]
    write_text(options.out, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
