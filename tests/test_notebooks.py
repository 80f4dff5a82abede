"""The notebooks of the documentation run from their first cell to the last, and stand there with what they showed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
IDS = [path.stem for path in NOTEBOOKS]


@pytest.mark.over_budget("starts a kernel, which imports torch")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_a_notebook_runs(path: Path) -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import execute_notebooks
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    fresh = execute_notebooks.execute(path)
    stored = nbformat.read(path, as_version=4)
    for now, before in zip(fresh.cells, stored.cells, strict=True):
        assert [output.output_type for output in now.get("outputs", [])] == [
            output.output_type for output in before.get("outputs", [])
        ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_it_stands_there_executed(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell.outputs for cell in cells)
    assert "text/html" in str([output for cell in cells for output in cell.outputs])
    text = path.read_text(encoding="utf-8")
    assert "/tmp/" not in text
    assert path.stat().st_size < 500_000
