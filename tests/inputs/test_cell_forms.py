"""Numbers with commas, and amounts and dates in cells, of tables from spreadsheets."""

from __future__ import annotations

from pathlib import Path

import pytest

from paperworks.errors import InputError
from paperworks.inputs.delimited import delimited_chunks
from paperworks.inputs.tables import read_table


@pytest.mark.parametrize(
    ("separator", "cells", "numbers", "note"),
    [
        ("\t", ["8,123", "650", "1,234,567"], [8123, 650, 1234567], "between thousands"),
        ("\t", ["8,123", "650", "9,100.5"], [8123, 650, 9100.5], "between thousands"),
        ("\t", ["0,123", "0,500", "0,250"], [0.123, 0.5, 0.25], "Decimal commas"),
        ("\t", ["1,5", "1.234,25", "3"], [1.5, 1234.25, 3], "Decimal commas"),
        (";", ["8,123", "650", "1,5"], [8.123, 650, 1.5], "Decimal commas"),
        (";", ["8,123", "650", "1,250"], [8.123, 650, 1.25], "Decimal commas"),
        (";", ["8,123.5", "650", "1,250"], [8123.5, 650, 1250], "between thousands"),
        (",", ['"8,123"', "650", '"1,250"'], [8123, 650, 1250], "between thousands"),
    ],
)
def test_commas_in_numbers(tmp_path: Path, separator: str, cells: list[str], numbers: list[float], note: str) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(f"{cell}{separator}{'uv'[i % 2]}\n" for i, cell in enumerate(cells))
    path.write_text(f"size{separator}y\n{rows}")
    table = read_table(path, "y")
    assert table.features["size"].tolist() == numbers
    assert table.numeric == ("size",)
    assert any(note in one and "'size'" in one for one in table.notes)


def test_a_column_of_either_form_is_read_as_the_file_s_others(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("size\tprice\ty\n8,123\t1,5\tu\n1,250\t20,75\tv\n")
    table = read_table(path, "y")
    assert table.features["size"].tolist() == [8.123, 1.25]
    assert table.features["price"].tolist() == [1.5, 20.75]


def test_all_chunks_read_a_column_s_commas_alike(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    rows = ["8,123\tu"] * 4 + ["5\tu"] * 2 + ["1,5\tu"] * 2
    path.write_text("size\ty\n" + "\n".join(rows) + "\n")
    first, second, third, fourth = delimited_chunks(path, rows=2)
    assert [*first["size"], *second["size"], *third["size"]] == ["8.123"] * 4 + ["5"] * 2
    assert [*fourth["size"]] == ["1.5"] * 2
    late = tmp_path / "late.tsv"
    late.write_text("size\ty\n" + "8,123\tu\n" * 20_000 + "1,5\tu\n" * 2)  # beyond what is looked at first
    *_, last = delimited_chunks(late, rows=20_000)
    assert [*last["size"]] == ["1,5"] * 2


@pytest.mark.parametrize("header", ["size\ty", "size\ty\t", "size\ty\t\t"])
def test_chunks_have_no_column_of_a_separator_at_the_end_of_each_line(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.tsv"
    end = "\t" * max(header.count("\t") - 1, 1)
    path.write_text(f"{header}\n" + f"1,5\tu{end}\n" * 4)
    assert [list(chunk.columns) for chunk in delimited_chunks(path, rows=2)] == [["size", "y"]] * 2
    path.write_text(f"{header}\n" + f"1,5\tu{end}\n" * 20_000 + f"1,5\tu{end}7\n")  # beyond what is looked at first
    with pytest.raises(InputError, match=r"a.tsv, column \d: found '7', in a column without a name .* a name in the"):
        list(delimited_chunks(path))


def test_text_that_is_no_number_of_either_kind_stays_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('a,b,y\n"1,2",12-01,u\n"1,2,3",13-02,v\n')
    table = read_table(path, "y")
    assert table.categorical == ("a", "b")
    assert not table.notes


def test_amounts_and_dates_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(
        "price\trate\tday\tcode\ty\n" + "".join(f"${i},500\t{i}.5%\t0{i}.03.2021\tA{i}\tu\n" for i in range(1, 9))
    )
    table = read_table(path, "y")
    assert [one.partition(". ")[0] for one in table.notes] == [
        "column 'price' is read as categorical: its cells are amounts such as '$1,500'",
        "column 'rate' is read as categorical: its cells are amounts such as '1.5%'",
        "column 'day' is read as categorical: its cells are dates such as '01.03.2021'",
    ]
    assert len(read_table(path, "y", categorical=("price", "rate"), drop=("day",)).notes) == 0
