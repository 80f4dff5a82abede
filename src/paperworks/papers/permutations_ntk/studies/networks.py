"""Trained networks beside the theory, in both parametrisations."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from paperworks import runs
from paperworks.papers.permutations_ntk.bits import all_inputs
from paperworks.papers.permutations_ntk.diagnostics import compare_with_theory
from paperworks.papers.permutations_ntk.ensemble import PermutationEnsemble
from paperworks.papers.permutations_ntk.networks import Parametrization
from paperworks.papers.permutations_ntk.theory import Kernel, permutation_moments


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
                    test=_errors(count),
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
                test=f"four standard errors of the variance of {count} networks",
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
                test=_errors(count),
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
                    test=_errors(count),
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


def _errors(count: int) -> str:
    return f"four standard errors of the mean of {count} networks"


def _figure(value: float | None) -> str:
    return "missing" if value is None else f"{value:.5f}"
