"""Findings across papers: what is listed, filtered, sorted and taken away as CSV."""

from __future__ import annotations

import csv
import io
import re
from html import unescape
from pathlib import Path

import pytest
from web_helpers import Browser

from paperworks import catalog
from paperworks.comparison.measured import measured

ROOT = Path(__file__).parents[3]


def shown(text: str, column: int) -> list[str]:
    rows = re.findall(r"<tr>\s*(.*?)\s*</tr>", text.partition("<tbody>")[2], re.S)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.S)[column] for row in rows]
    return [unescape(re.sub(r"<[^>]+>", " ", cell)).strip() for cell in cells]


def short(title: str) -> str:
    return title.partition(":")[0]


def test_every_finding_of_every_paper_is_in_the_csv(visitor: Browser) -> None:
    answer = visitor.get("/results.csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    findings = [f for paper in catalog.papers() for f in paper.findings]
    assert answer.headers["content-type"].startswith("text/csv")
    assert len(rows) == len(findings) > 100
    assert sum(row["verdict"] == "does not hold" for row in rows) == sum(not f["holds"] for f in findings)
    assert {row["finding"].lstrip("'") for row in rows} == {f["statement"].strip() for f in findings}


def test_filters_keep_what_fits_and_nothing_else(visitor: Browser) -> None:
    failing = visitor.get("/results?verdict=does+not+hold&kind=empirical&sort=claim")
    assert set(shown(failing.text, 5)) == {"does not hold"}
    words = visitor.get("/results?q=held-out+accuracy").text
    tags = {short(paper.title): f"{paper.title} {' '.join(paper.tags)}" for paper in catalog.papers()}
    for title, text in zip(shown(words, 0), shown(words, 1), strict=True):
        assert all(word in f"{title} {text} {tags[title]}".lower() for word in ("held-out", "accuracy"))
    tagged = {short(paper.title) for paper in catalog.papers() if "pruning" in paper.tags}
    assert set(shown(visitor.get("/results?tag=pruning").text, 0)) <= tagged
    assert "No finding fits" in visitor.get("/results?q=zzzz").text


def test_columns_sort_both_ways_and_pages_follow_each_other(visitor: Browser) -> None:
    up, down = (visitor.get(f"/results?sort=paper{end}").text for end in ("", "&down=1"))
    first, last = shown(up, 0), shown(down, 0)
    assert first == sorted(first, key=str.lower)
    assert last == sorted(last, key=str.lower, reverse=True)
    assert 'aria-sort="ascending"' in up
    assert 'aria-sort="descending"' in down
    more = re.search(r'class="more"><a class="button quiet" href="([^"]+)"', up)
    assert more is not None
    second = shown(visitor.get(unescape(more[1])).text, 0)
    assert second[0].lower() >= first[-1].lower()
    margins = [
        float(text.rstrip("%").replace(",", "")) for text in shown(visitor.get("/results?sort=margin").text, 4)[:20]
    ]
    assert margins[0] < 0


@pytest.mark.parametrize("query", ["sort=price", "verdict=maybe", "part=0", "q=" + "x" * 401])
def test_what_the_table_does_not_have_is_refused(visitor: Browser, query: str) -> None:
    assert visitor.get(f"/results?{query}").status_code in (400, 404, 422)


def test_words_are_text(visitor: Browser) -> None:
    answer = visitor.get("/results", params={"q": '"><script>alert(1)</script>'})
    assert "<script>alert" not in answer.text


def test_methods_at_one_budget_are_ranked_as_they_were_measured(visitor: Browser) -> None:
    text = visitor.get("/comparisons").text
    assert "/comparisons" in visitor.get("/results").text
    figures = measured()
    assert text.count("<table") == len(figures.budgets) == 2
    for (_, rows), part in zip(figures.budgets, text.split("<table")[1:], strict=True):
        methods = sorted((row for row in rows if row["method"] != "dense"), key=lambda row: row["after"])
        assert [name.split()[0] for name in shown(part, 0)] == [row["method"] for row in methods]
        assert [float(cell.split()[0]) for cell in shown(part, 1)] == [round(row["after"], 2) for row in methods]
    linked = set(re.findall(r'<td><a href="/papers/([^"]+)"', text))
    assert linked == {paper.arxiv for paper in catalog.papers()} & linked
    assert len(linked) >= 1


def test_comparisons_sort_by_every_column(visitor: Browser) -> None:
    for name in ("method", "before", "parameters", "macs", "cache", "prefill ratio", "decode ratio", "seconds"):
        text = visitor.get("/comparisons", params={"sort": name, "down": "1"}).text
        (_, rows), *_ = measured().budgets
        best = max((row for row in rows if row["method"] != "dense"), key=lambda row: row[name])
        assert shown(text.split("<table")[1], 0)[0].split()[0] == best["method"]
        assert text.count('aria-sort="descending"') == 2
    assert visitor.get("/comparisons?sort=colour").status_code == 422


@pytest.mark.skipif(catalog.checkout() is None, reason="not a checkout")
def test_the_figures_are_those_of_the_benchmarks_tables() -> None:
    """The file and the tables come from one run: each perplexity of the file stands in the tables."""
    text = (ROOT / "docs" / "benchmarks" / "compare-methods-tables.md").read_text(encoding="utf-8")
    assert f"`{measured().command}`" in text
    for target, rows in measured().budgets:
        part = text.partition(f"## {target.removesuffix('p')} of")[2].partition("\n## ")[0]
        for row in rows:
            (line,) = re.findall(rf"^\| {row['method']} \| {row['steps']} \| .*$", part, re.MULTILINE)[:1]
            cells = [float(cell) for cell in line.split("|")[3:7]]
            wanted = [row[name] for name in ("before", "before spread", "after", "after spread")]
            assert cells == pytest.approx(wanted, rel=1e-3)
