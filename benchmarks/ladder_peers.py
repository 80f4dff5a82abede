"""LADDER beside its rivals on digits with a planted shortcut, Domino's mixture, and SliceLine on census data.

    python benchmarks/ladder_peers.py [--seeds 5]

Writes docs/benchmarks/ladder.md. Every seed has one classifier, and all methods start from it or from its initial
weights. SliceLine (Sagadeeva and Boehm 2021) is the package sliceline; without it, or without the table adult
(paperworks data get adult), its part is left out. About three minutes.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from paperworks.classification import predict_logits
from paperworks.inputs.tables import find_table, read_table
from paperworks.metrics import group_accuracy, mean_interval
from paperworks.papers.ladder import (
    ErrorAwareMixture,
    MetadataBackend,
    deep_feature_reweighting,
    match_slices,
    random_subset_head,
)
from paperworks.papers.ladder.studies.common import FIRST_SEED, Trained, discover, rectify, trained
from paperworks.papers.ladder.studies.digits import error_slices
from paperworks.papers.ladder.training import (
    train_cvar_dro,
    train_erm,
    train_failure,
    train_group_dro,
    train_jtt,
)
from paperworks.runs.files import write_text

OUTPUT = Path(__file__).parent.parent / "docs" / "benchmarks" / "ladder.md"
Figures = dict[str, list[tuple[float, ...]]]


def mitigation(seeds: int) -> Figures:
    """Worst-group accuracy, accuracy and seconds of every method, per seed."""
    found: Figures = {}
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        one = trained(seed, "B")
        train, val, test = one.parts["train"], one.parts["val"], one.parts["test"]
        x, head, x_test = one.features["val"].features, one.features["val"].head, one.features["test"].features
        began = time.perf_counter()
        slices = discover(one)
        searching = time.perf_counter() - began
        rows = max(rectify(one, slices).rows_.values(), key=len)

        def network(model: Any, images: np.ndarray = test.images) -> np.ndarray:
            return predict_logits(model, images, device="cpu")

        def head_only(make: Any, features: np.ndarray = x_test) -> np.ndarray:
            return np.asarray(make.logits(features))

        calls: dict[str, Callable[[], np.ndarray]] = {
            "ERM": lambda s=seed, t=train, f=network: f(train_erm(t.images, t.y, s)),
            "random subset (control)": lambda s=seed, h=head, a=x, v=val, r=rows, f=head_only: f(
                random_subset_head(h, a, v.y, r, random_state=s)
            ),
            "LADDER": lambda o=one, d=slices, f=head_only: f(rectify(o, d)),
            "LADDER, mean of heads": lambda o=one, d=slices, f=head_only: f(rectify(o, d, combine="mean")),
            "LADDER, pseudo-labels": lambda o=one, d=slices, f=head_only: f(rectify(o, d, balance="pseudo_label")),
            "LADDER, as released": lambda o=one, d=slices, f=head_only: f(rectify(o, d, faithful=True)),
            "JTT": lambda s=seed, t=train, f=network: f(train_jtt(t.images, t.y, s)),
            "Group DRO (training groups known)": lambda s=seed, t=train, f=network: f(
                train_group_dro(t.images, t.y, t.groups, s)
            ),
            "CVaR-DRO": lambda s=seed, t=train, f=network: f(train_cvar_dro(t.images, t.y, s)),
            "LfF": lambda s=seed, t=train, f=network: f(train_failure(t.images, t.y, s)),
            "DFR (validation groups known)": lambda h=head, a=x, v=val, f=head_only: f(
                deep_feature_reweighting(h, a, v.y, v.groups)
            ),
            "DFR with L1": lambda h=head, a=x, v=val, f=head_only: f(
                deep_feature_reweighting(h, a, v.y, v.groups, penalty="l1")
            ),
        }
        for name, call in calls.items():
            began = time.perf_counter()
            logits = call()
            seconds = time.perf_counter() - began + (searching if name.startswith("LADDER") else 0)
            by_group = group_accuracy(test.y, logits.argmax(axis=1), test.groups)
            found.setdefault(name, []).append((by_group.worst.estimate, by_group.overall.estimate, seconds))
    return found


def precision(seeds: int) -> Figures:
    """Precision@10, average precision and seconds of slices against the known error slices, per seed."""
    found: Figures = {}
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        one = trained(seed, "A")
        began = time.perf_counter()
        slices = discover(one)
        soft = slices.soft_membership(one.features["val"].features)
        of = np.array([s.class_code for s in slices.slices_])
        inside = one.parts["val"].y[:, None] == of[None]
        add(found, "LADDER", one, np.where(inside, soft, -np.inf), began)
        guess = softmax(one.features["val"].logits.astype(np.float64), axis=1)
        for name, options in (
            ("Domino's mixture", {}),
            ("Domino's mixture, weights 10", {"gamma_y": 10.0, "gamma_pred": 10.0}),
            ("Domino's mixture, k-means", {"initialise": "kmeans"}),
        ):
            began = time.perf_counter()
            made = ErrorAwareMixture(random_state=seed, **options)  # type: ignore[arg-type]
            y, vectors = one.parts["val"].y, one.vectors["val"]
            add(found, name, one, made.fit(vectors, y, guess).predict_proba(vectors, y, guess), began)
    return found


def add(found: Figures, name: str, one: Trained, membership: np.ndarray, began: float) -> None:
    """Note what a method found."""
    seconds = time.perf_counter() - began
    matches = match_slices(membership, error_slices(one))
    values = [float(np.mean([getattr(m, key) for m in matches])) for key in ("precision", "average_precision")]
    found.setdefault(name, []).append((*values, seconds))


def metadata(most: int = 1_000_000) -> list[str]:
    """Single predicates on census data: the largest error inside, here and by SliceLine, and seconds."""
    path = find_table("adult")
    if path is None or importlib.util.find_spec("sliceline") is None:
        return ["Left out: the table adult or the package sliceline is not here."]
    table = read_table(path)
    frame = pd.DataFrame(
        {
            c: pd.qcut(table.features[c], 4, duplicates="drop").astype(str) if c in table.numeric else table.features[c]
            for c in table.features.columns
        }
    ).fillna("missing")[:most]
    wrong = np.random.default_rng(0).random(len(frame)) < np.where(frame["race"] == "Black", 0.3, 0.15)
    wrong |= (frame["hours_per_week"] == frame["hours_per_week"].iloc[1]) & (np.arange(len(frame)) % 7 == 0)
    began = time.perf_counter()
    ours = max(MetadataBackend(min_support=0.05, conjunctions=True).find(frame, wrong), key=lambda s: s.error)
    seconds = time.perf_counter() - began
    levels = {c: sorted(frame[c].astype(str).unique()) for c in frame.columns}
    coded = np.stack([np.searchsorted(levels[c], frame[c].astype(str)) + 1 for c in frame.columns], axis=1)
    finder: Any = importlib.import_module("sliceline").Slicefinder(
        alpha=0.999999, k=1, max_l=2, min_sup=int(np.ceil(0.05 * len(frame))), verbose=False
    )
    began = time.perf_counter()
    finder.fit(coded, wrong.astype(float))
    theirs = time.perf_counter() - began
    statistics = finder.top_slices_statistics_[0]
    size, total = float(statistics["slice_size"]), float(statistics["sum_slice_error"])
    cells = zip(frame.columns, finder.top_slices_[0], strict=True)
    named = " and ".join(f"{c} = {levels[c][int(v) - 1]}" for c, v in cells if v is not None)
    return [
        f"{len(frame):,} rows, {frame.shape[1]} columns in categories, errors drawn at random and more often in two "
        "groups; conjunctions of two conditions with 5 % of the rows or more; the slice with the largest error inside.",
        "",
        "| method | slice | rows | error inside | seconds |",
        "| --- | --- | --- | --- | --- |",
        f"| MetadataBackend | {ours} | {ours.n} | {ours.error:.4f} | {seconds:.2f} |",
        f"| sliceline {version('sliceline')} | {named} | {size:.0f} | {total / size:.4f} | {theirs:.2f} |",
    ]


def rows_of(found: Figures, digits: int = 3) -> list[str]:
    """Rows of a table: mean and interval of the first figure, means of the others."""
    lines = []
    for name, values in found.items():
        table = np.array(values)
        first = mean_interval(table[:, 0]) if len(table) > 1 else None
        interval = "" if first is None else f" ({first.low:.{digits}f} to {first.high:.{digits}f})"
        rest = " | ".join(f"{v:.{digits}f}" for v in table[:, 1:-1].mean(axis=0))
        lines.append(f"| {name} | {table[:, 0].mean():.{digits}f}{interval} | {rest} | {table[:, -1].mean():.2f} |")
    return lines


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    lines = [
        "# LADDER beside its rivals",
        "",
        f"`python benchmarks/ladder_peers.py --seeds {seeds}`, {platform.machine()}, torch {version('torch')}, "
        f"scikit-learn {version('scikit-learn')}.",
        "",
        "## Rectification",
        "",
        "Digits on coloured ground that tells the class in 95 % of the training, 90 % of the validation and half of "
        f"the test images; {seeds} seeds. Seconds include the search for slices and the training of networks.",
        "",
        "| method | worst-group accuracy (95 %) | accuracy | seconds |",
        "| --- | --- | --- | --- |",
        *rows_of(mitigation(seeds)),
        "",
        "DFR and Group DRO know the groups; the others do not.",
        "",
        "## Slices",
        "",
        "The same with a validation split in which the ground says nothing. Known slices: a class on the other ground. "
        "Best slice or complement for each of the two, mean.",
        "",
        "| method | precision@10 (95 %) | average precision | seconds |",
        "| --- | --- | --- | --- |",
        *rows_of(precision(seeds)),
        "",
        "Domino's mixture is written from its formulas. It gets the true labels of the rows that it slices.",
        "",
        "## Metadata",
        "",
        *metadata(),
        "",
    ]
    write_text(OUTPUT, "\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
