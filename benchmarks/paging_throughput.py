"""Requests per second beside libcachesim, in one run on one trace: ours, theirs, and whether the misses agree.

    pip install libcachesim
    python benchmarks/paging_throughput.py [--requests 10000000] [--trace FILE.oracleGeneral]

libcachesim reads records or lines from the page cache and finds objects in a hash table. Ours maps the file, numbers
the pages in compiled code once (timed apart, and shared by all policies and sizes) and replays numbers. Both totals are
shown, for the 24-byte records and for the same trace as text, one id per line. One thread, whose processor time is
counted: other work on the machine does not lengthen it. The best of ``--repeat`` rounds, ours and theirs in turn.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.papers.paging import (
    ARC,
    LRU,
    S3FIFO,
    BlindOracle,
    Combined,
    FlushWhenAll0s,
    Mark0,
    MarkAndPredict,
    Sieve,
    Trace,
    belady,
    oracle,
    phase_labels,
    read_trace,
    simulate,
    write_oracle_general,
)


def zipf_trace(requests: int, pages: int, exponent: float, seed: int) -> Trace:
    """Independent requests with Zipf popularity over shuffled 64-bit ids."""
    rng = np.random.default_rng(seed)
    weights = np.cumsum(1.0 / np.arange(1, pages + 1) ** exponent)
    drawn = np.searchsorted(weights, rng.random(requests) * weights[-1])
    return Trace.of(rng.integers(1, 2**62, pages)[drawn], "zipf")


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the processor, and the result."""
    started = time.process_time()
    result = function()
    return time.process_time() - started, result


def main() -> None:
    """Print one table per cache size."""
    import libcachesim

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000_000)
    parser.add_argument("--pages", type=int, default=1_000_000)
    parser.add_argument("--exponent", type=float, default=1.0)
    parser.add_argument("--trace", type=Path, help="an oracleGeneral file to use in place of the Zipf trace")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only-reading", action="store_true", help="LRU from the file to the count, and no more")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        if options.trace:
            path = options.trace
        else:
            path = Path(folder) / "trace.oracleGeneral"
            write_oracle_general(zipf_trace(options.requests, options.pages, options.exponent, 0), path)
        text = Path(folder) / "trace.txt"
        trace = read_trace(path, "oracle-general", limit=1000)  # compiles
        text.write_text("".join(f"{i}\n" for i in trace.ids[trace.pages].tolist()))
        read_trace(text)
        trace = read_trace(path, "oracle-general")
        with text.open("w") as lines:
            for start in range(0, len(trace), 1 << 16):
                lines.writelines(f"{i}\n" for i in trace.ids[trace.pages[start : start + (1 << 16)]].tolist())
        with_reading(libcachesim, path, text, options)
        if options.only_reading:
            return
        reading, trace = timed(lambda: read_trace(path, "oracle-general"))
        count = len(trace)
        print(f"{count:,} requests, {trace.distinct:,} pages; reading and numbering them: {reading:.2f} s")
        parameters = libcachesim.ReaderInitParam()
        parameters.ignore_obj_size = True
        reader = libcachesim.TraceReader(str(path), libcachesim.TraceType.ORACLE_GENERAL_TRACE, parameters)
        for k in options.sizes:
            compare(libcachesim, reader, trace, k, options.repeat, reading)


