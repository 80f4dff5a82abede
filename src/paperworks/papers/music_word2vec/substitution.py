"""Slice substitution: every slice is replaced by one of its m nearest words (reconstructed from the abstract)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.music_word2vec.chords import as_code, estimate_key, scale_of
from paperworks.papers.music_word2vec.model import MusicWord2Vec, is_silence
from paperworks.papers.music_word2vec.notes import Piece
from paperworks.papers.music_word2vec.slices import SliceEncoder, Word, pitch_classes
from paperworks.papers.music_word2vec.vocabulary import UNKNOWN
from paperworks.parameters import check_seed

Choice: TypeAlias = Literal["fit", "random"]


@dataclass(frozen=True)
class Substitution:
    """A piece with its slices replaced.

    Attributes
    ----------
    words : the new word of every slice; slices outside the vocabulary and silence stay.
    distance : cosine distance to the original of every slice ``[n]``; NaN where it stays.
    profile : weight of each pitch class in the neighbours of the whole piece ``[12]``, sum 1.
    """

    words: list[int]
    distance: np.ndarray
    profile: np.ndarray


class Substitutes:
    """The m nearest words of every word of a model, and the choice among them.

    Parameters
    ----------
    model : fitted on words of 12 bits.
    m : size of the subspace, how many of the nearest words a slice is replaced from. UNK, silence and the word itself
        are not among them.

    Raises
    ------
    InputError : words of 88 keys, or m below 1 or above what the vocabulary has.
    """

    def __init__(self, model: MusicWord2Vec, m: int) -> None:
        words = model.vocab_.words
        if any(isinstance(word, str) for word in words):
            raise InputError("model", "words of 88 keys", "a model of words of 12 bits")
        self.model, self.m = model, m
        barred = [UNKNOWN, *(i for i, word in enumerate(words, 1) if is_silence(word))]
        most = len(words) + 1 - len(barred) - 1
        if not 1 <= m <= most:
            raise InputError("m", m, f"1 to {most}, the words that a slice can be replaced by")
        similarity = (model.vectors_ @ model.vectors_.T).astype(np.float64)
        np.fill_diagonal(similarity, -np.inf)
        similarity[:, barred] = -np.inf
        self.nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :m]
        self.similarity = np.take_along_axis(similarity, self.nearest, axis=1)
        self.members = np.zeros((len(words) + 1, 12))
        for i, word in enumerate(words, 1):
            self.members[i, pitch_classes(int(word))] = 1
        self._sizes = np.maximum(self.members.sum(axis=1), 1)

    def profiles(self, ids: np.ndarray, local: int = 0) -> np.ndarray:
        """Weight of each pitch class among the neighbours, h[pc], for each of the slices ``[n, 12]``.

        h[pc] = sum over slices i and neighbours w of (1 - D(s_i, w)) [pc in w], over the whole piece, or over ``local``
        slices on both sides.
        """
        weights = np.einsum("nm,nmp->np", self.similarity[ids], self.members[self.nearest[ids]])
        if local:
            sums = np.vstack([np.zeros(12), np.cumsum(weights, axis=0)])
            at = np.arange(len(ids))
            rows = sums[np.minimum(at + local + 1, len(ids))] - sums[np.maximum(at - local, 0)]
        else:
            rows = np.broadcast_to(weights.sum(axis=0), weights.shape)
        total = rows.sum(axis=1, keepdims=True)
        return np.asarray(np.divide(rows, total, out=np.full(rows.shape, 1 / 12), where=total > 0))

    def __call__(
        self, words: Sequence[Word], *, choice: Choice = "fit", local: int = 0, rng: np.random.Generator | None = None
    ) -> Substitution:
        """Replace every slice of a piece.

        Parameters
        ----------
        choice : "fit", the neighbour whose pitch classes weigh most on average in h, the nearer one of equals; or
            "random", any of the m with equal chance (from ``rng``).
        local : "fit" only: how many slices on both sides h is taken over; 0 is the whole piece.
        """
        codes = [as_code(w) for w in words]
        known = self.model.ids_
        places = np.array([i for i, w in enumerate(codes) if w in known and not is_silence(w)], np.int64)
        distance = np.full(len(codes), np.nan)
        if not len(places):
            return Substitution(codes, distance, np.full(12, 1 / 12))
        ids = np.array([known[codes[i]] for i in places])
        profiles = self.profiles(ids, local)
        if choice == "fit":
            candidates = self.nearest[ids]
            fit = np.einsum("nmp,np->nm", self.members[candidates], profiles) / self._sizes[candidates]
            chosen = (fit >= fit.max(axis=1, keepdims=True) - 1e-12).argmax(axis=1)
        elif choice == "random":
            chosen = (np.random.default_rng(0) if rng is None else rng).integers(self.m, size=len(ids))
        else:
            raise InputError("choice", repr(choice), "fit or random")
        rows = np.arange(len(ids))
        new = self.nearest[ids, chosen]
        for place, word in zip(places.tolist(), new.tolist(), strict=True):
            codes[place] = int(self.model.vocab_.words[word - 1])
        distance[places] = 1 - self.similarity[ids][rows, chosen]
        return Substitution(codes, distance, self.profiles(ids)[0])


def substitute_words(
    model: MusicWord2Vec,
    words: Sequence[Word],
    m: int = 20,
    *,
    choice: Choice = "fit",
    local: int = 0,
    seed: int = 0,
) -> Substitution:
    """Replace every slice of a piece by one of its ``m`` nearest words; see ``Substitutes``."""
    check_seed("seed", seed)
    return Substitutes(model, m)(words, choice=choice, local=local, rng=np.random.default_rng(seed))


def key_consistency(words: Any, key: str | None = None) -> float:
    """Share of the pitch classes of all slices that belong to the scale of ``key``; NaN for silence.

    ``words`` are those of a piece, or the piece itself: a file, a music21 stream, a ``Piece``, or notes ``[n, 3]``, of
    which every quarter is a slice.
    ``key`` is a name such as ``G`` or ``Em``; None: the key is estimated from the slices.
    Raises InputError for words of 88 keys.
    """
    if isinstance(words, (str, Path, Piece)) or hasattr(words, "recurse") or getattr(words, "ndim", 1) == 2:
        words = SliceEncoder().transform(words)[0]
    codes = [code for w in words if (code := as_code(w))]
    if not codes:
        return float("nan")
    scale = scale_of(key or estimate_key(codes))
    members = [pc for w in codes for pc in pitch_classes(w)]
    return sum(pc in scale for pc in members) / len(members)


def moves(old: int, new: int) -> dict[int, int]:
    """Semitones by which each pitch class of slice ``old`` moves so that slice ``new`` sounds: -6..6.

    Pitch classes are matched one to one with the least movement in sum; those that are left over go to the nearest.
    """
    from scipy.optimize import linear_sum_assignment

    before, after = pitch_classes(old), pitch_classes(new)
    if not before or not after:
        return {}
    steps = np.array([[(b - a + 6) % 12 - 6 for b in after] for a in before])
    found = {pc: int(row[np.abs(row).argmin()]) for pc, row in zip(before, steps, strict=True)}
    for i, j in zip(*linear_sum_assignment(np.abs(steps) + 1e-3 * (steps > 0)), strict=True):
        found[before[i]] = int(steps[i, j])
    return found
