"""What the space knows of harmony: distances of chords, vectors between chords, and distances of keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from paperworks.errors import InputError
from paperworks.papers.music_word2vec.chords import (
    FIFTHS_ORDER,
    INSIDE,
    NAMES,
    OUTSIDE,
    degree_word,
    fifths_distance,
    word_name,
)
from paperworks.papers.music_word2vec.model import MusicWord2Vec, is_silence
from paperworks.papers.music_word2vec.slices import Word, transpose_words
from paperworks.papers.music_word2vec.vocabulary import UNKNOWN, as_words
from paperworks.parameters import check_seed


def triad_vectors(model: MusicWord2Vec, degree: str = "I") -> np.ndarray:
    """Unit vectors of the triad on a degree of the 12 major keys ``[12, d]``, by tonic from C; NaN where missing."""
    rows = np.full((12, model.vectors_.shape[1]), np.nan)
    for tonic in range(12):
        found = model.index(degree_word(tonic, degree))
        if found is not None:
            rows[tonic] = model.vectors_[found]
    return rows


def missing_triads(model: MusicWord2Vec) -> list[str]:
    """Names of the 24 major and minor triads that are outside the vocabulary."""
    words = [degree_word(tonic, degree) for degree in ("I", "vi") for tonic in range(12)]
    return sorted({word_name(w) for w in words if model.index(w) is None})


def chord_distances(model: MusicWord2Vec) -> pd.DataFrame:
    """Cosine distance from the triad on each tonic to V, IV, vi (in the key) and bIII, v, bII (outside).

    Returns
    -------
    rows: the 12 tonics in fifths from C; columns: the six degrees, and the means ``inside`` and ``outside`` of those
    that are there. NaN where a triad is outside the vocabulary.
    """
    tonic = triad_vectors(model)
    table = pd.DataFrame(index=[NAMES[t] for t in FIFTHS_ORDER])
    for degree in (*INSIDE, *OUTSIDE):
        other = triad_vectors(model, degree)
        table[degree] = [1 - float(tonic[t] @ other[t]) for t in FIFTHS_ORDER]
    table["inside"] = table[list(INSIDE)].mean(axis=1)
    table["outside"] = table[list(OUTSIDE)].mean(axis=1)
    return table


def fifths_correlation(model: MusicWord2Vec) -> float:
    """Spearman correlation of cosine distance and fifths distance over the pairs of major triads (66 with all 12).

    NaN with fewer than 4 major triads in the vocabulary.
    """
    from scipy.stats import spearmanr

    rows = triad_vectors(model)
    here = [t for t in range(12) if np.isfinite(rows[t]).all()]
    if len(here) < 4:
        return float("nan")
    pairs = [(a, b) for i, a in enumerate(here) for b in here[i + 1 :]]
    # rounded, so that equal distances stay ties whatever the order of summation
    cosine = [round(1 - float(rows[a] @ rows[b]), 6) for a, b in pairs]
    return float(spearmanr(cosine, [fifths_distance(a, b) for a, b in pairs]).statistic)


def pair_cosines(model: MusicWord2Vec, degree: str = "V") -> np.ndarray:
    """Cosine of the vectors from I to ``degree`` of two keys, ``[12, 12]`` in fifths order from C; NaN where missing.

    For V, neighbouring keys share a chord with opposite sign: independent vectors give -0.5 there.
    """
    steps = triad_vectors(model, degree) - triad_vectors(model)
    with np.errstate(invalid="ignore"):
        steps = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    ordered = steps[list(FIFTHS_ORDER)]
    return np.asarray(np.clip(ordered @ ordered.T, -1, 1))


def pair_angles(model: MusicWord2Vec, degree: str = "V") -> pd.DataFrame:
    """Angles in degrees between the vectors from I to ``degree`` of two keys; rows and columns in fifths from C."""
    names = [NAMES[t] for t in FIFTHS_ORDER]
    return pd.DataFrame(np.degrees(np.arccos(pair_cosines(model, degree))), index=names, columns=names)


def by_fifths(matrix: np.ndarray) -> np.ndarray:
    """Mean entry at 1..6 fifths ``[6]`` of a matrix whose rows and columns are in fifths order; NaN are left out."""
    distance = np.array([[min((a - b) % 12, (b - a) % 12) for a in range(12)] for b in range(12)])
    values = [matrix[distance == step] for step in range(1, 7)]
    return np.array([v[np.isfinite(v)].mean() if np.isfinite(v).any() else np.nan for v in values])


def analogies(model: MusicWord2Vec, degree: str = "V") -> tuple[int, int]:
    """How many of the questions "C is to its V as t is to ?" have the V of t as first answer; and how many there are.

    All 132 ordered pairs of keys are asked whose four chords are in the vocabulary.
    """
    right = asked = 0
    for s in range(12):
        for t in range(12):
            words = [degree_word(s, "I"), degree_word(s, degree), degree_word(t, "I"), degree_word(t, degree)]
            if s == t or words[3] in words[:3] or any(model.index(w) is None for w in words):
                continue
            asked += 1
            right += model.analogy(*words[:3])[0][0] == words[3]
    return right, asked


def key_matrix(
    model: MusicWord2Vec, pieces: Sequence[Sequence[Word]], *, clusters: int = 1, seed: int = 0
) -> np.ndarray:
    """Cosine distance between the 12 transpositions of a piece, averaged over pieces: ``[12, 12]`` in fifths order.

    Slices outside the vocabulary and silence are left out. With ``clusters`` above 1 a transposition is represented by
    that many k-means centroids, and two are compared by the mean distance of each centroid to its nearest.

    Raises
    ------
    InputError : words of 88 keys, or no piece with a slice of the vocabulary in every key.
    """
    check_seed("seed", seed)
    pieces = as_words(pieces)
    if any(isinstance(word, str) for words in pieces for word in words):
        raise InputError("pieces", "words of 88 keys", "words of 12 bits, which can be transposed")
    found = [m for words in pieces if (m := _keys_of(model, list(words), clusters, seed)) is not None]
    if not found:
        raise InputError("pieces", "no piece with known slices in every key", "pieces of the corpus's style")
    return np.asarray(np.mean(found, axis=0))


def _keys_of(model: MusicWord2Vec, words: list[Any], clusters: int, seed: int) -> np.ndarray | None:
    centroids = []
    for semitones in FIFTHS_ORDER:
        codes = [w for w in transpose_words(words, semitones) if not is_silence(w)]
        ids = [i for w in codes if (i := model.ids_.get(w, UNKNOWN)) != UNKNOWN]
        if len(ids) < clusters:
            return None
        rows = model.vectors_[ids].astype(np.float64)
        centroids.append(_centroids(rows, clusters, seed))
    return np.array([[_apart(a, b) for b in centroids] for a in centroids])


def _centroids(rows: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    if clusters == 1:
        centres = rows.mean(axis=0, keepdims=True)
    else:
        from sklearn.cluster import KMeans

        clusters = min(clusters, len(np.unique(rows, axis=0)))
        centres = KMeans(clusters, n_init=3, random_state=seed).fit(rows).cluster_centers_
    return np.asarray(centres / np.linalg.norm(centres, axis=1, keepdims=True))


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    distance = 1 - a @ b.T
    return float((distance.min(axis=0).mean() + distance.min(axis=1).mean()) / 2)


def tonal_report(model: MusicWord2Vec, pieces: Sequence[Sequence[Word]] = ()) -> pd.DataFrame:
    """All measures of this module as rows of (measure, item, value).

    Parameters
    ----------
    pieces : sequences of words that were held out; without them the distances of keys are left out.
    """
    rows: list[tuple[str, str, float]] = []
    table = chord_distances(model)
    for tonic, line in table.iterrows():
        rows += [("chord distance", f"{tonic}: I to {degree}", float(line[degree])) for degree in (*INSIDE, *OUTSIDE)]
    rows += [("mean chord distance", side, _mean(table[side])) for side in ("inside", "outside")]
    nearer = (table["inside"] < table["outside"]).sum()
    rows.append(("tonics nearer to their own chords", "of 12", float(nearer)))
    rows.append(("Spearman with fifths", "major triads", fifths_correlation(model)))
    for degree in ("V", "IV", "vi"):
        steps = by_fifths(np.degrees(np.arccos(pair_cosines(model, degree))))
        rows += [(f"angle of I-{degree} vectors", f"{k} fifths", float(x)) for k, x in enumerate(steps, 1)]
    keys = key_matrix_or_none(model, pieces)
    if keys is not None:
        steps = by_fifths(keys)
        rows += [("distance of keys", f"{k} fifths", float(x)) for k, x in enumerate(steps, 1)]
    return pd.DataFrame(rows, columns=["measure", "item", "value"])


def key_matrix_or_none(model: MusicWord2Vec, pieces: Sequence[Sequence[Word]]) -> np.ndarray | None:
    """``key_matrix``, or None where no piece has known slices in every key."""
    try:
        return key_matrix(model, pieces)
    except InputError:
        return None


def _mean(column: pd.Series) -> float:
    values = column.to_numpy()
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
