"""``paperworks.run``: the command ``paperworks run`` in Python."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

import paperworks as pw
from paperworks.errors import InputError
from paperworks.runs import RunFailed, Store


def test_a_report_comes_back_and_the_run_is_kept(tiny_paper: Path, tmp_path: Path) -> None:
    report = pw.run("tiny-paper", n=4, progress=False)
    assert (report.headline, report.metrics["things"]) == ("Counted 4 things", 4)
    assert (Path(report.origin["folder"]) / "count.txt").read_text() == "4"
    assert Store().find(report.origin["run"]).status == "finished"

    there = pw.run("tiny-paper", n=5, out=tmp_path / "out", progress=False)
    assert Path(there.origin["folder"]) == tmp_path / "out"
    assert (tmp_path / "out/count.txt").read_text() == "5"
    with pytest.raises(InputError, match="out: found"):
        pw.run("tiny-paper", out=tmp_path / "out", progress=False)
    assert len(Store().records()) == 2  # what is refused leaves no run


def test_bad_input(tiny_paper: Path) -> None:
    for options, said in (({"n": 0}, "n: found"), ({"banana": 1}, "banana"), ({"engine": "moon"}, "engine: found")):
        with pytest.raises(InputError, match=said):
            pw.run("tiny-paper", progress=False, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no-such-paper"):
        pw.run("no-such-paper")
    with pytest.raises(RuntimeError, match="it broke"):
        pw.run("tiny-paper", mode="fail", progress=False)


def test_a_child_process_can_run_it(tiny_paper: Path) -> None:
    assert pw.run("tiny-paper", n=2, engine="child", progress=False).metrics["things"] == 2
    with pytest.raises(RunFailed, match="it broke"):
        pw.run("tiny-paper", mode="fail", engine="child", progress=False)


def test_a_notebook_shows_the_report_in_a_frame_of_its_own(tiny_paper: Path) -> None:
    report = pw.run("tiny-paper", progress=False)
    shown = report._repr_html_()
    frames: list[dict[str, str | None]] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag == "iframe"  # nothing of the report's own markup is outside of the frame
            frames.append(dict(attrs))

    Parser().feed(shown)
    (frame,) = frames
    assert "sandbox" in frame
    assert frame["srcdoc"] is not None
    assert "Counted 5 things" in frame["srcdoc"]
    assert "data:image/svg+xml" in frame["srcdoc"]
