"""Permutations and rows of bits: applied as documented, read from every format, refused with the position at fault."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.permutations_ntk import all_inputs, apply_permutation, as_permutation, permutation_matrix
from paperworks.papers.permutations_ntk.bits import (
    as_bit_rows,
    named_permutation,
    ones_profile,
    permutation_of_examples,
    read_bit_rows,
    read_permutation,
)

ROWS = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0], [1, 1, 1]], dtype=np.uint8)


@given(st.permutations(range(7)))
def test_positions_matrix_and_application_agree(permutation: list[int]) -> None:
    matrix = permutation_matrix(permutation)
    assert as_permutation(matrix).tolist() == permutation
    rows = all_inputs(7)
    out = apply_permutation(permutation, rows)
    assert (out == rows @ matrix.T).all()
    for i, j in enumerate(permutation):
        assert (out[:, j] == rows[:, i]).all()
    assert (apply_permutation(np.argsort(permutation), out) == rows).all()


def test_named() -> None:
    rng = np.random.default_rng(0)
    assert apply_permutation(named_permutation("reverse", 4, rng), [[1, 2, 3, 4]]).tolist() == [[4, 3, 2, 1]]
    assert apply_permutation(named_permutation("shuffle", 6, rng), [list("abcdef")]).tolist() == [list("adbecf")]
    assert apply_permutation(named_permutation("shuffle", 5, rng), [list("abcde")]).tolist() == [list("adbec")]
    assert sorted(named_permutation("random", 9, rng)) == list(range(9))
    with pytest.raises(InputError, match="reverse"):
        named_permutation("sorted", 3, rng)


def test_profile_counts_distinct_nonzero_rows() -> None:
    assert ones_profile(np.vstack([ROWS, ROWS])) == {2: 2, 3: 1}
    assert ones_profile(all_inputs(5)) == {1: 5, 2: 10, 3: 10, 4: 5, 5: 1}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".npy", ".parquet"])
def test_tables_of_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    match suffix:
        case ".csv":
            path.write_text("a,b,c\n" + "\n".join(",".join(map(str, r)) for r in ROWS.tolist()))
        case ".tsv":
            path.write_text("\n".join("\t".join(map(str, r)) for r in ROWS.tolist()) + "\n\n")
        case ".txt":
            path.write_text("# rows\n" + "\n".join("".join(map(str, r)) for r in ROWS.tolist()))
        case ".npy":
            np.save(path, ROWS.astype(bool))
        case ".parquet":
            pd.DataFrame(ROWS, columns=list("abc")).to_parquet(path)
    assert (read_bit_rows(path, None) == ROWS).all()
    with pytest.raises(InputError, match="3 columns; expected 4"):
        read_bit_rows(path, 4)


def test_files_of_bits(tmp_path: Path) -> None:
    path = tmp_path / "picture.raw"
    path.write_bytes(bytes([0b10000001, 0b00001111, 255]))
    assert read_bit_rows(path, None).tolist()[:2] == [[1, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 1, 1, 1]]
    assert read_bit_rows(path, 12).shape == (2, 12)
    with pytest.raises(InputError, match="24 bits; expected one or more whole blocks of 5 bits"):
        read_bit_rows(path, 5)
    with pytest.raises(InputError, match="0 bits"):
        (tmp_path / "empty").write_bytes(b"")
        read_bit_rows(tmp_path / "empty", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,0\n0,2\n", "row 1, column 1: found 2"),
        ("1,0\n0,x\n", "line 2: found 'x'"),
        ("1,0\n0,1,1\n", "line 2: found 3 columns"),
        ("only words\n", "no rows"),
    ],
)
def test_bad_tables_name_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_bit_rows(path, None)


def test_permutations_from_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "p.json").write_text(json.dumps([2, 0, 1]))
    (tmp_path / "p.txt").write_text("2 0 1\n")
    (tmp_path / "column.csv").write_text("position\n2\n0\n1\n")
    np.save(tmp_path / "p.npy", permutation_matrix([2, 0, 1]))
    for name in ("p.json", "p.txt", "column.csv", "p.npy"):
        assert read_permutation(str(tmp_path / name), 8, rng).tolist() == [2, 0, 1]
    assert read_permutation("2,0,1", 8, rng).tolist() == [2, 0, 1]
    with pytest.raises(InputError, match=r"permutation\[2\].*0, which is at 0 too"):
        read_permutation("0,1,0", 3, rng)
    with pytest.raises(InputError, match="a file that exists"):
        read_permutation("nowhere.json", 3, rng)
    (tmp_path / "bad.json").write_text("[1,")
    with pytest.raises(InputError, match=r"bad\.json"):
        read_permutation(str(tmp_path / "bad.json"), 3, rng)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ([0, 3, 1], "permutation[1]"),
        ([0, -1], "permutation[1]"),
        ([0.5, 1], "permutation"),
        ([], "permutation"),
        (["a", "b"], "permutation"),
        ([[1, 0, 0], [0, 1, 0]], "permutation"),
        ([[1, 1], [0, 0]], "permutation, row 0"),
        ([[0, 1], [0, 1]], "permutation, column 0"),
        ([[1, 0], [0, 2]], "permutation, row 1, column 1"),
    ],
)
def test_bad_permutations(value: object, field: str) -> None:
    with pytest.raises(InputError) as caught:
        as_permutation(value)  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("rows", "field"),
    [
        ([[1, 0], [0, 0]], "X, row 1"),
        ([[1, 0], [np.nan, 1]], "X, row 1, column 0"),
        ([[1, 0.5]], "X, row 0, column 1"),
        ([1, 0], "X"),
        ([["1", "0"]], "X"),
    ],
)
def test_bad_rows(rows: object, field: str) -> None:
    with pytest.raises(InputError) as caught:
        as_bit_rows(rows)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_permutation_of_examples() -> None:
    inputs = np.array([[0, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]])
    permutation, unit = permutation_of_examples(inputs, apply_permutation([1, 2, 0], inputs))
    assert permutation.tolist() == [1, 2, 0]
    assert unit.tolist() == [True, False, True, True, True]
    with pytest.raises(InputError, match="no row where only bit 2 is 1"):
        permutation_of_examples(inputs[:3], inputs[:3])
    outputs = apply_permutation([1, 2, 0], inputs)
    outputs[4] = [1, 0, 0]
    with pytest.raises(InputError, match="row 4: found another output than row 0"):
        permutation_of_examples(inputs, outputs)
    with pytest.raises(InputError, match="unit vectors as columns, row"):
        permutation_of_examples(np.eye(2), [[1, 0], [1, 0]])


def test_tables_as_other_tools_write_them(tmp_path: Path) -> None:
    rows = np.array([[1, 0, 1], [0, 1, 1]])
    np.savetxt(tmp_path / "numpy.csv", rows, delimiter=",")
    (tmp_path / "excel.csv").write_text("1,0,1\n0,1,1\n", encoding="utf-8-sig")
    (tmp_path / "pandas.csv").write_text("a,b,c\nTrue,False,True\nFalse,True,True\n")
    (tmp_path / "quoted.csv").write_text('"a";"b";"c"\n"1";"0";"1"\n"0";"1";"1"\n')
    for path in sorted(tmp_path.iterdir()):
        np.testing.assert_array_equal(read_bit_rows(path, 3), rows, err_msg=path.name)


def test_a_permutation_longer_than_a_file_name() -> None:
    expected = np.arange(300)[::-1]
    text = ",".join(map(str, expected))
    np.testing.assert_array_equal(read_permutation(text, 8, np.random.default_rng(0)), expected)
    for wrong in (text + ",x", "\0"):
        with pytest.raises(InputError, match="a file that exists"):
            read_permutation(wrong, 8, np.random.default_rng(0))


def test_broken_files_of_permutations(tmp_path: Path) -> None:
    (tmp_path / "ragged.json").write_text("[[1, 0], [1]]")
    (tmp_path / "empty.npy").touch()
    for path in tmp_path.iterdir():
        with pytest.raises(InputError, match="permutation: found"):
            read_permutation(str(path), 8, np.random.default_rng(0))