def with_reading(libcachesim: Any, binary: Path, text: Path, options: argparse.Namespace) -> None:
    """LRU from the file to the count of misses, ours and libcachesim's in turn, for records and for text."""
    parameters = libcachesim.ReaderInitParam()
    parameters.ignore_obj_size = True
    parameters.obj_id_is_num = True
    kinds = (("records", binary, "ORACLE_GENERAL_TRACE"), ("text", text, "PLAIN_TXT_TRACE"))
    print(f"{'with reading':10} {'k':>10} {'ours, M/s':>12} {'theirs, M/s':>12} {'ratio':>8}  same misses")
    for name, path, kind in kinds:
        for k in options.sizes:
            own, peer, ours, theirs = np.inf, np.inf, 0, 0
            simulate(LRU(k), read_trace(path, limit=1000))
            for _ in range(options.repeat):
                taken, trace = timed(lambda p=path: read_trace(p))  # type: ignore[misc]
                more, result = timed(lambda t=trace, k=k: simulate(LRU(k), t))  # type: ignore[misc]
                own, ours, count = min(own, taken + more), result.misses, len(trace)
                taken, ratio = timed(
                    lambda p=path, t=kind, k=k: libcachesim.LRU(k).process_trace(  # type: ignore[misc]
                        libcachesim.TraceReader(str(p), getattr(libcachesim.TraceType, t), parameters)
                    )[0]
                )
                peer, theirs = min(peer, taken), round(ratio * count)
            print(
                f"{name:10} {k:10,} {count / own / 1e6:12.1f} {count / peer / 1e6:12.1f} {peer / own:8.1f}"
                f"  {ours == theirs}"
            )


def compare(libcachesim: Any, reader: Any, trace: Trace, k: int, repeat: int, reading: float) -> None:
    """All policies at one size."""
    count = len(trace)
    warm = trace.part(0, min(count, 1000))
    belady(warm, 10)
    phase_labels(warm, 10)
    seconds, optimum = timed(lambda: belady(trace, k))
    phases = phase_labels(trace, k)
    predictions = {
        "none": None,
        "discard": optimum.discard_labels,
        "phase": phases.bits,
        "next_time": oracle(trace, k, "next_time"),
    }
    print(
        f"\nk = {k:,}: optimum {optimum.misses:,} misses (ratio {optimum.misses / count:.4f}); "
        f"Belady with discard labels {seconds:.2f} s"
    )
    print(f"{'policy':34} {'M requests/s':>12} {'with reading':>12} {'misses':>12}")
    ours = [
        FlushWhenAll0s(k),
        Mark0(k),
        MarkAndPredict(k),
        LRU(k),
        Sieve(k),
        S3FIFO(k),
        ARC(k),
        BlindOracle(k),
        Mark0(k, lazy=True),
        Combined([FlushWhenAll0s(k), LRU(k)]),
    ]
    theirs = [getattr(libcachesim, n) for n in ("LRU", "Sieve", "S3FIFO", "ARC", "Belady")]
    for policy in ours:
        given = predictions[policy.prediction]
        simulate(policy, warm, None if given is None else given[: len(warm)])
    best: dict[str, float] = {}
    misses: dict[str, int] = {}
    for _ in range(repeat):
        for policy in ours:
            name = policy.name + (" lazy" if policy.lazy and not isinstance(policy, Combined) else "")
            taken, result = timed(lambda p=policy: simulate(p, trace, predictions[p.prediction]))
            best[name] = min(best.get(name, np.inf), taken)
            misses[name] = result.misses
        for kind in theirs:
            name = f"libcachesim {kind.__name__}"
            reader.reset()
            taken, (ratio, _) = timed(lambda c=kind: c(k).process_trace(reader))
            best[name] = min(best.get(name, np.inf), taken)
            misses[name] = round(ratio * count)
    for name, taken in best.items():
        whole = taken + (0 if name.startswith("libcachesim") else reading)
        print(f"{name:34} {count / taken / 1e6:12.1f} {count / whole / 1e6:12.1f} {misses[name]:12,}")
    print(
        f"same misses as libcachesim: LRU {misses['LRU'] == misses['libcachesim LRU']}, "
        f"SIEVE {misses['SIEVE'] == misses['libcachesim Sieve']}, "
        f"S3-FIFO {misses['S3-FIFO'] == misses['libcachesim S3FIFO']}, "
        f"ARC {misses['ARC'] == misses['libcachesim ARC']}, "
        f"OPT {optimum.misses == misses['libcachesim Belady']}"
    )
    peer = best["libcachesim LRU"]
    for name in ("FlushWhenAll0s", "Mark0", "Mark&Predict", "LRU"):
        print(f"{name}: {peer / best[name]:.1f} times the throughput of libcachesim's LRU")


if __name__ == "__main__":
    main()
