"""Relevance and texts from the user's files: BEIR and MTEB folders, TREC qrels, CSV, JSONL, Parquet."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from paperworks.errors import InputError
from paperworks.papers.embedding_limits.datasets import RetrievalData

QUERY_NAMES = ("query-id", "query_id", "queryid", "qid", "query", "topic", "user-id", "user_id", "userid", "user")
DOCUMENT_NAMES = (
    "corpus-id",
    "corpus_id",
    "corpusid",
    "doc-id",
    "doc_id",
    "docid",
    "document-id",
    "document_id",
    "documentid",
    "docno",
    "document",
    "doc",
    "did",
    "pid",
    "result",
    "item-id",
    "item_id",
    "itemid",
    "item",
)
SCORE_NAMES = ("score", "relevance", "rel", "label", "grade")
ID_NAMES = ("_id", "id", "doc-id", "query-id", "docid", "qid")
SPLITS = ("test", "dev", "validation", "train")

Pair = tuple[str, str, float]


def read_qrels(path: str | Path) -> RetrievalData:
    """Relevance from one file of query and document ids.

    Parameters
    ----------
    path : .csv, .tsv, .txt, .qrels, .trec (TREC: query, iteration, document, relevance), .jsonl or .parquet, each text
        also .gz. Columns are found by their names (such as query-id, corpus-id, score); without a header two columns
        are query and document, three have a score, four are TREC's. Without scores every pair is relevant.

    Returns
    -------
    RetrievalData without texts. Documents are those of the file, judged irrelevant ones included. Pairs of score 0 or
    less are not relevant; queries with no relevant document are left out. ``notes`` say so.

    Raises
    ------
    InputError : a file that is not there, lacks a column, has an empty id or a score that is no number.
    """
    file = _existing(Path(path))
    pairs = list(_read_pairs(file))
    if not pairs:
        raise InputError(str(file), "no pairs", "lines with a query id and a document id")
    documents = tuple(dict.fromkeys(d for _, d, _ in pairs))
    found = _assemble(pairs, tuple(dict.fromkeys(q for q, _, _ in pairs)), documents)
    return replace(found, notes=(*found.notes, *_doubtful_header(file, pairs)))


def load_beir(folder: str | Path, split: str | None = None) -> RetrievalData:
    """A data set from a folder: ``corpus.jsonl``, ``queries.jsonl``, and relevance in ``qrels/SPLIT.tsv`` or beside.

    Parameters
    ----------
    folder : as BEIR, MTEB and the official LIMIT files lay it out. Texts may be .jsonl, .jsonl.gz or .parquet, in the
        folder or in folders ``corpus`` and ``queries``; relevance .tsv, .jsonl or .parquet, in ``qrels``, ``data`` or
        ``default``, or the file ``qrels``. A title is put before the text.
    split : "test", "dev", "train" or another; by default the first of test, dev, validation and train that is there.

    Raises
    ------
    InputError : a file that is missing, ids in the relevance that corpus or queries lack, or empty ids.
    """
    home = Path(folder).expanduser()
    if not home.is_dir():
        raise InputError("folder", str(folder), "a folder with corpus.jsonl, queries.jsonl and qrels")
    corpus = _texts(_part(home, "corpus"), titles=True)
    queries = _texts(_part(home, "queries"), titles=False)
    relevance = _relevance_file(home, split)
    pairs = list(_read_pairs(relevance))
    for name, known, ids in (
        ("corpus", corpus, [d for _, d, _ in pairs]),
        ("queries", queries, [q for q, _, _ in pairs]),
    ):
        unknown = list(dict.fromkeys(i for i in ids if i not in known))
        if unknown:
            some = ", ".join(repr(i) for i in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            raise InputError(f"{relevance.name}", f"{len(unknown)} ids that the {name} lack: {some}", f"ids of {name}")
    found = _assemble(pairs, tuple(queries), tuple(corpus))
    texts = tuple(queries[i] for i in found.query_ids)
    notes = list(found.notes)
    repeated = len(texts) - len(set(texts))
    if repeated:
        notes.append(f"{repeated} queries have the text of another query.")
    empty = sum(not text.strip() for text in corpus.values())
    if empty:
        notes.append(f"{empty} documents have no text.")
    return RetrievalData(
        found.qrels, found.query_ids, found.document_ids, texts, tuple(corpus.values()), notes=tuple(notes)
    )


def load_data(path: str | Path) -> RetrievalData:
    """``load_beir`` for a folder, ``read_qrels`` for a file."""
    return load_beir(path) if Path(path).expanduser().is_dir() else read_qrels(path)


def read_words(path: str | Path) -> list[str]:
    """Items or names, one a line; empty lines and lines that start with # do not count."""
    file = _existing(Path(path))
    with _readable(file, "text in UTF-8, one item a line"), _open(file) as lines:
        words = [" ".join(line.split()) for line in lines if line.strip() and not line.startswith("#")]
    if not words:
        raise InputError(str(file), "no words", "one item a line")
    return words


