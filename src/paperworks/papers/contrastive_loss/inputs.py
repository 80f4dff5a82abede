"""The user's embeddings, labels and texts from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from paperworks.errors import InputError, nearest
from paperworks.inputs.kinds import whole_array

EMBEDDING_SUFFIXES = (".npy", ".npz", ".parquet", ".csv")
TEXT_SUFFIXES = (".txt", ".csv", ".jsonl", ".parquet")


def read_embeddings(path: Path, label_column: str = "label") -> tuple[Any, np.ndarray | None]:
    """Embeddings ``[n, d]`` and, where the file has them, labels ``[n]``.

    ``.npy``: the array, memory-mapped. ``.npz``: ``embeddings`` (or the only array of two axes) and ``labels``.
    Parquet: a column of lists, or all numeric columns; and the column of labels. CSV: all columns but that of labels.
    """
    path = _existing(path, "embeddings", EMBEDDING_SUFFIXES)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        from paperworks.embedding.rows import as_rows

        return as_rows(path, "embeddings"), None
    if suffix == ".npz":
        return _npz(path)
    frame = _frame(path, "embeddings")
    labels = frame.pop(label_column).to_numpy() if label_column in frame else None
    lists = [c for c in frame if len(frame) and isinstance(frame[c].iloc[0], (list, tuple, np.ndarray))]
    if lists:
        lengths = frame[lists[0]].map(len)
        if lengths.nunique() != 1:
            raise InputError(
                "embeddings", f"{path}, lists of {lengths.min()} to {lengths.max()}", "lists of one length"
            )
        return np.stack([np.asarray(v, np.float32) for v in frame[lists[0]]]), labels
    numeric = frame.select_dtypes("number")
    if suffix == ".csv" and numeric.shape[1] < frame.shape[1]:
        text = next(c for c in frame if c not in numeric)
        raise InputError("embeddings", f"{path}, column {text!r} of text", f"numbers, and a column {label_column!r}")
    if not numeric.shape[1]:
        raise InputError("embeddings", f"{path}, without numbers", "a column of lists, or columns of numbers")
    return numeric.to_numpy(np.float32), labels


def read_labels(path: Path, count: int, label_column: str = "label") -> np.ndarray:
    """Labels ``[count]`` from ``.npy``, a line each of ``.txt``, or a column of ``.csv``."""
    path = _existing(path, "labels", (".npy", ".txt", ".csv"))
    suffix = path.suffix.lower()
    if suffix == ".npy":
        try:
            found = whole_array(path).reshape(-1)
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise InputError("labels", f"{path} ({error})", "an array of numbers or text [n]") from error
    elif suffix == ".txt":
        found = np.array(path.read_text(encoding="utf-8").splitlines())
    else:
        frame = _frame(path, "labels")
        found = _column(frame, label_column, "label_column", path).to_numpy()
    if len(found) != count:
        raise InputError("labels", f"{path}, {len(found)} labels", f"{count}, one for each row")
    return found


def read_labelled_texts(
    path: Path, text_column: str = "text", label_column: str = "label"
) -> tuple[list[str], np.ndarray | None]:
    """Texts and, where the file has them, labels: a line each of ``.txt``, or columns of CSV, JSON lines or Parquet."""
    path = _existing(path, "texts", TEXT_SUFFIXES)
    if path.suffix.lower() == ".txt":
        texts, labels = path.read_text(encoding="utf-8").splitlines(), None
    else:
        frame = _frame(path, "texts")
        texts = _column(frame, text_column, "text_column", path).astype(str).tolist()
        labels = frame[label_column].to_numpy() if label_column in frame else None
    if len(texts) < 10:
        raise InputError("texts", f"{path}, {len(texts)} texts", "10 or more")
    return texts, labels


def bundled_texts(limit: int = 3000) -> tuple[list[str], np.ndarray, str]:
    """Labelled texts of this machine: WordNet's glosses by lexicographer file, else docstrings of the standard library.

    Returns texts, labels and what they are.
    """
    from paperworks.inputs.sources import source

    folder = source("wordnet").path
    if folder is None:
        found, name = _docstrings(), "docstrings of the standard library by module"
    else:
        from paperworks.inputs.wordnet import WordNet

        found = [(synset.definition, synset.lexname) for synset in WordNet(folder) if synset.definition]
        name = "WordNet glosses by lexicographer file"
    chosen = np.sort(np.random.default_rng(0).choice(len(found), min(limit, len(found)), replace=False))
    return [found[i][0] for i in chosen], np.array([found[i][1] for i in chosen]), name


def _docstrings() -> list[tuple[str, str]]:
    """(first line of a docstring, module) of the standard library's top-level modules, by name."""
    import ast

    from paperworks import inputs

    found = []
    for file in sorted(inputs.path("python-stdlib").glob("*.py")):
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and (text := ast.get_docstring(node)):
                found.append((text.splitlines()[0], file.stem))
    return found


def _npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputError("embeddings", f"{path} ({error})", "a .npz of arrays") from error
    tables = [name for name, a in content.items() if a.ndim == 2]
    name = "embeddings" if "embeddings" in content else tables[0] if len(tables) == 1 else None
    if name is None:
        raise InputError(
            "embeddings", f"{path}, arrays {', '.join(content) or 'none'}", "an array named embeddings [n, d]"
        )
    return content[name], content.get("labels", content.get("label"))


def _frame(path: Path, field: str) -> Any:
    import pandas as pd

    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    try:
        suffix = path.suffix.lower()
        return pd.read_json(path, lines=True) if suffix == ".jsonl" else readers[suffix](path)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(field, f"{path}, which cannot be read ({reason})", "a table") from error


def _column(frame: Any, name: str, field: str, path: Path) -> Any:
    if name not in frame:
        columns = [str(c) for c in frame]
        raise InputError(field, repr(name), f"a column of {path.name}: {', '.join(columns)}{nearest(name, columns)}")
    return frame[name]


def _existing(path: Path, field: str, suffixes: tuple[str, ...]) -> Path:
    path = path.expanduser()
    if not path.is_file():
        raise InputError(field, f"{path}, {'a folder' if path.is_dir() else 'nothing there'}", "a file")
    if path.suffix.lower() not in suffixes:
        raise InputError(field, str(path), f"a file that ends in {', '.join(suffixes)}")
    return path
