"""Vocabularies, buckets, the benchmarks' layouts, and tables in chunks."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from paperworks.errors import InputError
from paperworks.papers.optembed import FieldEncoder, read_clicks, split_clicks, word_pairs
from paperworks.papers.optembed import sources as click_sources
from paperworks.papers.optembed.encoding import log_bucket
from paperworks.papers.optembed.recipe import certainty_said


def test_log_buckets_are_those_of_criteo() -> None:
    values = np.array([-1, 0, 1, 2, 3, 10, 1000, np.nan])
    assert log_bucket(values)[:-1].tolist() == [-1, 0, 1, 2, 1, 5, 47]
    assert np.isnan(log_bucket(values)[-1])


def test_rare_and_unseen_values_share_the_last_id_and_missing_is_a_value() -> None:
    table = pd.DataFrame({"c": ["a", "a", "b", "b", "b", "z", None, None], "n": [1.0, 2, 3, 4, 5, 6, 7, np.nan]})
    encoder = FieldEncoder().fit(table)
    assert encoder.fields_[0].vocabulary == {"b": 0, "": 1, "a": 2}
    assert encoder.transform(table)[:, 0].tolist() == [2, 2, 0, 0, 0, 3, 1, 1]
    assert encoder.field_dims_ == [4, 9]
    assert encoder.transform(pd.DataFrame({"c": ["new"], "n": [99.0]})).tolist() == [[3, 8]]
    again = FieldEncoder.from_json(encoder.to_json())
    assert np.array_equal(again.transform(table), encoder.transform(table))


def test_large_numbers_keep_all_their_digits_and_infinity_is_a_value() -> None:
    table = pd.DataFrame({"code": [10000001.0, 10000002.0, 0.1, 0.25] * 3, "n": [np.inf, *range(100, 111)]})
    encoder = FieldEncoder(numbers="values").fit(table)
    assert set(encoder.fields_[0].vocabulary) == {"10000001", "10000002", "0.1", "0.25"}
    real = pd.DataFrame({"n": [np.inf, -np.inf, np.nan, *np.random.default_rng(0).normal(size=200)]})
    encoder = FieldEncoder().fit(real)
    assert encoder.fields_[0].kind == "quantile"
    assert np.isfinite(encoder.fields_[0].edges).all()
    assert len({int(i) for i in encoder.transform(real)[:3, 0]}) == 3


def test_a_code_is_the_same_category_beside_a_missing_cell() -> None:
    encoder = FieldEncoder(categorical=["zip"]).fit(pd.DataFrame({"zip": [701, 701, 701, 94110, 94110]}))
    new = pd.DataFrame({"zip": [94110, None, 701]})  # floats, to pandas
    assert encoder.transform(new)[:, 0].tolist() == [1, 2, 0]
    beside = FieldEncoder(categorical=["zip"]).fit(pd.DataFrame({"zip": [0.5, 0.5, 3.0, 3.0, 3.0, np.nan]}))
    assert beside.fields_[0].vocabulary == {"3": 0, "0.5": 1}


def test_kinds_of_number_columns() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "few": rng.integers(0, 5, 500),
            "counts": rng.integers(0, 10_000, 500),
            "real": rng.normal(size=500),
            "code": rng.integers(0, 400, 500),
            "text": ["1"] * 499 + ["x"],
        }
    )
    encoder = FieldEncoder(categorical=["code"]).fit(table)
    assert [f.kind for f in encoder.fields_] == ["values", "log", "quantile", "category", "category"]
    sizes = np.bincount(encoder.transform(table)[:, 2])
    assert len(sizes) == 32
    assert sizes.max() - sizes.min() <= 2


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c", ""]), st.one_of(st.none(), st.floats(-1e6, 1e6))),
        min_size=1,
        max_size=40,
    ),
    st.integers(1, 7),
)
def test_chunks_give_the_ids_of_the_whole_table(rows: list[tuple[str, float | None]], size: int) -> None:
    table = pd.DataFrame(rows, columns=["c", "n"]).astype({"n": float})
    whole = FieldEncoder().fit(table)
    parts = [table.iloc[i : i + size] for i in range(0, len(table), size)]
    chunked = FieldEncoder()
    for part in parts:
        chunked.look(part)
    chunked.decide()
    for part in parts:
        chunked.count(part)
    chunked.finish()
    assert np.array_equal(chunked.transform(table), whole.transform(table))
    assert (whole.transform(table) < whole.field_dims_).all()


def write_table(path, rows: int = 400, sep: str = ",") -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"site": rng.choice(["x", "y", "?"], rows), "n": rng.integers(0, 90, rows), "click": rng.integers(0, 2, rows)}
    )
    table.to_csv(path, index=False, sep=sep)
    return table


@pytest.mark.parametrize("sep", [",", ";", "\t"])
def test_a_large_file_is_read_in_chunks_as_a_small_one_is(tmp_path, monkeypatch, sep: str) -> None:
    write_table(tmp_path / "t.csv", sep=sep)
    small = read_clicks(tmp_path / "t.csv", "click")
    monkeypatch.setattr(click_sources, "LARGE_BYTES", 10)
    large = read_clicks(tmp_path / "t.csv", "click", chunk_rows=70)
    assert "chunks of 70 rows" in " ".join(large.notes)
    assert np.array_equal(small.clicks.ids, large.clicks.ids)
    assert np.array_equal(small.clicks.labels, large.clicks.labels)
    assert "" in small.encoder.fields_[0].vocabulary  # "?" is a missing cell in both
    limited = read_clicks(tmp_path / "t.csv", "click", chunk_rows=70, limit=100)
    assert len(limited.clicks) == 100


def test_parquet_in_chunks(tmp_path, monkeypatch) -> None:
    table = write_table(tmp_path / "t.csv")
    table.assign(site=table["site"].replace("?", None)).to_parquet(tmp_path / "t.parquet")
    small = read_clicks(tmp_path / "t.parquet", "click")
    monkeypatch.setattr(click_sources, "CHUNK_ROWS", 100)
    large = read_clicks(tmp_path / "t.parquet", "click", chunk_rows=60)
    assert np.array_equal(small.clicks.ids, large.clicks.ids)


def test_the_layouts_of_the_benchmarks(tmp_path) -> None:
    rows = [["1", *["5"] * 13, *["aa"] * 26], ["0", *[""] * 13, *["bb"] * 26]] * 10
    (tmp_path / "criteo.txt").write_text("".join("\t".join(r) + "\n" for r in rows))
    criteo = read_clicks(tmp_path / "criteo.txt", layout="criteo")
    assert len(criteo.names) == 39
    assert criteo.clicks.labels.tolist() == [1, 0] * 10
    assert criteo.encoder.fields_[0].vocabulary == {"": 0, "2": 1}  # floor(ln(5)^2), and missing
    asked = read_clicks(tmp_path / "criteo.txt", layout="criteo", numbers="values")
    assert asked.encoder.fields_[0].vocabulary == {"": 0, "5": 1}
    kdd = [[str(c), "1", *[f"v{c}"] * 10] for c in (0, 1, 2, 0)]
    (tmp_path / "kdd.txt").write_text("".join("\t".join(r) + "\n" for r in kdd))
    assert read_clicks(tmp_path / "kdd.txt", layout="kdd12").clicks.labels.tolist() == [0, 1, 1, 0]
    assert len(read_clicks(tmp_path / "kdd.txt", layout="kdd12").names) == 11
    avazu = "id,click,hour,C1,site_id\n" + "".join(f"{i},{i % 2},1410210{i % 3},100{i % 2},s{i}\n" for i in range(8))
    (tmp_path / "avazu.csv").write_text(avazu)
    table = read_clicks(tmp_path / "avazu.csv", layout="avazu")
    assert table.names == ["C1", "site_id", "weekday", "weekend", "hour"]
    assert set(table.encoder.fields_[4].vocabulary) == {"0", "1", "2"}  # 2014-10-21, a Tuesday
    assert set(table.encoder.fields_[2].vocabulary) == {"1"}
    assert all(f.kind == "category" for f in table.encoder.fields_)
    with pytest.raises(InputError, match="40, tab-separated"):
        read_clicks(tmp_path / "kdd.txt", layout="criteo")


def test_word_pairs_are_neighbours_in_half_of_the_rows() -> None:
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    table = word_pairs(" ".join(words * 40), 4000, 0, min_count=1)
    assert abs(table.clicks.labels.mean() - 0.5) < 0.04
    first, second = (list(table.encoder.fields_[i].vocabulary) for i in (0, 1))
    for ids in table.clicks.ids[table.clicks.labels == 1][:200]:
        assert words[(words.index(first[ids[0]]) + 1) % 7] == second[ids[1]]


def test_splits_have_no_row_twice_and_all_rows(tmp_path) -> None:
    write_table(tmp_path / "t.csv")
    clicks = read_clicks(tmp_path / "t.csv", "click").clicks
    parts = split_clicks(clicks, 3)
    assert [len(p) for p in parts] == [320, 40, 40]
    rows = np.concatenate([np.column_stack([p.ids, p.labels]) for p in parts])
    whole = np.column_stack([clicks.ids, clicks.labels])
    assert np.array_equal(rows[np.lexsort(rows.T)], whole[np.lexsort(whole.T)])


def test_a_part_without_both_values_is_said_of_the_label(tmp_path) -> None:
    """Two clicks in 60 rows cannot be in three parts."""
    (tmp_path / "t.csv").write_text("a,click\n" + "".join(f"{i % 7},{int(i < 2)}\n" for i in range(60)))
    clicks = read_clicks(tmp_path / "t.csv", "click").clicks
    with pytest.raises(InputError, match=r"label: found 2 of 60 rows with its rarer value, and the \w+ rows all alike"):
        split_clicks(clicks, 0)


@pytest.mark.parametrize(
    ("text", "label", "named"),
    [
        ("a,y\n1,0\n2,0\n", "y", "1 values"),
        ("a,y\n1,0\n2,1\n3,2\n", "y", "3 values"),
        ("a,y\n1,0\n2,1\n", "clicked", "a column of"),
        ("a,y\n1,0\n2,1\n", None, "name of the column"),
        ("a,y\n1,0\n2,\n", "y", "label in every row"),
    ],
)
def test_tables_without_two_labels_are_refused(tmp_path, text: str, label: str | None, named: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=named):
        read_clicks(tmp_path / "t.csv", label)


def test_the_report_says_how_sure_an_auc_of_so_many_rows_is() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(2000) < 0.3).astype(np.int8)
    logits = labels + rng.normal(size=2000)
    said = certainty_said(labels, logits)
    assert said.startswith("On 2,000 test rows the AUC of OptEmbed is known from 0.7")
    draws = [rng.integers(2000, size=2000) for _ in range(300)]
    low, high = np.quantile([roc_auc_score(labels[d], logits[d]) for d in draws], [0.025, 0.975])
    ends = [float(word) for word in re.findall(r"0\.\d+", said)]
    assert ends == pytest.approx([low, high], abs=0.006)
    assert "says nothing" in certainty_said(np.array([0, 0, 1]), np.zeros(3))
