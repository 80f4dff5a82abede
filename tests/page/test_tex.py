"""LaTeX in titles and abstracts: what is shown, and that nothing of it is markup of its own."""

from __future__ import annotations

import re

import nh3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.page import tex


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (r"{\"o}stlund and G\"odel, \'{e}t\`e", "östlund and Gödel, étè"),
        (r"Erd\H{o}s, \v{S}emrl, \c{C}a, \L{}ukasz, Stra{\ss}e", "Erdős, Šemrl, Ça, Łukasz, Straße"),
        (r"50\% of \textbf{all} \emph{things} \& co", "50% of all things & co"),
        (r"\texttt{gpt-4} by {\it Escherichia coli}", "gpt-4 by Escherichia coli"),
        (r"We \emph{gain} 5% & more, #1 of C:\temp\files", r"We gain 5% & more, #1 of C:\temp\files"),
        ("no command: 5% & {braces} a_b x^2", "no command: 5% & {braces} a_b x^2"),
        (r"\textbf{O} in $\mathcal{O}(n^2)$ \emph{time}", r"O in $\mathcal{O}(n^2)$ time"),
    ],
)
def test_commands_outside_of_formulas(written: str, shown: str) -> None:
    assert tex.unicode_text(written) == shown


def test_formulas_become_mathml_and_plain_text() -> None:
    title = r"Sorting in $\mathcal{O}(n^2)$ & more"
    html = tex.to_html(title)
    assert html.startswith("Sorting in <math>")
    assert html.endswith("</math> &amp; more")
    assert "<msup><mi>n</mi><mn>2</mn></msup>" in html
    assert "𝒪" in html
    assert tex.to_plain(title) == "Sorting in 𝒪(n^2) & more"
    assert "<mfrac>" in tex.to_html(r"\(\frac{1}{2}\) and \[x\]")


@pytest.mark.parametrize("text", ["from $5 to $10", "US$5", "a $ b $ c", "$", "$$", r"\$5 and \$6", "it costs $5."])
def test_amounts_of_money_are_no_formulas(text: str) -> None:
    assert "<math" not in tex.to_html(text)
    assert tex.to_plain(text) == text


@pytest.mark.parametrize("formula", ["$x^$", r"$\left( x$", "$" + "{" * 400 + "$", "$" + "x" * 600 + "$"])
def test_formulas_that_cannot_be_read_are_shown_as_they_are(formula: str) -> None:
    assert tex.to_html(formula) == formula


@pytest.mark.parametrize(
    "formula",
    [
        r"\text{<script>alert(1)</script>}",
        r"\text{&lt;script&gt;alert(1)&lt;/script&gt;}",
        r"\href{javascript:alert(1)}{x}",
        r"\class{a\" onmouseover=\"alert(1)}{x}",
        r"\style{background:url(//example.org)}{x}",
        r"\mathrm{<img src=x onerror=alert(1)>}",
        r"\color{red\" onload=\"alert(1)}x",
    ],
)
def test_a_formula_brings_no_markup(formula: str) -> None:
    html = tex.to_html(f"a ${formula}$ b")
    tags = set(re.findall(r"</?([A-Za-z][\w-]*)", html))
    assert tags <= tex.ELEMENTS
    for attribute in re.findall(r"<[^>]*?\s([a-zA-Z-]+)=", html):
        assert attribute in tex.ATTRIBUTES
    # What a browser makes of it: an independent parser of HTML finds nothing that it would have to take out.
    kept = nh3.clean(html, tags=set(tex.ELEMENTS), attributes={"*": set(tex.ATTRIBUTES)}, clean_content_tags=set())
    assert re.sub(r"<[^>]*>", "", kept).replace("&quot;", '"') == re.sub(r"<[^>]*>", "", html).replace("&quot;", '"')


PIECES = [*'$\\{}<>&"x ^_5é=', "\\text", "\\frac", "\\href", "script", "\\(", "\\)", "\\color"]


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_any_text_is_shown_safely(text: str) -> None:
    html = tex.to_html(tex.unicode_text(text))
    assert set(re.findall(r"<\s*/?([^\s>/]*)", html)) <= tex.ELEMENTS
    tex.to_plain(text)
