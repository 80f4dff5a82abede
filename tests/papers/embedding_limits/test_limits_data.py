"""LIMIT-style data, files of the user, retrievers and recall."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.embedding_limits import (
    BM25,
    EmbeddingRetriever,
    ItemMatch,
    RetrievalData,
    ScoreRetriever,
    TokenRetriever,
    VectorRetriever,
    bundled_words,
    evaluate,
    load_beir,
    load_data,
    make_limit,
    make_qrels,
    read_qrels,
    with_synonyms,
)
from paperworks.papers.embedding_limits.datasets import describe
from paperworks.papers.embedding_limits.retrievers import NormWarning, products

ITEMS = [f"item{i:03}" for i in range(80)]
NAMES = ["ann", "bob", "cy"], ["Day", "Eve", "Fox"]


def small(**options: Any) -> RetrievalData:
    return make_limit(ITEMS, *NAMES, make_qrels("dense", 9, 20, 2), **({"min_items": 12, "seed": 1} | options))


def test_limit_documents_have_the_items_of_their_queries() -> None:
    data = small()
    assert data.items is not None
    assert data.query_items is not None
    assert data.documents is not None
    assert data.queries is not None
    assert len(set(data.query_items)) == 20
    relevant = data.qrels.toarray()
    for i, item in enumerate(data.query_items):
        assert [item in some for some in data.items] == relevant[i].tolist()
        assert data.queries[i] == f"Who likes {item}?"
    assert all(len(some) == len(set(some)) == 12 for some in data.items)
    assert data.documents[0] == describe(data.document_ids[0], data.items[0])
    assert len(set(data.document_ids)) == 9
    assert all(name.split()[0] in ("Ann", "Bob", "Cy") for name in data.document_ids)
    assert describe("A B", ["x"]) == "A B likes x."
    assert describe("A B", ["x", "y", "z"]) == "A B likes x, y and z."


def test_limit_is_the_same_whatever_the_order_of_the_lists() -> None:
    again = make_limit(
        ITEMS[::-1] + ITEMS[:3], NAMES[0][::-1], NAMES[1], make_qrels("dense", 9, 20, 2), min_items=12, seed=1
    )
    assert again.documents == small().documents
    assert small(seed=2).documents != small().documents


def test_documents_with_enough_items_get_none() -> None:
    data = small(min_items=2)
    assert data.items is not None
    assert [len(some) for some in data.items] == np.maximum(data.qrels.sum(axis=0), 2).tolist()


def test_limit_of_the_papers_size() -> None:
    data = make_limit(*bundled_words(), make_qrels("dense", 3000, 1000, 2))
    assert data.items is not None
    assert {len(some) for some in data.items} == {45}
    assert len(set(data.document_ids)) == 3000


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"min_items": 70}, "60 besides"),
        ({"template": "Who?"}, "template"),
        ({"min_items": 0}, "min_items"),
    ],
)
def test_limit_of_too_little(options: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        small(**options)
    with pytest.raises(InputError, match="20 or more"):
        make_limit(ITEMS[:10], *NAMES, make_qrels("dense", 9, 20, 2))
    with pytest.raises(InputError, match="different documents"):
        make_limit(ITEMS, ["a"], ["B"], make_qrels("dense", 9, 20, 2))


def test_synonyms_replace_items_of_documents_only() -> None:
    data = with_synonyms(small(), {item: f"other {item[4:]}" for item in ITEMS})
    assert data.queries == small().queries
    assert data.documents is not None
    assert not any("item" in text for text in data.documents)
    with pytest.raises(InputError, match="item"):
        with_synonyms(small(), {})


def test_beir_folder_and_back(tmp_path: Path) -> None:
    data = small()
    folder = data.save_beir(tmp_path / "made")
    found = load_beir(folder)
    assert found.queries == data.queries
    assert found.documents == data.documents
    assert found.document_ids == data.document_ids
    assert (found.qrels != data.qrels).nnz == 0
    with pytest.raises(InputError, match="nothing is overwritten"):
        data.save_beir(folder)
    (folder / "qrels" / "test.tsv").unlink()
    (folder / "qrels").rmdir()
    assert (load_data(folder).qrels != data.qrels).nnz == 0  # qrels.jsonl, as the official files have it
    with pytest.raises(InputError, match="split"):
        load_beir(folder, split="dev")


def beir(folder: Path, corpus: list[dict[str, Any]], queries: list[dict[str, Any]], qrels: str) -> Path:
    (folder / "qrels").mkdir(parents=True)
    with gzip.open(folder / "corpus.jsonl.gz", "wt") as out:
        out.writelines(json.dumps(record) + "\n" for record in corpus)
    (folder / "queries.jsonl").write_text("".join(json.dumps(record) + "\n" for record in queries))
    (folder / "qrels" / "test.tsv").write_text(qrels)
    return folder


def test_beir_folder_of_a_user(tmp_path: Path) -> None:
    corpus = [{"_id": "d1", "title": "T", "text": "one"}, {"_id": "d2", "text": "two"}]
    queries = [{"_id": q, "text": t} for q, t in (("q1", "a"), ("q2", "b"), ("q3", "a"), ("q4", "c"))]
    lines = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td1\t1\nq2\td2\t0\nq3\td2\t1\n"
    found = load_beir(beir(tmp_path / "x", corpus, queries, lines))
    assert found.documents == ("T one", "two")
    assert found.query_ids == ("q1", "q3")
    notes = " ".join(found.notes)
    for words in ("2 queries have no relevant", "graded", "more than once", "0 or less", "text of another"):
        assert words in notes
    with pytest.raises(InputError, match=r"1 ids that the corpus lack: 'd9'"):
        load_beir(beir(tmp_path / "y", corpus, queries, "query-id\tcorpus-id\tscore\nq1\td9\t1\n"))
    with pytest.raises(InputError, match=r"queries lack: 'q9'"):
        load_beir(beir(tmp_path / "z", corpus, queries, "query-id\tcorpus-id\tscore\nq9\td1\t1\n"))
    with pytest.raises(InputError, match="again"):
        load_beir(beir(tmp_path / "w", corpus * 2, queries, lines))


FORMS = {
    "a.csv": "query_id,doc_id,score\nq1,a,1\nq1,b,0\nq2,b,3\n",
    "b.tsv": "query-id\tcorpus-id\tscore\nq1\ta\t1\nq1\tb\t0\nq2\tb\t3\n",
    "c.qrels": "q1 0 a 1\nq1 0 b 0\nq2 0 b 3\n",
    "d.txt": "q1 a 1\nq1 b 0\n\nq2 b 3\n",
    "e.jsonl": '{"query-id": "q1", "corpus-id": "a"}\n{"query-id": "q1", "corpus-id": "b", "score": 0}\n'
    '{"query-id": "q2", "corpus-id": "b", "score": 3}\n',
    "f.csv": '\ufeffScore;Document;Query\n1;a;q1\n0;"b";q1\n3;b;q2\n',
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_relevance(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FORMS[name], encoding="utf-8")
    found = read_qrels(tmp_path / name)
    assert found.query_ids == ("q1", "q2")
    assert found.document_ids == ("a", "b")
    assert found.qrels.toarray().tolist() == [[True, False], [False, True]]
    assert len(found.notes) == 2


def test_relevance_in_parquet_and_gzip(tmp_path: Path) -> None:
    frame = pd.DataFrame({"query-id": ["q1", "q2"], "corpus-id": [7, 8], "score": [1, 1]})
    frame.to_parquet(tmp_path / "q.parquet")
    assert read_qrels(tmp_path / "q.parquet").document_ids == ("7", "8")
    with gzip.open(tmp_path / "q.csv.gz", "wt") as out:
        out.write("query,document\nq1,a\n")
    assert read_qrels(tmp_path / "q.csv.gz").qrels.shape == (1, 1)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no pairs"),
        ("query_id,answer\nq,a\n", "document"),
        ("query_id,doc_id\nq,\n", "empty id"),
        ("query_id,doc_id,score\nq,a,high\n", "'high'"),
        ("query_id,doc_id,score\nq,a,nan\n", "'nan'"),
        ("query_id,doc_id,score\nq,a,1\nq,b\n", "line 3: found 2 columns"),
        ("query_id,doc_id,score\nq,a,0\n", "no pair with a score above 0"),
        ("a,b,c,d,e\n", "5 columns"),
    ],
)
def test_bad_relevance(text: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text(text)
    with pytest.raises(InputError, match=word):
        read_qrels(tmp_path / "q.csv")
    with pytest.raises(InputError, match="not there"):
        read_qrels(tmp_path / "none.csv")


def test_template_with_other_braces() -> None:
    found = small(template="{x} {item}?")
    assert found.queries is not None
    assert found.query_items is not None
    assert found.queries[0] == f"{{x}} {found.query_items[0]}?"


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=60))
def test_any_text_gives_relevance_or_an_input_error(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for name in ("q.csv", "q.jsonl"):
            path = Path(folder) / name
            path.write_text(text, encoding="utf-8", errors="surrogatepass")
            with suppress(InputError):
                found = read_qrels(path)
                assert (np.diff(found.qrels.indptr) > 0).all()


def test_recall_by_hand() -> None:
    data = RetrievalData(np.array([[1, 1, 0, 0], [0, 0, 1, 0]]), ("q", "r"), ("a", "b", "c", "d"))
    scores = np.array([[4.0, 1, 3, 2], [1, 1, 1, 0]])
    found = evaluate(ScoreRetriever(scores), data, ks=(1, 2, 3, 9))
    assert found.table.filter(like="recall").iloc[0].tolist() == pytest.approx(
        [100 * (0.5 + 1 / 3) / 2, 100 * (0.5 + 2 / 3) / 2, 100 * (0.5 + 1) / 2]
    )
    assert found.recall(3) == pytest.approx(75)
    assert found.hits["hits@1"].tolist() == pytest.approx([1, 1 / 3])
    assert found.hits.index.tolist() == ["q", "r"]
    for bad in (scores[:1], scores * np.nan):
        with pytest.raises(InputError, match="scores"):
            evaluate(bad, data)
    with pytest.raises(InputError, match="ks"):
        evaluate(scores, data, ks=(9,))
    with pytest.raises(InputError, match="truncate_dims"):
        evaluate(scores, data, truncate_dims=(2,))
    with pytest.raises(InputError, match="texts"):
        evaluate(BM25(), data)


def test_vectors_are_cut_and_divided_by_their_norm() -> None:
    rng = np.random.default_rng(0)
    data = small()
    q, d = rng.normal(size=(20, 6)), rng.normal(size=(9, 6))
    found = evaluate(VectorRetriever(q, d), data, (2,), truncate_dims=(3, 6, 50)).table
    assert found["dimensions"].tolist() == [6, 3]
    unit = [x[:, :3] / np.linalg.norm(x[:, :3], axis=1, keepdims=True) for x in (q, d)]
    assert found["recall@2"].tolist()[1] == pytest.approx(evaluate(unit[0] @ unit[1].T, data, (2,)).recall(2))
    with pytest.warns(NormWarning):
        dot = evaluate(VectorRetriever(q, d, "dot"), data, (2,)).recall(2)
    assert dot == pytest.approx(evaluate(q @ d.T, data, (2,)).recall(2))
    for bad in (d[:, :5], d * np.nan, d[0]):
        with pytest.raises(InputError):
            evaluate(VectorRetriever(q, bad), data)
    with pytest.raises(InputError, match="8 documents"):
        evaluate(VectorRetriever(q, d[:8]), data)


def test_word_and_item_search_solve_it() -> None:
    data = small()
    assert evaluate(BM25(), data, (2,)).recall(2) == 100
    assert evaluate(ItemMatch(), data, (2,)).recall(2) == 100
    other = with_synonyms(data, {item: f"x{item[4:]}" for item in ITEMS})
    # no word is shared: every document ties, and two of nine are looked at
    assert evaluate(BM25(), other, (2,)).recall(2) == pytest.approx(100 * 2 / 9)


def test_function_of_texts_and_token_matrices() -> None:
    data = small()

    def overlap(queries: list[str], documents: list[str]) -> np.ndarray:
        return np.array([[q.split()[-1].rstrip("?") in d for d in documents] for q in queries], float)

    assert evaluate(overlap, data, (2,)).recall(2) == 100
    rng = np.random.default_rng(0)
    word = {f"item{i:03}": v for i, v in enumerate(rng.normal(size=(80, 16)))}

    def tokens(texts: list[str], is_query: bool) -> list[np.ndarray]:
        found = [
            [word[w] for w in t.replace("?", "").replace(",", "").replace(".", "").split() if w in word] for t in texts
        ]
        return [np.stack(one) / np.linalg.norm(one, axis=1, keepdims=True) for one in found]

    found = TokenRetriever(tokens)
    assert evaluate(found, data, (2,)).recall(2) == 100
    score = found.prepare(data)(np.arange(3))
    assert data.queries is not None
    assert data.documents is not None
    q, d = tokens(list(data.queries[:3]), True), tokens(list(data.documents), False)
    assert score == pytest.approx(np.array([[(a @ b.T).max(axis=1).sum() for b in d] for a in q]), rel=1e-5)


def test_encoder_prompts_and_repeated_texts(tmp_path: Path) -> None:
    asked: list[str] = []

    class Folder:
        """An encoder with prompts, as folders have them."""

        def __init__(self) -> None:
            self.prompts, self.prompt, self.name = {"query": "Q: ", "passage": ""}, "", "mine"

        def encode(self, items: Any) -> np.ndarray:
            asked.extend(self.prompt + item for item in items)
            return np.array([[len(item), 1.0] for item in items], np.float32)

    data = RetrievalData([[1, 0], [0, 1]], ("q", "r"), ("a", "b"), ("same", "same"), ("x", "yy"))
    queries, documents = EmbeddingRetriever(Folder()).embed(data)
    assert asked == ["Q: same", "x", "yy"]
    assert queries.tolist() == [[4, 1], [4, 1]]
    assert documents.tolist() == [[1, 1], [2, 1]]
    asked.clear()
    EmbeddingRetriever(Folder(), query_prompt="find: ", document_prompt="query").embed(data)
    assert asked == ["find: same", "Q: x", "Q: yy"]
    kept = EmbeddingRetriever(Folder()).embed(data, folder=tmp_path)
    asked.clear()
    again = EmbeddingRetriever(Folder()).embed(data, folder=tmp_path)
    assert asked == []
    for one, two, three in zip(kept, again, (queries, documents), strict=True):
        assert one.tolist() == two.tolist() == three.tolist()
    with pytest.raises(InputError, match="query_prompt"):
        EmbeddingRetriever(lambda texts: np.ones((len(texts), 2)), query_prompt=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="similarity"):
        EmbeddingRetriever(Folder(), similarity="l2")


def test_prompts_of_encoders_in_memory() -> None:
    asked: list[str] = []

    def lengths(texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return np.array([[len(text), 1.0] for text in texts])

    class Sentences:
        """As sentence-transformers: ``encode`` takes a prompt, and has a default."""

        def __init__(self) -> None:
            self.prompts = {"query": "Q: ", "document": ""}

        def encode(self, texts: Any, prompt: str | None = None) -> np.ndarray:
            return lengths([("default: " if prompt is None else prompt) + text for text in texts])

        def __call__(self, features: Any) -> Any:
            raise TypeError("not a function of texts")

    data = RetrievalData([[1, 0], [0, 1]], ("q", "r"), ("a", "b"), ("one", "three"), ("x", "yy"))
    EmbeddingRetriever(lengths, query_prompt="find: ").embed(data)
    assert asked == ["find: one", "find: three", "x", "yy"]
    asked.clear()
    evaluate(EmbeddingRetriever(Sentences(), document_prompt="D: "), data, (1,))
    assert asked == ["Q: one", "Q: three", "D: x", "D: yy"]
    asked.clear()
    found = evaluate(Sentences(), data, (1,))
    assert asked == ["Q: one", "Q: three", "default: x", "default: yy"]
    assert found.table["dimensions"].tolist() == [2]


def test_similarity_is_cosine_or_dot() -> None:
    with pytest.raises(InputError, match="similarity"):
        VectorRetriever(np.eye(2), np.eye(2), "euclidean")
    with pytest.raises(InputError, match="similarity"):
        products(np.eye(2), np.eye(2), "Cosine")


def test_ids_must_be_unique_and_sizes_agree() -> None:
    with pytest.raises(InputError, match="'a' twice"):
        RetrievalData([[1, 0]], ("q",), ("a", "a"))
    with pytest.raises(InputError, match="documents"):
        RetrievalData([[1, 0]], ("q",), ("a", "b"), ("x",), ("y",))
