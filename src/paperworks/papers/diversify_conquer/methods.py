"""Every way of choosing under one name: the paper's own and those that it is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np

from paperworks.embedding import facility_location, k_center_greedy, score_first
from paperworks.embedding.rows import as_rows
from paperworks.errors import InputError
from paperworks.papers.diversify_conquer.allocation import resolve_budget
from paperworks.papers.diversify_conquer.config import MethodName
from paperworks.papers.diversify_conquer.sampling import Sampling, as_quality, as_seed
from paperworks.papers.diversify_conquer.selector import KMeansSelector
from paperworks.runs import Progress, no_progress

METHODS: dict[str, str] = {
    "kmq": "k-means clusters, drawn by quality inside (this paper)",
    "km-random": "k-means clusters, drawn at random inside (this paper)",
    "km-closest": "k-means clusters, nearest to the centre (this paper)",
    "km-median": "k-means clusters, distance nearest to the median (the paper's code)",
    "random": "uniform, without clusters",
    "k-center": "the farthest row again and again (Gonzalez 1985; Sener and Savarese 2018)",
    "deita": "best score first, at least 0.9 (squared) from those taken (Liu et al. 2023)",
    "qdit": "facility location with a bonus for quality (Bukharin et al. 2024)",
    "facility-location": "the submodular function alone, lazy greedy (Minoux 1978)",
    "top-quality": "highest scores",
    "mid-quality": "scores nearest to the median (perplexity mid-range where quality is a perplexity)",
}
CLUSTERED: dict[str, Sampling] = {
    "kmq": "quality",
    "km-random": "random",
    "km-closest": "closest",
    "km-median": "median",
}
NEED_QUALITY = ("kmq", "deita", "qdit", "top-quality", "mid-quality")
QUADRATIC = ("qdit", "facility-location")


def select(
    embeddings: Any,
    budget: int | float,
    method: MethodName = "kmq",
    *,
    quality: Any = None,
    selector: KMeansSelector | None = None,
    threshold: float = 0.9,
    alpha: float = 0.5,
    represented: int | None = None,
    eligible: Any = None,
    random_state: int | None = 0,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Choose rows by any of ``METHODS``.

    Parameters
    ----------
    embeddings : numbers [n, d]: an array, a memory map, or the path of a ``.npy`` file.
    budget : a number of rows, or a share.
    quality : float [n], larger is better; needed by kmq, deita, qdit, top-quality and mid-quality. NaN counts as
        the median: of its cluster for kmq, of all rows for the others.
    selector : a fitted ``KMeansSelector`` whose clusters the methods kmq and km-* use; by default one is fitted.
    threshold : deita: least squared distance of two chosen rows (unit rows: between 0 and 4).
    alpha : qdit: the greedy choice is the largest ``(1 - alpha) * sum_v max_a cos(v, a) + alpha * q``. Quality
        is taken as it is given: with n rows the sum grows up to n.
    represented : qdit, facility-location: sum over so many random rows instead of all, for large n.
    eligible : bool [n], rows that may be chosen; by default all.
    random_state : seed, 0 or more; None draws anew each time.

    Returns
    -------
    int64, distinct positions; in the order of choice for greedy methods, ascending otherwise. deita warns and returns
    fewer than the budget where no row is far enough from those taken.
    """
    seed = as_seed(random_state)
    if method not in METHODS:
        raise InputError("method", repr(method), f"one of {', '.join(METHODS)}")
    rows = as_rows(embeddings, "embeddings")
    allowed = np.ones(rows.shape[0], bool) if eligible is None else np.asarray(eligible)
    if allowed.shape != (rows.shape[0],) or allowed.dtype != bool or not allowed.any():
        raise InputError("eligible", f"{allowed.dtype} {allowed.shape}", f"bool [{rows.shape[0]}], one true")
    places = np.flatnonzero(allowed)
    count = resolve_budget(budget, len(places))
    given = _quality(quality, rows.shape[0]) if method in NEED_QUALITY else None
    if method in CLUSTERED:
        return _clustered(rows, count, CLUSTERED[method], given, selector, allowed, seed, progress)
    scores = None if given is None else np.where(np.isnan(given), np.nanmedian(given), given)
    rng = np.random.default_rng(seed)
    if method == "random":
        return places[np.sort(rng.choice(len(places), count, replace=False))]
    if method in ("top-quality", "mid-quality"):
        assert scores is not None
        key = scores[places]
        key = key if method == "top-quality" else -np.abs(key - np.median(key))
        return places[np.sort(np.lexsort((rng.random(len(key)), -key))[:count])]
    inside = rows if len(places) == rows.shape[0] else np.asarray(rows[places])
    own = None if scores is None else scores[places]
    if method == "k-center":
        return places[k_center_greedy(inside, count, random_state=seed, progress=progress)]
    if method == "deita":
        assert own is not None
        return places[score_first(inside, own, count, min_squared_distance=threshold, progress=progress)]
    bonus = None
    if method == "qdit":
        if not 0 <= alpha < 1:
            raise InputError("alpha", alpha, "a number from 0 to below 1")
        assert own is not None
        # the greedy value (1 - alpha) gain + alpha q, divided by 1 - alpha; a sum over some rows is their share of it
        share = 1.0 if represented is None else min(represented, len(places)) / len(places)
        bonus = alpha / (1 - alpha) * own * share
    # QDIT sums cosines as they are; in the function alone, what is less than unrelated counts as unrelated
    options: dict[str, Any] = {"bonus": bonus, "floor": -1.0} if method == "qdit" else {}
    found = facility_location(inside, count, represented=represented, random_state=seed, progress=progress, **options)
    return places[found]


def _clustered(
    rows: Any,
    count: int,
    sampling: Sampling,
    scores: np.ndarray | None,
    selector: KMeansSelector | None,
    allowed: np.ndarray,
    seed: int,
    progress: Progress,
) -> np.ndarray:
    made = KMeansSelector(sampling=sampling, budget=count, random_state=seed, progress=progress)
    if selector is None:
        return made.fit(rows, scores, eligible=allowed).indices_
    if not hasattr(selector, "labels_"):
        raise InputError("selector", "a KMeansSelector that is not fitted", "one after fit, or None")
    made.set_params(
        allocation=selector.allocation,
        quality_temperature=selector.quality_temperature,
        quality_weights=selector.quality_weights,
        kmeans=selector.kmeans,
    )
    return made.use_clusters(rows, selector.labels_, selector.centers_, scores, eligible=allowed).indices_


def _quality(quality: Any, count: int) -> np.ndarray:
    if quality is None:
        raise InputError("quality", "nothing", "one number per row, for this method")
    return as_quality(quality, count)
