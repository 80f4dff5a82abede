"""What others printed: programs of the authors' service, its mean results, and the scores of the worked examples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paperworks.inputs.tables import Table, read_table
from paperworks.papers.fold_se.rules import Literal, Rule

TABLES = Path(__file__).parent / "tables"

HEART_CODES = (
    "sex",
    "chest_pain",
    "fasting_blood_sugar",
    "resting_electrocardiographic_results",
    "exercise_induced_angina",
    "slope",
    "major_vessels",
    "thal",
)
"""Columns of heart that the service was told are categorical; the others are numeric. In ecoli only ``sn`` is."""

POSITIVE = {"heart": "absent", "ecoli": "cp"}


def read_published(name: str) -> Table:
    """The table ``heart`` or ``ecoli`` with the column types that were used for the programs."""
    categorical = HEART_CODES if name == "heart" else ("sn",)
    drop = ("id",) if name == "heart" else ()
    return read_table(TABLES / f"{name}.csv", "label", categorical=categorical, drop=drop, missing=("",))


def published_split(labels: np.ndarray, positive: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows of a published run: 80/20, stratified by whether the label is the positive one."""
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.2, random_state=seed, stratify=labels == positive
    )
    return train, test


def _rule(*body: tuple[str, str, str | float], unless: tuple[Rule, ...] = ()) -> Rule:
    return Rule(tuple(Literal(*literal) for literal in body), unless)


@dataclass(frozen=True)
class Program:
    """A printed program and the run it came from."""

    table: str
    seed: int
    rules: tuple[Rule, ...]


PROGRAMS = (
    Program(
        "heart",
        45,
        (
            _rule(("major_vessels", "=", "0")),
            _rule(
                ("thal", "=", "3"),
                ("major_vessels", "!=", "0"),
                ("chest_pain", "!=", "4"),
                unless=(_rule(("major_vessels", "!=", "1"), ("maximum_heart_rate_achieved", "<=", 152)),),
            ),
        ),
    ),
    Program(
        "heart",
        43,
        (_rule(("chest_pain", "!=", "4"), unless=(_rule(("slope", "=", "2"), ("oldpeak", "not<=", 2.4)),)),),
    ),
    Program(
        "heart",
        51,
        (
            _rule(
                ("chest_pain", "!=", "4"),
                unless=(
                    _rule(("thal", "!=", "3"), ("maximum_heart_rate_achieved", "<=", 131)),
                    _rule(
                        ("sex", "=", "1"),
                        ("slope", "=", "2"),
                        ("major_vessels", "=", "1"),
                        ("blood_pressure", "not<=", 118),
                        ("maximum_heart_rate_achieved", "not<=", 132),
                    ),
                    _rule(("sex", "!=", "1"), ("major_vessels", "=", "2"), ("fasting_blood_sugar", "=", "1")),
                ),
            ),
            _rule(
                ("thal", "!=", "7"),
                ("major_vessels", "=", "0"),
                ("chest_pain", "=", "4"),
                ("maximum_heart_rate_achieved", "not<=", 117),
                unless=(_rule(("serum_cholestoral", ">", 303), ("serum_cholestoral", "<=", 315)),),
            ),
        ),
    ),
    Program(
        "ecoli",
        50,
        (
            _rule(
                ("alm1", "<=", 0.55),
                unless=(
                    _rule(
                        ("mcg", "not<=", 0.53),
                        unless=(
                            _rule(("alm1", "<=", 0.38), ("gvh", "<=", 0.51)),
                            _rule(("sn", "!=", "TBPA"), ("alm1", "<=", 0.37), ("aac", "<=", 0.45)),
                        ),
                    ),
                ),
            ),
        ),
    ),
    Program(
        "ecoli",
        48,
        (
            _rule(
                ("sn", "!=", "AAS"),
                ("alm1", "<=", 0.55),
                unless=(
                    _rule(("sn", "!=", "PTKB"), ("gvh", "not<=", 0.56), ("mcg", "not<=", 0.41)),
                    _rule(("sn", "!=", "PTWX"), ("alm1", "not<=", 0.36), ("alm2", "<=", 0.35)),
                    _rule(("alm2", "not<=", 0.47), ("alm1", "<=", 0.4)),
                ),
            ),
        ),
    ),
)
"""Programs printed by the authors' service (ratio 0.5, tail 0.005) and kept in fixedsyser/foldse-asp-hybrid."""

SERVICE_SEEDS = tuple(range(42, 52))

SERVICE_MEANS = {"heart": (0.748148, 4.0), "ecoli": (0.936765, 3.4)}
"""Mean accuracy (to six decimals) and mean number of rules over the ten splits of SERVICE_SEEDS."""


@dataclass(frozen=True)
class Example:
    """One worked example: cells of one column by class, the printed score of each literal, and the literal picked."""

    name: str
    positive: tuple[str | float, ...]
    negative: tuple[str | float, ...]
    gini: bool
    complete: bool
    decimals: int
    scores: dict[tuple[str, str | float], float]
    best: tuple[str, str | float]


_FIRST = (1.0, 2.0, 3.0, 3.0, 5.0, 6.0, 6.0, "b"), (2.0, 4.0, 6.0, 7.0, "a")

EXAMPLES = (
    Example(
        "FOLD-R++, information gain",
        *_FIRST,
        gini=False,
        complete=False,
        decimals=3,
        scores={
            ("<=", 3.0): -0.619,
            ("<=", 4.0): -0.661,
            ("<=", 5.0): -0.642,
            ("<=", 6.0): -0.617,
            ("<=", 7.0): -0.661,
            (">", 1.0): -0.665,
            (">", 2.0): -0.666,
            ("!=", "a"): -0.588,
            ("!=", "b"): -0.627,
        },
        best=("!=", "a"),
    ),
    Example(
        "FOLD-SE, Magic Gini Impurity",
        *_FIRST,
        gini=True,
        complete=True,
        decimals=4,
        scores={
            ("<=", 3.0): -0.4615,
            ("<=", 4.0): -0.4840,
            ("<=", 5.0): -0.4740,
            ("<=", 6.0): -0.4613,
            ("not<=", 1.0): -0.4551,
            ("not<=", 2.0): -0.4856,
            (">", 1.0): -0.4856,
            (">", 2.0): -0.4863,
            ("not>", 3.0): -0.4740,
            ("not>", 6.0): -0.4351,
            ("!=", "a"): -0.4351,
            ("!=", "b"): -0.4551,
        },
        best=("not>", 6.0),
    ),
    Example(
        "FOLD-RM, information gain",
        (1.0, 2.0, 2.0, 4.0, 5.0, "x", "x", "y"),
        (1.0, 3.0, 4.0, "y", "y", "y", "z"),
        gini=False,
        complete=False,
        decimals=3,
        scores={("=", "x"): -0.598, ("!=", "y"): -0.631, ("!=", "z"): -0.637, (">", 4.0): -0.647},
        best=("=", "x"),
    ),
)
