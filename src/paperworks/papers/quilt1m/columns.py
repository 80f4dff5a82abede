"""Small tables of text (vocabularies, topics, captions): CSV, TSV and Parquet, by the names of their columns."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from paperworks.errors import InputError
from paperworks.inputs.transcripts import decode_text

TABLES = (".csv", ".tsv", ".parquet")


def text_columns(path: Path, field: str) -> dict[str, list[str]]:
    """Columns by their names in lower case; cells without spaces around them, empty where they are missing.

    Raises InputError, naming ``field``, for a file that is missing, no table, without rows, or with a row that has
    more cells than the header.
    """
    expected = "a table (.csv, .tsv, .parquet) with a header and rows"
    if path.suffix.lower() not in TABLES or not path.is_file():
        raise InputError(field, f"{path}, {'of another kind' if path.exists() else 'which does not exist'}", expected)
    if path.suffix.lower() == ".parquet":
        return _parquet(path, field, expected)
    try:
        text, _ = decode_text(path.read_bytes(), str(path), expected=expected)
    except OSError as error:
        raise InputError(field, f"{path} ({error.strerror})", expected) from None
    delimiter = "\t" if path.suffix.lower() == ".tsv" or "\t" in text.partition("\n")[0] else ","
    if delimiter == "," and ";" in text.partition("\n")[0] and "," not in text.partition("\n")[0]:
        delimiter = ";"
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [[cell.strip() for cell in row] for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InputError(field, f"{path}, line {reader.line_num} ({error})", expected) from None
    if len(rows) < 2:
        raise InputError(field, f"{path}, {'a header only' if rows else 'an empty file'}", expected)
    header, body = [name.lower() for name in rows[0]], rows[1:]
    for number, row in enumerate(body, 2):
        if len(row) > len(header):
            raise InputError(field, f"{path}, row {number} of {len(row)} cells", f"{len(header)}, as the header has")
    return {name: [row[i] if i < len(row) else "" for row in body] for i, name in enumerate(header)}


def _parquet(path: Path, field: str, expected: str) -> dict[str, list[str]]:
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        table = pq.read_table(path)
    except (ArrowException, OSError) as error:
        raise InputError(field, f"{path} ({error})", expected) from None
    if not table.num_rows:
        raise InputError(field, f"{path}, without rows", expected)
    return {
        str(name).strip().lower(): ["" if v is None else str(v).strip() for v in table.column(i).to_pylist()]
        for i, name in enumerate(table.column_names)
    }


def named_column(columns: dict[str, list[str]], names: tuple[str, ...], field: str) -> list[str]:
    """The first column of these names. Raises InputError where there is none."""
    for name in names:
        if name in columns:
            return columns[name]
    raise InputError(field, f"columns {', '.join(columns)}", f"a column {names[0]}")
