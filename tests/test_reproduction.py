"""Reproductions: measured once, resumed after a stop, written where they belong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from paperworks import catalog, reproduction
from paperworks.errors import InputError


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "log"
    monkeypatch.setenv("TINY_LOG", str(path))
    return path


def test_measure_and_write(tiny_paper: Path, home: Path, tmp_path: Path) -> None:
    measured = reproduction.measure(catalog.find("tiny-paper"))
    assert [f.holds for f in measured.findings] == [True, False]
    out = tmp_path / "out"
    written = reproduction.write_results([measured], catalog.papers, out)
    assert written == [out / "tiny-paper" / "results.json", out / "reproductions.md"]
    results = json.loads(written[0].read_text())
    assert [s["name"] for s in results["studies"]] == ["counting", "speed"]
    text = written[1].read_text()
    assert "| [tiny-paper](#tiny-paper) | yes | 1 of 3 | 0 | 1 | 1 |" in text
    assert "| fast | It beats the snail<br>one measurement of each, without an interval | 3 < 2 (snail 2) " in text
    assert "| empirical | -50% | **does not hold** |" in text
    assert "| counts | It counts to 5 | 5 == 5 things | exact | 0 | holds |" in text
    assert "a trillion does not fit here" in text
    assert not (tiny_paper / "results.json").exists()
    assert not (home / "reproduce" / "tiny-paper" / "counting").exists()


def test_one_study_is_merged_with_what_was_measured_before(
    tiny_paper: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def store(results: dict) -> None:
        (tiny_paper / "results.json").write_text(json.dumps(results))

    paper = catalog.find("tiny-paper")
    before = reproduction.measure(paper).merged()
    for about in before["studies"]:
        about |= {"measured": "2020-01-01", "versions": {"paperworks": "0.1"}}
    store(before)
    again = catalog.find("tiny-paper")
    merged = reproduction.measure(again, only=["speed"]).merged()
    assert log.read_text().splitlines() == ["counting"]
    assert [s["name"] for s in merged["studies"]] == ["counting", "speed"]
    assert merged["studies"][0] == before["studies"][0]
    assert merged["studies"][1]["measured"] > "2020-01-01"
    assert merged["measured"] == merged["studies"][1]["measured"]
    assert merged["findings"] == before["findings"]
    # A finding whose study no longer names its claim has moved, or was withdrawn.
    moved = [f | {"claim": "fast"} if f["study"] == "counting" else f for f in before["findings"]]
    store(before | {"findings": moved})
    merged = reproduction.measure(catalog.find("tiny-paper"), only=["speed"]).merged()
    assert [f["study"] for f in merged["findings"]] == ["speed"]
    # Files written before findings named their study.
    old = json.loads(json.dumps(before | {"measured": "2020-01-01", "versions": {"paperworks": "0.1"}}))
    for part in [*old["findings"], *old["studies"]]:
        for name in ("study", "measured" if "name" in part else "", "versions"):
            part.pop(name, None)
    store(old)
    merged = reproduction.measure(catalog.find("tiny-paper"), only=["speed"]).merged()
    assert merged["findings"] == before["findings"]
    assert merged["studies"][0]["measured"] == "2020-01-01"
    with pytest.raises(InputError, match="did you mean 'speed'"):
        reproduction.measure(paper, only=["sped"])


def test_what_was_measured_before_a_failure_is_kept(
    tiny_paper: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = catalog.find("tiny-paper")
    monkeypatch.setenv("TINY_BREAK", "1")
    assert reproduction.measure(paper).errors == {"speed": "RuntimeError: no clock"}
    monkeypatch.delenv("TINY_BREAK")
    assert len(reproduction.measure(paper).findings) == 2
    assert log.read_text().splitlines() == ["counting"]
    reproduction.measure(paper)
    assert log.read_text().splitlines() == ["counting"] * 2


def test_changed_source_is_measured_again(tiny_paper: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = catalog.find("tiny-paper")
    monkeypatch.setenv("TINY_BREAK", "1")
    reproduction.measure(paper)
    (tiny_paper / "more.py").write_text("x = 1\n")
    reproduction.measure(paper)
    assert log.read_text().splitlines() == ["counting"] * 2


def test_studies_may_only_name_known_claims(tiny_paper: Path) -> None:
    path = tiny_paper / "paper.toml"
    path.write_text(path.read_text().replace('id = "fast"', 'id = "slow"'))
    with pytest.raises(InputError, match=r"claims of paper\.toml"):
        reproduction.load_studies(catalog.find("tiny-paper"))


def test_a_paper_without_a_study(tiny_paper: Path) -> None:
    (tiny_paper / "study.py").unlink()
    with pytest.raises(InputError, match="has no study"):
        reproduction.measure(catalog.find("tiny-paper"))


def test_the_rows_of_the_readme_are_the_present_ones() -> None:
    """A paper without a row, or a row without its paper, is for the next ``paperworks reproduce`` to mend."""
    root = catalog.checkout()
    assert root is not None
    text = (root / "README.md").read_text(encoding="utf-8")
    papers = catalog.papers()
    rows, present = (table_rows(t) for t in (text, reproduction.with_papers_table(text, papers)))
    assert len(present) == len(papers)
    assert {name: row for name, row in rows.items() if name in present} == {
        name: row for name, row in present.items() if name in rows
    }


def table_rows(readme: str) -> dict[str, str]:
    """Rows of the table of papers, by the name in their first cell."""
    table = readme[readme.index(reproduction.TABLE_START) : readme.index(reproduction.TABLE_END)]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    return {re.sub(r"\[(.*)\].*", r"\1", row.split(" | ")[0].removeprefix("| ")): row for row in rows}


def test_a_readme_without_marks_is_refused() -> None:
    with pytest.raises(InputError, match="no place for the table"):
        reproduction.with_papers_table("nothing", [])
