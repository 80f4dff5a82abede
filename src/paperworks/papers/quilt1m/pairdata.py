"""Pairs for training: the curation's, a table of captions, or digits with captions; split so that nothing leaks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.quilt1m.captions import read_captions
from paperworks.papers.quilt1m.config import BUNDLED_PAIRS
from paperworks.papers.quilt1m.filters import as_picture
from paperworks.papers.quilt1m.likeness import perceptual_hash
from paperworks.papers.quilt1m.outputs import read_pairs

SAME_PICTURE = 4
"""Two pictures whose hashes differ in at most so many of 64 bits are near duplicates."""
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_CAPTIONS = (
    "a handwritten {c}",
    "here somebody wrote the digit {c}",
    "this is the number {c}",
    "you can see a {c} in grey ink",
    "a small picture of the figure {c}",
    "the writer meant {c}",
    "notice the strokes of this {c}",
    "a scan of a {c} from a form",
    "the digit that follows is {c}",
    "look at this {c}, written by hand",
)
DIGIT_TEMPLATES = (
    "an image of the digit {c}.",
    "handwritten number {c}.",
    "a picture showing {c}.",
    "presence of the figure {c} on the image.",
)
PAPER_TEMPLATES = (
    "a histopathology slide showing {c}.",
    "histopathology image of {c}.",
    "pathology tissue showing {c}.",
    "presence of {c} tissue on image.",
)


@dataclass(frozen=True)
class Pairs:
    """Pictures, each with one text or more.

    Attributes
    ----------
    pictures : paths, or uint8 arrays ``[h, w, 3]``.
    texts : of each picture.
    groups : pictures of one group (a video, and near duplicates) must not be on both sides of a split.
    """

    pictures: list[Any]
    texts: list[list[str]]
    groups: list[str]

    def __len__(self) -> int:
        return len(self.pictures)

    def take(self, rows: Sequence[int] | np.ndarray) -> Pairs:
        """Some of the pictures."""
        places = [int(i) for i in rows]
        pictures, texts = [self.pictures[i] for i in places], [self.texts[i] for i in places]
        return Pairs(pictures, texts, [self.groups[i] for i in places])


@dataclass(frozen=True)
class Labelled:
    """Labelled pictures for zero-shot classification and linear probes."""

    pictures: list[Any]
    labels: np.ndarray
    names: tuple[str, ...]


def read_training_pairs(source: str, seed: int = 0) -> Pairs:
    """Pairs of a folder of the curation, of a table with image and caption, or of digits.

    Raises InputError for what is none of these.
    """
    if source == BUNDLED_PAIRS:
        return digit_pairs(seed)
    path = Path(source).expanduser()
    if path.suffix.lower() in (".csv", ".tsv", ".parquet"):
        rows = [{"image": str(image), "text": text} for image, text in read_captions(path, path.parent, "pairs")]
    else:
        rows = read_pairs(path)
    texts: dict[str, list[str]] = defaultdict(list)
    groups: dict[str, str] = {}
    hashes: dict[str, str] = {}
    for row in rows:
        image = str(row["image"])
        if row["text"] not in texts[image]:
            texts[image].append(row["text"])
        groups.setdefault(image, str(row.get("video_id", image)))
        hashes[image] = str(row.get("hash", ""))
    names = list(texts)
    for name in names:
        if not hashes[name]:
            hashes[name] = f"{perceptual_hash(np.asarray(as_picture(name))):016x}"
    merged = _merge_duplicates([groups[n] for n in names], [hashes[n] for n in names])
    return Pairs(list(names), [texts[n] for n in names], merged)


def _merge_duplicates(groups: list[str], hashes: list[str]) -> list[str]:
    """Groups that share a near duplicate become one (union-find over hashes)."""
    parent = {group: group for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    codes = np.array([int(h, 16) for h in hashes], dtype=np.uint64)
    for place in range(len(codes)):
        near = np.flatnonzero(np.bitwise_count(codes[:place] ^ codes[place]) <= SAME_PICTURE)
        for other in near:
            first, second = sorted((root(groups[place]), root(groups[int(other)])))
            parent[second] = first
    return [root(group) for group in groups]


def split_groups(pairs: Pairs, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and for testing: whole groups are held out until they have at least ``share`` of the pictures.

    Raises InputError with one group: nothing can be held out without a leak.
    """
    names = sorted(set(pairs.groups))
    if len(names) < 2:
        raise InputError("pairs", "pictures of one video, or near duplicates", "two videos or more, to hold one out")
    sizes = {name: pairs.groups.count(name) for name in names} if len(names) < 1000 else None
    counted = sizes or dict(zip(*np.unique(pairs.groups, return_counts=True), strict=True))
    held: set[str] = set()
    done = 0
    for name in rng.permutation(names)[:-1]:
        if done >= share * len(pairs):
            break
        held.add(str(name))
        done += int(counted[name])
    test = np.array([group in held for group in pairs.groups])
    return np.flatnonzero(~test), np.flatnonzero(test)


def digit_pictures() -> tuple[list[np.ndarray], np.ndarray]:
    """The 1,797 handwritten digits of scikit-learn, 32 x 32 pixels in three channels, and their labels."""
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    small = (data.images * (255 / 16)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(p).resize((32, 32), Image.Resampling.BICUBIC)) for p in small]
    return [np.repeat(p[..., None], 3, axis=2) for p in large], np.asarray(data.target)


def digit_pairs(seed: int = 0, captions: int = 2) -> Pairs:
    """Digits with ``captions`` of ten sentences each."""
    pictures, labels = digit_pictures()
    rng = np.random.default_rng([seed, 10])
    texts = []
    for label in labels:
        chosen = rng.choice(len(DIGIT_CAPTIONS), captions, replace=False)
        texts.append([DIGIT_CAPTIONS[i].format(c=DIGIT_NAMES[label]) for i in chosen])
    return Pairs(list(pictures), texts, [str(i) for i in range(len(pictures))])


def read_labelled(source: str) -> Labelled:
    """Labelled pictures: a folder with a folder per class (or another labelled form), or digits."""
    if source == BUNDLED_PAIRS:
        pictures, labels = digit_pictures()
        return Labelled(list(pictures), labels, DIGIT_NAMES)
    from paperworks.inputs.images import read_images

    found = read_images(source)
    labels = found.require_labels()
    pictures = [np.moveaxis(found.array([i], channels=3, dtype="uint8")[0], 0, -1) for i in range(len(found))]
    names = tuple(str(name).replace("_", " ") for name in found.class_names)
    return Labelled(pictures, labels, names)
