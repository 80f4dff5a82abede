"""Pasted Daily Papers pages: what is written out is read back, whatever is missing or stands between."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.page.database import open_database
from paperworks.page.feed import IncomingPaper
from paperworks.page.feed.importers import import_source
from paperworks.page.feed.importers.paste import parse_page, read_date
from paperworks.page.settings import Settings

TODAY = date(2026, 11, 23)
HEADER = """Hugging Face

Models
Datasets

Trending Papers
by AK and the research community

Get trending papers in your email inbox once a day!

Subscribe
"""
MONTHS = [
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
]

words = st.sampled_from(
    [
        "sparse",
        "attention",
        "über",
        "Modelle",
        "注意",
        "learning",
        "with",
        "graphs",
        "β-divergence",
        "naïve",
        "the",
        "of",
        "3D",
        "GPT-4",
        "für",
        "многое",
        "a",
    ]
)
titles = st.lists(words, min_size=2, max_size=9).map(lambda w: "Paper " + " ".join(w))
abstracts = st.lists(words, min_size=26, max_size=60).map(lambda w: " ".join(w).capitalize() + ".")
organisations = st.sampled_from(
    ["ETH Zürich", "ByteDance", "清华大学", "Meta AI & Friends", "University of X, Dept. Y"]
)
days = st.dates(date(2019, 1, 1), TODAY)
papers = st.builds(
    IncomingPaper,
    title=titles,
    abstract=abstracts,
    published=days,
    comments=st.integers(0, 5000),
    organisation=organisations,
    author_count=st.none(),
) | st.builds(
    IncomingPaper,
    title=titles,
    abstract=abstracts,
    published=st.dates(TODAY - timedelta(days=300), TODAY),
    comments=st.integers(0, 5000),
    author_count=st.integers(1, 900),
)


def written_date(day: date, style: int) -> str:
    recent = (TODAY - day).days <= 300
    month = MONTHS[day.month - 1]
    return [
        f"{month[:3]} {day.day}, {day.year}",
        f"{month} {day.day}" if recent else f"{month} {day.day}, {day.year}",
        f"Published on {month[:3]} {day.day}" if recent else f"Published on {month[:3]} {day.day}, {day.year}",
        f"{day.day} {month} {day.year}",
        day.isoformat(),
    ][style]


def rendered(paper: IncomingPaper, style: int, noise: str) -> str:
    by = paper.organisation or f"{paper.author_count} author{'s' * (paper.author_count != 1)}"
    parts = [paper.title, paper.abstract, by, noise, written_date(paper.published, style), str(paper.comments)]
    return "\n\n".join(p for p in parts if p)


def essence(paper: IncomingPaper) -> tuple:
    return paper.title, paper.abstract, paper.organisation, paper.author_count, paper.published, paper.comments


@settings(deadline=None)
@given(
    st.lists(st.tuples(papers, st.integers(0, 4), st.sampled_from(["", "·", "•", "Upvote"])), min_size=1, max_size=6),
    st.sampled_from(["", HEADER]),
    st.sampled_from(["\n\n", "\n\n\n", "\n \n\t\n", "\r\n\r\n"]),
)
def test_what_is_written_is_read(entries, header: str, gap: str) -> None:
    text = "\n\n".join([header, *(rendered(*entry) for entry in entries)]).replace("\n\n", gap)
    found, skipped = parse_page(text, TODAY)
    assert [essence(p) for p in found] == [essence(p) for p, _, _ in entries]
    assert skipped == []


@settings(deadline=None)
@given(st.lists(st.tuples(papers, st.sets(st.sampled_from(["by", "date", "comments"]))), min_size=1, max_size=5))
def test_missing_parts(entries) -> None:
    blocks = []
    for paper, missing in entries:
        blocks += [paper.title, paper.abstract]
        if "by" not in missing:
            blocks.append(paper.organisation or f"{paper.author_count} authors")
        if "date" not in missing:
            blocks.append(written_date(paper.published, 0))
        if "comments" not in missing:
            blocks.append(str(paper.comments))
    found, _ = parse_page("\n\n".join(blocks), TODAY)
    assert [(p.title, p.abstract) for p in found] == [(p.title, p.abstract) for p, _ in entries]
    for read, (paper, missing) in zip(found, entries, strict=True):
        assert read.organisation == (None if "by" in missing else paper.organisation)
        assert read.author_count == (None if "by" in missing else paper.author_count)
        assert read.published == (None if "date" in missing else paper.published)
        assert read.comments == (0 if "comments" in missing else paper.comments)


@settings(deadline=None)
@given(st.text(max_size=400))
def test_any_text_is_parsed(text: str) -> None:
    found, _ = parse_page(text, TODAY)
    for paper in found:
        assert any(c.isalpha() for c in paper.title)


def test_facts_on_one_line_and_wrapped_abstracts() -> None:
    prose = (
        "We present a method that does a great deal and is described here\n"
        "in more than one line of text, as some browsers copy it when it wraps."
    )
    text = (
        f"{HEADER}\nA title of a paper\n{prose}\n\nETH Zürich · Published on Nov 20 · 1.2k comments\n\n"
        f"Next title\n\n{prose}\n\n3 authors | Nov 3, 2025 | No comments yet"
    )
    (first, second), _ = parse_page(text, TODAY)
    assert essence(first) == (
        "A title of a paper",
        prose.replace("\n", " "),
        "ETH Zürich",
        None,
        date(2026, 11, 20),
        1200,
    )
    assert essence(second) == ("Next title", prose.replace("\n", " "), None, 3, date(2025, 11, 3), 0)


def test_dates() -> None:
    for text, expected in {
        "Nov 24": date(2026, 11, 24),  # a time zone ahead of ours
        "Nov 25": date(2025, 11, 25),
        "Feb 29": date(2024, 2, 29),
        "feb. 3rd, 2025": date(2025, 2, 3),
        "yesterday": date(2026, 11, 22),
        "Submitted 3 days ago": date(2026, 11, 20),
        "2026-02-30": None,
        "Feb 30": None,
        "May": None,
        "Marching 3": None,
        "12": None,
    }.items():
        assert read_date(text, TODAY) == expected, text


def test_a_paper_twice_is_one_entry(tmp_path) -> None:
    abstract = "We show that one paper which stands twice on a page is one paper, and say so at length. " * 2
    text = f"Trending Papers\n\nTwice on the page\n\n{abstract}\n\n2 authors\n\nNov 3\n\n4\n\n" * 2
    file = tmp_path / "page.txt"
    file.write_text(text, encoding="utf-8")
    database = open_database(f"sqlite:///{tmp_path / 'page.sqlite'}")
    outcome = import_source(database, str(file), Settings(folder=tmp_path))
    assert (outcome.added, outcome.updated, outcome.unchanged, outcome.skipped) == (1, 0, 1, [])
    database.close()
