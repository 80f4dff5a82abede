"""What the studies share: simulated scans of a seed, and the probabilities of classifiers that were trained on them.

60 scans of 60 slices of 32 pixels, two centers, one scan per patient; a small network (0.1 million parameters) for 6
epochs in place of ResNet-18 at 224 pixels. Every seed has scans, splits and weights of its own. What was split by
patient is tested on 60 further patients: 12, a fifth of 60, give figures that differ too much from seed to seed.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass

import numpy as np

from paperworks.inputs.scans import Case, PhantomSettings, phantom_cases
from paperworks.metrics import roc_auc
from paperworks.papers.petct_slices.baselines import NAMES, baseline_scores
from paperworks.papers.petct_slices.slice_classifier import SliceClassifier
from paperworks.papers.petct_slices.slice_table import SliceTable
from paperworks.papers.petct_slices.splits import patient_split, slice_split
from paperworks.runs import Run
from paperworks.runs.files import write_text

SIZE, SLICES, CASES, EPOCHS = 32, 60, 60, 6
SEEDS = 4


@dataclass(frozen=True)
class Trained:
    """What a seed gave.

    Attributes
    ----------
    table : the slices. patient : rows of the training patients (80 %) and of the further ones. by_slice : rows of
        training and test of the split by slice, of the first 60 scans.
    probabilities : name of a training -> probabilities of the test rows of its split (``slice`` by slice, all others by
        patient).
    baselines : name of a baseline -> its AUROC on the test patients.
    neighbour : AUROC of the nearest neighbour, split by patient and by slice.
    """

    table: SliceTable
    patient: tuple[np.ndarray, np.ndarray]
    by_slice: tuple[np.ndarray, np.ndarray]
    probabilities: dict[str, np.ndarray]
    baselines: dict[str, float]
    neighbour: tuple[float, float]

    def auc(self, name: str, center: str | None = None) -> float:
        """AUROC of a training on its test rows, or on those of a center."""
        rows = self.by_slice[1] if name == "slice" else self.patient[1]
        kept = np.ones(len(rows), bool) if center is None else self.table.rows["center"].iloc[rows].to_numpy() == center
        return roc_auc(self.table.labels[rows][kept], self.probabilities[name][kept])


def simulated_table(seed: int, cases: int = CASES, *, second_scans: bool = False, size: int = SIZE) -> SliceTable:
    """The slices of simulated scans."""
    settings = PhantomSettings(size=size, slices=SLICES, second_scans=second_scans)
    scans = phantom_cases(cases, 1000 + seed, settings)
    return SliceTable.from_cases(
        [Case(s.pet, s.ct, s.mask, s.patient_id, s.case_id, s.center, s.disease) for s in scans], size=size
    )


def trained(run: Run, seed: int, fast: bool) -> Trained:
    """All trainings of a seed; what an earlier attempt of the run trained is read again."""
    cases = 12 if fast else CASES
    table = simulated_table(seed, 2 * cases)
    whose = table.rows.iloc[: cases * SLICES]
    patient = patient_split(whose, 0.2, seed)[0], np.arange(len(whose), len(table))
    train, test, _ = slice_split(whose, 0.2, seed, allow_leakage=True)
    of_a = patient[0][table.rows["center"].iloc[patient[0]].to_numpy() == "A"]
    options = {
        "pet": ({}, patient[0]),
        "slice": ({}, train),
        "petct": ({"input": "petct"}, patient[0]),
        "ct": ({"input": "ct"}, patient[0]),
        "pet, center-aware": ({"regime": "caw"}, patient[0]),
        "single": ({}, of_a),
    }
    found = {}
    for name in run.progress(list(options), f"seed {seed}: training"):
        chosen, rows = options[name]
        kept = run.state / f"seed-{seed}-{name.replace(', ', '-')}.json"
        if not kept.is_file():
            tested = test if name == "slice" else patient[1]
            write_text(kept, json.dumps(_probabilities(table, rows, tested, name == "slice", chosen, seed, fast)))
        found[name] = np.array(json.loads(kept.read_text(encoding="utf-8")))
    scores = baseline_scores(table, *patient, seed)
    baselines = {name: roc_auc(table.labels[patient[1]], scores[name]) for name in NAMES}
    neighbour = (_nearest(table, *patient), _nearest(table, train, test))
    return Trained(table, patient, (train, test), found, baselines, neighbour)


def _probabilities(
    table: SliceTable,
    rows: np.ndarray,
    test: np.ndarray,
    by_slice: bool,
    options: dict[str, str],
    seed: int,
    fast: bool,
) -> list[float]:
    classifier = SliceClassifier(
        image_size=SIZE,
        network="small",
        pet_window=(0, 15),
        learning_rate=1e-3,
        epochs=1 if fast else EPOCHS,
        device="cpu",
        random_state=seed,
        **options,  # type: ignore[arg-type]
    )
    validation = None
    if by_slice:  # the whole practice by slice: also epoch and threshold
        inner, held, _ = slice_split(table.rows.iloc[rows], 0.2, seed, allow_leakage=True)
        rows, validation = rows[inner], rows[held]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        classifier.fit(table, rows, validation_rows=validation)
    return [float(p) for p in classifier.predict_proba(table, test)]


def _nearest(table: SliceTable, train: np.ndarray, test: np.ndarray) -> float:
    """AUROC of the label of the nearest training slice, in 30 principal components of the pixels."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import KNeighborsClassifier

    pixels = table.images("pet", np.arange(len(table))).reshape(len(table), -1)
    parts = PCA(30, random_state=0).fit(pixels[train])
    near = KNeighborsClassifier(1).fit(parts.transform(pixels[train]), table.labels[train])
    return roc_auc(table.labels[test], near.predict_proba(parts.transform(pixels[test]))[:, 1])
