"""Where things are on the page, and which redirects are safe."""

from __future__ import annotations

import re
from urllib.parse import urlencode, urlsplit

from starlette.convertors import Convertor, register_url_convertor

from paperworks.page.links import Named, paper_path

PAPER_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?:/\d{7}(?:v\d+)?)?"
"""An arXiv id (new or old style, with or without version), a slug of the catalogue, or ``p<id>`` of an entry."""


class PaperConvertor(Convertor[str]):
    """``{paper_id:paper}`` in a route: an id that may hold the one slash of old arXiv ids."""

    regex = PAPER_ID

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("paper", PaperConvertor())


def run_form_path(entry: Named) -> str:
    """The path of the form that asks for a run."""
    return paper_path(entry, "run")


def job_path(job_id: str, part: str = "") -> str:
    """The path of a run (its progress and result), or of a part of it: ``report``, ``events``, ``cancel``."""
    return f"/runs/{job_id}" + (f"/{part}" if part else "")


def with_query(path: str, **parameters: object) -> str:
    """A path with those parameters that are not empty; lists are repeated, True is ``1``."""
    pairs: list[tuple[str, str]] = []
    for name, value in parameters.items():
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if item is None or item == "" or item is False:
                continue
            pairs.append((name, "1" if item is True else str(item)))
    return f"{path}?{urlencode(pairs)}" if pairs else path


def safe_path(text: str | None, default: str = "/") -> str:
    """A path on this page, or the default for anything that could lead to another site."""
    if not text or not text.startswith("/") or text.startswith("//") or re.search(r"[\\\x00-\x20\x7f]", text):
        return default
    return text


def path_of_referer(referer: str | None, host: str) -> str:
    """The path of the page on which a form was sent, if it was one of ours."""
    try:
        parts = urlsplit(referer or "")
    except ValueError:
        return "/"
    if parts.netloc.lower() != host.lower():
        return "/"
    return safe_path(parts.path + (f"?{parts.query}" if parts.query else ""))
