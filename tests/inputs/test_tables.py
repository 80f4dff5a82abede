"""Tables of the user in every form, and what is said about those that cannot be used."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from paperworks.errors import InputError
from paperworks.inputs.delimited import delimited_chunks, read_delimited
from paperworks.inputs.tables import BUNDLED, find_table, read_table

TEXT = "id,age,city,code,y\n1,30,Ulm,007,yes\n2,?,Bonn,012,no\n3,41.5,,100,yes\n"


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text(TEXT)
    return path


def test_types_are_inferred_and_missing_cells_found(csv):
    table = read_table(csv, "y", drop=["id"], categorical=["code"])
    assert table.numeric == ("age",)
    assert table.categorical == ("city", "code")
    np.testing.assert_array_equal(table.features["age"], [30.0, np.nan, 41.5])
    assert table.features["city"].tolist()[:2] == ["Ulm", "Bonn"]
    assert pd.isna(table.features["city"][2])
    assert table.features["code"].tolist() == ["007", "012", "100"]
    assert table.label.tolist() == ["yes", "no", "yes"]
    assert len(table) == 3


def test_markers_can_be_given(csv):
    table = read_table(csv, "y", missing=("",))
    assert table.categorical == ("age", "city")
    assert table.features["age"].tolist() == ["30", "?", "41.5"]
    mixed = read_table(csv, "y", missing=("",), numeric=["age"])
    assert mixed.features["age"].tolist() == [30.0, "?", 41.5]
    assert "age" in mixed.numeric


@pytest.mark.parametrize(("suffix", "delimiter"), [(".tsv", "\t"), (".csv", ";"), (".txt", "|"), (".csv.gz", ",")])
def test_delimiters_are_found_and_gzip_is_read(tmp_path, csv, suffix, delimiter):
    path = tmp_path / f"other{suffix}"
    text = TEXT.replace(",", delimiter).replace("\n", "\r\n")
    (gzip.open if suffix.endswith("gz") else open)(path, "wt", encoding="utf-8-sig", newline="").write(text)
    pd.testing.assert_frame_equal(read_table(path, "y").features, read_table(csv, "y").features)


@pytest.mark.parametrize("delimiter", [",", " "])
@pytest.mark.parametrize("start", ["", "# made by a machine\n", "\ufeff"])
@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_ends_of_lines_of_every_system_are_read_alike(tmp_path, delimiter, start, end):
    text = start + delimiter.join("aby") + "\n" + "".join(f"{i},{i}.5,u\n" for i in range(5)).replace(",", delimiter)
    frames = []
    for name, kept in (("here", "\n"), ("there", end)):
        path = tmp_path / f"{name}.csv"
        path.write_bytes(text.replace("\n", kept).encode())
        frames += [read_delimited(path).frame, *delimited_chunks(path, rows=100)]
    for frame in frames:
        assert frame.to_dict("list") == {"a": [*"01234"], "b": [f"{i}.5" for i in range(5)], "y": ["u"] * 5}
    assert len(frames) == 4


def test_quotes_spaces_and_line_breaks_inside_cells(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a, b ,y\n"x, ""1""", 2 ,u\n"two\nlines",3,v\n')
    table = read_table(path, "y")
    assert list(table.features.columns) == ["a", "b"]
    assert table.features["a"].tolist() == ['x, "1"', "two\nlines"]
    assert table.features["b"].tolist() == [2.0, 3.0]


def test_frames_and_parquet_keep_their_types(tmp_path):
    frame = pd.DataFrame({"n": [1, 2, 3], "s": ["1", "?", None], "b": [True, False, True], "y": [0, 1, 0]})
    frame.to_parquet(tmp_path / "t.parquet")
    tables = [
        read_table(source, "y")
        for source in (frame, pl.from_pandas(frame), tmp_path / "t.parquet", str(tmp_path / "t.parquet"))
    ]
    for table in tables:
        assert table.numeric == ("n",)
        assert table.categorical == ("s", "b")
        assert table.features["s"][0] == "1"
        assert table.features["s"].isna().tolist() == [False, True, True]
        assert table.features["b"].tolist() == ["True", "False", "True"]
        assert table.label.tolist() == [0, 1, 0]
    array = read_table(np.array([[1.5, 2], [3, 4]]), "x1")
    assert (array.numeric, array.label.tolist()) == (("x0",), [2.0, 4.0])
    declared = read_table(frame, "y", numeric=["s"], categorical=["n"])
    assert declared.numeric == ("s",)
    assert declared.features["n"].tolist() == ["1", "2", "3"]
    assert read_table(pd.DataFrame({0: [1.0], 1: [2.0]}), "1").numeric == ("0",)


