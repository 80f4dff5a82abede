"""The templates: compiled once at the start, with the filters and functions that they share."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from paperworks.page import links, tex
from paperworks.page.database import Entry, now
from paperworks.page.web import addresses
from paperworks.page.web.assets import Assets
from paperworks.page.web.icons import ICONS

FOLDER = Path(__file__).parent / "templates"
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
NAMED_AUTHORS = 3
_FLAG = re.compile(r"--([a-z][a-z0-9-]*)")


def open_templates(assets: Assets) -> Environment:
    """The environment of all pages; every template is compiled here, so that a broken one is found at the start."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=lambda name: not (name and name.endswith((".txt", ".md"))),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    environment.filters |= {"day": day, "ago": ago, "short": short, "plural": plural, "count": count}
    environment.filters |= {"tex": tex.to_html, "plain": tex.to_plain, "without_flags": without_flags}
    environment.globals |= {
        "asset": assets.path,
        "paper_path": links.paper_path,
        "paper_id": links.paper_id,
        "run_form_path": addresses.run_form_path,
        "job_path": addresses.job_path,
        "with_query": addresses.with_query,
        "authors_line": authors_line,
        "entry_day": entry_day,
        "icons": ICONS,
        "tag_path": tag_path,
    }
    environment.globals["m"] = environment.get_template("macros.html").module  # {{ m.icon("run") }}, {{ m.card(...) }}
    for name in environment.list_templates(extensions=["html", "txt", "xml", "md"]):
        if not name.startswith("mail/"):  # those have an environment of their own
            environment.get_template(name)
    return environment


def day(value: date | datetime | None) -> Markup:
    """A date as a ``time`` element: 23 Nov 2026."""
    if value is None:
        return Markup("")
    text = f"{value.day} {MONTHS[value.month - 1]} {value.year}"
    return Markup('<time datetime="{}">{}</time>').format(value.isoformat(), text)


def ago(value: datetime) -> Markup:
    """How long ago something was, as a ``time`` element; a date where that is more than a month."""
    passed = now() - value
    if passed > timedelta(days=30):
        return day(value.astimezone(UTC))
    seconds = max(0, int(passed.total_seconds()))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            text = f"{plural(seconds // length, unit)} ago"
            break
    else:
        text = "just now"
    whole = f"{value.astimezone(UTC):%d %B %Y, %H:%M} UTC"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(value.isoformat(), whole, text)


def entry_day(entry: Entry) -> Markup:
    """The day of a paper: when it appeared, else the day of the feed that a source named, else that it is unknown."""
    if entry.published or entry.listed_known:
        return day(entry.published or entry.listed)
    return Markup("date unknown")


def without_flags(text: str) -> str:
    """A help text of the command line as a form says it: the options of it are fields here."""
    return _FLAG.sub(lambda match: f"“{match[1].replace('-', ' ')}”", text)


def short(text: str, length: int) -> str:
    """The first words of a text."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1].rsplit(" ", 1)[0].rstrip(",;:.") + "…"


def plural(number: int, noun: str, many: str = "") -> str:
    """A number with its noun: 1 paper, 2 papers."""
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"


def count(number: int) -> str:
    """A count in little space: 950, 1.2k, 34k."""
    if number < 1000:
        return str(number)
    thousands = number / 1000
    return f"{thousands:.1f}k" if thousands < 9.95 else f"{thousands:.0f}k"


@lru_cache(maxsize=4096)
def tag_path(tag: str) -> str:
    """The list of a tag's papers."""
    return addresses.with_query("/", tag=tag)


def authors_line(entry: Entry, most: int = NAMED_AUTHORS) -> str:
    """Who wrote a paper, in a line: the names where they are known, else how many, else the organisation."""
    total = entry.author_count or len(entry.authors)
    if entry.authors:
        rest = total - min(most, len(entry.authors))
        return ", ".join(entry.authors[:most]) + (f" and {plural(rest, 'other')}" if rest > 0 else "")
    return plural(total, "author") if total else ""
