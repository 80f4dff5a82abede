"""LaTeX in titles and abstracts: accents and commands become Unicode text, formulas become MathML.

    at import     ``unicode_text``   {\\"o} becomes ö, \\emph{all} becomes all; formulas stay as they are written
    on a page     ``to_html``        escaped text with formulas as MathML, which browsers show without a script
    elsewhere     ``to_plain``       formulas in Unicode, as far as it goes: O(n^2), for mails, feeds and search

A converted formula is never trusted: of the converter's elements and attributes only known ones are written, and
all text is escaped. A formula that cannot be converted is shown as it is written.
"""

from __future__ import annotations

import html
import re
from functools import lru_cache
from typing import Any
from xml.etree.ElementTree import Element

from markupsafe import Markup, escape

LONGEST_FORMULA = 500
# As in pandoc: a dollar sign begins a formula before a letter and ends one behind a letter and not before a digit, so
# that "from $5 to $10" has none.
_FORMULA = re.compile(
    r"\$\$(?P<display>(?:\\.|[^$\\])+)\$\$|\\\((?P<round>.+?)\\\)|\\\[(?P<square>.+?)\\\]"
    r"|(?<!\\)\$(?=\S)(?P<dollar>(?:\\.|[^$\\])*?[^\s\\$]|(?:\\.|[^$\\])*?\\.)\$(?!\d)",
    re.DOTALL,
)
_COMMAND = re.compile(r"\\(?:[A-Za-z]+|[\"'`^~=.&%_#${}])")
_NAMED = re.compile(r"\\([A-Za-z]+)")
SHOWN = ("texttt", "textsc", "url", "underline", "textrm", "mbox")
"""Commands whose argument is shown, beside those that the library knows."""
DROPPED = ("cite", "citep", "citet", "label", "footnote")
"""Commands that are dropped with their argument."""
SWITCHES = ("it", "bf", "em", "rm", "sc", "tt", "sl", "sf", "bfseries", "itshape", "xspace")
"""Commands without an argument that change how the text after them looks."""
ELEMENTS = frozenset(
    [
        *("math", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "mfrac", "msqrt", "mroot", "msub", "msup"),
        *("msubsup", "munder", "mover", "munderover", "mmultiscripts", "mprescripts", "none", "mtable", "mtr", "mtd"),
        *("mstyle", "mpadded", "mphantom", "menclose", "merror"),
    ]
)
ATTRIBUTES = frozenset(
    [
        *("mathvariant", "stretchy", "fence", "separator", "lspace", "rspace", "minsize", "maxsize", "accent"),
        *("accentunder", "linethickness", "displaystyle", "scriptlevel", "columnalign", "columnspacing", "rowspacing"),
        *("columnlines", "rowlines", "width", "height", "depth", "notation", "form", "movablelimits", "symmetric"),
        "largeop",
    ]
)


def unicode_text(text: str) -> str:
    """A text with the commands of LaTeX outside of its formulas replaced by what they stand for.

    Text without a command stays as it is, and so do commands that are not LaTeX's own.
    """
    if "\\" not in text:
        return text
    parts, at = [], 0
    for match in _FORMULA.finditer(text):
        parts += [_converted(text[at : match.start()]), match[0]]
        at = match.end()
    return "".join([*parts, _converted(text[at:])])


@lru_cache(maxsize=8192)
def to_html(text: str) -> Markup:
    """A text as safe HTML, with its formulas as MathML."""
    if "$" not in text and "\\" not in text:
        return escape(text)
    parts, at = [], 0
    for match in _FORMULA.finditer(text):
        formula = _formula_of(match)
        parts += [escape(text[at : match.start()]), _mathml(formula) or escape(match[0])]
        at = match.end()
    return Markup("").join([*parts, escape(text[at:])])


@lru_cache(maxsize=8192)
def to_plain(text: str) -> str:
    """A text with its formulas in Unicode."""
    if "$" not in text and "\\" not in text:
        return text
    return _FORMULA.sub(_plain_formula, text)


def _formula_of(match: re.Match[str]) -> str:
    return next(part for part in match.groups() if part is not None)


def _plain_formula(match: re.Match[str]) -> str:
    try:
        return " ".join(_plain_writer().latex_to_text(_formula_of(match)).split()) or match[0]
    except Exception:  # the parser of a stranger's formula: whatever it does not like is shown as it is
        return match[0]


def _converted(text: str) -> str:
    if not _COMMAND.search(text):
        return text
    known = _NAMED.sub(lambda m: m[0] if _is_command(m[1]) else rf"\textbackslash{{}}{m[1]}", text)
    known = re.sub(r"(?<!\\)([%&#])", r"\\\1", known)  # they stand for themselves in abstracts
    try:
        return _text_writer().latex_to_text(known)
    except Exception:
        return text


@lru_cache(maxsize=4096)
def _is_command(name: str) -> bool:
    return _commands().get_macro_spec(name) is not None or name in ("begin", "end")


@lru_cache(maxsize=1)
def _commands() -> Any:
    from pylatexenc.latex2text import MacroTextSpec, get_default_latex_context_db

    commands = get_default_latex_context_db()
    shown = [MacroTextSpec(name, "%s") for name in SHOWN]
    gone = [MacroTextSpec(name, "") for name in (*DROPPED, *SWITCHES)]
    commands.add_context_category("abstracts", macros=shown + gone, prepend=True)
    return commands


@lru_cache(maxsize=1)
def _grammar() -> Any:
    from pylatexenc.latexwalker import get_default_latex_context_db
    from pylatexenc.macrospec import MacroSpec

    grammar = get_default_latex_context_db()
    macros = [MacroSpec(name, "{") for name in (*SHOWN, *DROPPED)]
    grammar.add_context_category("abstracts", macros=macros, prepend=True)
    return grammar


class _Writer:
    def __init__(self, **options: Any) -> None:
        from pylatexenc.latex2text import LatexNodes2Text

        self._writer = LatexNodes2Text(latex_context=_commands(), keep_comments=True, **options)

    def latex_to_text(self, text: str) -> str:
        from pylatexenc.latexwalker import LatexWalker

        nodes, _, _ = LatexWalker(text, latex_context=_grammar(), tolerant_parsing=True).get_latex_nodes()
        return self._writer.nodelist_to_text(nodes)


@lru_cache(maxsize=1)
def _text_writer() -> _Writer:
    return _Writer(math_mode="verbatim")


@lru_cache(maxsize=1)
def _plain_writer() -> _Writer:
    return _Writer(math_mode="text")


@lru_cache(maxsize=8192)
def _mathml(formula: str) -> Markup | None:
    """The MathML of a formula; None for one that cannot be converted."""
    if len(formula) > LONGEST_FORMULA:
        return None
    from latex2mathml.converter import convert_to_element

    try:
        parts: list[str] = []
        _write(convert_to_element(formula), parts)
        return Markup("".join(parts))
    except Exception:  # the parser of a stranger's formula: whatever it does not like is shown as it is
        return None


def _write(element: Element, parts: list[str]) -> None:
    """An element and what is in it; unknown elements leave only what is in them."""
    known = element.tag in ELEMENTS
    if known:
        attributes = "".join(f' {k}="{html.escape(v)}"' for k, v in element.attrib.items() if k in ATTRIBUTES)
        parts.append(f"<{element.tag}{attributes}>")
    parts.append(html.escape(html.unescape(element.text or "")))
    for child in element:
        _write(child, parts)
        parts.append(html.escape(html.unescape(child.tail or "")))
    if known:
        parts.append(f"</{element.tag}>")
