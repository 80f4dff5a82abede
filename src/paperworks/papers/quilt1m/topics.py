"""The three topics that a video's text is nearest to: by the sentence encoder, or by words where it is missing."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.quilt1m.columns import named_column, text_columns

MOST = 3
PIECE_WORDS = 80


class Topic(NamedTuple):
    """A label and the text that describes it."""

    label: str
    description: str


def read_topics(path: Path) -> list[Topic]:
    """Topics of a table with the columns ``label`` and, if there are descriptions, ``description``."""
    columns = text_columns(path, "topics")
    labels = named_column(columns, ("label", "topic", "name"), "topics")
    texts = columns.get("description", labels)
    found = [Topic(a, b or a) for a, b in zip(labels, texts, strict=True) if a]
    if not found:
        raise InputError("topics", "no label", "one label or more")
    return found


def top_topics(text: str, topics: list[Topic], most: int = MOST) -> list[str]:
    """Labels of the nearest topics, the nearest first; of a long text the mean over pieces counts."""
    from paperworks.embedding import sentence_encoder

    words = text.split()
    if not words or not topics:
        return []
    pieces = [" ".join(words[i : i + PIECE_WORDS]) for i in range(0, len(words), PIECE_WORDS)]
    described = [f"{topic.label}: {topic.description}" for topic in topics]
    encoder = sentence_encoder()
    if encoder is not None:
        scores = (encoder(described) @ encoder(pieces).T).mean(1)
    else:
        from sklearn.feature_extraction.text import TfidfVectorizer

        rows = TfidfVectorizer(sublinear_tf=True).fit_transform([*described, text])
        scores = np.asarray((rows[:-1] @ rows[-1].T).todense()).reshape(-1)
    order = sorted(range(len(topics)), key=lambda i: (-round(float(scores[i]), 6), i))
    return [topics[i].label for i in order[:most]]
