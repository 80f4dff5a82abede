"""The threshold of the sieve: from sentences that are known to be irrelevant, or from the similarities themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paperworks.errors import InputError

PERCENTILE = 99.0
DEFAULT_MINILM = 0.45
LEAST_SENTENCES = 20


def percentile_threshold(similarities: Sequence[float] | np.ndarray, percentile: float = PERCENTILE) -> float:
    """The percentile of the largest similarities of sentences that are irrelevant.

    Raises
    ------
    InputError : fewer than 20 sentences, of which no such percentile can be told, or values that are not finite.
    """
    values = np.asarray(similarities, float)
    require_enough(values)
    if not np.isfinite(values).all():
        raise InputError("irrelevant", "a similarity that is not finite", "finite numbers")
    return float(np.percentile(values, percentile))


def require_enough(irrelevant: Sequence[object] | np.ndarray) -> None:
    """Raise InputError for fewer sentences than a percentile can be told of."""
    if len(irrelevant) < LEAST_SENTENCES:
        raise InputError("irrelevant", f"{len(irrelevant)} sentences", f"{LEAST_SENTENCES} or more")


def mixture_threshold(similarities: Sequence[float] | np.ndarray, seed: int = 0) -> float:
    """Where the upper of two normal distributions becomes the likelier one (Gaussian mixture by EM).

    Raises
    ------
    InputError : fewer than 20 similarities, or all equal.
    """
    from sklearn.mixture import GaussianMixture

    values = np.asarray(similarities, float)
    if len(values) < LEAST_SENTENCES or float(np.ptp(values)) < 1e-6:
        raise InputError("tau", f"a mixture of {len(values)} similarities", f"{LEAST_SENTENCES} or more that differ")
    mixture = GaussianMixture(2, random_state=seed, n_init=3).fit(values[:, None])
    low, high = np.argsort(mixture.means_.ravel())
    between = np.linspace(mixture.means_[low, 0], mixture.means_[high, 0], 1001)
    share = mixture.predict_proba(between[:, None])[:, high]
    above = np.flatnonzero(share >= 0.5)
    return float(between[above[0]] if len(above) else between[-1])


def read_sentences(path: Path) -> list[str]:
    """Sentences of a text file, one a line."""
    from paperworks.inputs.kinds import require_text

    path = path.expanduser()
    if not path.is_file():
        raise InputError("irrelevant", f"{path}, which is not there", "a text file, one sentence a line")
    data = path.read_bytes()
    require_text(path, data[:4096], "a text file, one sentence a line")
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise InputError("irrelevant", f"{path}, without a sentence", "one sentence a line")
    return found


def parse_tau(text: str) -> str | float:
    """``auto``, ``mixture``, or a cosine from -1 to 1.

    Raises
    ------
    InputError : anything else.
    """
    if text in ("auto", "mixture"):
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not -1 <= value <= 1:
        raise InputError("tau", repr(text), "auto, mixture, or a number from -1 to 1")
    return value
