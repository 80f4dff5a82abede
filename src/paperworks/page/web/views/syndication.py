"""What other programs read: Atom feeds of every list, the sitemap, robots.txt."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, date, datetime, time
from math import ceil
from xml.etree import ElementTree

from fastapi import APIRouter
from sqlalchemy import func, select
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from paperworks.page.database import Entry, now
from paperworks.page.feed import list_entries
from paperworks.page.links import paper_path
from paperworks.page.tex import to_plain
from paperworks.page.web.deps import Page, ThePage
from paperworks.page.web.filters import Filters, TheFilters

router = APIRouter()

ATOM = "http://www.w3.org/2005/Atom"
SITEMAP = "http://www.sitemaps.org/schemas/sitemap/0.9"
PER_FEED = 50
PER_SITEMAP = 40_000
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
PLACES = ("/", "/tags", "/about", "/api")

ElementTree.register_namespace("", ATOM)


@router.get(
    "/feed.atom",
    response_class=Response,
    responses={
        200: {"content": {"application/atom+xml": {"schema": {"type": "string"}}}},
        304: {"description": "nothing has changed since the ETag that was sent"},
        422: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "a filter that does not fit"},
    },
    tags=["papers"],
    summary="A list of the page as an Atom feed",
)
def atom(request: Request, page: ThePage, filters: TheFilters) -> Response:
    """The newest 50 entries of the list with these filters."""
    with page.database.reading() as session:
        found = list_entries(session, filters.newest_first().query(limit=PER_FEED))
    content = _atom(page, filters, found.entries)
    tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    headers = {"ETag": tag, "Cache-Control": "public, max-age=300"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="application/atom+xml; charset=utf-8", headers=headers)


@router.get("/sitemap.xml", include_in_schema=False)
def sitemap(page: ThePage) -> Response:
    """All addresses that are worth finding; an index of sitemaps where there are too many for one."""
    with page.database.reading() as session:
        total = session.scalar(select(func.count()).select_from(Entry).where(Entry.hidden.is_(False))) or 0
    if total <= PER_SITEMAP:
        return _sitemap(page, 0)
    root = ElementTree.Element("sitemapindex", xmlns=SITEMAP)
    for number in range(ceil(total / PER_SITEMAP)):
        part = ElementTree.SubElement(root, "sitemap")
        ElementTree.SubElement(part, "loc").text = f"{page.settings.address()}/sitemap-{number}.xml"
    return _xml(root)


@router.get("/sitemap-{number:int}.xml", include_in_schema=False)
def part_of_sitemap(page: ThePage, number: int) -> Response:
    """One part of a large sitemap."""
    if number > 10_000:
        raise HTTPException(404)
    return _sitemap(page, number)


@router.get("/robots.txt", include_in_schema=False)
def robots(page: ThePage) -> Response:
    """What crawlers may read: on one's own machine nothing, else all but pages of accounts and endless lists."""
    if not page.settings.public:
        return PlainTextResponse("User-agent: *\nDisallow: /\n")
    closed = ("/search", "/account", "/bookmarks", "/following", "/log-in", "/sign-up", "/forgotten", "/runs", "/*?")
    lines = ["User-agent: *", *(f"Disallow: {path}" for path in closed)]
    return PlainTextResponse("\n".join([*lines, f"Sitemap: {page.settings.address()}/sitemap.xml", ""]))


def _atom(page: Page, filters: Filters, entries: list[Entry]) -> bytes:
    address = page.settings.address()
    root = ElementTree.Element(f"{{{ATOM}}}feed")
    changed = max((entry.updated for entry in entries), default=datetime.combine(date(2026, 1, 1), time(), UTC))
    _add(root, "id", address + filters.path("/feed.atom"))
    _add(root, "title", _title(filters))
    _add(root, "updated", changed.isoformat(timespec="seconds"))
    _add(root, "generator", "Paperworks")
    _add(root, "link", rel="self", type="application/atom+xml", href=address + filters.path("/feed.atom"))
    _add(root, "link", rel="alternate", type="text/html", href=address + filters.path("/"))
    for entry in entries:
        item = _add(root, "entry")
        link = address + paper_path(entry)
        _add(item, "id", link)
        _add(item, "title", ("Withdrawn: " if entry.withdrawn else "") + to_plain(entry.title))
        _add(item, "link", rel="alternate", type="text/html", href=link)
        if entry.arxiv:
            _add(item, "link", rel="related", href=f"https://arxiv.org/abs/{entry.arxiv}")
        if entry.published or entry.listed_known:
            _add(item, "published", datetime.combine(entry.published or entry.listed, time(), UTC).isoformat())
        _add(item, "updated", entry.updated.isoformat(timespec="seconds"))
        for name in entry.authors or ([entry.organisation] if entry.organisation else ["unknown"]):
            _add(_add(item, "author"), "name", name)
        for tag in entry.tag_names:
            _add(item, "category", term=tag)
        evidence = page.evidence.get(entry.slug or "")
        verdict = f" ({evidence.words})" if evidence is not None and entry.works else ""
        _add(item, "summary", (evidence.paper.purpose if evidence else to_plain(entry.text)) + verdict)
    return b"<?xml version='1.0' encoding='utf-8'?>\n" + ElementTree.tostring(root, encoding="utf-8")


def _title(filters: Filters) -> str:
    parts = [", ".join(filters.tag), filters.organisation, "works here" if filters.works else ""]
    narrowed = "; ".join(p for p in parts if p)
    return f"Paperworks: {narrowed}" if narrowed else "Paperworks"


def _sitemap(page: Page, number: int) -> Response:
    query = select(Entry.id, Entry.arxiv, Entry.updated).where(Entry.hidden.is_(False)).order_by(Entry.id)
    with page.database.reading() as session:
        rows = session.execute(query.offset(number * PER_SITEMAP).limit(PER_SITEMAP)).all()
    address = page.settings.address()
    root = ElementTree.Element("urlset", xmlns=SITEMAP)
    for path in PLACES if number == 0 else ():
        ElementTree.SubElement(ElementTree.SubElement(root, "url"), "loc").text = address + path
    for row in rows:
        url = ElementTree.SubElement(root, "url")
        ElementTree.SubElement(url, "loc").text = address + paper_path(row)
        ElementTree.SubElement(url, "lastmod").text = min(row.updated, now()).date().isoformat()
    return _xml(root)


def _xml(root: ElementTree.Element) -> Response:
    content = b"<?xml version='1.0' encoding='utf-8'?>\n" + ElementTree.tostring(root, encoding="utf-8")
    return Response(content, media_type="application/xml", headers={"Cache-Control": "public, max-age=3600"})


def _add(parent: ElementTree.Element, name: str, text: str | None = None, **attributes: str) -> ElementTree.Element:
    """An element of Atom; characters that XML cannot hold are left out."""
    plain = {key: _NOT_XML.sub("", value) for key, value in attributes.items()}
    element = ElementTree.SubElement(parent, f"{{{ATOM}}}{name}", plain)
    if text is not None:
        element.text = _NOT_XML.sub("", text)
    return element
