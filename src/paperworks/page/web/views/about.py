"""How the page works: what "works" means, what trends, the API."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from paperworks.page.feed import trend
from paperworks.page.web.deps import ThePage, render

router = APIRouter(include_in_schema=False)


@router.get("/about")
def about(request: Request, page: ThePage) -> Response:
    """The explanation, with the formula and the numbers that the code uses."""
    evidence = list(page.evidence.values())
    counted = {
        "papers": len(evidence),
        "working": sum(e.paper.works for e in evidence),
        "claims": sum(e.total for e in evidence),
        "held": sum(e.held for e in evidence),
    }
    return render(request, "about/about.html", trend=trend, counted=counted, address=page.settings.address())
