"""What the table of a sweep says about the claims: the same questions to every data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd

from paperworks.papers.kd_data_pruning.sweeps import accuracies, difference, means
from paperworks.runs import Finding


def accuracies_in_words(found: pd.DataFrame) -> str:
    """Mean accuracies of a sweep, and that of the teacher."""
    teacher = np.mean(list(found.attrs["teacher"].values()))
    return f"mean accuracies by kept share, method and weight (teacher {teacher:.3f}): {means(found)}"


def clean_findings(name: str, found: pd.DataFrame, methods: Sequence[str]) -> Iterator[Finding]:
    """What the table of one data set with true labels says about the claims."""
    at = partial(accuracies, found)
    fractions = sorted(found["fraction"].unique())
    for fraction in fractions:
        for method in methods:
            plain = at(method, fraction, 0.0)
            yield Finding(
                "distillation-always-helps",
                f"{name}, {fraction:.0%} kept by {method}: accuracy gained by a teacher of weight 0.5.",
                "empirical",
                difference(at(method, fraction, 0.5), plain),
                ">",
                0.0,
                baseline=plain.mean(),
                baseline_name="accuracy without a teacher",
                detail=accuracies_in_words(found) if (fraction, method) == (fractions[0], methods[0]) else "",
            )
    for fraction in fractions:
        for method in methods[1:]:
            scored = at(method, fraction, 0.5)
            yield Finding(
                "random-is-enough",
                f"{name}, {fraction:.0%} kept, teacher of weight 0.5: accuracy of random rows less that of {method}, "
                "which may be 0.02 higher.",
                "empirical",
                difference(at("random", fraction, 0.5), scored),
                ">",
                -0.02,
                baseline=scored.mean(),
                baseline_name=f"accuracy of {method} with the teacher",
            )
    for method in methods:
        few, many = (at(method, f, 1.0) - at(method, f, 0.5) for f in (fractions[0], fractions[-1]))
        yield Finding(
            "weight-grows-as-data-shrinks",
            f"{name} by {method}: what weight 1 gains over weight 0.5 is more at {fractions[0]:.0%} kept than at "
            f"{fractions[-1]:.0%}.",
            "empirical",
            difference(few, many),
            ">",
            0.0,
            baseline=many.mean(),
            baseline_name=f"gain at {fractions[-1]:.0%}",
        )
    for method in (m for m in methods if m in ("el2n", "grand", "grand-last")):
        for fraction in (f for f in fractions if f <= 0.1):
            scored = at(method, fraction, 0.0)
            yield Finding(
                "hard-scores-fail-alone",
                f"{name}, {fraction:.0%} kept, no teacher: accuracy of random rows less that of {method}.",
                "empirical",
                difference(at("random", fraction, 0.0), scored),
                ">",
                0.0,
                baseline=scored.mean(),
                baseline_name=f"accuracy of {method}",
            )
