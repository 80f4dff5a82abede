"""Replay a cache trace with one predicted bit per request: misses beside the optimum, the bounds and other policies."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np

from paperworks import runs
from paperworks.errors import InputError
from paperworks.inputs.kinds import whole_array
from paperworks.papers.paging import evaluate
from paperworks.papers.paging.config import Config
from paperworks.papers.paging.layout import Columns
from paperworks.papers.paging.learned import BitPredictor, HistoryPredictor, LearnedPredictor
from paperworks.papers.paging.optimum import checked_bits
from paperworks.papers.paging.planner import OPT, POLICIES, MissRatioCurves, Point, default_sizes, miss_ratio_curves
from paperworks.papers.paging.policy import Prediction
from paperworks.papers.paging.predictions import oracle
from paperworks.papers.paging.readers import read_trace
from paperworks.papers.paging.samples import sample_trace
from paperworks.papers.paging.trace import Trace
from paperworks.runs.files import write_text

COMPARED = tuple(name for name in POLICIES if name != "random")


def run(config: Config, run: runs.Run) -> runs.Report:
    """Replay a cache trace with one-bit predictions and show misses beside the optimum and the proven bounds."""
    run.step("reading the trace")
    trace = _read(config)
    for option, size in (
        ("k", config.k or 0),
        ("sets", (config.k or 1) * config.sets),
        ("sizes", max(config.sizes, default=0)),
    ):
        if size > trace.distinct:
            found = f"{config.sets:,}, which makes {size:,} slots" if option == "sets" else f"{size:,}"
            raise InputError(
                option, found, f"at most {trace.distinct:,}, the pages of the trace: more slots stay empty"
            )
    bits = None if config.bits is None else _read_bits(config.bits, len(trace))
    k = config.k or max(1, trace.distinct // 10 // config.sets)
    slots = k * config.sets
    if slots >= trace.distinct:
        run.log.warning(
            "The cache of %d pages holds all %d pages of the trace: nothing is evicted.", slots, trace.distinct
        )
    keep = _Kept(run.state, f"{zlib.crc32(trace.pages.tobytes()):08x} {k} {config.model_dump_json()}")

    run.step(f"{len(trace):,} requests for {trace.distinct:,} pages; replaying with k = {k}")
    seed = int(run.rng("policies").integers(2**32))
    others = keep.get(
        "others",
        lambda: evaluate.compare(
            trace, k, COMPARED, sets=config.sets, runs=config.runs, seed=seed, progress=run.progress
        ),
    )
    sweep = keep.get(
        "sweep",
        lambda: evaluate.sweep(
            trace, k, config.noise, sets=config.sets, runs=config.runs, rng=run.rng("noise"), progress=run.progress
        ),
    )
    opt = others[0][1]
    tables = [_policies_table(trace, k, config, others), _sweep_table(sweep, opt)]
    figures = [_sweep_figure(sweep, opt, others)]
    metrics = {"opt_misses": opt, "miss_ratio_opt": opt / len(trace)}
    metrics |= {f"misses_{row[0]}": row[1] for row in others[1:]}
    notes: list[str] = []
    lead = [*([trace.understood] if trace.understood else []), *trace.notes, *_doubts(trace)]
    files = []

    if bits is not None:
        tables.append(evaluate.own_bits(trace, k, bits, config.bits_kind, config.sets, config.runs, seed))
    if config.learn and config.sets == 1 and len(trace) >= 100:
        run.step("learning the bit on the first part of the trace")
        made = [run.files / f"{target}_predictor.joblib" for target in ("discard", "phase")]
        learned = keep.get(
            "learned",
            lambda: evaluate.learned(trace, k, config.train_share, config.seed, run.files, run.progress),
            made,
        )
        tables.append(_learned_table(learned, config.train_share))
        closed = {row[0]: row[5] for row in learned if row[5] is not None}
        if closed:
            metrics["gap_closed_by_learned_bits"] = max(closed.values())
        files += [runs.ReportFile(path.name, "a trained predictor of the bit (BitPredictor.load)") for path in made]
    elif config.learn:
        notes.append("No predictor was trained: that needs one set and at least 100 requests.")

    if config.curves:
        curves = _curves(config, trace, k, seed, keep, run)
        path = run.files / "curves.csv"
        path.unlink(missing_ok=True)
        curves.to_csv(path)
        files.append(runs.ReportFile("curves.csv", "misses of every policy at every size"))
        figures.insert(0, _curves_figure(curves, config))
        tables.append(_sizes_table(curves))

    for kind in ("discard", "phase"):
        name = f"{kind}_bits.npy"
        np.save(run.files / name, oracle(trace, k, kind, sets=config.sets))
        files.append(runs.ReportFile(name, f"the true {kind} bit of every request for k = {k} (uint8)"))
    if config.sets > 1:
        notes.append(f"{config.sets} sets of {k} slots; the optimum is the sum of the sets' optima.")
    labels, cards = _cards(others)
    return runs.Report(
        _headline(trace, k, config, others, sweep), metrics | cards, tables, figures, files, notes, lead, labels
    )


def _cards(others: list) -> tuple[dict[str, str], dict[str, float]]:
    """The figures to show first, with names for people; the best of each kind of policy among them."""
    misses = {row[0]: row[1] for row in others}
    bits = [n for n in misses if n in POLICIES and POLICIES[n](1).prediction in ("discard", "phase")]
    times = [n for n in misses if n in POLICIES and POLICIES[n](1).prediction == "next_time"]
    none = [n for n in misses if n in POLICIES and POLICIES[n](1).prediction == "none"]
    labels = {"opt_misses": "misses of the optimum", "misses_lru": "misses of LRU"}
    cards: dict[str, float] = {}
    for name, words, group in (
        ("best_misses_without_predictions", "misses, best policy without predictions", none),
        ("best_misses_with_bits", "misses, best policy with true one-bit predictions", bits),
        ("best_misses_with_times", "misses, best policy with true times", times),
    ):
        best = min(group, key=lambda n: misses[n])
        cards[name] = misses[best]
        labels[name] = f"{words} ({best})"
    return labels | {"miss_ratio_opt": "miss ratio of the optimum"}, cards


def _doubts(trace: Trace) -> list[str]:
    """What to say first about a trace on which no policy can do anything."""
    if trace.distinct < len(trace):
        return []
    return [
        f"No page is requested twice: each of the {len(trace):,} requests is a miss for every policy. "
        "Is this the column of the page ids? --id-column names another."
    ]


# -- input ---------------------------------------------------------------------------------------------------------


def _read(config: Config) -> Trace:
    if config.trace is None:
        trace = sample_trace(config.sample)
        stop = len(trace) if config.limit is None else min(len(trace), config.skip + config.limit)
        if config.skip >= len(trace):
            raise InputError("skip", config.skip, f"less than the {len(trace):,} requests of the trace")
        return trace if (config.skip, stop) == (0, len(trace)) else trace.part(config.skip, stop)
    columns = None
    if config.id_column:
        columns = Columns(_column(config.id_column), _column(config.size_column), _column(config.op_column))
    return read_trace(
        config.trace,
        config.format,
        columns=columns,
        delimiter={"\\t": "\t"}.get(config.delimiter, config.delimiter) or None,
        skip=config.skip,
        limit=config.limit,
        page_bytes=config.page_bytes,
        operations=config.operations,
        line_bytes=config.line_bytes,
        ignore_size=config.ignore_size,
    )


def _column(name: str) -> Any:
    if not name:
        return None
    return int(name) if name.isdigit() else name


def _read_bits(path: Path, length: int) -> np.ndarray:
    if not path.is_file():
        raise InputError("bits", f"{path}, which is not a file", "a .npy array, or a text file with 0 or 1 per line")
    if path.suffix == ".npy":
        try:
            return checked_bits(whole_array(path), length)
        except (ValueError, EOFError, OSError, BadZipFile) as error:
            if isinstance(error, InputError):
                raise
            raise InputError("bits", f"{path} ({error})", "a numpy array of bits") from None
    lines = path.read_text(encoding="utf-8", errors="replace").split()
    for number, line in enumerate(lines, 1):
        if line not in ("0", "1"):
            raise InputError(f"bits, {path}, entry {number}", repr(line[:40]), "0 or 1")
    return checked_bits(np.array(lines, np.uint8), length)


class _Kept:
    """Results of finished stages in the run's state folder, for a run that is taken up again with the same options."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key

    def get(self, name: str, compute: Callable[[], Any], files: Sequence[Path] = ()) -> Any:
        """The stage's result, as JSON gives it back: computed once, or again if a file that it makes is not there."""
        path = self.folder / f"{name}.json"
        if path.is_file() and all(f.is_file() for f in files):
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["key"] == self.key:
                return kept["value"]
        value = json.loads(json.dumps(compute()))
        write_text(path, json.dumps({"key": self.key, "value": value}))
        return value


