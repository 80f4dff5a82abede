"""Image files: a folder whose subfolders are classes, a flat one, or a table that names files and labels."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError, nearest
from paperworks.inputs.images.dataset import BrokenImage
from paperworks.inputs.images.found import LABEL_COLUMNS, SPLIT_NAMES, Found
from paperworks.inputs.images.pixels import IMAGE_SUFFIXES
from paperworks.inputs.images.storage import FileStorage

FILE_COLUMNS = ("file_name", "filename", "file", "path", "filepath", "image", "image_path", "image_file", "name")
TABLE_NAMES = ("metadata.csv", "labels.csv", "metadata.tsv", "labels.tsv")


def image_files(folder: Path) -> tuple[list[str], Counter[str]]:
    """Paths of the image files within a folder, sorted, and the endings of its other files. Hidden ones are skipped."""
    images, others = [], Counter[str]()
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        for name in files:
            if name.startswith("."):
                continue
            path = Path(place, name)
            if path.suffix.lower() in IMAGE_SUFFIXES:
                images.append(path.relative_to(folder).as_posix())
            else:
                others[path.suffix.lower() or name] += 1
    return sorted(images), others


def read_folder(folder: Path) -> Found:
    """A folder of images: a first level of subfolders are splits if all have names of splits, the next are classes."""
    names, others = image_files(folder)
    if not names:
        raise InputError("images", f"{folder}, without images", f"files ending in {', '.join(IMAGE_SUFFIXES)}")
    notes = []
    if others:
        kinds = ", ".join(f"{n} {kind}" for kind, n in others.most_common(5))
        notes.append(f"files that are no images by their ending were left aside: {kinds}")
    parts = [name.split("/") for name in names]
    splits = None
    if all(len(p) > 1 and p[0].lower() in SPLIT_NAMES for p in parts):
        splits = np.array([SPLIT_NAMES[p[0].lower()] for p in parts])
        parts = [p[1:] for p in parts]
    labels: list[str | None] | None = [p[0] if len(p) > 1 else None for p in parts]
    if not any(len(p) > 1 for p in parts):
        labels = None
    elif any(len(p) == 1 for p in parts):
        notes.append("images beside the class folders have no label")
    return Found(FileStorage(folder, names), labels, splits=splits, notes=tuple(notes))


def table_of(folder: Path) -> Path | None:
    """The label table of a folder, if it has one by a known name."""
    return next((folder / name for name in TABLE_NAMES if (folder / name).is_file()), None)


def read_label_table(file: Path, file_column: str | None, label_column: str | None) -> Found:
    """A CSV or TSV file with a row per image: a column of paths (relative to the table) and one of labels."""
    import pandas as pd

    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            first = lines.readline()
        delimiter = "\t" if file.suffix.lower() == ".tsv" else max(",;\t|", key=first.count)
        cells = pd.read_csv(file, sep=delimiter, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:
        raise InputError("images", f"{file} ({error})", "a table in UTF-8 with one line of names") from None
    if cells.empty:
        raise InputError("images", f"{file}, without rows", "a row per image")
    columns = list(cells.columns)
    folder = file.parent
    by_name = [c for known in FILE_COLUMNS for c in columns if c.lower() == known]
    by_file = [c for c in columns if Path(cells[c].iloc[0]).suffix.lower() in IMAGE_SUFFIXES]
    files_in = _column("file_column", file_column, columns, [*(c for c in by_name if c in by_file), *by_file, *by_name])
    assert files_in is not None
    known = [c for name in LABEL_COLUMNS for c in columns if c.lower() == name and c != files_in]
    rest = [c for c in columns if c != files_in]
    labels_in = _column("label_column", label_column, columns, known or (rest if len(rest) == 1 else []), needed=False)
    present = np.array([(folder / name).is_file() for name in cells[files_in]])
    missing = tuple(BrokenImage(name, "no such file") for name in cells[files_in][~present])
    if not present.any():
        raise InputError(files_in, f"{cells[files_in].iloc[0]}, which is not in {folder}", "paths beside the table")
    cells = cells[present].reset_index(drop=True)
    names = [Path(name).as_posix() for name in cells[files_in]]
    notes = []
    unnamed = len(set(image_files(folder)[0]) - set(names))
    if unnamed:
        notes.append(f"{unnamed} images beside {file.name} are not named in it and were left aside")
    table: dict[str, Any] = {"name": file.name, "column": files_in, "delimiter": delimiter, "cells": cells}
    split_column = next((c for c in columns if c.lower() == "split"), None)
    splits = None
    if split_column is not None:
        splits = np.array([SPLIT_NAMES.get(s.lower(), s) for s in cells[split_column]])
    return Found(
        FileStorage(folder, names, form=f"images named in {file.name}", table=table),
        None if labels_in is None else cells[labels_in].tolist(),
        splits=splits,
        broken=missing,
        notes=tuple(notes),
    )


def _column(option: str, wanted: str | None, columns: list[str], guesses: list[str], needed: bool = True) -> str | None:
    if wanted is not None:
        if wanted not in columns:
            raise InputError(option, repr(wanted), f"one of {', '.join(columns)}{nearest(wanted, columns)}")
        return wanted
    if not guesses and needed:
        raise InputError(option, "nothing", f"the column with the paths of the images: {', '.join(columns[:12])}")
    return guesses[0] if guesses else None
