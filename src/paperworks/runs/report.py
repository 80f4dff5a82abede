"""What a recipe gives back: a headline, tables, figures and files; saved as JSON, shown by ``render``."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paperworks.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

Cell = str | int | float | bool | None

FRAME_PIXELS = 640
"""Height of a report in a notebook."""


@dataclass(frozen=True)
class Table:
    """A titled table. ``rows`` hold numbers as numbers (the renderer formats them); ``note`` is printed under it."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]
    note: str = ""

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise InputError(
                    f"table {self.title!r}, row {number}", f"{len(row)} cells", f"{len(self.columns)} cells"
                )


@dataclass(frozen=True)
class Figure:
    """A matplotlib figure with a caption. After loading from disk ``figure`` is None and ``svg`` holds the drawing."""

    title: str
    figure: MatplotlibFigure | None
    caption: str = ""
    svg: str = ""

    def to_svg(self) -> str:
        """The drawing as SVG text (byte-identical for the same figure)."""
        if self.figure is None:
            return self.svg
        import matplotlib

        out = io.StringIO()
        # A fixed salt and no date make the file the same each time it is written.
        with matplotlib.rc_context({"svg.hashsalt": "paperworks", "svg.fonttype": "path"}):
            self.figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
        return out.getvalue()


@dataclass(frozen=True)
class ReportFile:
    """A file or folder that the run made. ``path`` is relative to the run's ``files`` folder."""

    path: str
    description: str


@dataclass(frozen=True)
class Report:
    """What a run found.

    ``headline`` is one sentence with the figure that matters. ``lead`` stands right below it: how the input was
    understood, and whatever makes the figures mean less than they seem to; ``notes`` come at the end. ``metrics`` are
    named scalars; ``paperworks compare`` sets them side by side. ``labels`` gives metrics their name for people, with
    its unit (``size, bytes``); the cards of the report are the labelled metrics, or all where there is no label.
    ``usage`` (seconds, peak memory, bytes written, versions) and ``origin`` (paper, run,
    options, the paper's claims) are filled in by the run's engine.
    """

    headline: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    files: list[ReportFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lead: list[str] = field(default_factory=list)
    labels: Mapping[str, str] = field(default_factory=dict)
    usage: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = [name for name in self.labels if name not in self.metrics]
        if unknown:
            raise InputError("labels", repr(unknown[0]), f"a metric: {', '.join(self.metrics)}")

    def cards(self) -> list[tuple[str, str, float]]:
        """The figures to show first: name, label and value of the labelled metrics, or of all if none has a label."""
        return [(name, self.labels.get(name, name), self.metrics[name]) for name in self.labels or self.metrics]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content; figures by the name of their SVG file in the run's ``figures`` folder."""
        return {
            "headline": self.headline,
            "lead": list(self.lead),
            "labels": dict(self.labels),
            "metrics": {name: plain(value) for name, value in self.metrics.items()},
            "tables": [
                {
                    "title": t.title,
                    "columns": list(t.columns),
                    "rows": [[plain(c) for c in r] for r in t.rows],
                    "note": t.note,
                }
                for t in self.tables
            ],
            "figures": [
                {"title": f.title, "caption": f.caption, "file": name}
                for f, name in zip(self.figures, self.figure_names(), strict=True)
            ],
            "files": [{"path": f.path, "description": f.description} for f in self.files],
            "notes": list(self.notes),
            "usage": plain(self.usage),
            "origin": plain(self.origin),
        }

    def _repr_html_(self) -> str:
        """The report as notebooks show it: the HTML report in a frame of its own, so that no style meets the page's."""
        from html import escape

        from paperworks.runs.render import to_html

        style = f"width:100%;height:{FRAME_PIXELS}px;border:1px solid #8884"
        title, page = escape(self.headline), escape(to_html(self))
        return f'<iframe sandbox title="{title}" style="{style}" srcdoc="{page}"></iframe>'

    def figure_names(self) -> list[str]:
        """A file name per figure, from its title, unique within the report."""
        names: list[str] = []
        for number, figure in enumerate(self.figures, 1):
            stem = re.sub(r"[^a-z0-9]+", "-", figure.title.lower()).strip("-") or "figure"
            names.append(f"{number:02d}-{stem[:60]}.svg")
        return names

    def save(self, folder: Path) -> None:
        """Write ``report.json``, ``figures/*.svg`` and ``report.html`` into ``folder``, which is not yet in place."""
        from paperworks.runs.render import to_html

        if self.figures:
            (folder / "figures").mkdir(exist_ok=True)
        drawings = [figure.to_svg() for figure in self.figures]
        for drawing, name in zip(drawings, self.figure_names(), strict=True):
            (folder / "figures" / name).write_text(drawing, encoding="utf-8")
        (folder / "report.json").write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False), encoding="utf-8")
        (folder / "report.html").write_text(to_html(self, drawings=drawings), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Report:
        """Read back what ``save`` wrote."""
        data = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return cls(
            headline=data["headline"],
            lead=data.get("lead", []),
            labels=data.get("labels", {}),
            metrics={k: _from_plain(v) for k, v in data["metrics"].items()},
            tables=[Table(t["title"], t["columns"], t["rows"], t["note"]) for t in data["tables"]],
            figures=[
                Figure(f["title"], None, f["caption"], (folder / "figures" / f["file"]).read_text(encoding="utf-8"))
                for f in data["figures"]
            ],
            files=[ReportFile(f["path"], f["description"]) for f in data["files"]],
            notes=data["notes"],
            usage=data["usage"],
            origin=data["origin"],
        )


def plain(value: Any) -> Any:
    """JSON-ready content: numpy scalars become Python's; NaN and infinities become text, since JSON has none."""
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def _from_plain(value: Any) -> Any:
    return float(value) if value in ("nan", "inf", "-inf") else value
