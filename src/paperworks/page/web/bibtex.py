"""A paper as an entry of BibTeX, for who cites it: what the page knows of it, and nothing else."""

from __future__ import annotations

import re
import unicodedata

from paperworks.page.database import Entry

_SPECIAL = {"&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}"}
_MATH = re.compile(r"(\$[^$]*\$)")
_FILL = frozenset(
    ("a", "an", "and", "as", "at", "by", "for", "from", "how", "in", "is", "of", "on", "the", "to", "with")
)


def write(entry: Entry) -> str:
    """The entry: key, title, authors where a source named them, year, arXiv id or address."""
    year = str(entry.published.year) if entry.published else ""
    fields = {
        "title": f"{{{_tex(entry.title)}}}",  # in braces twice: styles keep its capitals
        "author": " and ".join(_name(author) for author in entry.authors),
        "year": year,
        "eprint": entry.arxiv or "",
        "archivePrefix": "arXiv" if entry.arxiv else "",
        "url": f"https://arxiv.org/abs/{entry.arxiv}" if entry.arxiv else entry.url or "",
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@misc{{{_key(entry, year)},", *lines, "}"]) + "\n"


def _key(entry: Entry, year: str) -> str:
    words = [word for word in _plain(_MATH.sub(" ", entry.title)).split() if word not in _FILL]
    who = _plain(entry.authors[0]).split()[-1:] if entry.authors else []
    return "".join([*who, year, *words[:1]]) or f"paper{entry.id}"


def _plain(text: str) -> str:
    """Lower-case words of ASCII letters and digits."""
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return " ".join(re.findall(r"[a-z0-9]+", letters))


def _name(author: str) -> str:
    """One name; in braces where BibTeX would read it as several parts."""
    name = _tex(author)
    return f"{{{name}}}" if "," in name or " and " in f" {name} " else name


def _tex(text: str) -> str:
    """Text for TeX: its formulas stay, special characters are escaped, and braces are left out if they do not pair."""
    if not _paired(text):
        text = re.sub(r"[{}]", " ", text)
    text = re.sub(r"\s+", " ", text).strip()
    if text.count("$") % 2:
        text = text.replace("$", r"\$")
    return "".join(part if part.startswith("$") else _escaped(part) for part in _MATH.split(text))


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def _paired(text: str) -> bool:
    depth = 0
    for letter in re.sub(r"\\[{}]", "", text):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if depth < 0:
            return False
    return depth == 0