# -- curves --------------------------------------------------------------------------------------------------------


def _curves(config: Config, trace: Trace, k: int, seed: int, keep: _Kept, run: runs.Run) -> MissRatioCurves:
    sizes = config.sizes or default_sizes(trace.distinct)
    names = tuple(POLICIES) if "all" in config.policies else config.policies
    bits = config.curve_bits

    def predict(whole: Trace, size: int, kind: Prediction) -> np.ndarray:
        if bits == "oracle":
            return oracle(whole, size, kind)
        if kind == "next_time":
            return HistoryPredictor("popu" if bits == "popu" else "pleco").next_times(whole)
        target: Literal["discard", "phase"] = "phase" if kind == "phase" else "discard"
        part = whole.part(0, max(4, int(config.train_share * len(whole))))
        predictor: BitPredictor = LearnedPredictor(target) if bits == "learned" else HistoryPredictor(bits, target)
        return predictor.fit(part, size).predict(whole)

    points = keep.get(
        "curves",
        lambda: (
            miss_ratio_curves(
                trace, sizes, names, predictor=predict, runs=min(config.runs, 3), seed=seed, progress=run.progress
            ).points
        ),
    )
    return MissRatioCurves(trace.name, len(trace), tuple(sorted(set(sizes))), tuple(Point(*p) for p in points))


