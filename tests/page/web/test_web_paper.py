"""A paper's page: claims, pictures, runs, addresses; what papers say is text."""

from __future__ import annotations

import html
import re
from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from web_helpers import Browser

from catalogue_papers import measured_paper
from paperworks.page.cache import LRUCache
from paperworks.page.database import Entry, Job, now
from paperworks.page.web import bibtex


def test_a_papers_page_shows_its_claims_beside_what_was_measured(local: Browser) -> None:
    paper = measured_paper()
    text = local.get(f"/papers/{paper.arxiv}").text
    shown = re.findall(r'<li class="claim (\w+)" id="claim-([\w-]+)">', text)
    styles = {
        "holds": "holds",
        "partly tested": "partly",
        "does not hold": "fails",
        "not tested here": "untested",
        "not measured": "unmeasured",
    }
    assert sorted(shown) == sorted((styles[verdict], claim) for claim, verdict in paper.verdicts().items())
    folded = text.partition('<details class="other-claims">')[2].partition("</details>\n")[0]
    first = text.partition('<details class="other-claims">')[0]
    assert first.count('<li class="claim ') == min(3, len(paper.claims)), "the discussion is not far below them"
    assert f"{len(paper.claims) - 3} more claim" in folded or len(paper.claims) <= 3
    assert text.count('<div class="found') == len(paper.findings)
    bar = re.search(r'<svg class="claims-bar".*?</svg>', text, re.DOTALL)
    assert bar is not None
    assert bar[0].count("h9v8h-9z") == len(paper.claims)
    held = re.search(r'<path class="holds" d="([^"]*)"', bar[0])
    assert (held[1].count("M") if held else 0) == paper.claims_held
    assert f"{paper.claims_held} of {len(paper.claims)} claims hold here" in text
    assert f'href="/papers/{paper.arxiv}/run"' in text
    assert f"paperworks run {paper.slug}" in text
    assert text.count('class="similar"') == 1


@pytest.mark.parametrize("name", ["{0.slug}", "{0.arxiv}v2"])
def test_other_names_of_a_paper_lead_to_its_address(local: Browser, name: str) -> None:
    paper = measured_paper()
    answer = local.get(f"/papers/{name.format(paper)}", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (301, f"/papers/{paper.arxiv}")


def test_a_paper_without_an_arxiv_id_has_an_address(local: Browser) -> None:
    with local.page.database.reading() as session:
        entry = session.scalar(select(Entry).where(Entry.key == "test:3"))
    assert entry is not None
    assert entry.title in local.get(f"/papers/p{entry.id}").text


def test_what_papers_say_is_text_and_never_markup(local: Browser) -> None:
    for path in ("/papers/2611.88888", "/?sort=date&period=month&start=2026-10-11", "/search?q=alert", "/tags"):
        html = local.get(path).text
        assert "<script>" not in html
        assert "<img src=x" not in html
        assert "<svg onload" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in local.get("/papers/2611.88888").text


def test_the_newest_public_run_is_shown_and_no_private_one(local: Browser) -> None:
    paper = measured_paper()
    with local.page.database.session() as session:
        entry = session.scalar(select(Entry).where(Entry.slug == paper.slug))
        assert entry is not None
        for job_id, message, uploads, status, age in (
            ("1" * 32, "an old headline", [], "finished", 3),
            ("2" * 32, "the newest public headline", [], "finished", 2),
            ("3" * 32, "of a private file", ["f" * 32], "finished", 1),
            ("4" * 32, "it broke", [], "failed", 0),
        ):
            when = now() - timedelta(hours=age)
            session.add(
                Job(
                    id=job_id,
                    entry_id=entry.id,
                    slug=paper.slug,
                    config={},
                    uploads=uploads,
                    status=status,
                    message=message,
                    finished=when,
                )
            )
    html = local.get(f"/papers/{paper.arxiv}").text
    assert "the newest public headline" in html
    assert f'href="/runs/{"2" * 32}"' in html
    assert "private file" not in html
    assert "it broke" not in html


def test_formulas_and_withdrawn_papers_are_shown(local: Browser) -> None:
    html = local.get("/papers/2611.77777").text
    assert "<h1>Sorting in <math>" in html
    assert "withdrawn by its authors" in html
    assert "&lt;b&gt;" in html
    assert "<title>Sorting in 𝒪(n^2) &amp; more" in html
    assert "Withdrawn: Sorting in" in local.get("/feed.atom?period=month&start=2026-08-15").text


def test_a_paper_that_ships_a_picture_shows_it(local: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = measured_paper()
    picture = tmp_path / "figure.png"
    picture.write_bytes(b"\x89PNG")
    monkeypatch.setitem(local.page.figures, paper.slug, (picture, f"/figures/{paper.slug}.abc.png"))
    local.page.cards = LRUCache(10)
    shown = f'src="/figures/{paper.slug}.abc.png" alt="{html.escape(paper.figure_alt)}"'
    assert shown in local.get(f"/papers/{paper.arxiv}").text
    assert shown in local.get(f"/search?q={paper.title}&mode=words").text
    answer = local.get(f"/figures/{paper.slug}.abc.png")
    assert (answer.content, answer.headers["content-type"]) == (b"\x89PNG", "image/png")
    assert local.get("/figures/..%2Fpaper.toml").status_code == 404
    local.page.cards = LRUCache(10)


def test_a_paper_is_cited_as_bibtex(visitor: Browser) -> None:
    paper = measured_paper()
    answer = visitor.get(f"/papers/{paper.arxiv}.bib")
    assert answer.headers["content-type"] == "application/x-bibtex; charset=utf-8"
    assert answer.text.startswith("@misc{")
    assert f"  author = {{{' and '.join(paper.author_names)}}},\n" in answer.text
    assert f"  eprint = {{{paper.arxiv}}},\n" in answer.text
    page = visitor.get(f"/papers/{paper.arxiv}").text
    assert html.unescape(page.partition('<code id="citation">')[2].partition("</code>")[0]) == answer.text
    for path, status in (("/papers/2611.99999.bib", 404), ("/papers/none.bib", 404)):
        refused = visitor.get(path)
        assert (refused.status_code, refused.headers["content-type"].split(";")[0]) == (status, "text/plain")


@pytest.mark.parametrize(
    ("title", "authors", "lines"),
    [
        ("Gain of 5 % & more_words #1", ["Ada Lovelace"], ["lovelace2020gain", r"{{Gain of 5 \% \& more\_words \#1}}"]),
        ("On $O(n_1)$ bits", [], ["2020bits", "{{On $O(n_1)$ bits}}"]),
        ("Costs $5", ["Gauß"], ["gau2020costs", r"{{Costs \$5}}"]),
        ("Braces } that {do not pair", ["Lee, Jr"], ["jr2020braces", "{{Braces that do not pair}}", "{{Lee, Jr}}"]),
        ("多言語", ["Research and Sons"], ["sons2020", "{{Research and Sons}}"]),
    ],
)
def test_titles_and_names_are_written_for_tex(title: str, authors: list[str], lines: list[str]) -> None:
    entry = Entry(id=7, title=title, authors=authors, published=date(2020, 1, 2), arxiv="2001.00001", url="")
    text = bibtex.write(entry)
    assert text.startswith(f"@misc{{{lines[0]},\n")
    assert all(line in text for line in lines[1:])
    assert text.count("{") - text.count("\\{") == text.count("}") - text.count("\\}")