def _assemble(pairs: list[Pair], queries: tuple[str, ...], documents: tuple[str, ...]) -> RetrievalData:
    notes: list[str] = []
    best: dict[tuple[str, str], float] = {}
    for q, d, score in pairs:
        best[q, d] = max(score, best.get((q, d), score))
    if len(best) < len(pairs):
        notes.append(f"{len(pairs) - len(best)} pairs are there more than once; the highest score counts.")
    relevant = {pair: score for pair, score in best.items() if score > 0}
    if len(relevant) < len(best):
        notes.append(f"{len(best) - len(relevant)} pairs have a score of 0 or less: not relevant.")
    if any(score != 1 for score in relevant.values()):
        notes.append("Relevance is graded: every score above 0 counts as relevant.")
    answered = {q for q, _ in relevant}
    kept = tuple(q for q in queries if q in answered)
    if len(kept) < len(queries):
        notes.append(f"{len(queries) - len(kept)} queries have no relevant document and are left out.")
    if not kept:
        raise InputError("qrels", "no pair with a score above 0", "one relevant document or more")
    row, column = ({name: i for i, name in enumerate(names)} for names in (kept, documents))
    at = np.array([(row[q], column[d]) for q, d in relevant]).T
    matrix = sparse.csr_array((np.ones(len(relevant), bool), (at[0], at[1])), shape=(len(kept), len(documents)))
    return RetrievalData(matrix, kept, documents, notes=tuple(notes))


# -- files --------------------------------------------------------------------------------------------------------


def _existing(path: Path) -> Path:
    path = path.expanduser()
    if not path.is_file():
        raise InputError("file", f"{path}, which is not there", "a file that exists")
    return path


def _open(path: Path) -> Any:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


@contextmanager
def _readable(path: Path, expected: str) -> Iterator[None]:
    """Errors of reading in words: other encodings than UTF-8, cut or damaged gzip files, files that may not be read."""
    try:
        yield
    except (UnicodeDecodeError, EOFError, zlib.error, OSError) as error:
        raise InputError(str(path), str(error), expected) from None


def _kind(path: Path) -> str:
    return path.with_suffix("").suffix.lower() if path.suffix == ".gz" else path.suffix.lower()


def _read_pairs(path: Path) -> Iterator[Pair]:
    if _kind(path) in (".jsonl", ".json", ".parquet"):
        yield from _pairs_of_records(path, _records(path))
        return
    try:
        yield from _pairs_of_lines(path)
    except csv.Error as error:
        raise InputError(str(path), str(error), "text in UTF-8 with query and document ids") from None


def _records(path: Path) -> Iterator[dict[str, Any]]:
    if _kind(path) == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            for batch in pq.ParquetFile(path).iter_batches():
                yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise InputError(str(path), str(error), "a Parquet file") from None
        return
    with _readable(path, "text in UTF-8, one JSON object a line"), _open(path) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                raise InputError(f"{path}, line {number}", repr(line[:60]), "one JSON object a line") from None
            if not isinstance(record, dict):
                raise InputError(f"{path}, line {number}", type(record).__name__, "a JSON object")
            yield record


def _pairs_of_records(path: Path, records: Iterable[dict[str, Any]]) -> Iterator[Pair]:
    for number, record in enumerate(records, 1):
        names = {str(name).strip().lower(): name for name in record}
        q, d, s = (
            next((names[n] for n in known if n in names), None) for known in (QUERY_NAMES, DOCUMENT_NAMES, SCORE_NAMES)
        )
        if q is None or d is None:
            raise InputError(
                f"{path}, record {number}", f"the fields {', '.join(record)}", "fields such as query-id and corpus-id"
            )
        yield _pair(path, number, record[q], record[d], 1 if s is None else record[s])


def _pairs_of_lines(path: Path) -> Iterator[Pair]:
    with _readable(path, "text in UTF-8 with query and document ids"), _open(path) as file:
        lines = [line.rstrip("\r\n") for line in file]
    lines = [line for line in lines if line.strip()]
    if not lines:
        return
    if "\t" in lines[0]:
        rows: Iterable[list[str]] = ([cell.strip() for cell in line.split("\t")] for line in lines)
    elif "," in lines[0] or ";" in lines[0]:
        rows = csv.reader(lines, delimiter="," if "," in lines[0] else ";", skipinitialspace=True)
    else:
        rows = (line.split() for line in lines)
    places: tuple[int, int, int | None] | None = None
    width = 0
    for number, row in enumerate(rows, 1):
        if places is None:
            places, header = _places(path, row)
            width = len(row)
            if header:
                continue
        if len(row) != width:
            raise InputError(f"{path}, line {number}", f"{len(row)} columns", f"{width}, as the first line has")
        q, d, s = places
        yield _pair(path, number, row[q], row[d], 1 if s is None else row[s])


