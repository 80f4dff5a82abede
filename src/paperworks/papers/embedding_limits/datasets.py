"""Retrieval data: queries, documents and which answers which; and LIMIT-style sets made from any list of items."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from paperworks.errors import InputError
from paperworks.papers.embedding_limits.qrels import as_qrels, make_qrels
from paperworks.parameters import check_seed
from paperworks.runs.files import new_folder

QUERY = "Who likes {item}?"


@dataclass(frozen=True)
class RetrievalData:
    """Queries, documents and relevance.

    Attributes
    ----------
    qrels : csr_array of bool [queries, documents].
    query_ids, document_ids : unique, in the order of rows and columns.
    queries, documents : their texts; None where only relevance is known.
    items : LIMIT-style sets: the items of each document, in order; else None.
    query_items : LIMIT-style sets: the item that each query asks for; else None.
    notes : what was left out or changed in reading, in sentences.
    """

    qrels: sparse.csr_array
    query_ids: tuple[str, ...]
    document_ids: tuple[str, ...]
    queries: tuple[str, ...] | None = None
    documents: tuple[str, ...] | None = None
    items: tuple[tuple[str, ...], ...] | None = None
    query_items: tuple[str, ...] | None = None
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "qrels", as_qrels(self.qrels))
        m, n = self.qrels.shape
        for name, size in (
            ("query_ids", m),
            ("queries", m),
            ("query_items", m),
            ("document_ids", n),
            ("documents", n),
            ("items", n),
        ):
            values = getattr(self, name)
            if values is not None and len(values) != size:
                raise InputError(name, len(values), f"{size}, as the relevance matrix has")
        for name in ("query_ids", "document_ids"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                twice = next(v for v in values if values.count(v) > 1)
                raise InputError(name, f"{twice!r} twice", "unique ids")

    @property
    def has_texts(self) -> bool:
        """Whether both sides have texts, so that encoders can be evaluated."""
        return self.queries is not None and self.documents is not None

    def take_queries(self, rows: Sequence[int] | np.ndarray) -> RetrievalData:
        """The same documents with some of the queries."""
        rows = np.asarray(rows)
        chosen: dict[str, Any] = {
            name: None if (values := getattr(self, name)) is None else tuple(values[i] for i in rows)
            for name in ("query_ids", "queries", "query_items")
        }
        return replace(self, qrels=self.qrels[rows], **chosen)

    def save_beir(self, folder: str | Path) -> Path:
        """Write ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/test.tsv`` (BEIR), and ``qrels.jsonl`` (LIMIT, MTEB).

        Raises
        ------
        InputError : the folder has files in it, or there are no texts.
        """
        if self.queries is None or self.documents is None:
            raise InputError("data", "relevance without texts", "a data set with queries and documents")
        rows, columns = sparse.coo_array(self.qrels).coords
        pairs = [(self.query_ids[i], self.document_ids[j]) for i, j in zip(rows, columns, strict=True)]
        with new_folder(Path(folder), "folder") as made:
            _write_lines(
                made / "corpus.jsonl",
                ({"_id": i, "title": "", "text": t} for i, t in zip(self.document_ids, self.documents, strict=True)),
            )
            _write_lines(
                made / "queries.jsonl",
                ({"_id": i, "text": t} for i, t in zip(self.query_ids, self.queries, strict=True)),
            )
            _write_lines(made / "qrels.jsonl", ({"query-id": q, "corpus-id": d, "score": 1} for q, d in pairs))
            (made / "qrels").mkdir()
            lines = ["query-id\tcorpus-id\tscore", *(f"{q}\t{d}\t1" for q, d in pairs)]
            (made / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return Path(folder)


def _write_lines(path: Path, records: Any) -> None:
    with path.open("w", encoding="utf-8") as out:
        for record in records:
            out.write(json.dumps(record, ensure_ascii=False) + "\n")


def make_limit(
    items: Sequence[str],
    first_names: Sequence[str],
    last_names: Sequence[str],
    qrels: Any = None,
    min_items: int = 45,
    seed: int = 42,
    *,
    template: str = QUERY,
) -> RetrievalData:
    """A data set like LIMIT: queries "Who likes ITEM?", documents "NAME likes a, b, ... and z."

    Each query asks for an item of its own. A document has the items of the queries that it is relevant to, filled up to
    ``min_items`` with items that no query asks for, so that nothing else becomes relevant.

    Parameters
    ----------
    items : at least one for each query and, where documents are filled up, ``min_items`` more.
    first_names, last_names : a document's name, which is also its id, is one of each.
    qrels : relevance matrix [queries, documents]; by default the dense pattern of LIMIT-small (1000 queries, 46
        documents, k = 2).
    min_items : items of each document at least.
    seed : of all choices. Lists are sorted first: their order does not matter.
    template : text of a query, with ``{item}``.

    Raises
    ------
    InputError : too few items or names for what is asked, an item that is empty, or a template without ``{item}``.
    """
    check_seed("seed", seed)
    matrix = as_qrels(make_qrels() if qrels is None else qrels)
    if "{item}" not in template:
        raise InputError("template", repr(template), "a text with {item} in it")
    if min_items < 1:
        raise InputError("min_items", min_items, "1 or more")
    m, n = matrix.shape
    rng = np.random.default_rng(seed)
    order = _shuffled(_words("items", items), rng)
    if len(order) < m:
        raise InputError("items", f"{len(order)} different ones", f"{m} or more, one for each query")
    asked = _shuffled(order, rng)
    query_items = [asked.pop() for _ in range(m)]
    own: list[list[str]] = [[] for _ in range(n)]
    for i, j in zip(*sparse.coo_array(matrix).coords, strict=True):
        own[j].append(query_items[i])
    missing = max(0, min_items - min(len(some) for some in own))
    if len(asked) < missing:
        raise InputError(
            "items",
            f"{len(asked)} besides those of the queries",
            f"{missing} or more, to fill up documents to {min_items} (or smaller min_items)",
        )
    filler = np.array(asked, dtype=object)
    for some in own:
        lacking = max(0, min_items - len(some))
        some += filler[rng.choice(len(filler), size=lacking, replace=False)].tolist() if lacking else []
        rng.shuffle(some)
    names = _names(first_names, last_names, n, rng)
    return RetrievalData(
        matrix,
        tuple(f"query_{i}" for i in range(m)),
        tuple(names),
        tuple(template.replace("{item}", item) for item in query_items),
        tuple(describe(name, some) for name, some in zip(names, own, strict=True)),
        tuple(tuple(some) for some in own),
        tuple(query_items),
    )


def describe(name: str, items: Sequence[str]) -> str:
    """The text of a document: "NAME likes a, b and c." """
    last = f" and {items[-1]}" if len(items) > 1 else ""
    return f"{name} likes {', '.join(items[:-1] if last else items)}{last}."


def with_synonyms(data: RetrievalData, synonyms: Mapping[str, str] | Callable[[str], str]) -> RetrievalData:
    """The same data set with every item of the documents replaced; queries stay as they are.

    Parameters
    ----------
    synonyms : item -> another word for it (a synonym, a scientific name, else a hypernym).

    Raises
    ------
    InputError : a data set without items, or an item without a synonym.
    """
    if data.items is None:
        raise InputError("data", "documents without items", "a data set made by make_limit")
    find = synonyms if callable(synonyms) else synonyms.__getitem__
    try:
        replaced = tuple(tuple(find(item) for item in some) for some in data.items)
    except KeyError as error:
        raise InputError("synonyms", f"none for {error.args[0]!r}", "one for each item") from None
    texts = tuple(describe(name, some) for name, some in zip(data.document_ids, replaced, strict=True))
    return replace(data, documents=texts, items=replaced)


def _words(field_name: str, given: Sequence[str]) -> list[str]:
    """Different, stripped, sorted."""
    words = sorted({" ".join(str(word).split()) for word in given})
    if not words or words[0] == "":
        raise InputError(field_name, "an empty one" if words else "none", "words or phrases")
    return words


def _shuffled(words: Sequence[str], rng: np.random.Generator) -> list[str]:
    return [words[i] for i in rng.permutation(len(words))]


def _names(first: Sequence[str], last: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    """n different names: pairs drawn 2n times, the different ones kept in order; more are drawn where these are few."""
    firsts, lasts = _words("first_names", first), _words("last_names", last)
    if len(firsts) * len(lasts) < n:
        raise InputError(
            "first_names", f"{len(firsts)} and {len(lasts)} last names", f"enough for {n} different documents"
        )
    capital = [f[:1].upper() + f[1:] for f in firsts], [f[:1].upper() + f[1:] for f in lasts]
    pairs = len(firsts) * len(lasts)
    found = dict.fromkeys(rng.integers(pairs, size=2 * n).tolist())
    if len(found) < n:
        found = dict.fromkeys(rng.permutation(pairs)[:n].tolist())
    names = list(dict.fromkeys(f"{capital[0][i // len(lasts)]} {capital[1][i % len(lasts)]}" for i in found))[:n]
    if len(names) < n:  # names that differ only in the case of their first letters
        raise InputError("first_names", f"{len(names)} different full names", f"{n}, one for each document")
    return names


def largest_dense(n_docs: int, k: int, n_queries: int) -> int:
    """Queries of the dense pattern that ``n_docs`` documents allow, at most ``n_queries``."""
    return min(n_queries, comb(n_docs, k))
