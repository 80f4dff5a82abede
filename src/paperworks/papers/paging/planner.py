"""Planning a cache: the miss-ratio curves of all policies on a trace, and the size that reaches a target."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from paperworks.errors import InputError, nearest
from paperworks.papers.paging.adaptive import ARC, S3FIFO
from paperworks.papers.paging.bounds import guarantee
from paperworks.papers.paging.classical import FIFO, LRU, Marker, RandomEviction, Sieve
from paperworks.papers.paging.combine import Combined
from paperworks.papers.paging.flush import FlushWhenAll0s
from paperworks.papers.paging.mark0 import Mark0
from paperworks.papers.paging.mark_and_predict import DeterministicMarkAndPredict, MarkAndPredict
from paperworks.papers.paging.next_time import (
    BlindOracle,
    FollowPredictionMarking,
    LMarker,
    LNonMarker,
    PredictiveMarker,
)
from paperworks.papers.paging.optimum import belady, prediction_error
from paperworks.papers.paging.policy import Policy, Prediction, checked_size
from paperworks.papers.paging.predictions import oracle
from paperworks.papers.paging.simulation import simulate
from paperworks.papers.paging.state import compiled
from paperworks.papers.paging.trace import Trace, as_trace
from paperworks.papers.paging.trust_and_doubt import TrustAndDoubt
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POLICIES: dict[str, Callable[[int], Policy]] = {
    "flush": FlushWhenAll0s,
    "mark0": Mark0,
    "mark0-lazy": lambda k: Mark0(k, lazy=True),
    "mark-and-predict": MarkAndPredict,
    "mark-and-predict-lru": DeterministicMarkAndPredict,
    "flush+lru": lambda k: Combined([FlushWhenAll0s(k), LRU(k)]),
    "flush+lru-switch": lambda k: Combined([FlushWhenAll0s(k), LRU(k)], rule="switch"),
    "flush+lru-random": lambda k: Combined([FlushWhenAll0s(k), LRU(k)], rule="randomised"),
    "mark0+marker": lambda k: Combined([Mark0(k), Marker(k)]),
    "lru": LRU,
    "fifo": FIFO,
    "random": RandomEviction,
    "marker": Marker,
    "sieve": Sieve,
    "s3-fifo": S3FIFO,
    "arc": ARC,
    "blind-oracle": BlindOracle,
    "blind-oracle+lru": lambda k: Combined([BlindOracle(k), LRU(k)]),
    "follow-marking": FollowPredictionMarking,
    "predictive-marker": PredictiveMarker,
    "lmarker": LMarker,
    "lnonmarker": LNonMarker,
    "lnonmarker+marker": lambda k: Combined([LNonMarker(k), Marker(k)]),
    "trust-and-doubt": TrustAndDoubt,
}
"""Every policy by its short name: a function of the size."""

OPT = "opt"
Predictor = Callable[[Trace, int, Prediction], np.ndarray]
"""``predictor(trace, k, kind)`` gives the predictions of a kind (discard, phase, next_time) for a cache of ``k``."""


def make_policy(name: str, k: int) -> Policy:
    """The policy of that short name. Raises InputError for a name that is not in ``POLICIES``."""
    if name not in POLICIES:
        raise InputError("policy", repr(name), f"one of {', '.join(POLICIES)}{nearest(name, POLICIES)}")
    return POLICIES[name](checked_size(k))


class Point(NamedTuple):
    """One policy at one size. ``misses`` is the mean over the runs; ``half_width`` that of its 95% interval.

    ``bound`` is what the policy's guarantee allows for these predictions, NaN where it has none.
    """

    policy: str
    k: int
    misses: float
    half_width: float
    miss_ratio: float
    eta0: int
    eta1: int
    bound: float


@dataclass(frozen=True, eq=False)
class MissRatioCurves:
    """Miss ratios per policy and size. ``points`` holds, for every size, the optimum (``opt``) and each policy."""

    trace: str
    requests: int
    sizes: tuple[int, ...]
    points: tuple[Point, ...]

    def curve(self, policy: str) -> np.ndarray:
        """The miss ratios of a policy in the order of ``sizes``; float64 [sizes]."""
        found = [p.miss_ratio for p in self.points if p.policy == policy]
        if not found:
            names = list(dict.fromkeys(p.policy for p in self.points))
            raise InputError("policy", repr(policy), f"one of {', '.join(names)}{nearest(policy, names)}")
        return np.array(found)

    def smallest_size(self, policy: str, miss_ratio: float) -> int | None:
        """The smallest of ``sizes`` at which the policy misses at most this often; None if none does."""
        reached = np.flatnonzero(self.curve(policy) <= miss_ratio)
        return self.sizes[int(reached[0])] if len(reached) else None

    def to_csv(self, path: Path | str) -> None:
        """Write all points as a table. Raises InputError if ``path`` exists."""
        path = Path(path)
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(Point._fields)
        writer.writerows(self.points)
        with new_file(path) as aside:
            aside.write_text(out.getvalue(), encoding="utf-8")

    def figure(self, policies: Sequence[str] | None = None) -> Figure:
        """The curves, drawn: miss ratio over cache size (logarithmic)."""
        from matplotlib.figure import Figure

        names = list(policies or dict.fromkeys(p.policy for p in self.points))
        figure = Figure(figsize=(8, 5.4), layout="constrained")
        axes = figure.subplots()
        for number, name in enumerate(names):
            own = [p for p in self.points if p.policy == name]
            colour = "black" if name == OPT else f"C{number % 10}"
            line = "--" if name == OPT else (":" if number >= 10 else "-")
            # Curves often coincide: each is thinner than the one below it, and the optimum is on top.
            width = 1.2 if name == OPT else 1.5 + 4.5 * (len(names) - number) / len(names)
            ratios = np.array([p.miss_ratio for p in own])
            margin = np.array([p.half_width for p in own]) / self.requests
            axes.plot(
                self.sizes, ratios, label=name, color=colour, linestyle=line, linewidth=width, zorder=3 + (name == OPT)
            )
            axes.fill_between(self.sizes, ratios - margin, ratios + margin, color=colour, alpha=0.2, linewidth=0)
        axes.set_xscale("log")
        axes.set_xlabel("cache size k, pages")
        axes.set_ylabel("miss ratio")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        figure.legend(fontsize=8, ncols=5, loc="outside lower center", frameon=False)
        return figure


def default_sizes(distinct: int, count: int = 10) -> tuple[int, ...]:
    """Sizes from about a thousandth of the pages up to all but a few, evenly in the logarithm."""
    if distinct < 2:
        return (1,)
    sizes = np.geomspace(max(2, distinct / 1000), max(2, 0.8 * distinct), count)
    return tuple(sorted({round(float(s)) for s in sizes}))


def miss_ratio_curves(
    trace: Trace | object,
    sizes: Iterable[int] | None = None,
    policies: Iterable[str] | None = None,
    *,
    predictor: Predictor = oracle,
    runs: int = 3,
    seed: int = 0,
    progress: Progress = no_progress,
) -> MissRatioCurves:
    """Replay the trace at every size through every policy, with the optimum beside.

    Parameters
    ----------
    sizes : cache sizes in pages; ``default_sizes`` of the trace if not given.
    policies : short names from ``POLICIES``; all of them if not given.
    predictor : what gives the predictions; the truth by default, see ``predictions`` and ``learned`` for others.
    runs : replays of each randomised policy, with seeds ``seed``, ``seed + 1``, ...
    """
    check_seed("seed", seed)
    trace = as_trace(trace)
    sizes = tuple(
        sorted({checked_size(k, "sizes") for k in (default_sizes(trace.distinct) if sizes is None else sizes)})
    )
    names = list(POLICIES if policies is None else dict.fromkeys(policies))
    if not sizes:
        raise InputError("sizes", "none", "at least one size")
    if runs < 1:
        raise InputError("runs", runs, "at least 1")
    for name in names:
        make_policy(name, 1)
    points: list[Point] = []
    distances = lru_stack_distances(trace) if "lru" in names else np.empty(0, np.int64)
    for k in progress(sizes, "cache sizes", len(sizes)):
        opt = belady(trace, k)
        points.append(Point(OPT, k, opt.misses, 0.0, opt.misses / len(trace), 0, 0, float(opt.misses)))
        known: dict[str, np.ndarray] = {}
        truth: dict[str, np.ndarray] = {}
        for name in names:
            policy = make_policy(name, k)
            kind = policy.prediction
            if kind != "none" and kind not in known:
                known[kind] = predictor(trace, k, kind)
                if kind != "next_time":
                    truth[kind] = opt.discard_labels if kind == "discard" else oracle(trace, k, "phase")
            if name == "lru":
                misses = [int((distances > k).sum())]
            else:
                seeds = range(seed, seed + (runs if policy.randomised else 1))
                misses = [simulate(policy.clone(random_state=s), trace, known.get(kind)).misses for s in seeds]
            eta0, eta1 = prediction_error(known[kind], truth[kind]) if kind in truth else (0, 0)
            promise = guarantee(policy, k) if kind != "next_time" else None
            points.append(
                Point(
                    name,
                    k,
                    float(np.mean(misses)),
                    half_width(misses),
                    float(np.mean(misses)) / len(trace),
                    eta0,
                    eta1,
                    promise.alpha * opt.misses + promise.beta * eta0 + promise.gamma * eta1 if promise else np.nan,
                )
            )
    return MissRatioCurves(trace.name, len(trace), sizes, tuple(points))


def half_width(values: Sequence[float]) -> float:
    """Half the 95% interval of the mean of a few runs (Student's t); 0 for a single run."""
    if len(values) < 2:
        return 0.0
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def lru_stack_distances(trace: Trace | object) -> np.ndarray:
    """Mattson's stack distance of each request: LRU with ``k`` slots misses exactly where it exceeds ``k``.

    The number of distinct pages since the page's latest request, itself included; ``2**62`` for a first request. int64
    [T]; O(T log T) with a Fenwick tree over the requests.
    """
    trace = as_trace(trace)
    return _stack_distances(trace.pages, trace.distinct)


@compiled
def _stack_distances(pages, distinct):
    size = len(pages)
    tree = np.zeros(size + 1, np.int32)  # 1 at each page's latest request
    latest = np.full(distinct, -1, np.int64)
    out = np.empty(size, np.int64)
    resident = 0
    for t in range(size):
        before = latest[pages[t]]
        if before < 0:
            out[t] = 1 << 62
            resident += 1
        else:
            older = 0
            i = before + 1
            while i > 0:
                older += tree[i]
                i -= i & -i
            out[t] = resident - older + 1
            i = before + 1
            while i <= size:
                tree[i] -= 1
                i += i & -i
        i = t + 1
        while i <= size:
            tree[i] += 1
            i += i & -i
        latest[pages[t]] = t
    return out
