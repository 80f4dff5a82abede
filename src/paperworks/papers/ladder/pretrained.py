"""An audit of a classifier of transformers from a folder, with its own images or texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.classification import load_classifier
from paperworks.errors import InputError
from paperworks.inputs.images import read_images
from paperworks.papers.ladder import files
from paperworks.papers.ladder.config import Config
from paperworks.papers.ladder.corpus import split_reports
from paperworks.papers.ladder.harvest import harvest_features
from paperworks.papers.ladder.tasks import MOST_SENTENCES, SHARES, SPLIT_NAMES, Task

PARTS = ("train", "val", "test")


def from_model(config: Config, run: runs.Run) -> Task:
    """The classifier's features and predictions on its data, and vectors of the data in the space of texts."""
    assert config.model is not None
    classifier = load_classifier(config.model, progress=run.progress)
    if classifier.kind == "image":
        return _from_images(config, run, classifier)
    return _from_texts(config, run, classifier)


def _from_images(config: Config, run: runs.Run, classifier: Any) -> Task:
    from paperworks.papers.ladder.vlm import load_two_tower

    if config.vlm is None:
        raise InputError("vlm", "nothing", "a folder of CLIP or SigLIP, for images")
    if config.sentences is None and config.backend != "caption-free":
        raise InputError("sentences", "nothing", "a file with captions, or --backend caption-free")
    images = read_images(config.data, label_column=config.label, progress=run.progress)
    codes, notes = _model_codes(images.require_labels(), images.class_names, classifier.class_names)
    rows, said = _rows(images.splits, len(images), config.seed)
    vlm = load_two_tower(config.vlm, device=config.device)
    found = harvest_features(
        classifier.model, classifier.examples(images), config.layer, device=config.device, progress=run.progress
    )
    vectors = []
    for start in run.progress(range(0, len(images), 32), "encoding images"):
        vectors.append(vlm.images([_rgb(images, i) for i in range(start, min(start + 32, len(images)))]))
    vlr = np.concatenate(vectors)
    sentences = None
    if config.sentences is not None:
        sentences = files.read_sentences(config.sentences, config.caption, config.style)
    val = rows["val"]
    return Task(
        features={p: found.features[r] for p, r in rows.items()},
        vlr={p: vlr[rows[p]] for p in ("train", "val")},
        y={p: codes[r] for p, r in rows.items()},
        predicted=found.predictions[val],
        sentences=sentences,
        class_names=list(classifier.class_names),
        ids=[images.image_name(int(i)) for i in val],
        text_encoder=vlm.texts,
        head=found.head,
        items=_Lazy(images, val),
        notes=[f"{len(images)} images of {config.data}; {said}", *notes],
        model=classifier.model,
        layer=found.layer,
    )


def _from_texts(config: Config, run: runs.Run, classifier: Any) -> Task:
    from paperworks.embedding import load_text_encoder
    from paperworks.papers.ladder.tasks import encode_kept

    if config.backend == "caption-free":
        raise InputError("backend", "caption-free", "offline, static, transformers or endpoint, for texts")
    frame = files.read_frame(Path(config.data).expanduser(), "data")
    text = files.pick_column(frame, config.text, files.TEXT_COLUMNS, "text")
    label = files.pick_column(frame, config.label, files.LABEL_COLUMNS, "label")
    texts = [str(t) for t in frame[text]]
    names, given = np.unique([str(v) for v in frame[label]], return_inverse=True)
    codes, notes = _model_codes(given, tuple(names.tolist()), classifier.class_names)
    splits = frame["split"].to_numpy(str) if "split" in frame.columns else None
    rows, said = _rows(splits, len(texts), config.seed)
    found = harvest_features(
        classifier.model, classifier.examples(texts), config.layer, device=config.device, progress=run.progress
    )
    encoder = load_text_encoder(config.encoder)
    vlr = encode_kept(run, "texts", encoder, texts)
    val = rows["val"]
    if config.sentences is not None:
        sentences = files.read_sentences(config.sentences, config.caption, config.style)
    else:
        sentences = split_reports(texts[i] for i in val)[:MOST_SENTENCES]
    return Task(
        features={p: found.features[r] for p, r in rows.items()},
        vlr={p: vlr[rows[p]] for p in ("train", "val")},
        y={p: codes[r] for p, r in rows.items()},
        predicted=found.predictions[val],
        sentences=sentences,
        class_names=list(classifier.class_names),
        ids=[str(i) for i in val],
        text_encoder=encoder,
        head=found.head,
        items=[texts[i] for i in val],
        notes=[f"{len(texts)} texts of {config.data}; {said}", *notes],
        model=classifier.model,
        layer=found.layer,
    )


def _rows(splits: np.ndarray | None, n: int, seed: int) -> tuple[dict[str, np.ndarray], str]:
    """Rows of train, val and test: the data's own splits, or a draw."""
    if splits is not None:
        named = np.array([SPLIT_NAMES.get(str(s).lower(), "test") for s in splits])
        found = {p: np.flatnonzero(named == p) for p in PARTS if (named == p).any()}
        missing = next((p for p in ("train", "val") if p not in found), None)
        if missing is not None:
            known = ", ".join(sorted(set(map(str, splits))))
            raise InputError("data", f"splits {known}, without {missing}", "train and val (and test)")
        return found, "split as the data says."
    ends = np.cumsum([round(share * n) for share in SHARES])[:-1]
    parts = np.split(np.random.default_rng([seed, 13]).permutation(n), ends)
    return {p: np.sort(r) for p, r in zip(PARTS, parts, strict=True)}, (
        "split at random. Errors on rows that the classifier was trained on are too few: bring rows it never saw."
    )


def _model_codes(codes: np.ndarray, names: tuple[str, ...], known: tuple[str, ...]) -> tuple[np.ndarray, list[str]]:
    """The data's labels as codes of the model: by name, by number, or by order."""
    places = {n.lower(): i for i, n in enumerate(known)}
    if all(n.lower() in places for n in names):
        return np.array([places[n.lower()] for n in names])[codes], []
    if all(n.isdigit() and int(n) < len(known) for n in names):
        return np.array([int(n) for n in names])[codes], [
            f"Labels are taken as numbers of the classes {', '.join(known)}."
        ]
    unknown = next(n for n in names if n.lower() not in places)
    if len(names) == len(known) and all(n.upper() == f"LABEL_{i}" for i, n in enumerate(known)):
        return codes, [f"The model does not name its classes: {', '.join(names)} are taken in this order."]
    raise InputError("label", f"class {unknown!r} of the data", f"a class of the model: {', '.join(known[:12])}")


def _rgb(images: Any, index: int) -> np.ndarray:
    return images.array([int(index)], channels=3, dtype="uint8")[0].transpose(1, 2, 0)


class _Lazy:
    """Images that are decoded when they are asked for."""

    def __init__(self, images: Any, rows: np.ndarray) -> None:
        self.images, self.rows = images, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        return _rgb(self.images, int(self.rows[index]))
