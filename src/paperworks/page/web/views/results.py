"""What was measured here, across all papers: one table, filtered and sorted by its address, and the same as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from paperworks.page.web.addresses import with_query
from paperworks.page.web.deps import Page, ThePage, render
from paperworks.page.web.evidence import Measurement, measured
from paperworks.runs.render import verdict_text

router = APIRouter(include_in_schema=False)

PER_PAGE = 100
ROWS_SECONDS = 3600.0
Order = Literal["paper", "claim", "measured", "margin", "verdict"]
Verdict = Literal["", "holds", "does not hold", "not decided"]
Kind = Literal["", "exact", "empirical"]


@dataclass(frozen=True)
class Row:
    """One finding, with its paper and claim. ``margin`` is a share of the bound where that is not 0."""

    slug: str
    title: str
    arxiv: str
    tags: tuple[str, ...]
    claim: str
    claimed: str
    found: Measurement
    verdict: str
    figure: float
    margin: float

    @property
    def short(self) -> str:
        """The title up to its colon."""
        return self.title.partition(":")[0]

    def text(self) -> str:
        """What the words of a filter are looked for in."""
        return " ".join((self.title, self.claim, self.found.statement, *self.tags)).lower()


KEYS: dict[str, Callable[[Row], Any]] = {
    "paper": lambda row: (row.title.lower(), row.claim),
    "claim": lambda row: row.claim.lower(),
    "measured": lambda row: row.figure,
    "margin": lambda row: row.margin,
    "verdict": lambda row: row.verdict,
}


@router.get("/results")
def results(
    request: Request,
    page: ThePage,
    q: Annotated[str, Query(max_length=400)] = "",
    tag: Annotated[str, Query(max_length=100)] = "",
    verdict: Verdict = "",
    kind: Kind = "",
    sort: Order = "paper",
    down: bool = False,
    part: Annotated[int, Query(ge=1, le=10_000)] = 1,
) -> Response:
    """The findings that fit, a hundred at a time."""
    rows = chosen(all_rows(page), q, tag, verdict, kind, sort, down)
    asked: dict[str, Any] = {"q": q, "tag": tag, "verdict": verdict, "kind": kind}
    kept = {name: value for name, value in asked.items() if value}
    start = (part - 1) * PER_PAGE
    more = with_query("/results", **kept, sort=sort, **({"down": "1"} if down else {}), part=part + 1)
    return render(
        request,
        "results/results.html",
        rows=rows[start : start + PER_PAGE],
        total=len(rows),
        start=start,
        held=sum(row.found.holds for row in rows),
        papers=len({row.slug for row in rows}),
        asked={**asked, "sort": sort, "down": down},
        heads={name: with_query("/results", **kept, sort=name, **_turned(name, sort, down)) for name in KEYS},
        tags=sorted({name for row in all_rows(page) for name in row.tags}),
        more=more if start + PER_PAGE < len(rows) else "",
        csv=with_query("/results.csv", **kept),
    )


@router.get("/results.csv")
def results_csv(
    page: ThePage,
    q: Annotated[str, Query(max_length=400)] = "",
    tag: Annotated[str, Query(max_length=100)] = "",
    verdict: Verdict = "",
    kind: Kind = "",
) -> Response:
    """All findings that fit, as a table for other tools."""
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(
        [
            "paper",
            "arxiv",
            "claim",
            "the paper's figure",
            "finding",
            "kind",
            "measured",
            "needed",
            "baseline",
            "verdict",
        ]
    )
    for row in chosen(all_rows(page), q, tag, verdict, kind, "paper", False):
        table.writerow(
            [
                _plain(cell)
                for cell in (row.title, row.arxiv, row.claim, row.claimed, row.found.statement, row.found.kind)
            ]
            + [_plain(c) for c in (row.found.measured, row.found.compared, row.found.baseline, row.verdict)]
        )
    headers = {"Content-Disposition": 'attachment; filename="paperworks-results.csv"'}
    return Response(out.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def all_rows(page: Page) -> list[Row]:
    """Every finding of every paper that was measured."""
    return page.cached("results", ROWS_SECONDS, lambda: _rows(page))


def _rows(page: Page) -> list[Row]:
    rows = []
    for evidence in page.evidence.values():
        paper = evidence.paper
        claims = {claim.id: claim for claim in paper.claims}
        for finding in paper.findings:
            claim = claims.get(finding["claim"])
            if claim is None:
                continue
            rows.append(
                Row(
                    paper.slug,
                    paper.title,
                    paper.arxiv or "",
                    tuple(paper.tags),
                    claim.statement,
                    claim.value,
                    measured(finding),
                    verdict_text(finding),
                    _number(finding["measured"]),
                    _share(finding),
                )
            )
    return rows


def chosen(rows: list[Row], q: str, tag: str, verdict: str, kind: str, sort: str, down: bool) -> list[Row]:
    """The rows that have all words, the tag, the verdict and the kind; sorted, those without a figure last."""
    words = q.lower().split()
    fitting = [
        row
        for row in rows
        if all(word in row.text() for word in words)
        and (not tag or tag in row.tags)
        and (not verdict or row.verdict == verdict)
        and (not kind or row.found.kind == kind)
    ]
    key = KEYS[sort]
    missing = [row for row in fitting if isinstance(key(row), float) and math.isnan(key(row))]
    known = [row for row in fitting if row not in missing]
    return sorted(known, key=key, reverse=down) + missing


def _turned(name: str, sort: str, down: bool) -> dict[str, str]:
    """A second press on a column's head turns the order."""
    return {"down": "1"} if name == sort and not down else {}


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _share(finding: dict[str, Any]) -> float:
    margin, bound = _number(finding["margin"]), abs(_number(finding["bound"]))
    return margin / bound if bound and math.isfinite(bound) else margin


def _plain(cell: str) -> str:
    """A cell that a spreadsheet does not take for a formula."""
    return f"'{cell}" if cell[:1] in ("=", "+", "@") or (cell[:1] == "-" and not cell[1:2].isdigit()) else cell
