"""Sets of many files: parts that cover them, encoding and assignment in parts, and the blocks that Ray Data gets."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.embedding import CallableEncoder, KMeans, ShardedRows, assign_shards, encode_shards, shards
from paperworks.embedding import parts as parts_of_files
from paperworks.embedding.rows import as_rows
from paperworks.errors import InputError

CALLS: list[int] = []


def lengths(texts: list[str]) -> np.ndarray:
    """A text as its length and its number of spaces."""
    CALLS.append(len(texts))
    return np.array([[len(text), text.count(" ")] for text in texts], np.float32).reshape(-1, 2)


def make_encoder() -> CallableEncoder:
    return CallableEncoder(lengths, batch_size=1000)


def doubled(row: dict[str, Any]) -> str:
    return str(row["a"]) * 2


def jsonl(path: Path, texts: list[Any], **options: Any) -> Path:
    path.write_text("\n".join(json.dumps({"text": text}, **options) for text in texts), encoding="utf-8")
    return path


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.text(max_size=12), st.just("\u2028 \u0085 x")), min_size=1, max_size=12),
    st.integers(1, 90),
    st.sampled_from(["\n", "\r\n", "\n\n", "\n  \n"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_parts_of_json_lines_have_every_line_once(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str | None],
    size: int,
    end: str,
    last: bool,
    bom: bool,
    ascii_only: bool,
) -> None:
    lines = [json.dumps({"text": text}, ensure_ascii=ascii_only) for text in texts]
    content = (end.join(lines) + (end if last else "")).encode("utf-8", "surrogatepass")
    path = tmp_path_factory.mktemp("parts") / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" * bom + content)
    parts = parts_of_files.list_parts(path, parts_of_files.TEXTS, size)
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
    found = [text for part in parts for text in parts_of_files.read_texts(part, "text")]
    assert found == ["" if text is None else text for text in texts]


def test_shards_are_encoded_in_order_and_a_stopped_call_goes_on(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "vectors"
    source.mkdir()
    texts = [f"text {'x ' * (i % 7)}{i}" for i in range(60)]
    jsonl(source / "a.jsonl", texts[:25])
    table = pa.table({"other": list(range(25)), "text": texts[25:50]})
    pq.write_table(table, source / "b.parquet", row_group_size=4)
    jsonl(source / "c.jsonl", [*texts[50:58], None, ""])
    texts[58:] = ["", ""]
    encode = partial(encode_shards, source, make_encoder, folder, part_bytes=200)
    found = encode()
    expected = lengths(texts)
    np.testing.assert_array_equal(found[:], expected)
    assert len(found.files) > 6
    np.testing.assert_array_equal(as_rows(folder)[np.array([59, 0, 30, 0])], expected[[59, 0, 30, 0]])

    (folder / "part-000003.npy").unlink()
    with pytest.raises(InputError, match="not all parts are encoded"):
        ShardedRows(folder)
    with pytest.raises(InputError, match="not all parts are encoded"):
        assign_shards(folder, expected[:2])
    CALLS.clear()
    np.testing.assert_array_equal(encode()[:], expected)
    assert len(CALLS) == 1
    assert sum(CALLS) < 30
    for other in ({"text": doubled}, {"part_bytes": 300}, {"make_encoder": partial(make_encoder)}):
        given_now = {"source": source, "make_encoder": make_encoder, "part_bytes": 200} | other
        with pytest.raises(InputError, match=r"^folder: found .* of other files"):
            encode_shards(folder=folder, **given_now)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.txt").write_text("mine")
    with pytest.raises(InputError, match=r"^folder: found .* not empty"):
        encode_shards(source, make_encoder, tmp_path / "mine")


def test_a_function_of_the_record_says_what_the_text_is(tmp_path: Path) -> None:
    pd.DataFrame({"a": ["x", "yy"]}).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text('{"a": "zzz"}\n')
    found = encode_shards(tmp_path, make_encoder, tmp_path / "out", text=doubled)
    np.testing.assert_array_equal(found[:], lengths(["xx", "yyyy", "zzzzzz"]))


def test_assignment_in_parts_is_that_of_one_machine(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(90, 5)) + 100).astype(np.float32)
    fitted = KMeans(7, random_state=0).fit(x)
    expected = np.square(x[:, None].astype(float) - fitted.cluster_centers_).sum(2).argmin(1)
    (tmp_path / "npy").mkdir()
    for number, rows in enumerate(np.array_split(x, [20, 20, 71])):  # one file is empty
        np.save(tmp_path / f"npy/{number}.npy", rows)
    np.save(tmp_path / "half.npy", x.astype(np.float64))
    pq.write_table(pa.table({"vector": list(x)}), tmp_path / "a.parquet", row_group_size=13)
    for source in ("npy", "half.npy", "a.parquet"):
        for size in (1, 100, 10**9):
            found = assign_shards(tmp_path / source, fitted.cluster_centers_, part_bytes=size)
            assert found.dtype == np.int32
            np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(fitted.predict(tmp_path / "npy"), expected)
    same = KMeans(7, random_state=0).fit(tmp_path / "npy")
    np.testing.assert_array_equal(same.labels_, fitted.labels_)


def test_the_blocks_of_ray_data_do_what_one_process_does(tmp_path: Path) -> None:
    """Ray gives a worker batches of parts, in any order and of any size."""
    texts = ["a" * (i % 9) for i in range(40)]
    source = jsonl(tmp_path / "a.jsonl", texts)
    parts = parts_of_files.list_parts(source, parts_of_files.TEXTS, 60)
    (tmp_path / "out").mkdir()
    worker = shards.OnRay(shards.EncodePart, (make_encoder, "text", str(tmp_path / "out")))
    order = np.random.default_rng(0).permutation(len(parts))

    def batch(numbers: np.ndarray, of: list[parts_of_files.Part]) -> dict[str, np.ndarray]:
        columns: dict[str, list[Any]] = {"number": [], "path": [], "start": [], "stop": []}
        for number in numbers:
            for name, value in (("number", number), *vars(of[number]).items()):
                columns[name].append(value)
        return {name: np.array(values) for name, values in columns.items()}

    counts = {}
    for numbers in np.array_split(order, 4):
        found = worker(batch(numbers, parts))
        counts |= {int(n): int(np.frombuffer(c, np.int32)[0]) for n, c, _ in zip(*found.values(), strict=True)}
    assert sum(counts.values()) == 40
    vectors = ShardedRows(tmp_path / "out")
    np.testing.assert_array_equal(vectors[:], lengths(texts))
    centers = np.array([[0.0, 0], [4, 0], [8, 0]], np.float32)
    parts = parts_of_files.list_parts(vectors.files, parts_of_files.VECTORS, 16)
    found = shards.OnRay(shards.AssignPart, (centers,))(batch(np.arange(len(parts))[::-1], parts))
    labels = np.concatenate([np.frombuffer(f, np.int32) for f in found["found"][::-1]])
    np.testing.assert_array_equal(labels, assign_shards(vectors.files, centers))
    bad = shards.OnRay(shards.AssignPart, (np.ones((2, 3)),))(batch(np.arange(2), parts))
    assert [json.loads(error)[0] for error in bad["error"]] == ["centers", "centers"]
    nearest = np.abs(vectors[:][:, :1] - centers[:, 0])
    np.testing.assert_array_equal(nearest[np.arange(40), labels], nearest.min(1))


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_rows_of_several_files_are_read_as_those_of_one(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: Any
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    whole = np.arange(2 * sum(sizes), dtype=np.float32).reshape(-1, 2)
    for number, part in enumerate(np.split(whole, np.cumsum(sizes)[:-1])):
        np.save(folder / f"{number}.npy", part)
    rows, n = ShardedRows(folder), len(whole)
    assert rows.shape == whole.shape
    bounds = st.one_of(st.none(), st.integers(-n - 2, n + 2))
    cut = data.draw(st.builds(slice, bounds, bounds, st.sampled_from([None, 1, 2, -1])))
    np.testing.assert_array_equal(rows[cut], whole[cut])
    which = np.array(data.draw(st.lists(st.integers(-n, n - 1), max_size=8)), np.int64)
    np.testing.assert_array_equal(rows[which], whole[which])
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    np.testing.assert_array_equal(rows[mask], whole[mask])
    np.testing.assert_array_equal(rows[n - 1], whole[n - 1])
    with pytest.raises(IndexError):
        rows[n]


def test_bad_files_are_named(tmp_path: Path) -> None:
    encode = partial(encode_shards, make_encoder=make_encoder, folder=tmp_path / "out")
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.jsonl").write_text("")
    (tmp_path / "list.jsonl").write_text("[1]\n")
    (tmp_path / "broken.jsonl").write_text('{"text": "a"}\n{"text": ')
    (tmp_path / "number.jsonl").write_text('{"text": 3}\n')
    (tmp_path / "other.jsonl").write_text('{"body": "a"}\n')
    (tmp_path / "bad.parquet").write_text("no")
    pd.DataFrame({"body": ["a"]}).to_parquet(tmp_path / "other.parquet")
    (tmp_path / "a.txt").write_text("a")
    for name, words in {
        "nothing": "an existing file",
        "a.txt": "an existing file",
        "empty": "no file in",
        "none.jsonl": "without rows",
        "list.jsonl": "line at byte 0: list",
        "broken.jsonl": "line at byte 14: not JSON",
        "number.jsonl": "line at byte 0: int",
        "other.jsonl": "body; expected the column 'text'",
        "bad.parquet": "cannot be read",
        "other.parquet": "with columns body",
    }.items():
        with pytest.raises(InputError, match=words):
            encode(tmp_path / name)
        for left in (tmp_path / "out").glob("*") if (tmp_path / "out").exists() else ():
            left.unlink()
    np.save(tmp_path / "nan.npy", np.array([[1.0, 2], [np.nan, 1]]))
    np.save(tmp_path / "flat.npy", np.ones(3))
    (tmp_path / "void.npy").write_bytes(b"")
    pd.DataFrame({"vector": [[1.0, 2.0], [1.0]]}).to_parquet(tmp_path / "ragged.parquet")
    centers = np.zeros((2, 2), np.float32)
    for name, words in {
        "nan.npy": "NaN or infinity in row 1",
        "flat.npy": "float64 of shape",
        "void.npy": "cannot be read",
        "ragged.parquet": "vectors of one length",
        "other.parquet": "the column 'vector'",
    }.items():
        with pytest.raises(InputError, match=words):
            assign_shards(tmp_path / name, centers)
    np.save(tmp_path / "three.npy", np.ones((2, 3)))
    with pytest.raises(InputError, match=r"^centers: found 2 columns; expected 3"):
        assign_shards(tmp_path / "three.npy", centers)
    with pytest.raises(InputError, match="vectors of 2 and 3 numbers"):
        ShardedRows([tmp_path / "nan.npy", tmp_path / "three.npy"])
    for options in ({"engine": "dask"}, {"workers": 0}, {"part_bytes": 0}):
        with pytest.raises(InputError, match=rf"^{next(iter(options))}"):
            assign_shards(tmp_path / "three.npy", np.ones((2, 3)), **options)


def test_without_ray_its_engine_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(extra: str, what: str) -> None:
        raise InputError(what, f"{extra} not installed", "pip install 'paperworks[ray]'")

    monkeypatch.setattr(shards, "require_extra", refuse)
    with pytest.raises(InputError, match=r"pip install 'paperworks\[ray\]'"):
        encode_shards(jsonl(tmp_path / "a.jsonl", ["a"]), make_encoder, tmp_path / "out", engine="ray")
    assert not (tmp_path / "out").exists()
