"""What saved embeddings say of the temperature that they were trained with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from paperworks.embedding.rows import as_rows, read_at
from paperworks.errors import InputError
from paperworks.papers.contrastive_loss.gradients import penalty_distribution, penalty_entropy
from paperworks.papers.contrastive_loss.metrics import Estimate, tolerance, uniform_law, uniformity
from paperworks.parameters import check_seed

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["too small", "too large", "neither"]

# Midpoints of Table 1 (CIFAR10; uniformity as a share of what 128 dimensions allow, 3.9375): between tau 0.07 (3.86,
# tolerance 0.04) and 0.3 (3.60, 0.178), and between 0.3 and 0.7 (3.17).
TOO_UNIFORM = (3.86 + 3.60) / 2 / 3.9375
INTOLERANT = (0.04 + 0.178) / 2
NOT_UNIFORM = (3.60 + 3.17) / 2 / 3.9375
PRINTED = ((0.07, 3.86), (0.3, 3.60), (0.7, 3.17), (1.0, 2.96))
ANCHORS, NEGATIVES = 1000, 4096
TAUS = (0.02, 0.05, 0.07, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


@dataclass(frozen=True)
class Diagnosis:
    """Figures of saved embeddings, and what they say.

    Attributes
    ----------
    n, dimensions : rows and columns.
    uniformity : -L_uniformity of all pairs (see ``metrics.uniformity``).
    limit : that of the uniform law in so many dimensions.
    between : uniformity of pairs of different classes; None without labels.
    tolerance : mean similarity of pairs of the same class; None without labels.
    verdict : "too small", "too large" or "neither".
    sentence : the verdict and its reason.
    temperatures : for temperatures of the softmax, the effective number of negatives, the share of the push that the
        nearest negative gets, and the share that falls on the anchor's own class, beside the share that an even push
        would have there.
    notes : what a reader should know besides.
    """

    n: int
    dimensions: int
    uniformity: Estimate
    limit: float
    between: Estimate | None
    tolerance: float | None
    verdict: Verdict
    sentence: str
    temperatures: pd.DataFrame
    notes: tuple[str, ...] = field(default=())

    @property
    def share(self) -> float:
        """The uniformity that the verdict goes by, as a share of the limit."""
        return (self.between or self.uniformity).value / self.limit


def diagnose(
    embeddings: Any, labels: Any = None, *, temperature: float | None = None, seed: int = 0, chunk: int = 2048
) -> Diagnosis:
    """Say whether the temperature behind embeddings looks too small or too large, and why.

    With labels, the verdict goes by pairs of different classes: classes that are drawn together do not count against
    uniformity.

    Parameters
    ----------
    embeddings : ``[n, d]``, n at least 10: an array, a memory map or the path of a ``.npy`` file. Rows are normalised.
    labels : ``[n]``; None for none.
    temperature : the one they were trained with, for the sentence; None if it is not known.
    seed : of the pairs and anchors drawn where there are many.
    chunk : rows at a time; figures do not depend on it.
    """
    check_seed("seed", seed)
    rows = as_rows(embeddings, "embeddings")
    n, d = rows.shape
    if n < 10 or d < 2:
        raise InputError("embeddings", f"{n} rows of {d} columns", "10 rows or more, of 2 columns or more")
    if temperature is not None and not (np.isfinite(temperature) and temperature > 0):
        raise InputError("temperature", temperature, "a finite number above 0")
    found = np.asarray(labels) if labels is not None else None
    if found is not None and found.shape != (n,):
        raise InputError("labels", f"shape {found.shape}", f"({n},), one for each row of the embeddings")
    overall = uniformity(rows, normalize=True, chunk=chunk, seed=seed)
    between, tolerant = None, None
    if found is not None:
        between = uniformity(rows, labels=found, normalize=True, chunk=chunk, seed=seed)
        tolerant = tolerance(rows, found, normalize=True)
    limit = uniform_law(d)
    share = (between or overall).value / limit
    verdict = _verdict(share, tolerant)
    table = _temperatures(rows, found, temperature, seed)
    sentence = _sentence(verdict, share, limit, between or overall, tolerant, temperature, table)
    return Diagnosis(
        n, d, overall, limit, between, tolerant, verdict, sentence, table, tuple(_notes(rows, found, overall))
    )


def _verdict(share: float, tolerant: float | None) -> Verdict:
    if share < NOT_UNIFORM:
        return "too large"
    if share > TOO_UNIFORM and (tolerant is None or tolerant < INTOLERANT):
        return "too small"
    return "neither"


def _sentence(
    verdict: Verdict,
    share: float,
    limit: float,
    measured: Estimate,
    tolerant: float | None,
    temperature: float | None,
    table: pd.DataFrame,
) -> str:
    which = "different classes are" if tolerant is not None else "examples are"
    spread = (
        f"{which} spread over {share:.0%} of what the sphere allows (uniformity {measured.value:.2f} of {limit:.2f})"
    )
    same = "" if tolerant is None else f" and two examples of one class have a mean similarity of {tolerant:.2f}"
    given = "" if temperature is None else f" of {temperature:g}"
    if verdict == "too small":
        reason = "nearest negatives alone are pushed away, those of the same kind among them"
        return f"The temperature{given} looks too small: {spread}{same}; {reason}."
    if verdict == "too large":
        reason = "the push is spread over all negatives, so that near ones are hardly separated"
        return f"The temperature{given} looks too large: {spread}{same}; {reason}."
    return f"The temperature{given} looks neither too small nor too large: {spread}{same}."


def _temperatures(rows: Any, labels: np.ndarray | None, temperature: float | None, seed: int) -> pd.DataFrame:
    import pandas as pd

    rng = np.random.default_rng(seed)
    n = rows.shape[0]
    anchors = np.sort(rng.choice(n, min(ANCHORS, n), replace=False))
    others = np.sort(rng.choice(n, min(NEGATIVES, n), replace=False))
    a, b = (_unit(read_at(rows, which, "embeddings")) for which in (anchors, others))
    s = a @ b.T
    s[anchors[:, None] == others[None]] = -np.inf
    same = None if labels is None else labels[anchors][:, None] == labels[others][None]
    content = []
    for tau in sorted({*TAUS, *([] if temperature is None else [float(temperature)])}):
        shares = penalty_distribution(s, tau)
        row = {
            "temperature": tau,
            "effective negatives": float(np.exp(penalty_entropy(shares)).mean()),
            "share of the nearest": float(shares.max(axis=1).mean()),
        }
        if same is not None:
            row["share on the own class"] = float((shares * same).sum(axis=1).mean())
            row["own class, even push"] = float(
                ((same & np.isfinite(s)).sum(axis=1) / np.isfinite(s).sum(axis=1)).mean()
            )
        content.append(row)
    return pd.DataFrame(content)


def _unit(block: np.ndarray) -> np.ndarray:
    block = block.astype(np.float64)
    return block / np.linalg.norm(block, axis=1, keepdims=True)


def _notes(rows: Any, labels: np.ndarray | None, overall: Estimate) -> list[str]:
    notes = []
    first = np.asarray(rows[: min(rows.shape[0], 10_000)], np.float64)
    off = float(np.abs(np.linalg.norm(first, axis=1) - 1).max())
    if off > 1e-2:
        notes.append(f"Rows were divided by their norm (it differs from 1 by up to {off:.3g}).")
    if overall.standard_error:
        notes.append(
            f"Uniformity is of {overall.pairs:,} drawn pairs; its standard error is {overall.standard_error:.1e}."
        )
    if labels is None:
        notes.append("Without labels the verdict goes by uniformity alone: give labels, and tolerance is measured too.")
    notes.append(
        "The verdict compares with the ordinary softmax loss of Table 1 (CIFAR10, 128 dimensions); losses over the "
        "hardest negatives are uniform at any temperature."
    )
    return notes
