"""Leakage, inputs, regimes, centers, intervals and edges on simulated scans; see ``bench`` for their size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from paperworks import runs
from paperworks.metrics import bootstrap_interval, mean_interval, roc_auc
from paperworks.papers.petct_slices.studies.bench import SEEDS, Trained, trained
from paperworks.runs import Finding, Run

RESAMPLES = 500


@runs.study(
    claims=[
        "split-leakage",
        "best-regime",
        "edge-slices",
        "clustered-intervals",
        "cohort-differences",
        "published-predictions",
    ],
    title="Splits, inputs and regimes on 60 simulated scans",
    minutes=4,
)
def simulated(run: Run, fast: bool) -> Iterator[Finding]:
    """Six trainings for each seed."""
    found = [trained(run, seed, fast) for seed in range(2 if fast else SEEDS)]
    yield from _leakage(found)
    yield from _inputs_and_regimes(found)
    yield from _centers(found)
    yield from _intervals(found, 50 if fast else RESAMPLES)
    yield from _edges(found)
    yield from _baselines(found)


def _values(found: list[Trained], name: str, center: str | None = None) -> np.ndarray:
    return np.array([one.auc(name, center) for one in found])


def _leakage(found: list[Trained]) -> Iterator[Finding]:
    patient, by_slice = _values(found, "pet"), _values(found, "slice")
    near = np.array([one.neighbour for one in found])
    yield Finding(
        "split-leakage",
        "AUROC of the network, split by slice less split by patient",
        "empirical",
        mean_interval(by_slice - patient),
        ">=",
        0.02,
        baseline=float(patient.mean()),
        baseline_name="AUROC, split by patient",
        detail=f"split by slice {by_slice.mean():.3f}",
    )
    more = (near[:, 1] - near[:, 0]) - (by_slice - patient)
    yield Finding(
        "split-leakage",
        "a nearest neighbour gains more from the leak than the network",
        "empirical",
        mean_interval(more),
        ">",
        0,
        baseline=float((by_slice - patient).mean()),
        baseline_name="gain of the network",
        detail=f"nearest neighbour {near[:, 0].mean():.3f} by patient, {near[:, 1].mean():.3f} by slice",
    )


def _inputs_and_regimes(found: list[Trained]) -> Iterator[Finding]:
    pet, ct = _values(found, "pet"), _values(found, "ct")
    prior = np.array([one.baselines["position"] for one in found])
    yield Finding(
        "best-regime",
        "AUROC of PET less that of CT alone, on which lesions cannot be seen here",
        "empirical",
        mean_interval(pet - ct),
        ">",
        0.1,
        baseline=float(ct.mean()),
        baseline_name="AUROC of CT alone",
        detail=f"PET {pet.mean():.3f}",
    )
    yield Finding(
        "best-regime",
        "AUROC of CT alone less that of the position in the scan: there is nothing else for it to learn",
        "empirical",
        mean_interval(ct - prior),
        "<=",
        0.05,
        baseline=float(prior.mean()),
        baseline_name="AUROC of the position",
        detail="the specification says near; 0.05 is our reading",
    )
    for name, words in (
        ("petct", "PET with CT, center-agnostic"),
        ("pet, center-aware", "PET, center-aware (balanced batches)"),
    ):
        other = _values(found, name)
        yield Finding(
            "best-regime",
            f"AUROC of PET alone, center-agnostic, less that of {words}",
            "empirical",
            mean_interval(pet - other),
            ">",
            0,
            baseline=float(other.mean()),
            baseline_name=f"AUROC of {words}",
            detail=f"PET alone, center-agnostic {pet.mean():.3f}; split by patient",
        )


def _centers(found: list[Trained]) -> Iterator[Finding]:
    pooled, single = _values(found, "pet", "B"), _values(found, "single", "B")
    own = _values(found, "single", "A")
    yield Finding(
        "best-regime",
        "on center B, AUROC trained on both centers less trained on center A alone",
        "empirical",
        mean_interval(pooled - single),
        ">=",
        0,
        baseline=float(single.mean()),
        baseline_name="trained on center A alone",
        detail=f"trained on both {pooled.mean():.3f}",
    )
    yield Finding(
        "cohort-differences",
        "trained on center A alone, AUROC on patients of A less on patients of B",
        "empirical",
        mean_interval(own - single),
        ">",
        0,
        baseline=float(single.mean()),
        baseline_name="AUROC on patients of B",
        detail=f"on patients of A {own.mean():.3f}; B resolves less, is noisier, and reads 1.25 times higher",
    )


def _intervals(found: list[Trained], resamples: int) -> Iterator[Finding]:
    ratios, widths = [], []
    for number, one in enumerate(found):
        rows = one.patient[1]
        y, p = one.table.labels[rows], one.probabilities["pet"]
        of = one.table.patients[rows]
        clustered = bootstrap_interval(roc_auc, y, p, clusters=of, n_resamples=resamples, seed=number)
        plain = bootstrap_interval(roc_auc, y, p, n_resamples=resamples, seed=number)
        widths.append((clustered.high - clustered.low, plain.high - plain.low))
        ratios.append(widths[-1][0] / widths[-1][1])
    mean = np.mean(widths, axis=0)
    yield Finding(
        "clustered-intervals",
        "width of the interval of the AUROC when patients are drawn again, in widths of that when slices are",
        "empirical",
        mean_interval(ratios),
        ">=",
        1.5,
        unit="times",
        baseline=float(mean[1]),
        baseline_name="width when slices are drawn again",
        detail=f"mean widths {mean[0]:.3f} and {mean[1]:.3f}, {resamples} resamples; 5.8 times on the published ones",
    )


def _edges(found: list[Trained]) -> Iterator[Finding]:
    inner, edge = [], []
    for one in found:
        rows = one.table.rows.iloc[one.patient[1]]
        positive, at_edge = (rows["label"] == 1).to_numpy(), rows["edge"].to_numpy(bool)
        marked = one.probabilities["pet"] >= 0.5
        edge.append(marked[positive & at_edge].mean())
        inner.append(marked[positive & ~at_edge].mean())
    yield Finding(
        "edge-slices",
        "sensitivity at 0.5 on inner slices of lesions less on their first and last slices",
        "empirical",
        mean_interval(np.array(inner) - np.array(edge)),
        ">",
        0,
        baseline=float(np.mean(edge)),
        baseline_name="sensitivity on edge slices",
        detail=f"inner slices {np.mean(inner):.3f}",
    )


def _baselines(found: list[Trained]) -> Iterator[Finding]:
    pet = _values(found, "pet")
    means = {name: np.array([one.baselines[name] for one in found]) for name in found[0].baselines}
    best = max(means, key=lambda name: means[name].mean())
    listed = ", ".join(f"{name} {values.mean():.3f}" for name, values in means.items())
    yield Finding(
        "published-predictions",
        f"AUROC of the network less that of the best of five simple baselines ({best})",
        "empirical",
        mean_interval(pet - means[best]),
        ">",
        0,
        baseline=float(means[best].mean()),
        baseline_name=f"AUROC of {best}",
        detail=f"network {pet.mean():.3f}; {listed}",
    )
