"""What the vectors are compared with: untrained vectors, shared pitch classes, PMI with SVD, and shuffled texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from paperworks.papers.music_word2vec.model import MusicWord2Vec
from paperworks.papers.music_word2vec.skipgram import Parameters, Text
from paperworks.papers.music_word2vec.slices import Word, pitch_classes

W = TypeVar("W", bound=Word)


def untrained(sequences: Sequence[Sequence[Word]], *, seed: int, **options: Any) -> MusicWord2Vec:
    """The model at its start: random vectors of the same size."""
    return MusicWord2Vec(steps=0, random_state=seed, **options).fit(sequences)


def overlap_model(model: MusicWord2Vec) -> MusicWord2Vec:
    """The vocabulary of ``model`` with the 12 bits of each word as its vector: knows shared notes and nothing else."""
    rows = np.full((len(model.vocab_), 12), 1e-9, np.float32)
    for i, word in enumerate(model.vocab_.words, 1):
        rows[i, pitch_classes(int(word))] = 1
    return _with_vectors(model, rows)


def pmi_model(model: MusicWord2Vec, sequences: Sequence[Sequence[Word]], size: int = 64) -> MusicWord2Vec:
    """The vocabulary of ``model`` with vectors from the positive PMI of its pairs, cut to ``size`` by SVD."""
    pairs = Text.join(model.vocab_.encode(sequences)).pairs(model.window)
    v = len(model.vocab_)
    joint = np.zeros((v, v))
    np.add.at(joint, (pairs[:, 0], pairs[:, 1]), 1)
    expected = np.outer(joint.sum(axis=1), joint.sum(axis=0)) / joint.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        positive = np.maximum(np.log(joint / expected), 0)
    left, strength, _ = np.linalg.svd(np.nan_to_num(positive), full_matrices=False)
    return _with_vectors(model, (left[:, :size] * np.sqrt(strength[:size])).astype(np.float32) + 1e-9)


def _with_vectors(model: MusicWord2Vec, rows: np.ndarray) -> MusicWord2Vec:
    other = MusicWord2Vec(**model.get_params())
    other.vocab_, other.loss_curve_ = model.vocab_, np.zeros(0)
    other.parameters_ = Parameters(rows, rows, np.zeros(len(rows), np.float32))
    other._normalise()
    return other


def shuffle_within(sequences: Sequence[Sequence[W]], rng: np.random.Generator) -> list[list[W]]:
    """Every piece with its slices in random order: keeps what occurs together in a piece, removes the order."""
    return [[words[i] for i in rng.permutation(len(words))] for words in sequences]


def shuffle_all(sequences: Sequence[Sequence[W]], rng: np.random.Generator) -> list[list[W]]:
    """All slices dealt to pieces of the same lengths in random order: only the frequencies are kept."""
    every = [word for words in sequences for word in words]
    order = iter(rng.permutation(len(every)).tolist())
    return [[every[next(order)] for _ in words] for words in sequences]