def _doubtful_header(path: Path, pairs: list[Pair]) -> list[str]:
    """A note where the first line counts as a pair, and looks like names of columns."""
    if _kind(path) in (".jsonl", ".json", ".parquet"):
        return []
    with _open(path) as file:
        line = next(line for line in file if line.strip())
    looks = all(
        ids[0] in line and not _has_digit(ids[0]) and ids[0] not in ids[1:] and any(_has_digit(one) for one in ids)
        for ids in ([q for q, _, _ in pairs], [d for _, d, _ in pairs])
    )
    return [f"The first line ({line.strip()}) names no known columns: it counts as a pair."] if looks else []


def _has_digit(text: str) -> bool:
    return any(c.isdigit() for c in text)


def _places(path: Path, row: list[str]) -> tuple[tuple[int, int, int | None], bool]:
    """Columns of query, document and score, and whether the row is a header."""
    names = [cell.strip().lower() for cell in row]
    q, d, s = (
        next((names.index(n) for n in known if n in names), None)
        for known in (QUERY_NAMES, DOCUMENT_NAMES, SCORE_NAMES)
    )
    if q is not None and d is not None:
        return (q, d, s), True
    if q is not None or d is not None:
        missing = "document" if d is None else "query"
        raise InputError(f"{path}, first line", ", ".join(row), f"a column of {missing} ids too, such as {missing}_id")
    if len(row) == 2:
        return (0, 1, None), False
    if len(row) == 3:
        return (0, 1, 2), False
    if len(row) == 4:
        return (0, 2, 3), False
    raise InputError(
        f"{path}, first line", f"{len(row)} columns without known names", "columns query_id, document_id and score"
    )


def _pair(path: Path, number: int, query: Any, document: Any, score: Any) -> Pair:
    if query is None or document is None or not str(query).strip() or not str(document).strip():
        raise InputError(f"{path}, line {number}", "an empty id", "a query id and a document id")
    try:
        value = float(score)
    except (TypeError, ValueError):
        value = float("nan")
    if not np.isfinite(value):
        raise InputError(f"{path}, line {number}", f"the score {score!r}", "a number")
    return str(query).strip(), str(document).strip(), value


def _part(home: Path, name: str) -> list[Path]:
    """The files of the corpus or of the queries."""
    for ending in (".jsonl", ".jsonl.gz", ".parquet"):
        if (home / f"{name}{ending}").is_file():
            return [home / f"{name}{ending}"]
    inside = sorted(p for p in (home / name).glob("*") if _kind(p) in (".jsonl", ".parquet"))
    if inside:
        return inside
    raise InputError("folder", f"{home}, without {name}.jsonl", f"{name}.jsonl, {name}.parquet or a folder {name}")


def _texts(paths: list[Path], *, titles: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in paths:
        for number, record in enumerate(_records(path), 1):
            key = next((name for name in ID_NAMES if record.get(name) not in (None, "")), None)
            if key is None or not isinstance(record.get("text"), str):
                raise InputError(f"{path}, record {number}", f"the fields {', '.join(record)}", "_id and text")
            identity = str(record[key])
            if identity in found:
                raise InputError(f"{path}, record {number}", f"the id {identity!r} again", "unique ids")
            title = str(record.get("title") or "").strip() if titles else ""
            found[identity] = f"{title} {record['text']}" if title else record["text"]
    if not found:
        raise InputError(str(paths[0]), "no texts", "one JSON object a line, with _id and text")
    return found


def _relevance_file(home: Path, split: str | None) -> Path:
    folders = [home / name for name in ("qrels", "data", "default") if (home / name).is_dir()]
    files = [
        p
        for folder in folders
        for p in sorted(folder.glob("*"))
        if _kind(p) in (".tsv", ".jsonl", ".parquet", ".csv", ".txt")
    ]
    for wanted in (split,) if split else SPLITS:
        for p in files:
            if p.name.split(".")[0].split("-")[0] == wanted:
                return p
    if split is None:
        for p in (*files, *(home / f"qrels{e}" for e in (".tsv", ".jsonl", ".parquet", ".csv", ".txt"))):
            if p.is_file():
                return p
    there = ", ".join(p.name for p in files) or "nothing"
    raise InputError(
        "split" if split else "folder", f"{there} in {home}", f"qrels/{split or 'test'}.tsv or qrels.jsonl"
    )
