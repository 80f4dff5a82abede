"""Pruning methods at the same budgets, as they were measured here: one table a budget, sorted by its address."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from paperworks.comparison.measured import measured
from paperworks.page.web.addresses import with_query
from paperworks.page.web.deps import ThePage, render

router = APIRouter(include_in_schema=False)

Order = Literal["method", "after", "before", "parameters", "macs", "cache", "prefill ratio", "decode ratio", "seconds"]
HEADS: dict[Order, str] = {
    "method": "Method",
    "after": "Perplexity after the same steps",
    "before": "Right after pruning",
    "parameters": "Parameters",
    "macs": "Operations",
    "cache": "Cache",
    "prefill ratio": "Reading, times dense",
    "decode ratio": "Writing, times dense",
    "seconds": "Pruning took",
}
DENSE = "dense"


@router.get("/comparisons")
def comparisons(request: Request, page: ThePage, sort: Order = "after", down: bool = False) -> Response:
    """What shrinks a language model best: every method at each budget."""
    figures = measured()
    tables = [(_share(target), *_table(rows, sort, down)) for target, rows in figures.budgets]
    turned = {name: {"down": "1"} if name == sort and not down else {} for name in HEADS}
    return render(
        request,
        "results/comparisons.html",
        figures=figures,
        tables=tables,
        heads=[(name, text, with_query("/comparisons", sort=name, **turned[name])) for name, text in HEADS.items()],
        asked={"sort": sort, "down": down},
        paper_of=page.papers.get,
    )


def _table(rows: tuple[dict[str, Any], ...], sort: Order, down: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The dense model, and the methods in order, with their sizes as shares of its."""
    dense = next(row for row in rows if row["method"] == DENSE)
    methods = sorted((row for row in rows if row is not dense), key=lambda row: row[sort], reverse=down)
    shares = [{f"{name} share": row[name] / dense[name] for name in ("parameters", "macs", "cache")} for row in methods]
    return dense, [row | share for row, share in zip(methods, shares, strict=True)]


def _share(target: str) -> str:
    """A target as on the command line (``0.75p``) in words."""
    return f"{target.removesuffix('p')} of the prunable parameters"
