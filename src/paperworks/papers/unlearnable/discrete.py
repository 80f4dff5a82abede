"""Bayes errors of laws on finite sets, exactly: what the paper's bounds say can be checked on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError


def bayes_error(law: ArrayLike) -> float:
    """Bayes error ``1 - sum_x max_c p(x, c)`` of a joint law ``[X, C]``.

    Raises InputError for weights that are negative, not finite, or do not sum to 1.

    Examples
    --------
    >>> bayes_error([[0.5, 0.0], [0.25, 0.25]])
    0.25
    """
    p = np.asarray(law, dtype=np.float64)
    if p.ndim != 2 or not np.isfinite(p).all() or (p < 0).any() or abs(p.sum() - 1) > 1e-9:
        raise InputError("law", f"shape {p.shape}, sum {p.sum():g}", "probabilities [X, C] that sum to 1")
    return float(1 - p.max(1).sum())


def mixture(share: float, protected: ArrayLike, clean: ArrayLike) -> np.ndarray:
    """The law ``share * protected + (1 - share) * clean`` on the same set ``[X, C]``."""
    if not 0 <= share <= 1:
        raise InputError("share", share, "a number from 0 to 1")
    return share * np.asarray(protected, dtype=np.float64) + (1 - share) * np.asarray(clean, dtype=np.float64)


def pushed(law: ArrayLike, values: ArrayLike) -> np.ndarray:
    """The law of ``(phi(x), y)`` where ``values [X]`` are the codes 0, 1, ... that ``phi`` gives each x."""
    p, codes = np.asarray(law, dtype=np.float64), np.asarray(values)
    if codes.shape != (len(p),):
        raise InputError("values", f"shape {codes.shape}", f"one code for each of {len(p)} points")
    found = np.zeros((int(codes.max()) + 1, p.shape[1]))
    np.add.at(found, codes, p)
    return found


def classifier_error(law: ArrayLike, decisions: ArrayLike) -> float:
    """Error of a classifier, ``decisions [X]`` being the class that it gives each x, on a law ``[X, C]``."""
    p, codes = np.asarray(law, dtype=np.float64), np.asarray(decisions)
    if codes.shape != (len(p),) or codes.min() < 0 or codes.max() >= p.shape[1]:
        raise InputError("decisions", f"shape {codes.shape}", f"a class for each of {len(p)} points")
    return float(p.sum() - p[np.arange(len(p)), codes].sum())
