"""A transcript laid along one procedure, in the order of its steps, by dynamic programming: no training needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.sieve_swap.procedures import Procedure
from paperworks.papers.sieve_swap.sentences import VideoTranscript
from paperworks.papers.sieve_swap.similarity import make_index
from paperworks.papers.sieve_swap.thresholds import DEFAULT_MINILM


@dataclass(frozen=True)
class AlignedStep:
    """A step of a procedure and when it is spoken of: seconds, the spoken words, and the mean cosine."""

    step: int
    text: str
    start: float
    end: float
    spoken: str
    similarity: float


def align_matrix(similarity: np.ndarray, floor: float = 0.0) -> tuple[float, np.ndarray]:
    """The best monotone assignment of sentences to steps.

    Every sentence gets one step or none, steps never go back, several sentences may share a step, and steps may be
    left out. It maximises the sum of ``similarity - floor`` over assigned sentences::

        D(i, j) = max(D(i-1, j), D(i, j-1), s(i, j) - floor + max over j' <= j of D(i-1, j'))

    where D grows with j, so that the inner maximum is ``D(i-1, j)``.

    Parameters
    ----------
    similarity : ``[sentences, steps]``.
    floor : what an assignment must be worth.

    Returns
    -------
    (the sum, int64 ``[sentences]`` with the step of each or -1). Of equal assignments, the one with the earliest steps.
    """
    gain = np.asarray(similarity, float) - floor
    if gain.ndim != 2 or not np.isfinite(gain).all():
        raise InputError("similarity", f"shape {gain.shape}", "finite numbers [sentences, steps]")
    n, m = gain.shape
    table = np.zeros((n + 1, m + 1))
    for i in range(1, n + 1):
        taken = table[i - 1, 1:] + gain[i - 1]  # D(i-1, j) is the largest over j' <= j
        table[i, 1:] = np.maximum.accumulate(np.maximum(table[i - 1, 1:], taken))
    chosen = np.full(n, -1, np.int64)
    j = m
    for i in range(n, 0, -1):
        while j > 0 and table[i, j] == table[i, j - 1]:
            j -= 1
        if j > 0 and table[i, j] != table[i - 1, j]:
            chosen[i - 1] = j - 1
    return float(table[n, m]), chosen


def align(
    transcript: VideoTranscript,
    procedure: Procedure | Sequence[str],
    encoder: Any = "auto",
    *,
    tau: float = DEFAULT_MINILM,
) -> list[AlignedStep]:
    """When each step of a procedure is spoken of in a transcript.

    Parameters
    ----------
    procedure : a procedure, or its steps.
    encoder : as in ``SieveSwap``.
    tau : cosine that an assignment must be worth; 0.45 suits MiniLM.

    Returns
    -------
    the steps that were found, in order; times reach from the first to the last sentence of a step.
    """
    steps = list(procedure.steps if isinstance(procedure, Procedure) else procedure)
    if not steps:
        raise InputError("procedure", "no step", "one step or more")
    sentences = transcript.sentences()
    if not sentences:
        return []
    index, _ = make_index(encoder, steps)
    similarity = index.similarity(index.queries([s.text for s in sentences]), slice(None))
    _, chosen = align_matrix(similarity, tau)
    out = []
    for step in range(len(steps)):
        rows = np.flatnonzero(chosen == step)
        if len(rows):
            own = [sentences[row] for row in rows]
            words = " ".join(s.text for s in own)
            value = float(similarity[rows, step].mean())
            out.append(AlignedStep(step, steps[step], own[0].start, max(s.end for s in own), words, value))
    return out
