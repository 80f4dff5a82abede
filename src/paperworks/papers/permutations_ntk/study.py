"""The paper's claims, measured again: theorems exactly, experiments with drawn and with trained networks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from paperworks import runs
from paperworks.papers.permutations_ntk.bits import all_inputs, apply_permutation, permutation_matrix
from paperworks.papers.permutations_ntk.diagnostics import compare_with_theory
from paperworks.papers.permutations_ntk.ensemble import PermutationEnsemble
from paperworks.papers.permutations_ntk.ensemble_size import (
    failure_bound,
    limit_constant,
    required_models,
    success_probability,
)
from paperworks.papers.permutations_ntk.kernels import NTKRegressor, trained_moments, unit_rows
from paperworks.papers.permutations_ntk.limit import LimitEnsemble, round_outputs
from paperworks.papers.permutations_ntk.networks import Parametrization
from paperworks.papers.permutations_ntk.precise import relative_error
from paperworks.papers.permutations_ntk.theory import Kernel, kernel_entries, mean_squared_error, permutation_moments

OFFICIAL_90 = {2: 1, 3: 2, 4: 10, 5: 43, 10: 69, 15: 103, 20: 117, 25: 157, 30: 175}
OFFICIAL_999 = {5: 43, 10: 129, 15: 163, 20: 254, 25: 308, 30: 318}
OFFICIAL_ERROR = {10: 0.00211, 30: 0.000468}
PAPER_BOUND = {5: 5.7e3, 10: 6.5e3, 30: 1.25e4}


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
        worst = max(
            worst,
            float(np.abs(mean[:, 0] - m.one_mean).max()),
            float(np.abs(mean[:-1, -1] - m.zero_mean[:-1]).max()),
            float(np.abs(np.diag(covariance) - m.variance).max()),
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
            min(reached),
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
            max(failure_bound(j, "all", required_models(j, delta)) for j in range(3, 65)),
            "<=",
            delta,
        )
    )
    return findings


@runs.study(
    claims=["finite-networks-agree", "standard-parametrisation-trains-the-last-layer"],
    title="Trained networks beside theory",
    minutes=1.0,
)
def trained(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Networks of 4096 units (k = 5, and k = 10 for the standard parametrisation) trained by gradient descent."""
    count, width = (30, 1024) if fast else (400, 4096)
    rows = all_inputs(5)
    rows = rows[np.isin(rows.sum(axis=1), (2, 4))]
    permutation = run.rng("permutation").permutation(5)
    ensemble = _train(run, permutation, rows, count, width, "ntk")
    pairs = compare_with_theory(
        permutation, rows, ensemble.probe_mean_, count, variance=ensemble.probe_variance_, kernel="ntk"
    )
    findings = []
    for a in pairs:
        for where, value, theory, z in (
            ("1", a.one_mean, a.one_theory, a.one_z),
            ("0", a.zero_mean, a.zero_theory, a.zero_z),
        ):
            findings.append(
                runs.Finding(
                    "finite-networks-agree",
                    f"Mean output of {count} networks beside theory, {where} bits of inputs with {a.ones} ones",
                    "empirical",
                    None if z is None else abs(z),
                    "<=",
                    4.0,
                    unit="standard errors",
                    detail=f"mean {_figure(value)}, theory {_figure(theory)}",
                )
            )
        findings.append(
            runs.Finding(
                "finite-networks-agree",
                f"Variance over networks divided by theory, inputs with {a.ones} ones: distance from 1",
                "empirical",
                None if a.variance is None else abs(a.variance / a.variance_theory - 1),
                "<=",
                4 * math.sqrt(2 / (count - 1)),
                detail=f"variance {_figure(a.variance)}, theory {a.variance_theory:.5f}; the bound is four "
                f"standard errors of the variance of {count} Gaussian values",
            )
        )
    return findings + _standard(run, fast, count, width)


