"""``MusicWord2Vec``: vectors of slices, learned from the order of the slices alone."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from paperworks.errors import InputError
from paperworks.papers.music_word2vec.chords import as_word, word_name
from paperworks.papers.music_word2vec.notes import BROKEN
from paperworks.papers.music_word2vec.skipgram import (
    Loss,
    Parameters,
    Text,
    correction,
    noise_distribution,
    train_steps,
)
from paperworks.papers.music_word2vec.slices import Word, transpose_words
from paperworks.papers.music_word2vec.vocabulary import UNKNOWN, Vocabulary, as_words
from paperworks.parameters import check_seed, check_whole
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_file, replace_file

CENTRES = 16
"""Centres of a batch; with four contexts on both sides, 128 pairs."""
_CHUNK = 2000
"""Steps between two reports of progress."""


class MusicWord2Vec(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Skip-gram vectors of slices of music (section 3 of the paper), by noise-contrastive estimation.

    Parameters
    ----------
    vector_size : dimensions of a vector.
    window : contexts on each side of a slice.
    vocab_size : words with a vector of their own, and one for all others (UNK, id 0).
    negatives : noise words of a batch, shared by its pairs.
    loss : "nce" (log-uniform noise, as the released code) or "ns", negative sampling (noise by frequency^0.75).
    steps : batches of 16 centres with all their contexts (128 pairs for a window of 4).
    lr : learning rate of plain gradient descent on the mean loss of a batch. The paper takes 1,000,000 steps of 0.1.
    decay : whether the rate falls linearly to nearly zero, as in word2vec.
    transpose_augment : learn from all 12 transpositions of every sequence (not in the paper; it makes keys alike).
    workers : threads. With more than one they update the same vectors without waiting, and results vary.
    random_state : seed; None draws one, and a fit that was stopped then starts anew.

    Attributes
    ----------
    vocab_ : ``Vocabulary``; ``vocab_.words[i]`` has id i + 1.
    vectors_ : ``[V, d]`` float32 of length 1, UNK first.
    parameters_ : the raw ``Parameters``.
    loss_curve_ : mean loss per pair of each chunk of steps.
    seed_ : the seed of the last fit.
    """

    def __init__(
        self,
        vector_size: int = 256,
        window: int = 4,
        vocab_size: int = 500,
        negatives: int = 64,
        loss: Loss = "nce",
        steps: int = 100_000,
        lr: float = 1.0,
        decay: bool = False,
        transpose_augment: bool = False,
        workers: int = 1,
        random_state: int | None = 0,
    ) -> None:
        self.vector_size = vector_size
        self.window = window
        self.vocab_size = vocab_size
        self.negatives = negatives
        self.loss = loss
        self.steps = steps
        self.lr = lr
        self.decay = decay
        self.transpose_augment = transpose_augment
        self.workers = workers
        self.random_state = random_state

    def fit(
        self,
        sequences: Iterable[Sequence[Word]],
        y: Any = None,
        *,
        progress: Progress = no_progress,
        checkpoint: Path | None = None,
    ) -> MusicWord2Vec:
        """Learn from sequences of words, one per piece; windows never cross from one piece to the next.

        Parameters
        ----------
        sequences : lists of words from ``SliceEncoder.transform``: codes or 88-key texts. Chord names and sets of pitch
            classes are turned into codes.
        checkpoint : file for the state of training; a fit that was stopped goes on from it.

        Raises
        ------
        InputError : a parameter out of range, what is no word, fewer than two distinct words, no piece of two slices,
            or a learning rate with which the loss is no longer finite.
        """
        self._check()
        self.seed_ = _entropy() if self.random_state is None else int(self.random_state)
        texts = as_words(sequences)
        if self.transpose_augment:
            texts = _transpositions(texts)
        self.vocab_ = Vocabulary.from_sequences(texts, self.vocab_size)
        text = Text.join(self.vocab_.encode(texts))
        start = Parameters.start(len(self.vocab_), self.vector_size, self._rng("start"), self.loss)
        self.parameters_, self.loss_curve_ = start, np.zeros(0)
        done = self._restore(checkpoint)
        chunks = range(done, self.steps, _CHUNK)
        for first in progress(chunks, "training", len(chunks)):
            with threadpool_limits(1, "blas"):  # the products are too small to be shared out
                mean = self._chunk(text, first, min(first + _CHUNK, self.steps))
            if not np.isfinite(mean) or not np.isfinite(self.parameters_.e).all():
                raise InputError("lr", f"{self.lr:g}, with which the loss is no longer finite", "a smaller rate")
            self.loss_curve_ = np.append(self.loss_curve_, mean)
            self._keep(checkpoint, first + _CHUNK)
        self._normalise()
        return self

    def _check(self) -> None:
        whole = {"vector_size": 1, "window": 1, "vocab_size": 3, "negatives": 1, "steps": 0, "workers": 1}
        for name, least in whole.items():
            check_whole(name, getattr(self, name), least)
        if not isinstance(self.lr, Real) or isinstance(self.lr, bool) or not 0 < float(self.lr) < np.inf:
            raise InputError("lr", repr(self.lr), "a number above 0")
        if self.loss not in ("nce", "ns"):
            raise InputError("loss", repr(self.loss), "nce or ns")
        if self.random_state is not None:
            check_seed("random_state", self.random_state, "or None")

    def _rng(self, stream: str, number: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.seed_, len(stream), number])

    def _chunk(self, text: Text, first: int, last: int) -> float:
        """Train steps first..last; their centres and noise depend on nothing but the seed and their numbers."""
        n = len(text.centres)
        places = np.arange(first * CENTRES, last * CENTRES)
        epochs = {e: self._rng("centres", e).permutation(text.centres) for e in np.unique(places // n).tolist()}
        centres = np.concatenate([epochs[e][places[places // n == e] % n] for e in epochs]).reshape(-1, CENTRES)
        q = noise_distribution(self.loss, self.vocab_.counts)
        drawn = self._rng("noise words", first).random((last - first, self.negatives))
        noise = np.searchsorted(np.cumsum(q)[:-1], drawn, side="right")
        rates = np.full(last - first, float(self.lr))
        if self.decay:
            rates *= 1 - np.arange(first, last) / self.steps * 0.996
        shift, window = correction(self.loss, q, self.negatives), int(self.window)
        if self.workers == 1:
            return train_steps(self.parameters_, text, centres, noise, shift, rates, window)
        parts = np.array_split(np.arange(len(centres)), self.workers)
        with ThreadPoolExecutor(self.workers) as pool:
            jobs = [
                pool.submit(train_steps, self.parameters_, text, centres[p], noise[p], shift, rates[p], window)
                for p in parts
                if len(p)
            ]
            return float(np.mean([job.result() for job in jobs]))

    def _identity(self) -> str:
        about = {k: str(v) for k, v in self.get_params().items() if k != "workers"} | {"random_state": str(self.seed_)}
        return json.dumps(about, sort_keys=True) + f"{len(self.vocab_)} {int(self.vocab_.counts.sum())}"

    def _keep(self, checkpoint: Path | None, done: int) -> None:
        if checkpoint is None:
            return
        p = self.parameters_
        about = np.array(self._identity())
        with replace_file(checkpoint) as aside, aside.open("wb") as out:
            np.savez(out, e=p.e, o=p.o, b=p.b, curve=self.loss_curve_, done=np.array(done), about=about)

    def _restore(self, checkpoint: Path | None) -> int:
        if checkpoint is None or not checkpoint.is_file():
            return 0
        try:
            with np.load(checkpoint, allow_pickle=False) as stored:
                if str(stored["about"]) != self._identity():
                    return 0
                e, o, b, curve, done = (stored[name] for name in ("e", "o", "b", "curve", "done"))
        except BROKEN:  # a damaged one is of no use: training starts anew
            return 0
        self.parameters_, self.loss_curve_ = Parameters(e, o, b), curve
        return min(int(done), int(self.steps))

    def _normalise(self) -> None:
        e = self.parameters_.e
        self.vectors_ = e / np.linalg.norm(e, axis=1, keepdims=True)
        self.ids_ = self.vocab_.ids

    # -- what a fitted model tells ---------------------------------------------------------------------------------

    def transform(self, sequences: Iterable[Sequence[Word]]) -> list[np.ndarray]:
        """The vectors of every slice, ``[n_i, d]`` float32; words outside the vocabulary have the vector of UNK."""
        check_is_fitted(self, "vectors_")
        return [self.vectors_[ids] for ids in self.vocab_.encode(as_words(sequences))]

    def index(self, word: Any) -> int | None:
        """The id of a code, pitch-class set or chord name; None outside the vocabulary."""
        check_is_fitted(self, "vectors_")
        return self.ids_.get(as_word(word))

    def vector(self, word: Any) -> np.ndarray:
        """The unit vector of a word ``[d]``; NaN, with a warning, for a word outside the vocabulary."""
        found = self.index(word)
        if found is None:
            message = f"{word_name(as_word(word))} ({as_word(word)}) is not among the {len(self.vocab_.words)} words"
            warnings.warn(message, stacklevel=3)
            return np.full(self.vectors_.shape[1], np.nan, np.float32)
        row: np.ndarray = self.vectors_[found]
        return row

    def distance(self, a: Any, b: Any) -> float:
        """Cosine distance of two words, 0..2; NaN, with a warning, where one is outside the vocabulary."""
        return float(1 - self.vector(a) @ self.vector(b))

    def most_similar(self, word: Any, topn: int = 10) -> list[tuple[Word, float]]:
        """The nearest words with their cosine similarity, without the word itself, silence and UNK.

        Raises InputError for a word outside the vocabulary.
        """
        return self._nearest(self._known(word), topn, leave_out={as_word(word)})

    def analogy(self, a: Any, b: Any, c: Any, topn: int = 1) -> list[tuple[Word, float]]:
        """What is to ``c`` as ``b`` is to ``a``: the words nearest to e_b - e_a + e_c, without the three.

        Raises InputError for a word outside the vocabulary.
        """
        wanted = self._known(b) - self._known(a) + self._known(c)
        return self._nearest(wanted / np.linalg.norm(wanted), topn, leave_out={as_word(w) for w in (a, b, c)})

    def _known(self, word: Any) -> np.ndarray:
        found = self.index(word)
        if found is None:
            raise InputError("word", f"{word_name(as_word(word))}, outside the vocabulary", "a word of the vocabulary")
        row: np.ndarray = self.vectors_[found]
        return row

    def _nearest(self, wanted: np.ndarray, topn: int, leave_out: set[Word]) -> list[tuple[Word, float]]:
        similarity = self.vectors_ @ wanted
        found: list[tuple[Word, float]] = []
        for i in np.argsort(-similarity, kind="stable").tolist():
            if i == UNKNOWN or is_silence(self.vocab_.words[i - 1]) or self.vocab_.words[i - 1] in leave_out:
                continue
            if len(found) == topn:
                break
            found.append((self.vocab_.words[i - 1], float(similarity[i])))
        return found

    # -- files -----------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the model to a new .npz file. Raises InputError if the name is taken."""
        check_is_fitted(self, "vectors_")
        p = self.parameters_
        options = {k: v.item() if isinstance(v, np.generic) else v for k, v in self.get_params().items()}
        about = np.array(json.dumps({"options": options, "words": list(self.vocab_.words)}))
        with new_file(Path(path)) as aside, aside.open("wb") as out:
            np.savez_compressed(
                out, e=p.e, o=p.o, b=p.b, counts=self.vocab_.counts, curve=self.loss_curve_, about=about
            )

    @classmethod
    def load(cls, path: str | Path) -> MusicWord2Vec:
        """Read what ``save`` wrote. Raises InputError for another file."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                about = json.loads(str(stored["about"]))
                model = cls(**about["options"])
                model.parameters_ = Parameters(stored["e"], stored["o"], stored["b"])
                model.vocab_ = Vocabulary(tuple(about["words"]), stored["counts"])
                model.loss_curve_ = stored["curve"]
            if len(model.vocab_) != len(model.vocab_.counts) or model.parameters_.e.shape[:1] != (len(model.vocab_),):
                raise ValueError("arrays of other lengths than its vocabulary")
            model._normalise()
        except BROKEN as error:
            reason = str(error) or type(error).__name__
            raise InputError("path", f"{path} ({reason})"[:200], "a file written by MusicWord2Vec.save") from None
        return model

    def save_word2vec_text(self, path: str | Path) -> None:
        """Write the unit vectors in word2vec's text format; words are their codes, UNK is ``UNK``."""
        check_is_fitted(self, "vectors_")
        rows, size = self.vectors_.shape
        lines = [f"{rows} {size}"]
        for word, vector in zip(("UNK", *self.vocab_.words), self.vectors_, strict=True):
            lines.append(f"{word} " + " ".join(f"{x:.7g}" for x in vector))
        with new_file(Path(path)) as aside:
            aside.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def to_keyed_vectors(self) -> Any:
        """The unit vectors as gensim's KeyedVectors. Raises InputError where gensim is not installed."""
        try:
            from gensim.models import KeyedVectors
        except ImportError:
            raise InputError("to_keyed_vectors", "gensim not installed", "pip install gensim") from None
        check_is_fitted(self, "vectors_")
        keyed = KeyedVectors(self.vectors_.shape[1])
        keyed.add_vectors([str(word) for word in ("UNK", *self.vocab_.words)], self.vectors_)
        return keyed


def _entropy() -> int:
    return int(np.random.default_rng().integers(2**32))


def is_silence(word: Word) -> bool:
    """Whether a word is a slice without notes."""
    return word in (0, "0-0-0-0-0-0-0-0-0")


def _transpositions(texts: list[list[Word]]) -> list[list[Word]]:
    if any(isinstance(word, str) for words in texts for word in words):
        raise InputError("transpose_augment", "words of 88 keys", "words of 12 bits; transpose pieces instead")
    return [transpose_words(words, k) for k in range(12) for words in texts]  # type: ignore[misc, arg-type]
