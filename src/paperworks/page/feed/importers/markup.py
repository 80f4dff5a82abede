"""Reading XML and HTML that strangers wrote."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from html.entities import html5
from html.parser import HTMLParser
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from paperworks.errors import InputError

ATOM = "{http://www.w3.org/2005/Atom}"
HIDDEN_TAGS = ("script", "style")
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DECLARATION = re.compile(r"<\?xml\b[^>]*\?>")
_CDATA = re.compile(r"(<!\[CDATA\[.*?\]\]>)", re.DOTALL)
_AMPERSAND = re.compile(r"&(?:(#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);)?")


def read_xml(content: bytes, what: str) -> Element:
    """The root element of XML, as far as it can be read.

    What many feeds have, and XML does not allow, is mended: bytes that are not of the declared encoding, control
    characters, a bare ``&``, HTML's entities, blanks at the start; and, by libxml2, elements that do not end. Raises
    InputError for what has no element, and for a document type that declares entities.
    """
    text = _mended(_decoded(content))
    if "<!ENTITY" in text:
        raise InputError(what, "XML that declares entities", "XML without a document type of its own")
    try:
        return ElementTree.fromstring(text)
    except (ParseError, ValueError) as error:
        if isinstance(error, DefusedXmlException):
            raise InputError(what, "XML that declares entities", "XML without a document type of its own") from None
        root = _recovered(text)
        if root is None:
            raise InputError(what, f"text that is not XML ({error})", "an RSS or Atom document") from None
        return root


def _decoded(content: bytes) -> str:
    """The text of a document, in its declared encoding; a byte that is not of it becomes U+FFFD."""
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig")):
        if content.startswith(mark):
            return content.decode(encoding, "replace")
    declared = re.match(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.:-]+)", content[:400])
    name = declared[1].decode() if declared else "utf-8"
    try:
        return content.decode(name, "replace")
    except LookupError:
        return content.decode("utf-8", "replace")


def _mended(text: str) -> str:
    begin = text.find("<")
    text = _DECLARATION.sub("", _NOT_XML.sub("", text[begin:] if begin >= 0 else text), count=1)
    # Between the marks of CDATA an ampersand stands for itself.
    parts = _CDATA.split(text)
    return "".join(part if n % 2 else _AMPERSAND.sub(_reference, part) for n, part in enumerate(parts))


def _reference(match: re.Match[str]) -> str:
    """A reference that XML knows, for what stands behind an ampersand."""
    name = match[1] or ""
    if name.startswith("#"):
        try:
            character = chr(int(name[2:], 16) if name[1] in "xX" else int(name[1:]))
        except (ValueError, OverflowError):
            return ""
        return "" if _NOT_XML.match(character) else escape(character)
    if name in ("amp", "lt", "gt", "quot", "apos"):
        return match[0]
    known = html5.get(f"{name};")
    return escape(known) if known else f"&amp;{match[0][1:]}"


def _recovered(text: str) -> Element | None:
    """What libxml2 makes of a document whose elements do not end where they should."""
    from lxml import etree

    parser = etree.XMLParser(
        recover=True, resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(text.encode("utf-8", "surrogatepass"), parser)
        return None if root is None else ElementTree.fromstring(etree.tostring(root, encoding="utf-8"))
    except (etree.XMLSyntaxError, ParseError, ValueError):
        return None


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
