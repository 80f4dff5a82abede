"""Reports and findings as text: in the terminal (rich), and reports as one self-contained HTML file (Jinja2)."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from paperworks.runs.report import Cell, Report, Table

if TYPE_CHECKING:
    from jinja2 import Template
    from rich.console import RenderableType


def format_number(value: float) -> str:
    """A number as a reader wants it: whole numbers with thousands separators, others with four significant digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (abs(value) < 1e15 and float(value).is_integer() and abs(value) >= 1000):
        return f"{int(value):,}"
    size = abs(value)
    if size != size or size == float("inf"):
        return str(value)
    if size == 0:
        return "0"
    if size >= 1000:
        return f"{value:,.0f}"
    if size < 1e-3:
        return f"{value:.2e}"
    return f"{value:.4g}"


def format_bytes(value: float) -> str:
    """Bytes in the largest binary unit that keeps the figure above 1: ``12.3 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def format_seconds(value: float) -> str:
    """A duration: ``3.42 ms``, ``0.35 s``, ``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if value == 0:
        return "0 s"
    if abs(value) < 0.1:
        return f"{1000 * value:.3g} ms"
    if value < 10:
        return f"{value:.2f} s"
    if value < 60:
        return f"{value:.0f} s"
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_cell(value: Cell, column: str = "") -> str:
    """A table cell as text; a column whose name ends in ``bytes`` or ``seconds`` is shown in readable units."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if not isinstance(value, bool):
        if column.endswith("bytes"):
            return format_bytes(value)
        if column.endswith("seconds"):
            return format_seconds(value)
    return format_number(value)


def format_row(table: Table, row: list[Cell]) -> list[str]:
    """A row's cells as text. A first cell that names a unit (``size, bytes``) gives it to the row's numbers."""
    label = row[0] if row and isinstance(row[0], str) else ""
    unit = label if label.endswith((", bytes", ", seconds")) else ""
    cells = [
        format_cell(cell, column if "ratio" in column else unit or column)
        for cell, column in zip(row, table.columns, strict=True)
    ]
    return [without_unit(label), *cells[1:]] if unit else cells


def without_unit(name: str) -> str:
    """``size, bytes`` as ``size``: the unit stands with the formatted figure."""
    return name.removesuffix(", bytes").removesuffix(", seconds")


def relation_text(finding: dict[str, Any]) -> str:
    """``30.2 < 33.1 (dense model 29.8)``: the measured figure, its interval, its bound, and the baseline."""
    measured, bound = (format_number(float(finding[name])) for name in ("measured", "bound"))
    if finding["interval"]:
        low, high = (format_number(float(end)) for end in finding["interval"])
        measured += f" [{low}, {high}]"
    text = f"{measured} {finding['relation']} {bound}"
    if finding["tolerance"]:
        text += f" ± {format_number(float(finding['tolerance']))}"
    if finding["unit"]:
        text += f" {finding['unit']}"
    if finding["baseline"] is not None:
        text += f" ({finding['baseline_name'] or 'baseline'} {format_number(float(finding['baseline']))})"
    return text


def evidence_text(finding: dict[str, Any]) -> str:
    """What is behind a finding: its interval's method and sample, or why there is none; empty for exact findings."""
    if finding["interval"]:
        return f"{finding['interval_method']}, n = {finding['n']} {finding['n_unit']}".strip()
    if finding["deterministic"]:
        return f"deterministic: {finding['deterministic']}"
    if finding["test"]:
        return f"the bound allows for chance: {finding['test']}"
    return str(finding["untested"])


def margin_text(finding: dict[str, Any]) -> str:
    """The margin to the bound: in percent of the bound (``12%``, ``-4%``), or as a figure where that is 0."""
    margin, bound = float(finding["margin"]), abs(float(finding["bound"]))
    if math.isnan(margin):
        return "–"
    if not margin or not bound or math.isinf(bound):
        return format_number(margin)
    return f"{100 * margin / bound:.3g}%"


def verdict_text(finding: dict[str, Any]) -> str:
    """``holds``, ``does not hold``, or ``not decided`` where the figures lack an interval."""
    if not finding["holds"]:
        return "does not hold"
    return "not decided" if finding["untested"] else "holds"


SHOWN_CLAIMS = 3
"""So many of a paper's claims stand in a report at once; the others are folded away."""


