"""The name and the path of a paper: in addresses, in the API, in feeds and in mails."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import quote


class Named(Protocol):
    """An entry, or a row of these columns."""

    @property
    def id(self) -> int: ...

    @property
    def arxiv(self) -> str | None: ...


def paper_id(entry: Named) -> str:
    """The name of an entry: its arXiv id, or ``p`` and its number."""
    return entry.arxiv or f"p{entry.id}"


def paper_path(entry: Named, part: str = "") -> str:
    """The path of a paper's page, or of a part of it: ``paper_path(entry, "vote")``."""
    return f"/papers/{quote(paper_id(entry))}" + (f"/{part}" if part else "")