def test_numbers_are_rounded_correctly(tmp_path):
    values = [0.1, 1e-310, 123456789.123456789, 2.2250738585072014e-308, 1e22, 5e-324, -0.3]
    path = tmp_path / "n.csv"
    path.write_text("v,y\n" + "".join(f"{v!r},a\n" for v in values))
    assert read_table(path, "y").features["v"].tolist() == values


def test_bundled_tables_are_there():
    for name in BUNDLED:
        table = read_table(name)
        assert table.label is not None
        assert len(set(table.label)) >= 2
        assert table.categorical == ()


def test_columns_of_mostly_numbers_are_noted(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("v,y\n" + "1.5,a\n" * 95 + "unknown,b\n" * 5)
    assert "95.0% of it are numbers, but not 'unknown'" in read_table(path, "y").notes[0]
    assert read_table(path, "y", missing=("unknown",)).notes == ()


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (TEXT, {"label": "yy"}, "label: found 'yy'; expected a column of {path} (did you mean 'y'?); it has id, age"),
        (TEXT, {"drop": ["citty"]}, "drop: found column 'citty'; expected a column of {path} (did you mean 'city'?)"),
        (
            TEXT,
            {"numeric": ["age"], "categorical": ["age"]},
            "numeric: found column 'age', which is in categorical too",
        ),
        (TEXT, {"drop": ["y"]}, "drop: found the label column 'y'"),
        (TEXT, {"drop": "id"}, "drop: found 'id'; expected a list of column names"),
        (TEXT, {"delimiter": ",,"}, "delimiter: found ',,'; expected one character"),
        ("", {}, "{path}: found an empty file; expected a header line, then rows"),
        ("a,y\n", {}, "{path}: found a header and no rows"),
        ("a,a,y\n1,2,3\n", {}, "{path}, line 1: found two columns named 'a'"),
        ("a,b,y\n1,2,3\n1,2,3\n1,2\n", {}, "{path}, line 4: found 2 cells; expected 3, one per column of the header"),
        ("a,y\n1,u\n2,\n", {}, "{path}, line 3, column 'y': found no label"),
        ("y\nu\n", {}, "{path}: found no column besides the label"),
    ],
)
def test_errors_name_the_place(tmp_path, text, options, message):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_table(path, **{"label": "y", **options})
    assert str(error.value).startswith(message.format(path=path))


