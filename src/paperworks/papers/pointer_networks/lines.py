"""Lines and numbers of text files."""

from __future__ import annotations

import math
from pathlib import Path

from paperworks.errors import InputError

POINT_FORMATS = (".csv", ".tsv", ".txt", ".npy", ".jsonl", ".tsp")


def existing(path: Path) -> Path:
    """The path of a file. Raises InputError where there is none."""
    if not path.is_file():
        raise InputError("input", f"{path}, which is no file", f"a file that ends in {', '.join(POINT_FORMATS)}")
    return path


def read_lines(path: Path) -> list[str]:
    """The lines of a text file (UTF-8, a byte order mark is skipped)."""
    try:
        return existing(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(str(path), "bytes that are no text", "a text file in UTF-8") from None


def number_of(word: str, field: str) -> float:
    """A finite number. Raises InputError naming ``field``."""
    if not is_number(word):
        raise InputError(field, repr(word), "a number")
    value = float(word)
    if not math.isfinite(value):
        raise InputError(field, word, "a finite number")
    return value


def is_number(word: str) -> bool:
    """Whether a word is a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True
