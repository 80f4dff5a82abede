"""An audit from what the user has: arrays, a classifier of transformers with its data, or a named set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.ladder import files
from paperworks.papers.ladder.config import Config
from paperworks.papers.ladder.corpus import split_captions, split_reports
from paperworks.papers.ladder.demo import CLASSES, coloured_digits, plant

SHARES = (0.45, 0.3, 0.25)
MOST_SENTENCES = 2000
SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"}


@dataclass
class Task:
    """What discovery and rectification get.

    Attributes
    ----------
    features, vlr, y : part -> array; parts are train, val and, where there is one, test. ``y`` of train may be missing.
    predicted : class codes or probabilities of the validation rows.
    sentences : the corpus, or None with a backend that writes it.
    class_names : names of the codes.
    ids : of the validation rows.
    text_encoder, sentence_vectors : see ``SliceDiscovery``.
    head : the classifier's last layer, or None.
    groups : names of known groups of the test rows, group_of their number; None where there are none.
    validation_groups : groups of the validation rows, for the oracle.
    items : validation samples to show and to describe: images uint8 ``[h, w, 3]`` or texts.
    notes : how the input was understood.
    model, layer : the classifier, for the export.
    """

    features: dict[str, np.ndarray]
    vlr: dict[str, np.ndarray]
    y: dict[str, np.ndarray]
    predicted: np.ndarray
    sentences: list[str] | None
    class_names: list[str]
    ids: list[str]
    text_encoder: Any = None
    sentence_vectors: np.ndarray | None = None
    head: Any = None
    groups: np.ndarray | None = None
    validation_groups: np.ndarray | None = None
    items: Any = None
    notes: list[str] = field(default_factory=list)
    model: Any = None
    layer: str | None = None


def read_task(config: Config, run: runs.Run) -> Task:
    """The audit that the options ask for."""
    if config.features is not None:
        return from_npz(config)
    if config.model is not None:
        from paperworks.papers.ladder.pretrained import from_model

        return from_model(config, run)
    return from_spam(config, run) if config.data == "spam-assassin" else from_digits(config, run)


def from_npz(config: Config) -> Task:
    """Arrays of the user's own."""
    assert config.features is not None
    arrays = files.read_npz(config.features)
    assert config.sentences is not None
    sentences = files.read_sentences(config.sentences, config.caption, config.style)
    predicted = arrays.get("pred_val", arrays.get("proba_val"))
    assert predicted is not None
    y = arrays["y_val"]
    names = [str(n) for n in arrays["class_names"]] if "class_names" in arrays else None
    if names is None:
        names = [str(c) for c in range(int(np.max(y)) + 1)] if y.size and y.dtype.kind in "iufb" else ["0", "1"]
    head = (arrays["head_weight"], arrays["head_bias"]) if "head_weight" in arrays else None
    parts = [p for p in ("train", "val", "test") if f"features_{p}" in arrays]
    vectors = arrays.get("sentence_emb")
    if vectors is not None and len(vectors) != len(sentences):
        raise InputError(
            "sentences", f"{len(sentences)}, for {len(vectors)} vectors in sentence_emb", "one vector for each sentence"
        )
    encoder = config.vlm if config.vlm is not None else config.encoder
    return Task(
        features={p: arrays[f"features_{p}"] for p in parts},
        vlr={p: arrays[f"vlr_{p}"] for p in ("train", "val") if f"vlr_{p}" in arrays},
        y={p: arrays[f"y_{p}"] for p in ("val", "test") if f"y_{p}" in arrays},
        predicted=predicted,
        sentences=sentences,
        class_names=names,
        ids=[str(i) for i in arrays.get("ids_val", np.arange(len(y)))],
        text_encoder=encoder,
        sentence_vectors=vectors,
        head=head,
        groups=arrays.get("groups_test"),
        notes=[f"{len(y)} validation rows of {config.features}, {len(sentences)} sentences of {config.sentences}."],
    )


def from_digits(config: Config, run: runs.Run) -> Task:
    """Digits on coloured ground, and a perceptron trained on them."""
    from paperworks.embedding import load_text_encoder
    from paperworks.papers.ladder.harvest import harvest_features
    from paperworks.papers.ladder.training import train_erm

    biased = config.correlation
    rates = {"train": biased, "val": min(biased, 0.9), "test": 0.5}
    parts = coloured_digits(config.seed, rates)
    encoder = load_text_encoder(config.encoder)
    model = train_erm(parts["train"].images, parts["train"].y, config.seed, steps=config.steps, progress=run.progress)
    texts = list(dict.fromkeys(c for p in parts.values() for c in p.captions))
    vectors = dict(zip(texts, encode_kept(run, "captions", encoder, texts), strict=True))
    found = {name: harvest_features(model, part.images, device="cpu") for name, part in parts.items()}
    val = parts["val"]
    return Task(
        features={p: h.features for p, h in found.items()},
        vlr={p: np.array([vectors[c] for c in parts[p].captions]) for p in ("train", "val")},
        y={p: part.y for p, part in parts.items()},
        predicted=found["val"].predictions,
        sentences=split_captions(val.captions),
        class_names=list(CLASSES),
        ids=[f"image {i}" for i in range(len(val.y))],
        text_encoder=encoder,
        head=found["val"].head,
        groups=parts["test"].groups,
        validation_groups=val.groups,
        items=list((val.images.transpose(0, 2, 3, 1) * 255).round().astype(np.uint8)),
        notes=[
            f"Handwritten digits, {CLASSES[0]} against {CLASSES[1]}, on green or blue ground that tells the class in "
            f"{rates['train']:.0%} of the training images, {rates['val']:.0%} of the validation images and half of the "
            "test images. The classifier was trained here; the vision-language vectors are those of the captions."
        ],
        model=model,
        layer=found["val"].layer,
    )


