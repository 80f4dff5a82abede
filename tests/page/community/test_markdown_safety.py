"""Markdown that others may read: what it keeps, and that nothing else survives."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paperworks.page.community.markdown import ELEMENTS, to_html


class Seen(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))


def check_safe(html: str) -> None:
    for tag, attributes in Seen(html).elements:
        assert tag in ELEMENTS
        assert set(attributes) <= {"href", "title", "rel", "start"}
        if "href" in attributes:
            assert (attributes["href"] or "").lower().startswith(("http://", "https://", "mailto:", "/", "#", "?")) or (
                ":" not in (attributes["href"] or "").split("/")[0]
            )
            assert attributes["rel"] == "nofollow ugc noopener"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("**bold** *em* `code` ~~gone~~", "<p><strong>bold</strong> <em>em</em> <code>code</code> <s>gone</s></p>"),
        ("# large", "<h3>large</h3>"),
        ("a\nb", "<p>a<br>\nb</p>"),
        ("> said", "<blockquote>\n<p>said</p>\n</blockquote>"),
        ("a | b\n--|--\n1 | 2", "<td>1</td>"),
        ("[x](https://example.org 'title')", 'href="https://example.org"'),
        ("<https://example.org>", 'href="https://example.org"'),
    ],
)
def test_what_it_keeps(text: str, wanted: str) -> None:
    html = str(to_html(text))
    assert wanted in html
    check_safe(html)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](data:text/html,<script>alert(1)</script>)",
        "[x](vbscript:x)",
        "[x](&#106;avascript:alert(1))",
        "![x](https://example.org/track.png)",
        "<a href='https://example.org' onclick='alert(1)'>x</a>",
        '[x](https://example.org"onmouseover="alert(1))',
        "<svg><style><img src=x onerror=alert(1)></style></svg>",
        "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
        "```\n</code><script>alert(1)</script>\n```",
        "<!-- --><iframe srcdoc='<script>1</script>'>",
        "[a]: javascript:alert(1)\n\n[a]",
    ],
)
def test_what_must_not_survive(text: str) -> None:
    html = str(to_html(text))
    check_safe(html)
    assert "<script" not in html
    assert "<img" not in html


@given(st.text(alphabet=st.sampled_from("<>\"'&;:/[]()!`*_#- \n\tjavscriptonera=x1"), max_size=60))
def test_nothing_that_can_be_written_is_unsafe(text: str) -> None:
    check_safe(str(to_html(text)))


def test_deep_nesting_ends() -> None:
    assert len(to_html("> " * 5000 + "x")) < 100_000
    assert len(to_html("[" * 5000)) < 100_000
    assert len(to_html("*a " * 3000)) < 100_000
