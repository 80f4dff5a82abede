"""The user's images, tables and texts as records: examples, labels, ids, owners and risks.

Nothing here is fitted to the records: what a record becomes depends on it alone. Categories are hashed, numbers are as
they are (their statistics belong to a sequence, see ``Standardize``), texts are padded to a fixed length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from paperworks import inputs
from paperworks.errors import InputError, nearest
from paperworks.inputs.images import read_images
from paperworks.inputs.images.found import coded
from paperworks.inputs.labels import require_classes
from paperworks.inputs.row_numbers import find_row_numbers, row_number_note
from paperworks.inputs.tables import BUNDLED as TABLES
from paperworks.inputs.tables import Table, read_table
from paperworks.inputs.texts import BUNDLED as TEXTS
from paperworks.inputs.texts import read_texts
from paperworks.nn.loading import check_model_folder, load_beside
from paperworks.papers.s3t.bases import Base, folder_base, sentence_base, table_base
from paperworks.papers.s3t.config import IMAGES, LANGUAGE, Config
from paperworks.runs import Run

SIDE = 32
"""Pixels that images are resized to for the small network, where they are larger or of several sizes."""
BUCKETS = 16
"""Hashed values of a column of categories."""


@dataclass(frozen=True)
class Records:
    """Records as read.

    Attributes
    ----------
    kind : "images", "table", "text" or "language".
    examples : input of the network, see ``paperworks.classification.data.Data``.
    labels : the label of each record as written, None where there is none.
    ids : a stable id per record.
    about : what reading further records needs to know; kept in the manifest.
    base : makes the network for so many classes and a seed.
    """

    kind: str
    examples: Any
    labels: list[Any] | None
    ids: list[str]
    about: dict[str, Any]
    base: Callable[[int, int], Base]
    owners: list[Any] | None = None
    risk: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)


def read_records(config: Config, run: Run, about: Mapping[str, Any] | None = None) -> Records:
    """Read what ``config.data`` names; for a trained system ``about`` says how.

    Raises InputError for a column that is not there, ids that repeat, labels that are missing.
    """
    kind = about["kind"] if about else (_kind(config) if config.kind == "auto" else config.kind)
    reader = {"images": _images, "table": _table, "text": _texts, "language": _texts}[kind]
    found = reader(config, run, kind, dict(about or {}))
    seen: set[str] = set()
    for name in found.ids:
        if name in seen:
            raise InputError("id", f"{name!r} twice", "a different id for every record")
        seen.add(name)
    if not about and "id" not in found.about and found.ids == [str(i) for i in range(len(found.ids))]:
        found.about["rows"] = len(found.ids)  # ids are row numbers: a file with fewer rows is about other records
    return found


def class_codes(labels: Sequence[Any] | None, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes and names of the classes. Raises InputError for records without a label, and for a single class."""
    if labels is None:
        raise InputError("label", "nothing", "the name of the column with the label")
    require_classes(labels)
    codes, names = coded(labels)
    missing = np.flatnonzero(codes < 0)
    if len(missing):
        found = f"no label in {len(missing)} records of {name}, the first is record {missing[0]}"
        raise InputError("label", found, "a label for every record")
    if len(names) < 2:
        raise InputError("label", f"one class ({names[0]!r})", "at least two classes")
    return codes, names


def codes_of(labels: Sequence[Any], classes: Sequence[str]) -> np.ndarray:
    """Codes of labels in known classes. Raises InputError for another one."""
    codes, names = coded(labels)
    place = {name: code for code, name in enumerate(classes)}
    unknown = [name for name in names if name not in place]
    if unknown or (codes < 0).any():
        raise InputError("label", repr(unknown[0]) if unknown else "none", f"one of {', '.join(classes)}")
    return np.array([place[names[code]] for code in codes])


def _kind(config: Config) -> str:
    if config.data in LANGUAGE:
        return "language"
    suffix = Path(config.data).suffix.lower()
    if config.data in TEXTS or config.text is not None or suffix == ".jsonl":
        return "text"
    if config.data in IMAGES:
        return "images"
    if config.data in TABLES or suffix in (".csv", ".tsv") or (suffix == ".parquet" and config.label is not None):
        return "table"
    return "images"


