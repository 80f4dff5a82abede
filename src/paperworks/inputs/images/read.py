"""``read_images``: recognise the form of an image set, look at its images, say what was understood."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paperworks.errors import InputError, nearest
from paperworks.inputs.images import arrays, columns, folders
from paperworks.inputs.images.dataset import BrokenImage, ImageDataset
from paperworks.inputs.images.found import Found, coded
from paperworks.inputs.images.named import NAMED, named_set
from paperworks.inputs.images.pixels import IMAGE_SUFFIXES, ValueRange
from paperworks.inputs.images.storage import ArrayStorage, FileStorage
from paperworks.runs import Progress, no_progress


def read_images(
    source: str | Path | np.ndarray,
    *,
    labels: Any = None,
    split: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    layout: arrays.Layout | None = None,
    value_range: ValueRange | None = None,
    verify: bool = True,
    broken: Literal["report", "error"] = "report",
    progress: Progress = no_progress,
) -> ImageDataset:
    """Read a set of images in whatever form it is.

    Parameters
    ----------
    source : one of
        - "digits", "mnist" or "fashion-mnist";
        - a folder of images: subfolders are classes (a first level named train, test, val, ... are splits), or flat;
          with ``metadata.csv`` or ``labels.csv`` the table names files and labels;
        - a CSV or TSV file with a column of paths and one of labels; a single image;
        - a ``.npy`` or ``.npz`` file, or an array: ``[n, h, w]``, ``[n, h, w, c]`` or ``[n, c, h, w]``;
        - IDX files, also gzipped: one of images, or a folder of them;
        - a Parquet file or a folder of them, with a column of images as ``datasets`` writes (bytes and path) or bytes;
        - a folder that ``datasets`` wrote with ``save_to_disk``.
    labels : labels of an array, ``[n]``; or the file of labels of an IDX file.
    split : read this split only.
    image_column, label_column, id_column : columns (CSV, Parquet, ``datasets``) or keys (``.npz``), where their names
        do not tell.
    layout : "channels_last" or "channels_first", where the shape does not tell.
    value_range : values that are black and white, for floats outside of [0, 1] and integers of 32 bits.
    verify : decode every image once, so that broken files are found now and sizes and modes are known. Without it, a
        broken image raises InputError when it is asked for.
    broken : "report" leaves broken images out and lists them in ``.broken`` and ``describe()``; "error" raises.

    Raises
    ------
    InputError : a source that does not exist or is of no known form, a column that is not there, no readable image.
    """
    if broken not in ("report", "error"):
        raise InputError("broken", repr(broken), "'report' or 'error'")
    try:
        found = _find(source, labels, image_column, label_column, id_column, layout)
    except InputError as error:  # of a parameter that was not given: the file is what does not tell
        given = {"image_key": image_column, "image_column": image_column, "label_key": label_column}
        given |= {"label_column": label_column, "id_column": id_column, "layout": layout}
        if not isinstance(source, (str, Path)) or str(source) in str(error) or given.get(error.field) is not None:
            raise
        raise InputError(error.field, f"{source}: {error.found}", error.expected) from None
    n = len(found.storage)
    if labels is not None and not (isinstance(labels, (str, Path)) and found.labels is not None):
        found.labels, found.class_names = np.asarray(labels), None
    if found.labels is not None and len(found.labels) != n:
        raise InputError("labels", f"{len(found.labels)} labels", f"{n}, one per image")
    codes, names = None, found.class_names or ()
    if found.labels is not None:
        codes, names = (np.asarray(found.labels), names) if names else coded(found.labels)
    dataset = ImageDataset(
        name=source if isinstance(source, str) else source.name if isinstance(source, Path) else "an array",
        storage=found.storage,
        rows=np.arange(n),
        labels=codes,
        class_names=names,
        splits=found.splits,
        value_range=value_range or found.value_range,
        broken=found.broken,
        notes=found.notes,
    )
    if split is not None:
        dataset = dataset.split(split)
    dataset = _verified(dataset, progress) if verify or isinstance(found.storage, ArrayStorage) else dataset
    if broken == "error" and dataset.broken:
        raise InputError(dataset.broken[0].name, dataset.broken[0].reason, "an image; broken='report' leaves it out")
    if len(dataset) == 0:
        some = "; ".join(str(b) for b in dataset.broken[:3])
        found_none = f"{dataset.name}, of which none of {len(dataset.broken)} can be read: {some}"
        raise InputError("images", found_none, "images that can be read")
    return dataset


def _find(
    source: str | Path | np.ndarray,
    labels: Any,
    image: str | None,
    label: str | None,
    key: str | None,
    layout: arrays.Layout | None,
) -> Found:
    if not isinstance(source, (str, Path)):
        return Found(ArrayStorage(arrays.as_images(np.asarray(source), layout), form="array in memory"))
    if source in NAMED:
        found = named_set(str(source))
        storage = ArrayStorage(found.images, form="bundled" if source == "digits" else "fetched by name")
        return Found(storage, found.labels, found.class_names, found.splits, found.value_range)
    path = Path(source).expanduser()
    if path.is_dir():
        return _find_in_folder(path, image, label, key)
    if not path.is_file():
        expected = f"a folder or a file of images, or one of {', '.join(NAMED)}{nearest(str(source), NAMED)}"
        raise InputError("images", f"{source}, which does not exist", expected)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return arrays.read_npy(path, layout)
    if suffix == ".npz":
        return arrays.read_npz(path, layout, image, label)
    if suffix in (".csv", ".tsv"):
        return folders.read_label_table(path, image, label)
    if suffix == ".parquet":
        return columns.read_parquet([path], path.parent, image, label, key)
    if suffix in IMAGE_SUFFIXES:
        return Found(FileStorage(path.parent, [path.name], form="image"))
    if _is_idx(path):
        return arrays.read_idx_files([path], Path(labels) if isinstance(labels, (str, Path)) else None)
    known = f".npy, .npz, .csv, .tsv, .parquet, IDX, or an image ({', '.join(IMAGE_SUFFIXES)})"
    raise InputError("images", path.name, known)


def _find_in_folder(folder: Path, image: str | None, label: str | None, key: str | None) -> Found:
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return columns.read_datasets_folder(folder, image, label, key)
    table = folders.table_of(folder)
    if table is not None:
        return folders.read_label_table(table, image, label)
    tables = sorted(folder.glob("*.parquet")) + sorted(folder.glob("data/*.parquet"))
    if tables:
        return columns.read_parquet(tables, folder, image, label, key)
    idx = [p for p in sorted(folder.iterdir()) if p.is_file() and "idx3" in p.name and _is_idx(p)]
    if idx:
        return arrays.read_idx_files(idx, None)
    return folders.read_folder(folder)


def _is_idx(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(4)
    return (
        head[:2] == b"\x1f\x8b"
        if path.suffix == ".gz"
        else len(head) == 4 and head[:2] == b"\0\0" and head[3] in (3, 4)
    )


def _verified(dataset: ImageDataset, progress: Progress) -> ImageDataset:
    """Decode every image once. Rows of an array are taken as they are."""
    n = len(dataset)
    shapes, modes, keep = np.zeros((n, 3), dtype=np.int64), [""] * n, np.ones(n, dtype=bool)
    failed, animated = list(dataset.broken), []
    if isinstance(dataset.storage, ArrayStorage):
        if n:
            first = dataset.stored(0)
            shapes[:] = (*first.pixels.shape[:2], first.pixels.shape[2] if first.pixels.ndim == 3 else 1)
            modes = [first.mode] * n
    else:
        for i in progress(range(n), "looking at the images", n):
            try:
                one = dataset.storage.stored(int(dataset.rows[i]))
            except OSError as error:
                failed.append(BrokenImage(dataset.image_name(i), str(error)))
                keep[i] = False
                continue
            shapes[i] = (*one.pixels.shape[:2], one.pixels.shape[2] if one.pixels.ndim == 3 else 1)
            modes[i] = one.mode
            if one.frames > 1:
                animated.append(dataset.image_name(i))
    looked = replace(
        dataset, shapes=shapes, modes=np.array(modes, dtype=object), broken=tuple(failed), animated=tuple(animated)
    )
    return looked if keep.all() else looked.subset(keep)