def from_spam(config: Config, run: runs.Run) -> Task:
    """E-mail, spam or not, and a logistic model on sentence embeddings."""
    from sklearn.linear_model import LogisticRegression

    from paperworks import inputs
    from paperworks.embedding import load_text_encoder

    folder = Path(inputs.path("spam-assassin"))
    paths = sorted(p for p in folder.rglob("*.txt") if p.parent != folder)
    draw = np.random.default_rng([config.seed, 11])
    chosen = [paths[i] for i in draw.permutation(len(paths))[: config.limit]]
    y = np.array([int("ham" not in p.relative_to(folder).parts[0]) for p in chosen])
    texts = [mail_text(p.read_text(encoding="utf-8", errors="replace")) for p in chosen]
    rows = dict(zip(("train", "val", "test"), _split(len(texts), draw), strict=True))
    token_in: np.ndarray | None = None
    if config.plant is not None:
        token_in = np.zeros(len(texts), bool)
        for part, share in (("train", 0.95), ("val", 0.9), ("test", 0.5)):
            some, has = plant([texts[i] for i in rows[part]], y[rows[part]], config.plant, share, draw)
            for i, text in zip(rows[part], some, strict=True):
                texts[i] = text
            token_in[rows[part]] = has
    encoder = load_text_encoder(config.encoder)
    vectors = encode_kept(run, "mail", encoder, texts)
    model = LogisticRegression(C=10, max_iter=1000).fit(vectors[rows["train"]], y[rows["train"]])
    sentences = split_reports(texts[i] for i in rows["val"])
    notes = [f"{len(texts)} messages, {int(y.sum())} of them spam; the classifier is logistic on sentence embeddings."]
    if len(sentences) > MOST_SENTENCES:
        kept = np.sort(draw.permutation(len(sentences))[:MOST_SENTENCES])
        notes.append(f"{MOST_SENTENCES} of {len(sentences)} sentences are used, drawn with the seed.")
        sentences = [sentences[i] for i in kept]
    groups = None if token_in is None else 2 * y + token_in
    return Task(
        features={p: vectors[r] for p, r in rows.items()},
        vlr={p: vectors[rows[p]] for p in ("train", "val")},
        y={p: y[r] for p, r in rows.items()},
        predicted=model.predict_proba(vectors[rows["val"]]),
        sentences=sentences,
        class_names=["legitimate", "spam"],
        ids=[chosen[i].relative_to(folder).as_posix() for i in rows["val"]],
        text_encoder=encoder,
        sentence_vectors=encode_kept(run, "sentences", encoder, sentences),
        head=model,
        groups=None if groups is None else groups[rows["test"]],
        validation_groups=None if groups is None else groups[rows["val"]],
        items=[texts[i] for i in rows["val"]],
        notes=notes,
    )


def mail_text(raw: str) -> str:
    """Subject and text of a message, without markup and addresses, the first 600 characters."""
    import email
    import re

    message = email.message_from_string(raw)
    parts = {part.get_content_type(): part for part in message.walk() if not part.is_multipart()}
    part = parts.get("text/plain", parts.get("text/html"))
    content = part.get_payload(decode=True) if part is not None else None
    body = content.decode("utf-8", "replace") if isinstance(content, bytes) else raw.partition("\n\n")[2]
    text = f"{message.get('Subject', '')}. {body[:4000]}"
    text = re.sub(r"<[^>]*>|&\w+;|https?://\S+|\S+@\S+|[=_*#-]{3,}", " ", text)
    return re.sub(r"\s+", " ", text).strip()[:600] or "empty"


def _split(n: int, draw: np.random.Generator) -> list[np.ndarray]:
    ends = np.cumsum([round(share * n) for share in SHARES])[:-1]
    return [np.sort(part) for part in np.split(draw.permutation(n), ends)]


def _encode(encoder: Any, texts: Sequence[str], run: runs.Run) -> np.ndarray:
    import warnings

    parts = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # long messages are cut, which is meant
        for start in run.progress(range(0, len(texts), 128), "encoding texts"):
            parts.append(np.asarray(encoder.encode(list(texts[start : start + 128]))))
    return np.concatenate(parts)


def encode_kept(run: runs.Run, name: str, encoder: Any, texts: Sequence[str]) -> np.ndarray:
    """Vectors of texts, kept in the run's state."""
    return _kept(run.state / f"{name}.npz", lambda: _encode(encoder, texts, run))


def _kept(path: Path, make: Any) -> np.ndarray:
    """What an earlier attempt of this run computed, or what ``make`` gives."""
    from paperworks.runs.files import replace_file

    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            return stored["vectors"]
    vectors = make()
    with replace_file(path) as aside, aside.open("wb") as out:
        np.savez(out, vectors=vectors)
    return vectors
