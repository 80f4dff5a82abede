"""Vectors of sentences: from a text encoder, or looked up among those that the user brings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.nn.loading import read_transformers_config
from paperworks.papers.ladder.checks import matrix
from paperworks.papers.ladder.hypotheses import Hypothesis


class SentenceVectors:
    """Unit vectors of sentences in a space of ``width`` dimensions; each sentence is encoded once.

    Parameters
    ----------
    encoder : see ``SliceDiscovery``.
    sentences, vectors : sentences with known vectors ``[N, q]``, or None.
    width : dimensions q of the space that the aligner maps to.
    """

    def __init__(self, encoder: Any, sentences: Sequence[str], vectors: Any, width: int) -> None:
        self.width = width
        self._source = encoder if isinstance(encoder, (str, Path)) else ""
        self._known: dict[str, np.ndarray] = {}
        if vectors is not None:
            rows = matrix("sentence_emb", vectors, len(sentences), "sentences")
            self._check_width(rows.shape[1], "sentence_emb")
            for sentence, row in zip(sentences, unit(rows, "sentence_emb"), strict=True):
                self._known.setdefault(" ".join(sentence.split()), row)
        self._encode = load_encoder(encoder) if encoder is not None or vectors is None else None

    @property
    def can_encode(self) -> bool:
        """Whether sentences without a known vector can be encoded."""
        return self._encode is not None

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of texts, float64 ``[n, q]``. Raises InputError for an encoder of other dimensions."""
        missing = [t for t in dict.fromkeys(texts) if t not in self._known]
        if missing:
            if self._encode is None:
                raise InputError(
                    "text_encoder",
                    f"none, and no vector of {missing[0][:60]!r}",
                    "an encoder, or its row in sentence_emb",
                )
            rows = matrix("text_encoder", self._encode(missing), len(missing), "the texts")
            self._check_width(rows.shape[1], "text_encoder")
            self._known |= dict(zip(missing, unit(rows, "text_encoder"), strict=True))
        return np.array([self._known[t] for t in texts]).reshape(len(texts), self.width)

    def mean_direction(self, hypothesis: Hypothesis) -> np.ndarray:
        """``T_H`` ``[q]``: the mean of the different test sentences' unit vectors, normalised once, at the end."""
        mean = self(list(dict.fromkeys(hypothesis.test_sentences))).mean(axis=0)
        length = float(np.linalg.norm(mean))
        if length < 1e-12:
            raise InputError(f"hypothesis {hypothesis.name!r}", "test sentences that cancel out", "like sentences")
        return mean / length

    def _check_width(self, found: int, field: str) -> None:
        if found != self.width:
            where = f"{self._source}, with " if field == "text_encoder" and self._source else ""
            raise InputError(
                field, f"{where}{found} dimensions beside {self.width} of vlr_train", "vectors of one space for both"
            )


def unit(rows: np.ndarray, field: str) -> np.ndarray:
    """Rows divided by their norms. Raises InputError for a row of zeros."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if (norms == 0).any():
        raise InputError(field, f"row {int((norms == 0).argmax())} of zeros", "vectors other than zero")
    return rows / norms


def load_encoder(source: Any) -> Any:
    """A function from texts to vectors: from a function, an encoder, a folder (CLIP, SigLIP or of sentences), None."""
    if isinstance(source, (str, Path)):
        folder = Path(source).expanduser()
        from paperworks.papers.ladder.vlm import is_two_tower, load_two_tower

        if is_two_tower(folder):
            return load_two_tower(folder).texts
        if (folder / "config.json").is_file():
            read_transformers_config(folder)  # names what transformers would raise for a strange configuration
    from paperworks.embedding import load_text_encoder

    return load_text_encoder(source).encode
