"""What compressing cost and saved: bytes on disk before, packed bytes, the model's bytes, other coders, a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paperworks.papers.pc_compression import baselines, pictures
from paperworks.papers.pc_compression.codes import BUNDLED
from paperworks.papers.pc_compression.inputs import Content
from paperworks.papers.pc_compression.pictures import Picture
from paperworks.runs.render import format_bytes

MOST_BYTES = 4 << 20
"""Content above this many bytes is given to the fast coders only."""


@dataclass(frozen=True)
class Balance:
    """Bytes of the whole content.

    ``original`` is what the user's files take on disk (of a bundled set: its values, one byte each); ``others`` what
    other coders make of the same content, with no model beside.
    """

    original: int
    packed: int
    model: int
    others: dict[str, int]

    @property
    def best(self) -> str:
        """The other coder that needs the fewest bytes."""
        return min(self.others, key=lambda name: self.others[name])

    def verdict(self) -> str:
        """One sentence: from how many bytes to how many, whether that is a gain, and which general coder is better."""
        best, least = self.best, self.others[self.best]
        change = "larger than before" if self.packed >= self.original else f"{self.packed / self.original:.0%} of it"
        sizes = f"{self._bytes(self.original)} became {self._bytes(self.packed)} packed"
        text = f"{sizes} ({change}), beside a model of {self._bytes(self.model)}"
        if least <= self.packed:
            return f"{text}; {best} is better ({self._bytes(least)}, no model needed)"
        if least < self.packed + self.model:
            return f"{text}; {best} takes {self._bytes(least)} and no model: the model pays only for more such data"
        return f"{text}; the best other coder, {best}, takes {self._bytes(least)}"

    def _bytes(self, size: int) -> str:
        """Bytes one by one for small files; else all in readable units."""
        return f"{size:,} bytes" if self.original < 100_000 else format_bytes(size)

    def rows(self) -> list[list[str | int | float | None]]:
        """For a table: what, bytes, share of the original."""
        found = {
            "original": self.original,
            "packed": self.packed,
            "model": self.model,
            "packed and model": self.packed + self.model,
        }
        found |= dict(sorted(self.others.items(), key=lambda item: item[1]))
        return [[name, size, size / self.original] for name, size in found.items()]


def balance(source: str, content: Content, packed: int, model: int, raw: bytes) -> Balance:
    """Weigh the content that was read from ``source``; ``raw`` is what general coders get of arrays and tables."""
    path = Path(source).expanduser()
    if isinstance(content, list):
        files = [path / p.name if path.is_dir() else path for p in content]
        data = b"".join(file.read_bytes() for file in files)
        return Balance(len(data), packed, model, _general(data) | _images(content))
    if source in BUNDLED:
        return Balance(len(raw), packed, model, _general(raw) | _arrays(content))
    return Balance(path.stat().st_size, packed, model, _general(raw) | _arrays(content))


def _general(data: bytes) -> dict[str, int]:
    return baselines.general_coders(data, fast=len(data) > MOST_BYTES)


def _images(content: list[Picture]) -> dict[str, int]:
    return pictures.encoded_sizes(content)


def _arrays(content: Content) -> dict[str, int]:
    if (
        isinstance(content, np.ndarray)
        and content.dtype == np.uint8
        and content.ndim == 3
        and content.nbytes < MOST_BYTES
    ):
        return baselines.image_coders(content)
    return {}
