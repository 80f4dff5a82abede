"""The closed forms, the growth of the ensembles, and sampled ensembles at the size of the bound."""

from __future__ import annotations

import math

import numpy as np

from paperworks import runs
from paperworks.papers.permutations_ntk.bits import all_inputs, apply_permutation, permutation_matrix
from paperworks.papers.permutations_ntk.ensemble_size import (
    failure_bound,
    limit_constant,
    required_models,
    success_probability,
)
from paperworks.papers.permutations_ntk.kernels import NTKRegressor, trained_moments, unit_rows
from paperworks.papers.permutations_ntk.limit import LimitEnsemble, round_outputs
from paperworks.papers.permutations_ntk.precise import relative_error
from paperworks.papers.permutations_ntk.theory import kernel_entries, permutation_moments


@runs.study(claims=["logarithmic-training-size"], title="All inputs from k examples", minutes=0.3)
def every_input(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """The infinite-width mean, by dense kernel algebra, on every one of the 2^k - 1 inputs."""
    k = 10 if fast else 14
    permutation = run.rng("permutation").permutation(k)
    rows = all_inputs(k)
    wanted = apply_permutation(permutation, rows)

    def share(examples: int) -> float:
        train = np.eye(k)[:examples]
        mean = NTKRegressor().fit(train, train @ permutation_matrix(permutation).T).predict(rows)
        return float((round_outputs(mean, rows) == wanted).all(axis=1).mean())

    return [
        runs.Finding(
            "logarithmic-training-size",
            f"Share of all {len(rows):,} nonzero inputs that the rounded mean permutes exactly after {k} examples",
            "exact",
            share(k),
            "==",
            1.0,
            baseline=share(k - 1),
            baseline_name=f"{k - 1} examples",
        )
    ]


@runs.study(claims=["sign-of-the-mean", "closed-form-moments"], title="Moments in closed form", minutes=0.3)
def closed_form(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Signs for all numbers of ones; closed form beside dense algebra in float64 and in 40 digits."""
    n = np.arange(2, 10**5 if fast else 10**6)
    _, cross = kernel_entries(n, "ntk")
    b = 1 / (2 * np.pi)
    slack = n * (cross - b) - (1 - b)  # mu0 = -b slack / (a D): its sign depends on n alone
    ones = np.concatenate([permutation_moments(k).one_mean for k in (2, 3, 10, 100, 1000, 10_000)])
    worst = 0.0
    for k in run.progress(range(2, 17 if fast else 65), "closed form beside dense algebra"):
        rows = np.tril(np.ones((k, k)))
        mean, covariance = trained_moments(np.eye(k), np.eye(k), unit_rows(rows))
        m = permutation_moments(k)
        worst = runs.largest(
            (
                worst,
                float(np.abs(mean[:, 0] - m.one_mean).max()),
                float(np.abs(mean[:-1, -1] - m.zero_mean[:-1]).max()),
                float(np.abs(np.diag(covariance) - m.variance).max()),
            )
        )
    tried = (2, 5, 8) if fast else (2, 5, 8, 12, 20)
    digits = max(relative_error(permutation_moments(k, np.unique([2, min(3, k), k // 2 + 1, k]))) for k in tried)
    return [
        runs.Finding(
            "sign-of-the-mean",
            f"Least of -mu0 (in units of b / (a D)) over n = 2 to {n[-1] + 1:,}, for every k at once",
            "exact",
            slack.min(),
            ">",
            0.0,
            detail="the README proves it for all n: n (v1 - b) - a >= b (pi sqrt(n) + 2 - 2 pi) > 0 for n >= 2",
        ),
        runs.Finding("sign-of-the-mean", "Least mu1 over all n, for k from 2 to 10,000", "exact", ones.min(), ">", 0.0),
        runs.Finding(
            "closed-form-moments",
            "Largest difference from dense kernel algebra over all n and all k tried",
            "exact",
            worst,
            "<=",
            1e-12,
        ),
        runs.Finding(
            "closed-form-moments",
            "Largest relative difference from dense kernel algebra in 40-digit arithmetic",
            "exact",
            digits,
            "<=",
            1e-11,
        ),
    ]


@runs.study(claims=["ensemble-for-one-input", "ensemble-for-all-inputs"], title="Growth of the ensembles", minutes=0.2)
def growth(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """The required sizes against k log k and k squared."""
    ks = [10 * 2**i for i in range(7 if fast else 11)]
    delta = 0.1
    single = np.array([required_models(k, delta, 2) / (k * math.log(k / delta)) for k in ks])
    every = np.array([required_models(k, delta) / k**2 for k in ks])
    limit = limit_constant()
    reached = [success_probability(k, 2, required_models(k, delta, 2)) for k in ks]
    return [
        runs.Finding(
            "ensemble-for-one-input",
            f"Networks for one input divided by k ln(k / delta), at k = {ks[-1]:,}",
            "exact",
            single[-1],
            "<=",
            limit * (1.03 if fast else 1.002),
            baseline=limit,
            baseline_name="limit",
            detail="k = 10, 20, 40, ...: " + ", ".join(f"{v:.3f}" for v in single),
        ),
        runs.Finding(
            "ensemble-for-one-input",
            "Largest step of that ratio when k doubles: it never grows",
            "exact",
            np.diff(single).max(),
            "<",
            0.0,
        ),
        runs.Finding(
            "ensemble-for-one-input",
            "Least exact success probability at that size, over all k",
            "exact",
            runs.smallest(reached),
            ">=",
            1 - delta,
        ),
        runs.Finding(
            "ensemble-for-all-inputs",
            f"Networks for all inputs divided by k squared, at k = {ks[-1]:,}",
            "exact",
            every[-1],
            "<=",
            limit * math.log(2) * (1.06 if fast else 1.01),
            baseline=limit * math.log(2),
            baseline_name="limit",
            detail="k = 10, 20, 40, ...: " + ", ".join(f"{v:.3f}" for v in every),
        ),
        runs.Finding(
            "ensemble-for-all-inputs",
            "Largest step of that ratio when k doubles: it never grows",
            "exact",
            np.diff(every).max(),
            "<",
            0.0,
        ),
    ]


@runs.study(claims=["bound-suffices"], title="Sampled ensembles at the size of the bound", minutes=0.3)
def bound(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Infinitely wide ensembles drawn jointly on all 255 inputs of 8 bits."""
    k, delta, repetitions = 8, 0.1, 300 if fast else 4000
    rows = all_inputs(k)
    limit = LimitEnsemble(run.rng("permutation").permutation(k), rows)
    sizes = {method: required_models(k, delta, method=method) for method in ("bound", "tails")}  # type: ignore[arg-type]
    small = sizes["bound"] // 50
    rates = {
        size: limit.failure_rate(run.rng(f"{size}"), size, repetitions, progress=run.progress)
        for size in (*sizes.values(), small)
    }
    slack = 3 * math.sqrt(delta * (1 - delta) / repetitions)
    findings = [
        runs.Finding(
            "bound-suffices",
            f"Share of {repetitions:,} ensembles of {size:,} networks ({name}) with any bit of the 255 inputs wrong",
            "exact",
            rates[size],
            "<=",
            delta,
            baseline=rates[small],
            baseline_name=f"{small} networks",
            tolerance=slack,
        )
        for name, size in (("closed bound", sizes["bound"]), ("exact tails", sizes["tails"]))
    ]
    findings.append(
        runs.Finding(
            "bound-suffices",
            f"The same with a fiftieth of them, {small} networks: failures are the rule",
            "exact",
            rates[small],
            ">",
            0.5,
        )
    )
    findings.append(
        runs.Finding(
            "bound-suffices",
            "Sum of the exact tails at the bound's size, over k = 3 to 64",
            "exact",
            runs.largest(failure_bound(j, "all", required_models(j, delta)) for j in range(3, 65)),
            "<=",
            delta,
        )
    )
    return findings