def _images(config: Config, run: Run, kind: str, about: dict[str, Any]) -> Records:
    images = read_images(config.data, label_column=config.label, progress=run.progress)
    notes = images.describe().split("\n")
    labels = None
    if images.labels is not None:
        labels = [images.class_names[code] if code >= 0 else None for code in images.labels]
    model = about.get("model", config.model)
    if model is not None:
        from transformers import AutoImageProcessor

        folder = Path(model).expanduser()
        check_model_folder(folder)
        processor = load_beside(AutoImageProcessor, folder, "model", "a folder with preprocessor_config.json")
        pixels = []
        for row in run.progress(range(len(images)), "decoding"):
            one = images.array([row], channels=3, dtype="uint8")[0].transpose(1, 2, 0)
            pixels.append(
                processor(images=[one], return_tensors="pt", input_data_format="channels_last")["pixel_values"]
            )
        made = {"pixel_values": torch.cat(pixels)}
        return Records(
            kind,
            made,
            labels,
            images.ids,
            {"kind": kind, "model": str(model)},
            lambda outputs, seed: folder_base(model, "image", outputs),
            notes=notes,
        )
    size, channels = about.get("size"), about.get("channels")
    if size is None:
        assert images.shapes is not None
        shapes = np.unique(images.shapes, axis=0)
        same = len(shapes) == 1 and shapes[0, :2].max() <= SIDE
        size = [int(side) for side in shapes[0, :2]] if same else [SIDE, SIDE]
        channels = int(shapes[0, 2]) if len(shapes) == 1 and shapes[0, 2] in (1, 3) else 3
        notes += [] if same else [f"images were resized to {SIDE} x {SIDE}"]
    batches = [
        torch.from_numpy(images.array([row], size=tuple(size), channels=channels))
        for row in run.progress(range(len(images)), "decoding")
    ]
    made = {"inputs": torch.cat(batches)}
    known = {"kind": kind, "size": size, "channels": channels}
    return Records(kind, made, labels, images.ids, known, _small(made, config), notes=notes)


def _table(config: Config, run: Run, kind: str, about: dict[str, Any]) -> Records:
    label = about.get("label", config.label)
    columns: list[str] | None = about.get("columns")
    missing = tuple(about.get("missing", config.missing))

    def read(label: str | None = None, **options: Any) -> Table:
        return read_table(config.data, label, missing=("", *missing), delimiter=config.delimiter, **options)

    if config.data not in TABLES and label is None and not about:
        names = ", ".join(list(read().features.columns)[:12])
        raise InputError("label", "nothing", f"the name of the label's column: {names}")
    get = {n: (about.get(n) or getattr(config, n)) for n in ("id", "owner", "risk")}
    aside = [name for name in get.values() if name]
    head = list(read().features.columns) if aside or columns is not None else []
    as_text = [name for name in {get["id"], get["owner"]} if name in head and name != label]  # "007" is not 7
    if columns is None:
        table = read(label, numeric=config.numeric, categorical=[*config.categorical, *as_text], drop=config.drop)
    else:
        lacking = [c for c in columns if c not in head]
        if lacking:
            raise InputError("data", f"{config.data}, without column {lacking[0]!r}", f"columns {', '.join(columns)}")
        numbers = [c for c in about["numeric"] if c in head]
        table = read(label if label in head else None, numeric=numbers, categorical=as_text)
        aside = [name for name in aside if name in head]
    features = table.features
    for option, name in get.items():
        if name in aside and name not in features.columns:
            raise InputError(option, repr(name), f"a column of {config.data}{nearest(name, list(features.columns))}")
    used, notes = columns or [c for c in features.columns if c not in aside], list(table.notes)
    if columns is None and not config.keep_row_numbers:
        left = find_row_numbers(features[used], config.numeric)
        if left and len(left) < len(used):
            used, notes = [c for c in used if c not in left], [row_number_note(left), *notes]
    numeric = [c for c in used if c in table.numeric] if columns is None else about["numeric"]
    made = {"inputs": torch.from_numpy(_numbers(features[used], numeric))}
    known = {
        "kind": kind,
        "label": table.label.name if table.label is not None else label,
        "columns": used,
        "numeric": numeric,
        "missing": list(missing),
        **{n: v for n, v in get.items() if v},
    }
    return Records(
        kind,
        made,
        None if table.label is None else table.label.tolist(),
        _ids(features, get["id"]),
        known,
        _small(made, config),
        _column(features, get["owner"]),
        _risk(features, get["risk"]),
        notes,
    )


