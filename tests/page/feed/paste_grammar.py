"""Daily Papers pages written from the grammar of ``paste.py``, for a reading that is known beforehand."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from datetime import date
from typing import Any

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
MENUS = ["Hugging Face", "Models", "Datasets", "Spaces", "Docs", "Pricing", "Log In", "Sign Up"]
FOOTER = ["Previous", "Next", "System theme", "Company", "TOS", "Privacy", "About", "Careers", "© 2025 Hugging Face"]


@dataclass(frozen=True)
class Written:
    """One paper, and how it is written.

    ``logo``: how the organisation's name is repeated before it ("", "line", "same line", "glued", "avatar").
    ``day_style``: 0 "Jan 26, 2024", 1 "Jan 26", 2 "Published on Jan 26, 2024", 3 "26 January 2024", 4 "2024-01-26".
    ``comments_style``: "line", "with date", "words", "dots", "none".
    """

    title: str
    abstract: str
    organisation: str | None
    authors: int | None
    day: date
    comments: int = 0
    upvotes: int = 0
    logo: str = ""
    day_style: int = 0
    comments_style: str = "line"
    submitter: str = ""
    links: bool = False

    def reading(self, listed: date | None) -> dict[str, Any]:
        """What a reader of the page should take from it."""
        return {
            "title": self.title,
            "abstract": self.abstract,
            "organisation": self.organisation,
            "author_count": self.authors,
            "published": self.day.isoformat(),
            "listed": listed.isoformat() if listed else None,
            "upvotes": self.upvotes,
            "comments": 0 if self.comments_style == "none" else self.comments,
        }

    def blocks(self) -> list[list[str]]:
        """Its paragraphs, each of lines."""
        month = MONTHS[self.day.month - 1]
        day = [
            f"{month[:3]} {self.day.day}, {self.day.year}",
            f"{month[:3]} {self.day.day}",
            f"Published on {month[:3]} {self.day.day}, {self.day.year}",
            f"{self.day.day} {month} {self.day.year}",
            self.day.isoformat(),
        ][self.day_style]
        found: list[list[str]] = []
        if self.submitter:
            found += [["Submitted by"], [self.submitter]]
        found += [[self.title], [self.abstract]]
        name = self.organisation
        if name is None:
            by = [f"{self.authors} author{'s' * (self.authors != 1)}"]
        else:
            by = {
                "line": [name, name],
                "same line": [f"{name} {name}"],
                "glued": [name + name],
                "avatar": [f"{name}'s avatar", name],
            }.get(self.logo, [name])
        if self.comments_style == "dots":
            found.append([*by[:-1], f"{by[-1]} · {day} · {self.comments}"])
        else:
            said = {"words": [f"{self.comments} comments"], "line": [str(self.comments)]}.get(self.comments_style, [])
            found += [by, [f"{day} {self.comments}" if self.comments_style == "with date" else day], said]
        if self.upvotes:
            found += [["Upvote"], [str(self.upvotes)]]
        if self.links:
            found += [["GitHub"], ["1.2k"], ["arXiv Page"]]
        return [block for block in found if block]


@dataclass(frozen=True)
class Layout:
    """How a page is laid out.

    ``header_day``: the day above the papers. ``by``: the curator's line. ``width``: wrapped at so many letters, 0 for
    not. ``gap``: between paragraphs, written with ``\\n``; ``end``: what ends a line. ``nbsp``: no-break spaces stand
    in dates and names.
    """

    header_day: date | None = None
    header_year: bool = False
    by: str = "byAK and the research community"
    width: int = 0
    gap: str = "\n\n"
    end: str = "\n"
    nbsp: bool = False
    header: bool = True
    footer: bool = True


def write_page(papers: list[Written], layout: Layout) -> str:
    """The text of a page."""
    blocks: list[list[str]] = []
    if layout.header:
        blocks += [[name] for name in MENUS] + [["Daily Papers"], [layout.by]]
    if layout.header_day is not None:
        day = f"{MONTHS[layout.header_day.month - 1][:3]} {layout.header_day.day}"
        blocks.append([f"{day}, {layout.header_day.year}" if layout.header_year else day])
    if layout.header:
        blocks += [["Get trending papers in your email inbox once a day!"], ["Subscribe"]]
    for paper in papers:
        blocks += paper.blocks()
    if layout.footer:
        blocks += [[name] for name in FOOTER]
    if layout.width:
        wrap = textwrap.TextWrapper(layout.width, break_long_words=False, break_on_hyphens=False)
        blocks = [[part for line in block for part in wrap.wrap(line)] for block in blocks]
    if layout.nbsp:
        blocks = [[line.replace(" ", "\u00a0") if len(line) < 30 else line for line in block] for block in blocks]
    return layout.gap.join("\n".join(block) for block in blocks).replace("\n", layout.end) + layout.end
