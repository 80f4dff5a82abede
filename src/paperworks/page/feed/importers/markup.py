"""Reading XML and HTML that strangers wrote."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from paperworks.errors import InputError

ATOM = "{http://www.w3.org/2005/Atom}"
HIDDEN_TAGS = ("script", "style")


def read_xml(content: bytes, what: str) -> Element:
    """The root element. Raises InputError for what is not XML, or has a document type that declares entities."""
    try:
        return ElementTree.fromstring(content)
    except (ParseError, ValueError, LookupError) as error:
        if isinstance(error, DefusedXmlException):
            raise InputError(what, "XML that declares entities", "XML without a document type of its own") from None
        raise InputError(what, f"text that is not XML ({error})", "an RSS or Atom document") from None


def text_of(element: Element | None) -> str:
    """All text inside an element, or an empty string."""
    return "" if element is None else "".join(element.itertext()).strip()


def plain_text(markup: str) -> str:
    """The text of HTML, without its tags, scripts and styles."""
    if "<" not in markup and "&" not in markup:
        return markup
    reader = _TextReader()
    reader.feed(markup)
    reader.close()
    return re.sub(r"\s+", " ", "".join(reader.parts)).strip()


class _TextReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in HIDDEN_TAGS
        if tag in ("p", "br", "div", "li", "tr", "h1", "h2", "h3"):
            self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = max(0, self._hidden - (tag in HIDDEN_TAGS))

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def read_day(text: str | None) -> date | None:
    """The day, in UTC, of an ISO 8601 or RFC 822 date; None for anything else."""
    stripped = (text or "").strip()
    if not stripped:
        return None
    try:
        moment = datetime.fromisoformat(stripped.replace("Z", "+00:00"))
    except ValueError:
        try:
            moment = parsedate_to_datetime(stripped)
        except (TypeError, ValueError):
            return None
    try:
        return (moment.astimezone(UTC) if moment.tzinfo else moment).date()
    except (OverflowError, ValueError):
        return None
