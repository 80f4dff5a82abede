"""How the page works: what "works" means, what trends; and the documentation of the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from paperworks.page.feed import FeedQuery, list_entries, trend
from paperworks.page.links import paper_id
from paperworks.page.web.deps import ThePage, render

router = APIRouter(include_in_schema=False)

EXAMPLES = {
    "/api/daily_papers": "/api/daily_papers?sort=trending&limit=5",
    "/api/papers/search": "/api/papers/search?q=make+a+language+model+smaller&limit=5",
    "/api/papers/{paper_id}": "/api/papers/{shown}",
    "/papers/{paper_id}.md": "/papers/{shown}.md",
    "/papers/{paper_id}.bib": "/papers/{shown}.bib",
    "/feed.atom": "/feed.atom?works=1",
}
"""A request of each route; ``{shown}`` stands for the id of a paper that is here."""


KINDS = {"integer": "number", "boolean": "true or false", "string": "text", "date": "day", "date-time": "time"}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a route, as the documentation shows it."""

    name: str
    kind: str
    default: str
    description: str


@dataclass(frozen=True)
class Route:
    """A route of the API, as the documentation shows it."""

    path: str
    summary: str
    description: str
    example: str
    parameters: tuple[Parameter, ...]
    answers: tuple[tuple[str, str], ...]


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


@router.get("/api")
def api(request: Request, page: ThePage) -> Response:
    """The documentation of the API, from the same document that programs read."""
    schema = request.app.openapi()
    with page.database.reading() as session:
        newest = list_entries(session, FeedQuery(limit=1)).entries
    shown = paper_id(newest[0]) if newest else "2401.15024"
    fields = schema["components"]["schemas"]["Paper"]["properties"]
    return render(
        request,
        "about/api.html",
        routes=[_route(path, methods["get"], shown) for path, methods in schema["paths"].items() if "get" in methods],
        shown=shown,
        fields=[(name, _kind(about), about.get("description", "")) for name, about in fields.items()],
        address=page.settings.address(),
    )


def _route(path: str, about: dict[str, Any], shown: str) -> Route:
    answers = ((code, answer.get("description", "")) for code, answer in about.get("responses", {}).items())
    return Route(
        path=path,
        summary=about.get("summary", ""),
        description=about.get("description", ""),
        example=EXAMPLES.get(path, path).replace("{shown}", shown),
        parameters=tuple(_parameter(one) for one in about.get("parameters", ())),
        answers=tuple((code, "the answer" if code == "200" else text) for code, text in answers),
    )


def _parameter(about: dict[str, Any]) -> Parameter:
    schema = about["schema"]
    default = "required" if about.get("required") else str(schema.get("default") or "")
    return Parameter(about["name"], _kind(schema), default, about.get("description", schema.get("description", "")))


def _kind(schema: dict[str, Any]) -> str:
    """The type of a value in words."""
    if "enum" in schema:
        return " or ".join(str(value) or "nothing" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join("nothing" if one.get("type") == "null" else _kind(one) for one in schema["anyOf"])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    names = {"integer": "number", "boolean": "true or false", "string": "text"}
    plain = {"date": "day", "date-time": "time"}.get(
        schema.get("format", ""), names.get(schema.get("type", ""), "value")
    )
    low, high = schema.get("minimum"), schema.get("maximum")
    return f"{plain}, {low} to {high}" if low is not None and high is not None else plain