def test_files_that_cannot_be_read(tmp_path, csv):
    for path, message in [
        (tmp_path / "peple.csv", "did you mean 'people.csv'?"),
        (tmp_path, "a folder"),
        ("breast-cancr", "did you mean 'breast-cancer'?"),
    ]:
        with pytest.raises(InputError) as error:
            read_table(path, "y")
        assert message in str(error.value)
    (tmp_path / "latin.csv").write_bytes("a,y\nÄ,u\n".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_table(tmp_path / "latin.csv", "y")
    (tmp_path / "t.csv.gz").write_bytes(b"not gzip")
    with pytest.raises(InputError, match=r"t\.csv\.gz"):
        read_table(tmp_path / "t.csv.gz", "y")
    (tmp_path / "t.parquet").write_bytes(b"not parquet")
    with pytest.raises(InputError, match="a Parquet file"):
        read_table(tmp_path / "t.parquet", "y")
    with pytest.raises(InputError, match="two: rows and columns"):
        read_table(np.zeros(3))
    with pytest.raises(InputError, match="datetime64"):
        read_table(pd.DataFrame({"d": pd.to_datetime(["2020-01-01"]), "y": [1]}), "y")


@pytest.mark.parametrize("delimiter", [",", " "])
@pytest.mark.parametrize("fault", ["cut", "early", "late"])
def test_damaged_gzip_data_are_told_wherever_the_damage_is(tmp_path, delimiter, fault):
    """Behind the beginning that is looked at first, too: another library unpacks that."""
    numbers = np.random.default_rng(0).random(20_000)
    text = "a,b\n" + "".join(f"{i},{number}\n" for i, number in enumerate(numbers))
    data = gzip.compress(text.replace(",", delimiter).encode(), 1)
    place = 100 if fault == "early" else len(data) - 5000
    path = tmp_path / "t.csv.gz"
    path.write_bytes(data[:place] if fault == "cut" else data[:place] + bytes(500) + data[place + 500 :])
    for read in (read_delimited, lambda path: list(delimited_chunks(path))):
        with pytest.raises(InputError, match=r"t\.csv\.gz: found .*; expected a readable text file, whole gzip data"):
            read(path)


def test_known_tables_are_found_in_the_folder_that_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERWORKS_DATA", str(tmp_path))
    assert find_table("no-such-table") is None
    (tmp_path / "mine.csv").write_text(TEXT)
    assert find_table("mine") == tmp_path / "mine.csv"
    monkeypatch.delenv("PAPERWORKS_DATA")
    assert find_table("mine", tmp_path) == tmp_path / "mine.csv"


@pytest.mark.parametrize(
    ("text", "columns", "note"),
    [
        ("# made by me\n# a, b, y\n1,2,u\n3,4,v\n5,6,u\n", ["a", "b"], "begins with '#'; 1 line above"),
        ("#a;b;y\n1;2;u\n3;4;v\n", ["a", "b"], "begins with '#'"),
        ("Export of today\n\na;b;y\n1;2;u\n3;4;v\n5;6;u\n", ["a", "b"], "2 lines above the header left out"),
        ("# a remark\na,b,y\n1,2,u\n3,4,v\n", ["a", "b"], "1 line above the header left out"),
        ("a   b y\n 1  2 u\n3 4   v\n5 6 u\n", ["a", "b"], ""),
    ],
)
def test_what_stands_above_a_header(tmp_path, text, columns, note):
    path = tmp_path / "t.csv"
    path.write_text(text)
    table = read_table(path, "y")
    assert table.numeric == tuple(columns)
    assert table.features["a"].tolist()[:2] == [1, 3]
    assert bool(note) == bool(table.notes)
    assert note in " ".join(table.notes)


def test_lines_below_a_preamble_are_named_by_their_number(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("# one\na,b,y\n1,2,u\n3,4\n")
    with pytest.raises(InputError, match="line 4"):
        read_table(path, "y")


def test_decimal_commas_are_numbers(tmp_path):
    """Semicolons and decimal commas, as spreadsheets of half of Europe write them: not categories."""
    path = tmp_path / "t.csv"
    path.write_text("a;b;c;y\n1,5;1.234,5;1,5;u\n?;2;x;v\n-3,25e2;0,5;2,5;u\n")
    table = read_table(path, "y")
    assert table.numeric == ("a", "b")
    np.testing.assert_array_equal(table.features["a"], [1.5, np.nan, -325.0])
    np.testing.assert_array_equal(table.features["b"], [1234.5, 2.0, 0.5])
    assert any("Decimal commas" in note and "'a', 'b'" in note for note in table.notes)
    path.write_text('a,y\n"1,5",u\n"2,5",v\n')  # between commas it may be a thousand
    assert read_table(path, "y").categorical == ("a",)


def test_files_of_other_formats_are_refused_with_words(tmp_path):
    frame = pd.DataFrame({"a": [1], "y": ["u"]})
    frame.to_parquet(tmp_path / "p")
    for data, words in (
        ((tmp_path / "p").read_bytes(), "Parquet"),
        (gzip.compress(b"a,y\n1,u\n"), "gzip"),
        ("a,y\n1,u\n".encode("utf-16"), "UTF-16"),
        (b"a,y\n\x00\x01\x02\n", "binary"),
        (b'{"a": 1, "y": "u"}\n{"a": 2, "y": "v"}\n', "JSON.*read_json"),
        (b'\xef\xbb\xbf [\n {"a": 1, "y": "u"}]\n', "JSON"),
    ):
        path = tmp_path / "t.csv"
        path.write_bytes(data)
        with pytest.raises(InputError, match=words) as caught:
            read_table(path, "y")
        assert str(caught.value).isprintable()
        assert "\\x" not in str(caught.value)


def test_columns_without_a_value_are_no_features(tmp_path):
    (tmp_path / "t.csv").write_text("n,empty,y\n" + "".join(f"{i},,{i % 2}\n" for i in range(30)))
    assert len(read_table(tmp_path / "t.csv", "y").numeric) == 1
    with pytest.raises(InputError, match="no value in any column besides the label"):
        read_table(tmp_path / "t.csv", "y", row_numbers=False)  # what is left has nothing to learn from


def test_row_numbers_are_left_out_on_demand(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": np.arange(60),
            "ticket": rng.permutation(60) + 7,
            "name": [f"n{i}" for i in range(60)],
            "time": np.cumsum(rng.random(60)),
            "age": np.sort(rng.integers(20, 40, 60)),
            "size": rng.random(60),
            "count": rng.integers(0, 9, 60),
            "y": ["u", "v"] * 30,
        }
    )
    table = read_table(frame, "y", row_numbers=False)
    assert list(table.features.columns) == ["age", "size", "count"]
    assert "'id', 'ticket', 'name', 'time'" in table.notes[0]
    assert "--keep-row-numbers" in table.notes[0]
    assert list(read_table(frame, "y").features.columns) == list(frame.columns[:-1])
    assert "id" in read_table(frame, "y", row_numbers=False, numeric=["id"]).features
    assert "id" in read_table(frame.iloc[:10], "y", row_numbers=False).features


@pytest.mark.parametrize("cell", ["inf", "-inf", "1e400", "1e39"])
def test_infinities_and_huge_numbers_are_refused_with_their_place(tmp_path, cell):
    path = tmp_path / "t.csv"
    path.write_text(f"a,y\n1,u\n{cell},v\n")
    with pytest.raises(InputError, match=r"line 3, column 'a'.*within 3\.4e38"):
        read_table(path, "y")
    with pytest.raises(InputError, match="row 1, column 'a'"):
        read_table(pd.DataFrame({"a": [1.0, float(cell)], "y": ["u", "v"]}), "y")
    assert read_table(path, "y", missing=("", cell)).features["a"].isna().sum() == 1


def test_row_names_of_r_have_no_name_in_the_header(tmp_path: Path) -> None:
    for name, text in (
        ("a.txt", '"a" "b" "y"\n"1" 1.5 "u" "p"\n"2" 2.5 "v" "q"\n"3" 3.5 "v" "q"\n'),
        ("a.csv", '"a","b","y"\n"1",1.5,"u","p"\n"2",2.5,"v","q"\n"3",3.5,"v","q"\n'),
    ):
        (tmp_path / name).write_text(text)
        table = read_table(tmp_path / name, "y")
        assert table.features.columns.tolist() == ["row names", "a", "b"]
        assert table.features["a"].tolist() == [1.5, 2.5, 3.5]
        assert "one name fewer" in table.notes[0]


def test_a_separator_at_the_end_of_each_row_is_no_column(tmp_path: Path) -> None:
    """The header has none, as in R's files, but what it names begins with the first cell."""
    (tmp_path / "a.csv").write_text("a,b,y\n1.5,2,u,\n3.5,5,v,\n4.5,1,v,\n")
    table = read_table(tmp_path / "a.csv", "y")
    assert table.features.columns.tolist() == ["a", "b"]
    assert table.features["a"].tolist() == [1.5, 3.5, 4.5]
    assert [*table.label] == ["u", "v", "v"]


def test_lines_and_columns_that_a_spreadsheet_fills_up(tmp_path: Path) -> None:
    rows = "".join(f"{'ns'[i % 2]},{i % 7},{'uv'[i % 2]},,\n" for i in range(30))
    (tmp_path / "a.csv").write_text(
        f"Sales of 2023,,,,\nmade by hand,,,,\n,,,,\nregion,amount,y,,\n{rows}Total,99,,,\n"
    )
    with pytest.raises(InputError, match=r"a.csv, line 35, column 'y': found no label"):
        read_table(tmp_path / "a.csv", "y")
    (tmp_path / "b.csv").write_text(f"Sales of 2023,,,,\nmade by hand,,,,\n,,,,\nregion,amount,y,,\n{rows}")
    table = read_table(tmp_path / "b.csv", "y")
    assert table.features.columns.tolist() == ["region", "amount"]
    assert "3 lines above the header left out." in table.notes


def test_arff_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.arff").write_text("% iris\n@RELATION iris\n@ATTRIBUTE a NUMERIC\n@DATA\n1\n")
    with pytest.raises(InputError, match="an ARFF file"):
        read_table(tmp_path / "a.arff")


@pytest.mark.parametrize(
    ("cells", "kind"), [([["u"], ["v", "w"], None], "lists"), ([None, {"a": 1}, {"a": 2}], "records")]
)
def test_columns_of_lists_are_refused(tmp_path: Path, cells: list[object], kind: str) -> None:
    pd.DataFrame({"x": [1.0, 2.0, 3.0], "tags": cells}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=f"column 'tags': found {kind} in its cells; expected .* drop leaves it out"):
        read_table(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet", drop=("tags",)).numeric == ("x",)
