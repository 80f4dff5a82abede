"""Pasted Daily Papers pages: what is written out is read back, whatever is missing or stands between."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paste_grammar import Layout, Written, write_page

from paperworks.page.database import open_database
from paperworks.page.feed import IncomingPaper
from paperworks.page.feed.importers import import_source
from paperworks.page.feed.importers.dates import read_date
from paperworks.page.feed.importers.paste import parse_page
from paperworks.page.settings import Settings

TODAY = date(2026, 11, 23)
PAGES = sorted((Path(__file__).parent / "pages").glob("*.txt"))
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
    assert (outcome.added, outcome.updated, outcome.unchanged, outcome.skipped) == (1, 0, 0, [])
    database.close()


def reading(paper: IncomingPaper) -> dict:
    """What the test data say of a paper."""
    plain = asdict(paper)
    names = ("title", "abstract", "organisation", "author_count", "published", "listed", "upvotes", "comments")
    return {n: plain[n].isoformat() if isinstance(plain[n], date) else plain[n] for n in names}


@pytest.mark.parametrize("page", PAGES, ids=[p.stem for p in PAGES])
def test_pages_with_the_right_reading_beside_them(page: Path) -> None:
    right = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    found, skipped = parse_page(page.read_bytes().decode(), date.fromisoformat(right["today"]))
    assert [reading(paper) for paper in found] == right["papers"]
    assert skipped == []


def test_there_are_twenty_pages() -> None:
    assert len(PAGES) == 20


names = st.sampled_from(["ETH Zürich", "ByteDance", "清华大学", "Meta AI & Friends", "deepseek-ai", "IBM"])
headers = st.none() | st.dates(TODAY - timedelta(days=300), TODAY)


@st.composite
def written_papers(draw: st.DrawFn, bound: date) -> Written:
    organisation = draw(st.none() | names)
    style = draw(st.integers(0, 4))
    back = draw(st.integers(0, 300 if style == 1 else 3000))  # without a year: the latest such day
    return Written(
        draw(titles),
        draw(abstracts),
        organisation,
        draw(st.integers(1, 900)) if organisation is None else None,
        bound - timedelta(days=back),
        draw(st.integers(0, 1800)),  # "Jan 26 1950" is a day of that year
        draw(st.integers(1, 5000)) if (ups := draw(st.booleans())) else 0,
        draw(st.sampled_from(["", "line", "same line", "glued", "avatar"])),
        style,
        draw(st.sampled_from(["line", "with date", "words", "dots", "none"])),
        draw(st.sampled_from(["", "akhaliq", "Jane Doe"])),
        ups and draw(st.booleans()),
    )


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_pages_of_the_grammar_are_read_back(data: st.DataObject) -> None:
    header_day = data.draw(headers)
    width, gap = data.draw(
        st.sampled_from([(0, "\n\n"), (0, "\n"), (0, "\n\n\n"), (0, "\n \n\t\n"), (72, "\n\n"), (60, "\n\n\n")])
    )
    layout = Layout(
        header_day,
        header_day is not None and data.draw(st.booleans()),
        data.draw(st.sampled_from(["byAK and the research community", "by Ada B. and the research community"])),
        width,
        gap,
        data.draw(st.sampled_from(["\n", "\r\n"])),
        data.draw(st.booleans()),
        True,
        data.draw(st.booleans()),
    )
    papers = data.draw(st.lists(written_papers(header_day or TODAY), min_size=1, max_size=4))
    found, skipped = parse_page(write_page(papers, layout), TODAY)
    assert [reading(paper) for paper in found] == [paper.reading(header_day) for paper in papers]
    assert skipped == []


def test_an_organisation_below_the_widest_line_is_no_part_of_the_abstract() -> None:
    abstract = "A method that is " + "very " * 20 + "good."
    (paper,), skipped = parse_page(f"A paper\n{abstract}\nETH Zürich\nJan 27, 2026\n0\n", date(2026, 11, 23))
    assert (paper.abstract, paper.organisation, skipped) == (abstract, "ETH Zürich", [])


def test_a_title_that_begins_as_a_button_does_is_a_title() -> None:
    text = "Search-R1: Training Models to Search\n\n" + "An abstract of a paper about search. " * 9 + "\n\n3 authors"
    (paper,), _ = parse_page(text, TODAY)
    assert (paper.title, paper.author_count) == ("Search-R1: Training Models to Search", 3)