def _texts(config: Config, run: Run, kind: str, about: dict[str, Any]) -> Records:
    frame, notes = _text_frame(config)
    names = {n: (about.get(n) or getattr(config, n)) for n in ("text", "label", "id", "owner", "risk")}
    columns = [str(c) for c in frame.columns]
    for option, guesses in (
        ("text", ("text", "sentence", "content", "message")),
        ("label", ("label", "class", "target")),
    ):
        if names[option] is None:
            names[option] = next((c for g in guesses for c in columns if c.lower() == g), None)
    for option, name in names.items():
        optional = bool(about) and option != "text"
        if option == "text" and name is None:
            raise InputError("text", "nothing", f"the column with the text, one of {', '.join(columns)}")
        if name is not None and name not in columns and not optional:
            raise InputError(option, repr(name), f"a column, one of {', '.join(columns)}{nearest(name, columns)}")
        names[option] = name if name in columns else None
    texts = ["" if pd.isna(value) else str(value) for value in frame[names["text"]]]
    empty = sum(not text.strip() for text in texts)
    notes += [f"{empty} texts are empty"] if empty else []
    model, length = about.get("model", config.model), about.get("length", config.length)
    made, base = _encoded(texts, kind, model, length)
    labels = None if names["label"] is None or kind == "language" else frame[names["label"]].tolist()
    known = {
        "kind": kind,
        "length": length,
        **{n: v for n, v in names.items() if v},
        **({"model": str(model)} if model else {}),
    }
    return Records(
        kind,
        made,
        labels,
        _ids(frame, names["id"]),
        known,
        base,
        _column(frame, names["owner"]),
        _risk(frame, names["risk"]),
        notes,
    )


def _encoded(
    texts: list[str], kind: str, model: Any, length: int
) -> tuple[dict[str, torch.Tensor], Callable[[int, int], Base]]:
    """Token ids padded to ``length``, and the network that reads them."""
    from paperworks.language import bundled_model_path, load_tokenizer

    if kind == "language":
        folder = bundled_model_path() if model is None else Path(model).expanduser()
        base = lambda outputs, seed: folder_base(folder, "language")  # noqa: E731
    elif model is None:
        folder = Path(inputs.path("minilm"))
        base = lambda outputs, seed: sentence_base(outputs)  # noqa: E731
    else:
        folder = Path(model).expanduser()
        base = lambda outputs, seed: folder_base(folder, "text", outputs)  # noqa: E731
    tokenizer = load_tokenizer(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    coded_texts = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    found = {n: v for n, v in coded_texts.items() if n in ("input_ids", "attention_mask", "token_type_ids")}
    if kind == "language":
        found.pop("token_type_ids", None)
        found["labels"] = found["input_ids"].masked_fill(found["attention_mask"] == 0, -100)
        short = (found["attention_mask"].sum(1) < 2).nonzero()
        if len(short):
            raise InputError("text", f"record {int(short[0])}, of fewer than two tokens", "texts of two tokens or more")
    return found, base


def _text_frame(config: Config) -> tuple[pd.DataFrame, list[str]]:
    if config.data in LANGUAGE:
        from paperworks.language import bundled_text

        parts = [part.strip() for part in bundled_text("validation").split("\n\n")]
        return pd.DataFrame({"text": [p for p in parts if len(p) > 80][:600]}), []
    return read_texts(config.data), []


def _small(made: Mapping[str, torch.Tensor], config: Config) -> Callable[[int, int], Base]:
    features = made["inputs"].flatten(1).shape[1]
    return lambda outputs, seed: table_base(features, outputs, layers=config.layers, width=config.width, seed=seed)


def _numbers(features: pd.DataFrame, numeric: Sequence[str]) -> np.ndarray:
    """Columns of numbers as they are, NaN where missing; other columns as one of ``BUCKETS`` by a hash."""
    parts = []
    for column in features.columns:
        if column in numeric:
            parts.append(pd.to_numeric(features[column], errors="coerce").to_numpy(dtype=np.float32)[:, None])
            continue
        values = features[column].map(lambda value: "" if pd.isna(value) else str(value))
        codes = {v: int(hashlib.sha256(f"{column}={v}".encode()).hexdigest(), 16) % BUCKETS for v in values.unique()}
        parts.append(np.eye(BUCKETS, dtype=np.float32)[values.map(codes).to_numpy()])
    found = np.concatenate(parts, axis=1)
    found[np.isinf(found)] = np.nan
    return found


def _column(frame: pd.DataFrame, name: str | None) -> list[Any] | None:
    return None if name is None or name not in frame.columns else frame[name].astype(str).tolist()


def _ids(frame: pd.DataFrame, name: str | None) -> list[str]:
    if name is None or name not in frame.columns:
        return [str(i) for i in range(len(frame))]
    values = frame[name]
    if values.isna().any():
        raise InputError("id", f"no id in record {int(np.flatnonzero(values.isna())[0])}", "an id for every record")
    if values.dtype.kind == "f" and (values == values.round()).all():  # numbers of a text file are read as floats
        values = values.astype(np.int64)
    return values.astype(str).tolist()


def _risk(frame: pd.DataFrame, name: str | None) -> np.ndarray | None:
    if name is None or name not in frame.columns:
        return None
    found = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(found).all() or (found < 0).any() or found.sum() == 0:
        raise InputError("risk", f"column {name!r} with missing, negative or only zero values", "numbers of 0 or more")
    return found
