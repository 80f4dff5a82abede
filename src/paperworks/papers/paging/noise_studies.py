"""Studies of wrong bits: flipped ones, their combination with LRU, and bits made from noisy times."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.paging import evaluate
from paperworks.papers.paging.bounds import bound, next_time_bound, time_error
from paperworks.papers.paging.cases import (
    USER_K,
    cases,
    users,
)
from paperworks.papers.paging.classical import LRU, Marker
from paperworks.papers.paging.combine import Combined
from paperworks.papers.paging.flush import FlushWhenAll0s
from paperworks.papers.paging.mark0 import Mark0
from paperworks.papers.paging.mark_and_predict import MarkAndPredict
from paperworks.papers.paging.next_time import BlindOracle, PredictiveMarker
from paperworks.papers.paging.optimum import belady, labels_from_times, phase_labels, prediction_error
from paperworks.papers.paging.predictions import flip, noisy_times, oracle
from paperworks.papers.paging.samples import sample_trace
from paperworks.papers.paging.simulation import simulate


@runs.study(claims=["wrong-bits"], title="Flipped bits, users of 2,100 words", minutes=0.5)
def wrong_bits(run: runs.Run, fast: bool) -> Iterator[runs.Finding]:
    """The table of paper.toml on the bundled words."""
    shares = (0.0, 0.05, 0.25, 0.5)
    crowd = users(fast)
    per_user = {name: np.zeros((len(crowd), len(shares))) for name in ("FlushWhenAll0s", "Mark0", "Mark&Predict")}
    limit = {name: np.zeros(len(shares)) for name in per_user}
    variance = {name: np.zeros(len(shares)) for name in per_user}
    markers = np.zeros(len(crowd))
    lru = opt = 0.0
    rng = run.rng("flips")
    for number, user in enumerate(run.progress(crowd, "users")):
        optimum, phases = belady(user, USER_K), phase_labels(user, USER_K)
        opt += optimum.misses
        lru += simulate(LRU(USER_K), user).misses
        markers[number] = evaluate.replays(Marker(USER_K), user, None, runs=5)[0]
        for i, share in enumerate(shares):
            for policy, truth in (
                (FlushWhenAll0s(USER_K), optimum.discard_labels),
                (Mark0(USER_K), optimum.discard_labels),
                (MarkAndPredict(USER_K), phases.bits),
            ):
                bits = flip(truth, share, rng)
                eta0, eta1 = prediction_error(bits, truth)
                misses, width = evaluate.replays(policy, user, bits, runs=5, seed=int(rng.integers(2**32)))
                per_user[policy.name][number, i] = misses
                variance[policy.name][i] += width**2
                limit[policy.name][i] += bound(policy, optimum.misses, eta0, eta1, USER_K)
    cost = {name: values.sum(axis=0) for name, values in per_user.items()}
    table = "; ".join(
        f"{share:.0%}: " + ", ".join(f"{name} {values[i]:,.0f}" for name, values in cost.items())
        for i, share in enumerate(shares)
    )
    for name, values in cost.items():
        # without a flipped bit some cost their bound exactly: that would hide the other shares
        ratios, errors = (one[1:] / limit[name][1:] for one in (values, np.sqrt(variance[name])))
        tightest = int((ratios + errors).argmax())
        exact = name == "FlushWhenAll0s"
        at = float(ratios[tightest])
        yield runs.Finding(
            "wrong-bits",
            f"{name}: misses stay below the bound at every share of flipped bits above 0",
            "exact" if exact else "empirical",
            at,
            "<=",
            1,
            unit="misses over the bound, largest",
            interval=None if exact else (at - float(errors[tightest]), at + float(errors[tightest])),
            interval_method="" if exact else "95%, Student t; the bound is on the expectation",
            n=None if exact else 5,
            n_unit="" if exact else "runs",
            detail=f"{table}. OPT {opt:,.0f}, LRU {lru:,.0f}, Marker {markers.sum():,.0f}.",
        )
        growth = [mean_interval(step, unit="users") for step in np.diff(per_user[name], axis=1).T]
        yield runs.Finding(
            "wrong-bits",
            f"{name}: the cost grows with the share of flipped bits",
            "empirical",
            min(growth, key=lambda step: step.low),
            ">",
            0,
            unit="misses of a user, smallest growth from one share to the next",
        )
    dearest = max(("FlushWhenAll0s", "Mark&Predict"), key=lambda name: cost[name][2])
    yield runs.Finding(
        "wrong-bits",
        "Mark0, which discards at once, costs the most of the three at 25% flipped bits (users of 2,100 words)",
        "empirical",
        mean_interval(per_user["Mark0"][:, 2] - per_user[dearest][:, 2], unit="users"),
        ">",
        0,
        baseline=float(per_user[dearest][:, 2].mean()),
        baseline_name=dearest,
        unit=f"misses of a user above {dearest}'s",
        detail="It depends on how many bits are 1: here half of them are, so that few wrong discards can be made.",
    )
    trace = sample_trace("database").part(0, 20_000) if fast else sample_trace("database")
    names = ("mark0", "flush", "mark-and-predict")
    drawn = np.array(
        [
            [row[3] for row in evaluate.sweep(trace, 155, (0.25,), names, rng=rng, runs=3)]
            for _ in range(2 if fast else 5)
        ]
    )
    other = 1 + int(drawn[:, 1:].mean(axis=0).argmax())
    yield runs.Finding(
        "wrong-bits",
        "Mark0, which discards at once, costs the most of the three at 25% flipped bits (database pages, k = 155)",
        "empirical",
        mean_interval(drawn[:, 0] - drawn[:, other], unit="random flips"),
        ">",
        0,
        baseline=float(drawn[:, other].mean()),
        baseline_name=("FlushWhenAll0s", "Mark&Predict")[other - 1],
        unit="misses above the other's",
    )
    yield runs.Finding(
        "wrong-bits",
        "With half of the bits flipped Mark&Predict costs what Marker costs",
        "empirical",
        mean_interval(per_user["Mark&Predict"][:, 3] / markers, unit="users"),
        "==",
        1,
        tolerance=0.02,
        unit="misses over Marker's",
    )


@runs.study(claims=["robust-by-combination"], title="FlushWhenAll0s combined with LRU", minutes=0.5)
def combination(run: runs.Run, fast: bool) -> Iterator[runs.Finding]:
    """Three rules at four shares of wrong bits, and what the deterministic rule guarantees."""
    rng = run.rng("flips")
    shares = (0.0, 0.05, 0.25, 1.0)
    draws = 2 if fast else 3
    drawn = {rule: [0.0] * draws for rule in ("deterministic", "switch", "randomised")}
    certain = {rule: [0.0] * draws for rule in drawn}
    lines = []
    for trace, k in run.progress(list(cases(fast)), "traces and sizes"):
        optimum = belady(trace, k)
        lru = simulate(LRU(k), trace).misses
        for share in shares:
            worst = drawn if 0 < share < 1 else certain
            for draw in range(draws):
                bits = flip(optimum.discard_labels, share, rng)
                own = simulate(FlushWhenAll0s(k), trace, bits).misses
                got = {}
                for rule, ratios in worst.items():
                    policy = Combined([FlushWhenAll0s(k), LRU(k)], rule=rule)  # type: ignore[arg-type]
                    got[rule] = evaluate.replays(policy, trace, bits, runs=3, seed=3 * draw)[0]
                    ratios[draw] = runs.largest((ratios[draw], (got[rule] - k) / min(own, lru)))
            lines.append(
                f"{trace.name} k={k} {share:.0%}: {', '.join(f'{v:,.0f}' for v in got.values())} ({own:,}, {lru:,})"
            )
    for rule, ratios in drawn.items():
        yield runs.Finding(
            "robust-by-combination",
            f"Rule {rule}: at 5 and 25% wrong bits never above 1.03 times the better part, plus k",
            "empirical",
            mean_interval(ratios, unit="draws of the wrong bits"),
            "<=",
            1.03,
            unit="misses less k, over the better of FlushWhenAll0s and LRU, largest",
            detail=("deterministic, switch, randomised (FlushWhenAll0s, LRU), last draw: " + "; ".join(lines))
            if rule == "deterministic"
            else "",
        )
        chance = rule == "randomised"
        yield runs.Finding(
            "robust-by-combination",
            f"Rule {rule}: with all bits right, and with all wrong, never above 1.03 times the better part, plus k",
            "empirical",
            mean_interval(certain[rule], unit="seeds of the rule") if chance else runs.largest(certain[rule]),
            "<=",
            1.03,
            unit="misses less k, over the better of FlushWhenAll0s and LRU, largest",
            deterministic="" if chance else "fixed traces, no bit is drawn, and the rule chooses nothing at random",
        )


@runs.study(claims=["one-bit-against-next-time"], title="One bit beside next-request times", minutes=0.7)
def one_bit(run: runs.Run, fast: bool) -> Iterator[runs.Finding]:
    """The same noisy times given to the next-time algorithms, and turned into bits for the one-bit algorithms."""
    rng = run.rng("noise")
    trace, k = next(iter(cases(fast))) if fast else (sample_trace("words"), 200)
    draws = 2 if fast else 5
    truth, times = belady(trace, k), oracle(trace, k, "next_time")
    opt = truth.misses
    robust = Combined([FlushWhenAll0s(k), LRU(k)])
    sigmas = (0.0, 2.0, 5.0, 10.0, 20.0)
    over_bound, rows = [], []
    against, ratios = np.zeros((draws, len(sigmas))), []
    for draw, (number, sigma) in run.progress(
        [(d, one) for d in range(draws) for one in enumerate(sigmas)], "draws and noise of the times"
    ):
        noisy = noisy_times(times, sigma, rng)
        bits = labels_from_times(trace, k, noisy)
        eta0, eta1 = prediction_error(bits, truth.discard_labels)
        flush = simulate(FlushWhenAll0s(k), trace, bits).misses
        over_bound.append(flush / bound("FlushWhenAll0s", opt, eta0, eta1, k))
        both = simulate(robust, trace, bits).misses
        predictive, _ = evaluate.replays(PredictiveMarker(k), trace, noisy, runs=3)
        against[draw, number] = both / predictive
        proven = _proven(opt, eta0, eta1, time_error(np.minimum(noisy, 1 << 40), times), k)
        if number == 1:
            ratios.append(proven)
        if draw == 0:
            blind = simulate(BlindOracle(k), trace, noisy).misses
            rows.append(
                f"sigma {sigma:g}: FlushWhenAll0s {flush:,}, with LRU {both:,}, PredictiveMarker {predictive:,.0f}, "
                f"BlindOracle {blind:,}; proven: Mark0 {proven[0]:.3g} OPT, next-time {proven[1]:.3g} OPT"
            )
    yield runs.Finding(
        "one-bit-against-next-time",
        "FlushWhenAll0s on bits made from noisy times stays within its bound at every noise level",
        "exact",
        runs.largest(over_bound),
        "<=",
        1,
        unit="misses over the bound, largest",
        detail=f"{draws} draws of the noise; the first: {'; '.join(rows)}.",
    )
    yield runs.Finding(
        "one-bit-against-next-time",
        "One bit per request, combined with LRU, misses no more than PredictiveMarker does with the times themselves",
        "empirical",
        mean_interval([runs.largest(row) for row in against], unit="draws of the noise"),
        "<=",
        1,
        unit="misses over PredictiveMarker's, largest over the noise levels",
        detail=", ".join(f"sigma {s:g}: {r:.3f}" for s, r in zip(sigmas, against.mean(axis=0), strict=True)),
    )
    yield runs.Finding(
        "one-bit-against-next-time",
        f"At noise sigma = {sigmas[1]:g} Mark0's proven ratio is below the best of the next-time bounds",
        "empirical",
        mean_interval([one - best for one, best in ratios], unit="draws of the noise"),
        "<",
        0,
        baseline=float(np.mean([best for _, best in ratios])),
        baseline_name="best next-time bound over OPT",
        unit="proven cost over OPT, above the best next-time bound",
    )


def _proven(opt: int, eta0: int, eta1: int, eta: float, k: int) -> tuple[float, float]:
    """The proven cost over the optimum: Mark0's, and the better of the two that take the times."""
    times = min(next_time_bound(name, opt, eta, k) for name in ("PredictiveMarker", "BlindOracle"))
    return bound("Mark0", opt, eta0, eta1, k) / opt, times / opt