# -- the report ----------------------------------------------------------------------------------------------------


def _headline(trace: Trace, k: int, config: Config, others: list, sweep: list) -> str:
    opt = others[0][1]
    misses = {row[0]: row[1] for row in others}
    noisy = [row for row in sweep if row[0] == "flush+lru" and row[1] == 0.05]
    tail = f"; with 5% of the bits wrong, combined with LRU, {noisy[0][3] / opt:.3f}" if noisy and opt else ""
    return (
        f"At k = {k}, one true bit per request brings FlushWhenAll0s to the optimum of {opt:,} misses, "
        f"where LRU has {misses['lru'] / opt:.3f} times as many{tail}."
    )


def _policies_table(trace: Trace, k: int, config: Config, others: list) -> runs.Table:
    return runs.Table(
        f"Policies with true predictions, {trace.name}, k = {k}",
        ["policy", "misses", "± (95%)", "miss ratio", "ratio to OPT", "bound on the misses"],
        [
            [name, misses, width, misses / len(trace), misses / others[0][1], bound]
            for name, misses, width, bound in others
        ],
        "The bound is alpha OPT + beta eta0 + gamma eta1 with no wrong bits; it is on the expectation where the policy "
        "is randomised. FlushWhenAll0s and Mark0 then equal OPT, Mark&Predict the number of clean pages.",
    )


def _sweep_table(sweep: list, opt: int) -> runs.Table:
    return runs.Table(
        "Flipped bits",
        [
            "policy",
            "flipped",
            "eta0 (wrong keep)",
            "eta1 (wrong discard)",
            "misses",
            "± (95%)",
            "ratio to OPT",
            "bound",
        ],
        [
            [name, share, eta0, eta1, misses, width, misses / opt, bound]
            for name, share, _, misses, width, eta0, eta1, bound in sweep
        ],
        "Each bit is flipped independently. eta0 and eta1 are counted over all requests.",
    )


def _learned_table(learned: list, share: float) -> runs.Table:
    return runs.Table(
        f"Bits predicted from the past, trained on the first {share:.0%} of the trace",
        ["predictor and policy", "AUC of the bit", "misses on the rest", "LRU", "OPT", "share of LRU's gap closed"],
        learned,
        "The gap is LRU's misses less the optimum's; 1 is the optimum, 0 LRU, below 0 worse than LRU.",
    )


def _sizes_table(curves: MissRatioCurves) -> runs.Table:
    names = list(dict.fromkeys(p.policy for p in curves.points))
    lru = curves.curve("lru") if "lru" in names else curves.curve(names[-1])
    rows: list[list[Any]] = []
    for name in names:
        row: list[Any] = [name]
        for position in (len(curves.sizes) // 4, len(curves.sizes) // 2, 3 * len(curves.sizes) // 4):
            row.append(curves.smallest_size(name, float(lru[position])))
        rows.append(row)
    targets = [lru[p] for p in (len(curves.sizes) // 4, len(curves.sizes) // 2, 3 * len(curves.sizes) // 4)]
    return runs.Table(
        "How large a cache must be",
        ["policy", *(f"for a miss ratio of {t:.4f}" for t in targets)],
        rows,
        "The smallest of the sizes replayed that reaches the ratio; empty if none does.",
    )


def _curves_figure(curves: MissRatioCurves, config: Config) -> runs.Figure:
    source = {
        "oracle": "with true predictions",
        "learned": "with bits learned from the first part",
        "pleco": "with PLECO's predictions",
        "popu": "with POPU's predictions",
    }[config.curve_bits]
    return runs.Figure(
        "Miss-ratio curves", curves.figure(), f"Miss ratio over cache size, {source}; {OPT} is the offline optimum."
    )


def _sweep_figure(sweep: list, opt: int, others: list) -> runs.Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(row[0] for row in sweep))
    misses = {row[0]: row[1] for row in others}
    for number, name in enumerate(names):
        own = sorted((row for row in sweep if row[0] == name), key=lambda row: row[1])
        # Lines often coincide: each is thinner than the one below it.
        width = 1.5 + 4 * (len(names) - number) / len(names)
        ratios = [r[3] / opt for r in own]
        axes.plot([r[1] for r in own], ratios, marker="o", color=f"C{number}", linewidth=width, label=name)
        bounds = [r[7] / opt for r in own if r[7] is not None]
        if bounds:
            axes.plot([r[1] for r in own], bounds, linestyle=":", color=f"C{number}", linewidth=1)
    axes.axhline(misses["lru"] / opt, color="black", linestyle="--", linewidth=1, label="lru")
    top = max(row[3] / opt for row in sweep)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(0.95, 1.2 * max(top, misses["lru"] / opt))
    axes.set_xlabel("share of flipped bits")
    axes.set_ylabel("misses / OPT")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    return runs.Figure(
        "Wrong bits",
        figure,
        "Misses over the optimum as bits are flipped; dotted: the bound (often above the drawing).",
    )
