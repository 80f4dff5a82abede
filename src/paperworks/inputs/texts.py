"""Texts with labels: a folder with a folder per class, a table, or a bundled set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from paperworks.errors import InputError
from paperworks.inputs.fetch import path as path_of_input

if TYPE_CHECKING:
    import pandas as pd

BUNDLED = ("spam-assassin",)
"""Sets of texts by name."""


def read_texts(source: str, field: str = "data") -> pd.DataFrame:
    """Texts as a table, a row each.

    Parameters
    ----------
    source : a name of ``BUNDLED``; a folder whose folders, one a class, hold .txt files; or a file: CSV, TSV, Parquet
        or JSON Lines.
    field : option that errors name.

    Returns
    -------
    The columns text, label (the folder's name) and id (the path below ``source``) of a folder; the columns of a file.
    Values of CSV and TSV are strings.

    Raises
    ------
    InputError : the source is missing, of another kind, cannot be read, or is empty.
    """
    path = Path(path_of_input(source) if source in BUNDLED else source).expanduser()
    if path.is_dir():
        frame = _folder(path, field)
        if source in BUNDLED:  # its folders are easy-ham-1, hard-ham-1, spam-1, ...
            frame["label"] = ["ham" if "ham" in label else "spam" for label in frame["label"]]
        return frame
    if not path.is_file():
        raise InputError(
            field, f"{source}, which does not exist", f"a file or folder of texts, or one of {', '.join(BUNDLED)}"
        )
    frame = _file(path, field)
    if frame.empty:
        raise InputError(field, f"{path.name}, without rows", "a row per text")
    return frame


def _folder(path: Path, field: str) -> pd.DataFrame:
    import pandas as pd

    files = sorted(p for p in path.rglob("*.txt") if p.is_file() and p.parent != path)
    if not files:
        raise InputError(field, f"{path}, without .txt files in folders", "a folder per class with .txt files")
    below = [file.relative_to(path) for file in files]
    return pd.DataFrame(
        {
            "text": [file.read_text(encoding="utf-8", errors="replace") for file in files],
            "label": [name.parts[0] for name in below],
            "id": [name.as_posix() for name in below],
        }
    )


def _file(path: Path, field: str) -> pd.DataFrame:
    import pandas as pd

    suffix = path.suffix.lower()
    try:
        if suffix == ".jsonl":  # only a line feed ends a record: strings may hold other separators of lines
            lines = path.read_text(encoding="utf-8").split("\n")
            return pd.DataFrame([json.loads(line) for line in lines if line.strip()])
        if suffix == ".parquet":
            return pd.read_parquet(path)
        if suffix in (".csv", ".tsv"):
            return pd.read_csv(path, sep="\t" if suffix == ".tsv" else ",", dtype=str, keep_default_na=False)
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(field, f"{path.name} ({error})", "a readable file of texts") from None
    raise InputError(field, path.name, "texts in .csv, .tsv, .parquet or .jsonl, or a folder of .txt files")