def usage_lines(report: Report) -> list[tuple[str, str]]:
    """What the run used, as pairs of name and text."""
    lines = []
    for name, value in report.usage.items():
        column = "seconds" if name == "seconds" else name
        label = {"seconds": "time"}.get(name, without_unit(name))
        exact = isinstance(value, str) or name in ("cores", "python")
        lines.append((label, str(value) if exact else format_cell(value, column)))
    return lines


def option_lines(report: Report) -> list[tuple[str, str]]:
    """The options that the run was given, as pairs of name and text."""
    options = report.origin.get("options") or {}
    return [(name.replace("_", "-"), "none" if value is None else str(value)) for name, value in options.items()]


def card_lines(report: Report) -> list[tuple[str, str]]:
    """The figures to show first, as pairs of label and text; the unit that ends a label or name stands in the text."""
    lines = []
    for name, label, value in report.cards():
        unit = label if without_unit(label) != label else name
        lines.append((without_unit(label), format_cell(_number(value), unit)))
    return lines


def to_html(report: Report, title: str = "", *, drawings: Sequence[str] | None = None) -> str:
    """The report as one HTML document: no script, no outside resource, figures inside.

    ``drawings`` are the figures as SVG, where they have been drawn before.
    """
    drawings = [f.to_svg() for f in report.figures] if drawings is None else drawings
    figures = [
        {
            "title": f.title,
            "caption": f.caption,
            "data": "data:image/svg+xml;base64," + base64.b64encode(drawing.encode()).decode(),
        }
        for f, drawing in zip(report.figures, drawings, strict=True)
    ]
    tables = [
        {
            "title": t.title,
            "columns": t.columns,
            "note": t.note,
            "numeric": [all(not isinstance(r[i], str) for r in t.rows) for i in range(len(t.columns))],
            "rows": [format_row(t, r) for r in t.rows],
        }
        for t in report.tables
    ]
    return _template().render(
        title=title or report.headline,
        report=report,
        tables=tables,
        figures=figures,
        cards=card_lines(report),
        metrics=[(without_unit(n), format_cell(_number(v), n)) for n, v in report.metrics.items() if report.labels],
        usage=usage_lines(report),
        options=option_lines(report),
        claims=report.origin.get("claims", []),
        shown_claims=SHOWN_CLAIMS,
    )


def _number(value: Any) -> Cell:
    return value.item() if hasattr(value, "item") else value


@cache
def _template() -> Template:
    from jinja2 import Environment

    text = resources.files("paperworks.runs").joinpath("report.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)


def to_terminal(report: Report, folder: str = "") -> RenderableType:
    """The report for rich's console. ``folder`` is where the files are, printed before their names."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    parts: list[RenderableType] = [Text(report.headline, style="bold"), Text("")]
    if report.lead:
        parts += [Padding(Text("• " + line), (0, 0, 0, 1)) for line in report.lead] + [Text("")]
    for table in report.tables:
        parts += [terminal_table(table), Text("")]
    if report.notes:
        parts += [Padding(Text("• " + note), (0, 0, 0, 1)) for note in report.notes] + [Text("")]
    if report.files:
        files = Table("Files", ["file", "what it is"], [[f.path, f.description] for f in report.files])
        parts += [terminal_table(files), Text("")]
    parts.append(Text(", ".join(f"{name} {text}" for name, text in usage_lines(report)), style="dim"))
    if folder:
        parts.append(Text(f"in {folder}", style="dim", no_wrap=True, overflow="fold"))
    return Group(*parts)


UNBROKEN, MANY = 12, 6
"""Letters of a word, and columns of a table, at most, that are kept whole in a narrow terminal."""


def terminal_table(table: Table) -> RenderableType:
    """One table for rich's console: numbers to the right, the note below."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    out = RichTable(
        title=Text(table.title),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        caption=Text(table.note) if table.note else None,
        caption_justify="left",
        pad_edge=False,
    )
    for index, column in enumerate(table.columns):
        numeric = bool(table.rows) and all(not isinstance(row[index], str) for row in table.rows)
        # a short word is not broken, unless there are so many columns that it must be
        words = [word for text in (column, *(str(row[index]) for row in table.rows)) for word in text.split()]
        whole = max((len(word) for word in words if len(word) <= UNBROKEN), default=0) if not numeric else 0
        out.add_column(
            Text(column),
            justify="right" if numeric else "left",
            overflow="fold",
            min_width=whole if whole and len(table.columns) <= MANY else None,
        )
    for row in table.rows:
        out.add_row(*(Text(cell) for cell in format_row(table, row)))
    return out
