"""What must hold anywhere: the size of the network, splits, figures, files, and tests of areas."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from paperworks import runs
from paperworks.inputs.scans import (
    Geometry,
    PhantomSettings,
    Volume,
    phantom_cases,
    read_case,
    read_cases,
    write_phantom,
)
from paperworks.metrics import compare_auc, mean_interval, roc_auc
from paperworks.papers.petct_slices.evaluation import slice_metrics
from paperworks.papers.petct_slices.network import SliceNetwork
from paperworks.papers.petct_slices.splits import measured_leak, patient_split
from paperworks.papers.petct_slices.studies.bench import simulated_table
from paperworks.runs import Finding, Run, largest

PERMUTATIONS = 10_000
_COSINE, _SINE = float(np.cos(0.25)), float(np.sin(0.25))
_OBLIQUE = np.array(
    [
        [1.5 * _COSINE, -2.0 * _SINE, 0, -40],
        [1.5 * _SINE, 2.0 * _COSINE, 0, 12.5],
        [0, 0, 3.3, -7],
        [0, 0, 0, 1.0],
    ]
)


@runs.study(claims=["network-size"], title="Parameters of the network", minutes=0.1)
def network_size(run: Run, fast: bool) -> Iterator[Finding]:
    """Body and head, counted."""
    network = SliceNetwork()
    body, head = (sum(p.numel() for p in part.parameters()) for part in (network.body, network.head))
    yield Finding(
        "network-size",
        "trainable parameters of body and head",
        "exact",
        body + head,
        "==",
        11_242_305,
        detail=f"{body:,} + {head:,}",
    )


@runs.study(
    claims=["cohorts", "published-predictions"], title="Splits by patient, and the report's figures", minutes=0.3
)
def splits_and_figures(run: Run, fast: bool) -> Iterator[Finding]:
    """200 splits of scans of which a fifth is a second one; figures beside scikit-learn's."""
    table = simulated_table(0, 30, second_scans=True, size=16)
    shares = [measured_leak(table, *patient_split(table, 0.2, seed)).patient_share for seed in range(200)]
    scan = table.rows["case_id"].to_numpy()
    scans = np.unique(scan)
    by_scan = []
    for seed in range(200):
        test = np.isin(scan, np.random.default_rng(seed).permutation(scans)[: len(scans) // 5])
        by_scan.append(measured_leak(table, np.flatnonzero(~test), np.flatnonzero(test)).patient_share)
    yield Finding(
        "cohorts",
        "share of test slices whose patient is in the training set, the most of 200 splits by patient",
        "exact",
        largest(shares),
        "==",
        0,
        baseline=float(np.mean(by_scan)),
        baseline_name="mean share when scans are split",
        detail="30 simulated scans, every fourth patient has two",
    )
    yield _figures()


def _figures() -> Finding:
    from sklearn import metrics

    rng = np.random.default_rng(0)
    worst = 0.0
    for share in (0.02, 0.18, 0.5):
        y = (rng.random(2000) < share).astype(int)
        p = np.round(1 / (1 + np.exp(-(2 * y - 1.5 + rng.normal(size=2000)))), 3)
        found, marked = slice_metrics(y, p), (p >= 0.5).astype(int)
        theirs = {
            "AUROC": metrics.roc_auc_score(y, p),
            "AUPRC": metrics.average_precision_score(y, p),
            "sensitivity": metrics.recall_score(y, marked),
            "specificity": metrics.recall_score(y, marked, pos_label=0),
            "PPV": metrics.precision_score(y, marked),
            "NPV": metrics.precision_score(y, marked, pos_label=0),
            "accuracy": metrics.accuracy_score(y, marked),
            "F1": metrics.f1_score(y, marked),
            "MCC": metrics.matthews_corrcoef(y, marked),
            "Brier score": metrics.brier_score_loss(y, p),
        }
        worst = largest((worst, *(abs(found[name] - value) for name, value in theirs.items())))
    return Finding(
        "published-predictions",
        "the largest difference of ten figures of the report from scikit-learn's",
        "exact",
        worst,
        "<=",
        1e-12,
        detail="2,000 slices with ties, three shares of positive ones",
    )


@runs.study(claims=["reading"], title="Scans written and read back", minutes=0.2)
def reading(run: Run, fast: bool) -> Iterator[Finding]:
    """An oblique grid of 1.5 x 2.0 x 3.3 mm, as NIfTI, as DICOM with RTSTRUCT and with SEG."""
    settings = PhantomSettings(size=24, slices=20)
    geometry = Geometry((24, 24, 20), _OBLIQUE)
    differences: dict[str, list[float]] = {"nifti": [], "dicom": [], "masks": [], "suv": []}
    for number, scan in enumerate(phantom_cases(3, 7, settings)):
        pet, ct, mask = (Volume(one.array, geometry) for one in (scan.pet, scan.ct, scan.mask))
        turned = replace(scan, pet=pet, ct=ct, mask=mask)
        for kind in ("nifti", "rtstruct", "seg"):
            folder = run.state / f"{kind}-{number}"
            table = folder / "cases.csv"
            if not table.is_file():
                write_phantom(folder, [turned], (kind,))
            _compare(turned.pet.array, turned.mask.array, table, kind, differences)
    yield Finding(
        "reading", "NIfTI: largest difference of a SUV, read back", "exact", largest(differences["nifti"]), "==", 0
    )
    yield Finding(
        "reading",
        "DICOM: largest difference of a value, in halves of a rescale step",
        "exact",
        largest(differences["dicom"]),
        "<=",
        1,
        tolerance=0.01,
        detail="the tolerance is for float32 and the digits of a slope in its header",
    )
    yield Finding(
        "reading",
        "DICOM: largest relative difference of the SUV above 1 that are summed over a scan",
        "exact",
        largest(differences["suv"]),
        "<=",
        1e-4,
    )
    yield Finding(
        "reading",
        "voxels of the masks that differ, NIfTI, RTSTRUCT and SEG",
        "exact",
        sum(differences["masks"]),
        "==",
        0,
    )


def _compare(pet: np.ndarray, mask: np.ndarray, table: Path, kind: str, differences: dict[str, list[float]]) -> None:
    row = read_cases(table)[0]
    case = read_case(pet=row["pet"], ct=row["ct"], mask=row["mask"])
    assert case.mask is not None
    differences["masks"].append(float((case.mask.array != mask).sum()))
    if kind == "nifti":
        differences["nifti"].append(float(np.abs(case.pet.array - pet).max()))
        return
    step = np.maximum(pet.max((0, 1)), 1e-9) / 65535
    differences["dicom"].append(float((np.abs(case.pet.array - pet).max((0, 1)) / (step / 2)).max()))
    high = pet > 1
    differences["suv"].append(float(abs(case.pet.array[high].sum() / pet[high].sum() - 1)))


@runs.study(claims=["area-tests"], title="Tests of two areas, on breast cancer", minutes=0.3)
def area_tests(run: Run, fast: bool) -> Iterator[Finding]:
    """Two single features as scores; DeLong's test beside permutations of their ranks; a score beside itself."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    names = list(bunch.feature_names)
    y = 1 - bunch.target
    a, b = (bunch.data[:, names.index(name)] for name in ("mean smoothness", "mean symmetry"))
    plain = compare_auc(y, a, b, method="delong")
    count = 500 if fast else PERMUTATIONS
    permuted = [_permutation_p(y, a, b, count, seed) for seed in range(3)]
    yield Finding(
        "area-tests",
        "distance of DeLong's p-value from that of a permutation test",
        "empirical",
        mean_interval([abs(p - plain.p_value) for p in permuted]),
        "<=",
        0.02,
        baseline=float(np.mean(permuted)),
        baseline_name="p-value of the permutation test",
        detail=f"DeLong {plain.p_value:.4f}; AUROC {plain.auc_a:.3f} and {plain.auc_b:.3f}; {count:,} permutations",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        drawn = [
            compare_auc(y, a, b, method="cluster-bootstrap", n_boot=200 if fast else 2000, seed=seed).difference
            for seed in range(3)
        ]
    far = [max(abs(one.low - plain.difference.low), abs(one.high - plain.difference.high)) for one in drawn]
    yield Finding(
        "area-tests",
        "with a row per patient, distance of the bootstrap's interval from DeLong's, the farther end",
        "empirical",
        mean_interval(far, unit="bootstraps"),
        "<=",
        0.02,
        detail=f"DeLong {plain.difference.low:.3f} to {plain.difference.high:.3f}; the bound is ours",
    )
    same = compare_auc(y, a, a, method="delong")
    width = same.difference.high - same.difference.low
    yield Finding(
        "area-tests",
        "a score beside itself: the p-value",
        "exact",
        same.p_value,
        "==",
        1,
        detail=f"width of the interval {width:g}",
    )


def _permutation_p(y: np.ndarray, a: np.ndarray, b: np.ndarray, count: int, seed: int) -> float:
    """Two-sided p-value when the ranks of the two scores are exchanged, row by row, at random."""
    from scipy.stats import rankdata

    first, second = rankdata(a), rankdata(b)
    rng = np.random.default_rng(seed)
    observed = abs(roc_auc(y, first) - roc_auc(y, second))
    exchanged = rng.random((count, len(y))) < 0.5
    above = 0
    for swap in exchanged:
        one, other = np.where(swap, second, first), np.where(swap, first, second)
        above += abs(roc_auc(y, one) - roc_auc(y, other)) >= observed - 1e-12
    return (above + 1) / (count + 1)
