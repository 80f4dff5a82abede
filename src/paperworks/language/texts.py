"""The user's texts: plain files, JSON lines, compressed or not, one or a folder of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from paperworks.errors import InputError
from paperworks.inputs.kinds import read_unpacked

_SUFFIXES = (".txt", ".jsonl", ".txt.gz", ".jsonl.gz")


def read_texts(path: Path | str, field: str = "texts") -> list[str]:
    """Texts from a file or a folder.

    ``.txt`` is one text, whose lines end with a newline whatever system wrote it; ``.jsonl`` is one text per line, in
    the key "text"; both may end in ``.gz``. A folder gives the texts of all such files in it and below, in the order of
    their names. Texts of white space only are left out.

    Raises
    ------
    InputError : named ``field``; no such file, another kind of file, text that is not UTF-8, a line that is not what it
        should be (with its number), or no text at all.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.is_file() and f.name.lower().endswith(_SUFFIXES))
    elif path.is_file():
        files = [path]
    else:
        raise InputError(field, f"{path}, nothing there", f"a file ({', '.join(_SUFFIXES)}) or a folder of such files")
    texts = [text for file in files for text in _texts_of(file, field) if text.strip()]
    if not texts:
        raise InputError(field, f"{path}, without any text", f"text in files that end in {', '.join(_SUFFIXES)}")
    return texts


def _texts_of(file: Path, field: str) -> Iterator[str]:
    name = file.name.lower()
    if not name.endswith(_SUFFIXES):
        raise InputError(field, str(file), f"a name that ends in {', '.join(_SUFFIXES)}")
    try:
        data = read_unpacked(file)
    except OSError as error:
        raise InputError(
            field, f"{file}, which cannot be read ({error})", "a readable file, gzip where it ends in .gz"
        ) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(field, f"{file}, line {line}: bytes that are not UTF-8", "text in UTF-8") from error
    if ".jsonl" not in name:
        yield text.replace("\r\n", "\n").replace("\r", "\n")  # a model knows no other ends of lines
        return
    # JSON may hold other line separators inside strings: only \n ends a record
    for number, record in enumerate(text.split("\n"), 1):
        if record.strip():
            yield _record(record, f"{file}, line {number}", field)


def _record(line: str, where: str, field: str) -> str:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(field, f"{where}: not JSON ({error})", 'an object with the key "text"') from error
    text = record.get("text") if isinstance(record, dict) else None
    if not isinstance(text, str):
        raise InputError(field, f'{where}: no string under the key "text"', 'an object with the key "text"')
    return text
