"""Error slices: what the absence of an attribute does to the accuracy of a class (step 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class ErrorSlice:
    """Samples of a class in which a hypothesis's attribute is missing.

    Attributes
    ----------
    class_code, class_name : the class.
    name, statement, test_sentences : of the hypothesis.
    threshold : similarity below which the attribute counts as missing.
    n_without, n_with : rows of the class without and with the attribute.
    accuracy_without, accuracy_with, class_accuracy : NaN where there is no such row.
    p : of the difference of the two accuracies (two proportions, pooled variance, two sides); p_holm : the same after
        Holm's correction over all hypotheses of all classes.
    clip_score : 100 times (mean similarity of correct rows minus that of wrong rows).
    mean, deviation : of the similarity over the validation split.
    confirmed : whether the error without the attribute is above the class's by the margin.
    examples : ids of the rows of the class with the lowest similarity, wrongly classified ones first.
    """

    class_code: int
    class_name: str
    name: str
    statement: str
    test_sentences: tuple[str, ...]
    threshold: float
    n_without: int
    n_with: int
    accuracy_without: float
    accuracy_with: float
    class_accuracy: float
    p: float
    p_holm: float
    clip_score: float
    mean: float
    deviation: float
    confirmed: bool
    examples: tuple[str, ...] = field(default=())

    @property
    def gap(self) -> float:
        """Accuracy with the attribute minus accuracy without."""
        return self.accuracy_with - self.accuracy_without

    @property
    def error_rise(self) -> float:
        """Error without the attribute minus error of the class: what the margin is compared with."""
        return self.class_accuracy - self.accuracy_without


def reaches(rise: float, margin: float) -> bool:
    """Whether a difference of two shares is at least the margin; 0.9 - 0.8 is 0.1, whatever floating point makes of it.

    False for NaN.
    """
    return bool(rise >= margin - 1e-12)


def accuracy(right: np.ndarray) -> float:
    """Share of True; NaN of nothing."""
    return float(right.mean()) if len(right) else float("nan")


def two_proportion_p(right_a: int, n_a: int, right_b: int, n_b: int) -> float:
    """Two-sided p of the difference of two proportions, pooled variance; 1 where a part is empty or all are alike."""
    from scipy.special import ndtr

    if not n_a or not n_b:
        return 1.0
    pooled = (right_a + right_b) / (n_a + n_b)
    if pooled in (0.0, 1.0):
        return 1.0
    z = (right_a / n_a - right_b / n_b) / np.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))
    return float(2 * ndtr(-abs(z)))


def holm(values: Sequence[float]) -> np.ndarray:
    """p-values adjusted by Holm's step-down method ``[n]`` (Holm 1979)."""
    p = np.asarray(values, np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