def _standard(run: runs.Run, fast: bool, count: int, width: int) -> list[runs.Finding]:
    """The standard parametrisation beside both kernels; official figures of the repository's saved predictions."""
    claim = "standard-parametrisation-trains-the-last-layer"
    official = {5: (0.5976, -0.0439), 10: (0.6173, -0.0224)}
    findings = []
    for k in (5,) if fast else (5, 10):
        rows = all_inputs(k)
        rows = rows[rows.sum(axis=1) == 2]
        permutation = run.rng("permutation").permutation(k)
        ensemble = _train(run, permutation, rows, count, width, "standard")
        z: dict[Kernel, float | None] = {}
        for kernel in ("nngp", "ntk"):
            (a,) = compare_with_theory(permutation, rows, ensemble.probe_mean_, count, kernel=kernel)
            z[kernel] = None if a.zero_z is None else abs(a.zero_z)
        findings.append(
            runs.Finding(
                claim,
                f"k = {k}: distance of the mean at zero bits from the last-layer kernel's",
                "empirical",
                z["nngp"],
                "<=",
                4.0,
                unit="standard errors",
                detail=f"of {count} networks; mean {_figure(a.zero_mean)}; official predictions {official[k][1]}",
            )
        )
        if not fast:
            findings.append(
                runs.Finding(
                    claim,
                    f"k = {k}: distance of the mean at zero bits from the full kernel's",
                    "empirical",
                    z["ntk"],
                    ">",
                    4.0,
                    unit="standard errors",
                    detail=f"of {count} networks",
                )
            )
        m = {kernel: permutation_moments(k, 2, kernel=kernel) for kernel in ("nngp", "ntk")}  # type: ignore[arg-type]
        apart = {kernel: math.dist(official[k], (float(v.one_mean), float(v.zero_mean))) for kernel, v in m.items()}
        findings.append(
            runs.Finding(
                claim,
                f"k = {k}: distance of the official predictions' means from the last-layer theory",
                "exact",
                apart["nngp"],
                "<",
                apart["ntk"],
                baseline=apart["ntk"],
                baseline_name="from the full kernel",
            )
        )
    return findings


def _train(
    run: runs.Run, permutation: NDArray, rows: NDArray, count: int, width: int, parametrization: Parametrization
) -> PermutationEnsemble:
    ensemble = PermutationEnsemble(
        count, width=width, parametrization=parametrization, keep="probe", random_state=run.seed
    )
    return ensemble.fit(permutation, probe=rows, progress=run.progress)


