"""Snippets: text of the entry, escaped, with the query's words marked."""

from __future__ import annotations

import html
import re

from hypothesis import given
from hypothesis import strategies as st

from paperworks.page.search.text import Highlighter


@given(st.text(max_size=600), st.text(min_size=1, max_size=60))
def test_a_snippet_is_text_of_the_entry(abstract: str, query: str) -> None:
    shown = Highlighter(query).snippet("The title", abstract)
    bare = re.sub(r"</?mark>", "", shown)
    assert "<" not in bare
    assert ">" not in bare
    plain = html.unescape(bare).removeprefix("… ").removesuffix(" …")
    assert plain in (abstract or "The title").replace("\x01", "").replace("\x02", "")


def test_marks_stand_where_small_letters_are_longer() -> None:
    assert Highlighter("cars").snippet("t", "İİ CARS and Car") == "İİ <mark>CARS</mark> and <mark>Car</mark>"


def test_marks_are_words_of_the_query() -> None:
    text_ = "Pruned models prune the modelling of careful cars. " * 12
    shown = Highlighter("the pruning car").snippet("t", text_)
    assert set(re.findall(r"<mark>(.*?)</mark>", shown)) == {"Pruned", "prune", "cars"}
    assert len(re.sub(r"</?mark>", "", shown)) < 300
