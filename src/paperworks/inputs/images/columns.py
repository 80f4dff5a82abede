"""Image columns of Parquet files and of folders that ``datasets`` saved, read with pyarrow."""

from __future__ import annotations

import json
from bisect import bisect_right
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError, nearest
from paperworks.inputs.images.found import ID_COLUMNS, LABEL_COLUMNS, SPLIT_NAMES, Found
from paperworks.inputs.images.storage import ColumnStorage

IMAGE_COLUMNS = ("image", "images", "img", "picture", "jpg", "png")


class ParquetPart:
    """A Parquet file. The image column of one row group at a time is in memory."""

    def __init__(self, file: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.file, self.column = file, ""
        try:
            reader = pq.ParquetFile(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError("images", f"{file} ({error})", "a Parquet file") from None
        self.schema = reader.schema_arrow
        groups = [reader.metadata.row_group(i).num_rows for i in range(reader.metadata.num_row_groups)]
        self.starts = np.cumsum([0, *groups]).tolist()
        self._reader: Any = reader
        self._group: tuple[int, Any] = (-1, None)

    def __len__(self) -> int:
        return self.starts[-1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reader": None, "_group": (-1, None)}

    @property
    def reader(self) -> Any:
        """The open file; opened again in another process."""
        if self._reader is None:
            import pyarrow.parquet as pq

            self._reader = pq.ParquetFile(self.file)
        return self._reader

    def cell(self, row: int) -> Any:
        """A value of the image column."""
        group = bisect_right(self.starts, row) - 1
        if self._group[0] != group:
            self._group = (group, self.reader.read_row_group(group, columns=[self.column]).column(0))
        return self._group[1][row - self.starts[group]].as_py()

    def table(self, columns: list[str]) -> Any:
        """Columns as an Arrow table."""
        return self.reader.read(columns=columns)


class ArrowPart:
    """An Arrow stream as ``datasets`` writes it, mapped: the system reads the pages that are asked for."""

    def __init__(self, file: Path) -> None:
        self.file, self.column = file, ""
        self._open: Any = None
        self.schema = self.content.schema

    @property
    def content(self) -> Any:
        """The mapped table."""
        if self._open is None:
            import pyarrow as pa

            try:
                self._open = pa.ipc.open_stream(pa.memory_map(str(self.file))).read_all()
            except (pa.ArrowInvalid, OSError) as error:
                raise InputError("images", f"{self.file} ({error})", "an Arrow stream as datasets writes") from None
        return self._open

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": None}

    def __len__(self) -> int:
        return self.content.num_rows

    def cell(self, row: int) -> Any:
        """A value of the image column."""
        return self.content.column(self.column)[row].as_py()

    def table(self, columns: list[str]) -> Any:
        """Columns as an Arrow table."""
        return self.content.select(columns)


def read_parquet(
    files: list[Path], folder: Path, image_column: str | None, label_column: str | None, id_column: str | None
) -> Found:
    """Parquet files of one schema; splits are read from names such as ``train-00000-of-00002.parquet``."""
    parts = [ParquetPart(file) for file in files]
    metadata = (parts[0].schema.metadata or {}).get(b"huggingface")
    features = json.loads(metadata).get("info", {}).get("features", {}) if metadata else {}
    names = [_split_in(file) for file in files]
    return _read(parts, names if any(names) else [], folder, features, "Parquet", image_column, label_column, id_column)


def read_datasets_folder(
    folder: Path, image_column: str | None, label_column: str | None, id_column: str | None
) -> Found:
    """A folder that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` of ``datasets`` wrote."""
    splits = _json(folder / "dataset_dict.json").get("splits", []) if (folder / "dataset_dict.json").is_file() else [""]
    parts: list[ArrowPart] = []
    names: list[str] = []
    features: dict[str, Any] = {}
    for split in splits:
        state = _json(folder / split / "state.json")
        features = _json(folder / split / "dataset_info.json").get("features") or {}
        for entry in state.get("_data_files", []):
            parts.append(ArrowPart(folder / split / entry["filename"]))
            names.append(SPLIT_NAMES.get(split, split))
    if not parts:
        raise InputError("images", f"{folder}, without Arrow files", "a folder that save_to_disk wrote")
    named = names if any(names) else []
    return _read(parts, named, folder, features, "folder of datasets", image_column, label_column, id_column)


def _read(
    parts: list[Any],
    splits: list[str],
    folder: Path,
    features: dict[str, Any],
    form: str,
    image_column: str | None,
    label_column: str | None,
    id_column: str | None,
) -> Found:
    schema = parts[0].schema
    for part in parts[1:]:
        if part.schema.names != schema.names:
            raise InputError(
                str(part.file), f"columns {part.schema.names}", f"{schema.names}, as {parts[0].file.name} has"
            )
    columns: list[str] = list(schema.names)
    able = [name for name in columns if _holds_images(schema.field(name).type)]
    image = _pick("image_column", image_column, columns, [c for c in (*IMAGE_COLUMNS, *able) if c in able])
    if image is None or image not in able:
        found = f"{image!r} of type {schema.field(image).type}" if image else f"columns {', '.join(columns)}"
        raise InputError("image_column", found, "a column of bytes, or of structs with bytes and path")
    coded = [name for name, feature in features.items() if isinstance(feature, dict) and "names" in feature]
    label = _pick("label_column", label_column, columns, [c for c in (*LABEL_COLUMNS, *coded) if c in columns])
    key = _pick("id_column", id_column, columns, [c for c in ID_COLUMNS if c in columns])
    for part in parts:
        part.column = image
    labels = None if label is None else [v for part in parts for v in part.table([label]).column(0).to_pylist()]
    keys = None if key is None else [str(v) for part in parts for v in part.table([key]).column(0).to_pylist()]
    feature = features.get(label) if label else None
    class_names = tuple(feature["names"]) if isinstance(feature, dict) and feature.get("names") else None

    written_as = partial(_write_parquet, parts, columns, image, features)
    storage = ColumnStorage(parts, folder, form=form, keys=keys, written_as=written_as)
    of = np.repeat(splits, [len(part) for part in parts]) if splits else None
    return Found(storage, _codes(labels, class_names), class_names, splits=of)


def _write_parquet(
    parts: list[Any],
    columns: list[str],
    image: str,
    features: dict[str, Any],
    folder: Path,
    encoded: list[bytes],
    rows: np.ndarray,
) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rest = [name for name in columns if name != image]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([{"bytes": data, "path": None} for data in encoded], kind)
    out = pa.table({image: cells})
    if rest:
        others = pa.concat_tables([part.table(rest) for part in parts]).take(pa.array(rows))
        out = others.add_column(columns.index(image), image, cells)
    described = {**features, image: {"_type": "Image"}}
    metadata = {"huggingface": json.dumps({"info": {"features": described}})} if features else None
    pq.write_table(out.replace_schema_metadata(metadata), folder / "images.parquet")
    return ["images.parquet"]


def _codes(labels: list[Any] | None, class_names: tuple[str, ...] | None) -> Any:
    """Codes stay codes; a code of ``datasets`` for "no label" is None or -1."""
    if labels is None or class_names is None:
        return labels
    codes = np.array([-1 if v is None else v for v in labels], dtype=np.int64)
    if codes.max(initial=-1) >= len(class_names):
        raise InputError("labels", f"code {codes.max()}", f"below {len(class_names)}, the number of class names")
    return codes


def _holds_images(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return {"bytes", "path"} & {kind.field(i).name for i in range(kind.num_fields)} != set()
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _pick(option: str, wanted: str | None, columns: list[str], guesses: list[str]) -> str | None:
    if wanted is not None and wanted not in columns:
        raise InputError(option, repr(wanted), f"one of {', '.join(columns)}{nearest(wanted, columns)}")
    return wanted or (guesses[0] if guesses else None)


def _split_in(file: Path) -> str:
    return SPLIT_NAMES.get(file.name.split("-")[0].split(".")[0].lower(), "")


def _json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("images", f"{file} ({error})", "a folder that save_to_disk wrote") from None
