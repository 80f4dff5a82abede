"""Markdown that others may read: CommonMark without HTML, then only known elements and safe addresses."""

from __future__ import annotations

from functools import lru_cache

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup

HTML_ELEMENTS = "a blockquote br code del em h3 h4 h5 h6 hr li ol p pre s strong table tbody td th thead tr ul"
ELEMENTS = set(HTML_ELEMENTS.split())
SCHEMES = {"http", "https", "mailto"}
RELATION = "nofollow ugc noopener"


@lru_cache(maxsize=2000)
def to_html(text: str) -> Markup:
    """The safe HTML of a Markdown text. Images and raw HTML are shown as text; links say that a reader wrote them."""
    html = _parser().render(text)
    return Markup(
        nh3.clean(
            html,
            tags=ELEMENTS,
            clean_content_tags={"script", "style"},
            attributes={"a": {"href", "title"}, "ol": {"start"}},
            url_schemes=SCHEMES,
            link_rel=RELATION,
            strip_comments=True,
        )
    )


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "linkify": False, "breaks": True, "maxNesting": 20})
    parser.enable(["table", "strikethrough"]).disable(["image"])
    parser.add_render_rule("heading_open", _smaller_heading)
    parser.add_render_rule("heading_close", _smaller_heading)
    return parser


def _smaller_heading(self: object, tokens: list, index: int, options: object, env: object) -> str:
    """Headings of a comment stand below the page's own: h1 becomes h3."""
    token = tokens[index]
    level = min(6, int(token.tag[1]) + 2)
    return f"<h{level}>" if token.nesting == 1 else f"</h{level}>\n"