@runs.study(
    claims=["experiment-90-percent", "experiment-99-9-percent", "error-of-the-mean"],
    title="The paper's experiment, with infinitely wide networks",
    minutes=2.0,
)
def experiment(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Networks are added until the share of 1,000 random inputs with two ones that are right is enough."""
    repetitions = 10 if fast else 40
    ks = (5, 10) if fast else (2, 3, 4, 5, 10, 15, 20, 25, 30)
    sizes = {k: _first_sizes(run, k, 0.9, repetitions) for k in ks}
    strict = {k: _first_sizes(run, k, 0.999, repetitions) for k in ks if k >= 5}
    median = {k: float(np.median(v)) for k, v in sizes.items()}
    share = _median_interval(sizes[last := ks[-1]])
    inside = [k for k in ks if sizes[k].min() <= OFFICIAL_90[k] <= sizes[k].max()]
    inside_strict = [k for k in strict if strict[k].min() <= OFFICIAL_999[k] <= strict[k].max()]
    ratio = [float(np.median(strict[k])) / median[k] for k in strict]
    errors = {k: mean_squared_error(k, 2, OFFICIAL_90[k], kernel="nngp") for k in OFFICIAL_ERROR}
    tighter = required_models(last, 0.1, 2, kernel="nngp")
    shown = ", ".join(f"k = {k}: {median[k]:.0f} ({OFFICIAL_90[k]})" for k in ks)
    shown_strict = ", ".join(f"k = {k}: {np.median(v):.0f} ({OFFICIAL_999[k]})" for k, v in strict.items())
    return [
        runs.Finding(
            "experiment-90-percent",
            f"Median networks for 90 % of inputs at k = {last}, as a share of what the paper's bound asks for",
            "empirical",
            median[last] / PAPER_BOUND[last],
            "<=",
            0.1,
            interval=(share[0] / PAPER_BOUND[last], share[1] / PAPER_BOUND[last]),
            interval_method="95%, order statistics",
            n=repetitions,
            n_unit="experiments",
            baseline=OFFICIAL_90[last] / PAPER_BOUND[last],
            baseline_name="official code",
            detail=f"medians (official): {shown}",
        ),
        runs.Finding(
            "experiment-90-percent",
            f"The same at k = {last}, as a share of the tighter bound that is derived here for these networks",
            "empirical",
            median[last] / tighter,
            "<",
            1.0,
            interval=(share[0] / tighter, share[1] / tighter),
            interval_method="95%, order statistics",
            n=repetitions,
            n_unit="experiments",
            detail="fewer, but not by much: what is far from the experiment is the paper's bound",
        ),
        runs.Finding(
            "experiment-90-percent",
            f"Official counts within the range of {repetitions} simulated experiments, of {len(ks)} values of k",
            "empirical",
            len(inside),
            ">=",
            len(ks) - 1,
            unit="values of k",
        ),
        runs.Finding(
            "experiment-99-9-percent",
            "Median over k of the ratio of networks for 99.9 % and for 90 %",
            "empirical",
            float(np.median(ratio)),
            "==",
            2,
            tolerance=0.5,
            interval=_ratio_interval(run, sizes, strict),
            interval_method="95%, bootstrap, percentile",
            n=repetitions,
            n_unit="experiments of each k",
            baseline=float(np.median([OFFICIAL_999[k] / OFFICIAL_90[k] for k in strict])),
            baseline_name="official ratio",
            detail=f"medians (official): {shown_strict}",
        ),
        runs.Finding(
            "experiment-99-9-percent",
            f"Official counts within the range of {repetitions} simulated experiments, of {len(strict)} values of k",
            "empirical",
            len(inside_strict),
            ">=",
            len(strict) - 1,
            unit="values of k",
        ),
        *(
            runs.Finding(
                "error-of-the-mean",
                f"k = {k}: expected squared error of {OFFICIAL_90[k]} networks' average, relative to the official one",
                "exact",
                errors[k] / official,
                "==",
                1.0,
                baseline=official,
                baseline_name="official error",
                tolerance=0.05,
            )
            for k, official in OFFICIAL_ERROR.items()
        ),
        runs.Finding(
            "error-of-the-mean",
            "Expected squared error at k = 30, which is below that at k = 10",
            "exact",
            errors[30],
            "<",
            errors[10],
        ),
    ]


def _first_sizes(run: runs.Run, k: int, accuracy: float, repetitions: int) -> NDArray[np.int64]:
    """First ensemble sizes that pass, with the last-layer kernel that the official parametrisation amounts to."""
    rng = run.rng(f"experiment {k} {accuracy}")
    pairs = np.stack(np.triu_indices(k, 1), axis=1)
    rows = np.zeros((len(pairs), k), dtype=np.uint8)
    rows[np.arange(len(pairs))[:, None], pairs] = 1
    limit = LimitEnsemble(rng.permutation(k), rows, kernel="nngp")
    weights = rng.multinomial(1000, np.full(len(pairs), 1 / len(pairs)))
    return limit.first_sizes(rng, accuracy, repetitions, weights=weights, progress=run.progress)


def _figure(value: float | None) -> str:
    return "missing" if value is None else f"{value:.5f}"


def _median_interval(values: NDArray) -> tuple[float, float]:
    """The order statistics between which the median lies with 95% probability (binomial)."""
    from scipy.stats import binom

    below = int(binom.ppf(0.025, len(values), 0.5))
    ordered = np.sort(values)
    return float(ordered[max(0, below - 1)]), float(ordered[min(len(values) - 1, len(values) - below)])


def _ratio_interval(
    run: runs.Run, sizes: dict[int, NDArray[np.int64]], strict: dict[int, NDArray[np.int64]]
) -> tuple[float, float]:
    """Experiments are drawn with replacement for each k and each share; the median ratio of each draw."""
    rng = run.rng("bootstrap")
    drawn = [
        np.median(
            [
                np.median(rng.choice(v, len(v))) / np.median(rng.choice(sizes[k], len(sizes[k])))
                for k, v in strict.items()
            ]
        )
        for _ in range(1000)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)
