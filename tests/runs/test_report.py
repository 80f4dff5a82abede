"""Reports survive the disk, hold everything in one HTML file, and format numbers for people."""

from __future__ import annotations

import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure as MatplotlibFigure
from rich.console import Console

from paperworks.errors import InputError
from paperworks.runs import Figure, LocalEngine, Report, ReportFile, Store, Table, load_recipe
from paperworks.runs.claims import paper_claims
from paperworks.runs.render import (
    card_lines,
    format_bytes,
    format_number,
    format_row,
    format_seconds,
    to_html,
    to_terminal,
)


def make_report() -> Report:
    figure = MatplotlibFigure()
    figure.subplots().plot([1, 3, 2])
    return Report(
        "A <headline> & more",
        {"ratio": np.float32(0.5), "lost": math.nan, "count": np.int64(7)},
        [Table("T", ["name", "size, bytes"], [["<b>x</b>", 2048], ["y", None]], "note")],
        [Figure("A line!", figure, "it rises")],
        [ReportFile("a.txt", "text")],
        ["remember"],
        {"seconds": 3.2},
    )


def test_round_trip(tmp_path: Path) -> None:
    report = make_report()
    report.save(tmp_path)
    again = Report.load(tmp_path)
    assert again.to_dict() == report.to_dict()
    assert math.isnan(again.metrics["lost"])
    assert again.metrics["count"] == 7
    assert again.figures[0].svg.startswith("<?xml")
    assert to_html(again) == (tmp_path / "report.html").read_text()


def test_what_matters_stands_below_the_headline(tmp_path: Path) -> None:
    """How the input was read comes before the figures, and the cards bear words and units, not names of variables."""
    report = Report(
        "H",
        {"misses_x+y": 7, "ratio": 0.5, "packed": 2048.0},
        notes=["small print"],
        lead=["column 2 of 3 as page id"],
        labels={"packed": "packed, bytes", "misses_x+y": "misses of X and Y"},
    )
    report.save(tmp_path)
    again = Report.load(tmp_path)
    assert again.to_dict() == report.to_dict()
    assert card_lines(again) == [("packed", "2.0 KiB"), ("misses of X and Y", "7")]
    text = (tmp_path / "report.html").read_text()
    assert text.index("column 2 of 3") < text.index("misses of X and Y") < text.index("small print")
    assert text.index("All figures") < text.index("misses_x+y")
    console = Console(width=80, file=io.StringIO())
    console.print(to_terminal(again))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.index("column 2 of 3") < shown.index("small print")
    with pytest.raises(InputError, match="labels"):
        Report("H", {"a": 1.0}, labels={"b": "B"})


def test_json_is_strict(tmp_path: Path) -> None:
    make_report().save(tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)


def test_html_is_self_contained_and_escaped(tmp_path: Path) -> None:
    make_report().save(tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "&lt;b&gt;x&lt;/b&gt;" in text
    assert "<b>x" not in text

    class References(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[str] = []

        def handle_starttag(self, tag: str, attributes: list) -> None:
            assert tag not in ("script", "link", "iframe")
            self.found += [v for k, v in attributes if k in ("src", "href")]

    parser = References()
    parser.feed(text)
    assert len(parser.found) == 1
    assert parser.found[0].startswith("data:image/svg+xml;base64,")
    assert not re.search(r"url\(", text)


def test_figures_are_deterministic() -> None:
    assert make_report().figures[0].to_svg() == make_report().figures[0].to_svg()


def test_a_figure_is_drawn_once_when_a_report_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    to_svg = Figure.to_svg
    monkeypatch.setattr(Figure, "to_svg", lambda figure: drawn.append(figure.title) or to_svg(figure))
    report = make_report()
    report.save(tmp_path)
    assert drawn == [figure.title for figure in report.figures]


def test_ragged_tables_are_refused() -> None:
    with pytest.raises(InputError, match="row 1"):
        Table("T", ["a", "b"], [["x", 1], ["y"]])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (True, "yes"),
        (1234567, "1,234,567"),
        (1234.5678, "1,235"),
        (0.123456, "0.1235"),
        (1.5e-7, "1.50e-07"),
        (147250880.0, "147,250,880"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (12.0, "12"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert format_number(value) == text


@given(st.floats(1e-3, 1e12))
def test_numbers_keep_four_digits(value: float) -> None:
    assert float(format_number(value).replace(",", "")) == pytest.approx(value, rel=6e-4)


def test_units() -> None:
    assert format_bytes(512) == "512 B"
    assert format_bytes(3 * 2**20) == "3.0 MiB"
    assert format_seconds(0) == "0 s"
    assert format_seconds(0.0034217) == "3.42 ms"
    assert format_seconds(0.0999) == "99.9 ms"
    assert format_seconds(0.351) == "0.35 s"
    assert format_seconds(42) == "42 s"
    assert format_seconds(185) == "3 min 05 s"
    assert format_seconds(7800) == "2 h 10 min"


def test_a_row_may_name_its_unit() -> None:
    table = Table(
        "T", ["", "dense", "ratio"], [["size, bytes", 2**20, 0.5], ["time, seconds", 90.0, None], ["steps", 3, 2]]
    )
    assert [format_row(table, row) for row in table.rows] == [
        ["size", "1.0 MiB", "0.5"],
        ["time", "1 min 30 s", "–"],
        ["steps", "3", "2"],
    ]


def test_a_run_shows_the_papers_claims_beside_its_own_figures(tiny_paper: Path, home: Path) -> None:
    """With the figures of results.json; a claim of which one finding fails shows that one."""
    finding = {"claim": "counts", "statement": "It counts to 5", "kind": "exact", "measured": 5, "relation": "=="}
    good = finding | {"bound": 5, "holds": True, "unit": "things"}
    bad = finding | {"statement": "It counts to 6.", "bound": 6, "holds": True}
    (tiny_paper / "results.json").write_text(json.dumps({"findings": [good, bad]}))
    rows = paper_claims("tiny_paper.recipe")
    assert [row["claim"] for row in rows] == ["It counts to n", "It is fast", "It counts to a trillion"]
    counts, fast, huge = rows
    assert counts["paper"] == "n"
    assert (counts["here"], counts["verdict"]) == ("It counts to 6: 5 == 6", "does not hold")
    assert fast == {"claim": "It is fast", "paper": "", "here": "", "verdict": ""}
    assert huge["verdict"] == "a trillion does not fit here"
    store = Store(home)
    recipe = load_recipe("tiny-paper", "tiny_paper.recipe")
    record = LocalEngine().execute(store, store.create("tiny-paper", recipe.module, recipe.config(n=1)))
    page = (record.folder / "report.html").read_text()
    assert "Beside the paper" in page
    assert "<td>It counts to n</td><td>n</td><td>It counts to 6: 5 == 6</td><td>does not hold</td>" in page


@pytest.mark.parametrize("damage", ["claims = 3", "claims = [1]", "no toml ["])
def test_a_recipe_without_claims_has_none_beside_it(damage: str, tiny_paper: Path) -> None:
    assert paper_claims("paperworks.comparison.recipe") == []
    (tiny_paper / "paper.toml").write_text(damage)
    assert paper_claims("tiny_paper.recipe") == []
