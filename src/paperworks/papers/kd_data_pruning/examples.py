"""The user's images, table or texts as examples for a classifier."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from paperworks import nn
from paperworks.classification import ImageExamples, PretrainedClassifier, load_classifier
from paperworks.errors import InputError, nearest
from paperworks.extras import require_extra
from paperworks.inputs.images import read_images
from paperworks.inputs.images.found import coded
from paperworks.inputs.labels import require_classes
from paperworks.inputs.tables import BUNDLED as TABLES
from paperworks.inputs.texts import BUNDLED as TEXTS
from paperworks.inputs.texts import read_texts
from paperworks.papers.kd_data_pruning.config import IMAGES, Config
from paperworks.papers.kd_data_pruning.scoring import MakeModel
from paperworks.runs import Run

IN_MEMORY = 2**30
"""Bytes of decoded images (float32) up to which they are kept in memory."""
LARGEST_SIDE = 64
"""Images of several sizes are resized to at most this, unless a size is asked for."""
WORDS = 4096
"""Terms of the TF-IDF features of texts."""
CONVOLUTIONS_FROM = 256
"""Pixels from which on images get a convolutional network, not a perceptron."""


@dataclass(frozen=True)
class Source:
    """Labelled rows before anything is learned from them.

    Attributes
    ----------
    kind : "images", "table" or "text".
    labels : class codes, int64 ``[n]``.
    ids : a stable id per row.
    encode : function of the training rows (what is fitted, is fitted to them) that returns the examples of all rows.
    splits : "train" or "test" per row, where the source says so.
    """

    kind: str
    labels: np.ndarray
    class_names: tuple[str, ...]
    ids: list[str]
    encode: Callable[[np.ndarray], Any]
    splits: np.ndarray | None = None
    pretrained: PretrainedClassifier | None = None
    notes: list[str] = field(default_factory=list)

    def maker(self, data: Any, width: int) -> MakeModel:
        """A function from a seed to a fresh classifier of these examples: the user's model, or a small network."""
        if self.pretrained is not None:
            model = self.pretrained.model
            return lambda seed: copy.deepcopy(model)
        first = data["inputs"][0] if isinstance(data, dict) else data[0]["inputs"]
        classes = len(self.class_names)

        def make(seed: int) -> torch.nn.Module:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                if first.ndim == 3 and first.shape[1] * first.shape[2] >= CONVOLUTIONS_FROM:
                    widths = [max(1, width // 4), max(1, width // 2), width]
                    return nn.SmallCNN(channels=first.shape[0], widths=widths, outputs=classes)
                return nn.MLP(inputs=first.numel(), hidden=(width, width), outputs=classes)

        return make


def read_source(config: Config, run: Run) -> Source:
    """Read what ``config.data`` names. Raises InputError for data without two classes or with rows without a label."""
    if config.model is not None:
        require_extra("vision", "model")
    pretrained = None if config.model is None else load_classifier(config.model, progress=run.progress)
    kind = _kind(config) if config.kind == "auto" else config.kind
    if pretrained is not None and pretrained.kind != {"images": "image"}.get(kind, kind):
        raise InputError("model", f"a classifier of {pretrained.kind}s", f"one of {kind}, as the data are")
    if config.augment and kind != "images":
        raise InputError("augment", f"true for a {kind}", "images")
    reader = {"images": _images, "table": _table, "text": _texts}[kind]
    source = reader(config, run, pretrained)
    classes, counts = np.unique(source.labels, return_counts=True)
    if len(classes) < 2:
        raise InputError("label", f"one class ({source.class_names[classes[0]]!r})", "at least two classes")
    require_classes(source.class_names[code] for code in source.labels)
    if counts.min() < 2:
        name = source.class_names[classes[counts.argmin()]]
        raise InputError("label", f"one row of class {name!r}", "at least two, to hold one out")
    if pretrained is not None and pretrained.model.config.num_labels != len(source.class_names):
        expected = f"{len(source.class_names)}, as the data have"
        raise InputError("model", f"{pretrained.model.config.num_labels} classes", expected)
    return source


def _kind(config: Config) -> str:
    path = Path(config.data).expanduser()
    if config.data in TEXTS or config.text is not None or path.suffix.lower() == ".jsonl":
        return "text"
    if config.data in IMAGES:
        return "images"
    if config.data in TABLES:
        return "table"
    if path.is_dir() and any(path.rglob("*.txt")) and not (path / "state.json").exists():
        found = {p.suffix.lower() for p in path.rglob("*") if p.is_file()}
        return "text" if not found & {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"} else "images"
    return "table" if config.label is not None and path.suffix.lower() in (".csv", ".tsv", ".parquet") else "images"


def _images(config: Config, run: Run, pretrained: PretrainedClassifier | None) -> Source:
    images = read_images(config.data, label_column=config.label, progress=run.progress)
    labels = images.require_labels()
    notes = images.describe().split("\n")
    size: tuple[int, int] | None = None if config.size is None else (config.size, config.size)
    assert images.shapes is not None
    if size is None and len(np.unique(images.shapes[:, :2], axis=0)) > 1:
        side = int(min(np.median(images.shapes[:, :2]), LARGEST_SIDE))
        size = (side, side)
        notes.append(f"images of several sizes were resized to {side} x {side}")

    def encode(rows: np.ndarray) -> Any:
        if pretrained is not None:
            return pretrained.examples(images)
        lazy = ImageExamples(images, size=size)
        one = lazy[0]["inputs"]
        if one.numel() * 4 * len(images) > IN_MEMORY:
            return lazy
        return {"inputs": torch.cat([lazy.batch([i])["inputs"] for i in run.progress(range(len(images)), "decoding")])}

    return Source(
        "images", labels, images.class_names, images.ids, encode, _published(images.splits), pretrained, notes
    )


def _table(config: Config, run: Run, pretrained: PretrainedClassifier | None) -> Source:
    if config.label is None and config.data not in TABLES:
        columns = ", ".join(list(config.read_table(config.data).features.columns)[:12])
        raise InputError("label", "nothing", f"the name of the label's column: {columns}")
    table = config.read_table(config.data, config.label)
    assert table.label is not None
    labels, names = _coded(table.label.tolist(), table.name)

    def encode(rows: np.ndarray) -> Any:
        from sklearn.compose import make_column_transformer
        from sklearn.impute import SimpleImputer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        text = [c for c in table.features.columns if table.features[c].dtype.kind not in "fiub"]
        numbers = [c for c in table.features.columns if c not in text]
        features = table.features.copy()
        features[text] = features[text].astype(object).where(features[text].notna(), "missing").astype(str)
        scale = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
        encoder = make_column_transformer(
            (scale, numbers), (OneHotEncoder(handle_unknown="ignore", max_categories=64, sparse_output=False), text)
        )
        encoder.fit(features.iloc[rows])
        return {"inputs": torch.from_numpy(np.asarray(encoder.transform(features), dtype=np.float32))}

    return Source("table", labels, names, [str(i) for i in range(len(labels))], encode, notes=list(table.notes))


def _texts(config: Config, run: Run, pretrained: PretrainedClassifier | None) -> Source:
    texts, written, ids, notes = _read_texts(config)
    labels, names = _coded(written, config.data)
    empty = sum(not text.strip() for text in texts)
    repeated = len(texts) - len(set(texts))
    notes += [f"{empty} texts are empty"] * (empty > 0)
    notes += [f"{repeated} texts occur more than once: copies may be on both sides of the split"] * (repeated > 0)

    def encode(rows: np.ndarray) -> Any:
        if pretrained is not None:
            return pretrained.examples(texts)
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(max_features=WORDS, sublinear_tf=True)
        try:
            vectorizer.fit([texts[i] for i in rows])
        except ValueError as error:
            raise InputError("text", str(error), "texts with words") from None
        # unit vectors of thousands of terms have tiny entries; the root brings them to the scale of other features
        values = vectorizer.transform(texts).toarray() * np.sqrt(len(vectorizer.vocabulary_))
        return {"inputs": torch.from_numpy(values.astype(np.float32))}

    return Source("text", labels, names, ids, encode, pretrained=pretrained, notes=notes)


def _read_texts(config: Config) -> tuple[list[str], list[Any], list[str], list[str]]:
    """Texts, labels as written, ids and notes."""
    frame = read_texts(config.data)
    columns = [str(c) for c in frame.columns]
    found = {}
    for option, wanted, guesses in (
        ("text", config.text, ("text", "sentence", "content", "message", "document")),
        ("label", config.label, ("label", "class", "target", "category")),
    ):
        name = wanted or next((c for g in guesses for c in columns if c.lower() == g), None)
        if name not in columns:
            hint = nearest(wanted, columns) if wanted else ""
            raise InputError(option, repr(name) if name else "nothing", f"a column, one of {', '.join(columns)}{hint}")
        found[option] = name
    texts = ["" if pd.isna(value) else str(value) for value in frame[found["text"]]]
    is_folder = config.data in TEXTS or Path(config.data).expanduser().is_dir()
    ids = frame["id"].tolist() if is_folder else [str(i) for i in range(len(texts))]
    return texts, frame[found["label"]].tolist(), ids, []


def _coded(values: list[Any], name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    codes, names = coded(values)
    missing = np.flatnonzero(codes < 0)
    if len(missing):
        found = f"no label in {len(missing)} rows of {name}, the first is row {missing[0]}"
        raise InputError("label", found, "a label for every row")
    return codes, names


def _published(splits: np.ndarray | None) -> np.ndarray | None:
    """The splits, if there are a training and a test part; validation images are trained on."""
    if splits is None or not {"train", "test"} <= set(splits.tolist()):
        return None
    return np.where(splits == "test", "test", "train")
