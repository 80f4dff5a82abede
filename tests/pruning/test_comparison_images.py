"""``compare-methods --images``: every method at the same operations, the same steps; what fails says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from paperworks.comparison import methods
from paperworks.comparison.config import Config
from paperworks.comparison.images import BASELINES, level_with, methods_for_images
from paperworks.comparison.recipe import run
from paperworks.errors import InputError
from paperworks.runs import Run

SMALL: dict[str, Any] = {
    "images": "digits",
    "image_limit": 200,
    "network": "mlp",
    "epochs": 2,
    "train_steps": 2,
    "recovery_steps": 3,
    "rounds": 1,
    "device": "cpu",
    "methods": ("group-norm", "random"),
}


def test_every_method_meets_the_operations(tmp_path: Path) -> None:
    work = Run(tmp_path / "run")
    report = run(Config(**SMALL, seeds=2), work)
    table = report.tables[0]
    assert {row[0] for row in table.rows} == {"group-norm", "random"}
    shares = table.columns.index("MACs")
    assert all(0.4 < row[shares] <= 0.5 for row in table.rows)
    rows = json.loads((work.files / "comparison.json").read_text())
    assert [r["method"] for r in rows] == ["dense", "group-norm", "random"] * 2
    assert (work.files / "models" / "random" / "seed-1").is_dir()
    assert "<svg" in report.figures[0].to_svg()
    again = run(Config(**SMALL, seeds=2), Run(tmp_path / "again", state=work.state))
    assert again.tables[0].rows == table.rows  # found once


def _rows(*after: float) -> list[dict[str, Any]]:
    return [{"seed": seed, "after": value} for seed, value in enumerate(after)]


def test_the_best_method_is_named_with_those_that_are_level_with_it() -> None:
    several = {"a": _rows(0.9, 0.91, 0.92), "b": _rows(0.89, 0.93, 0.9), "c": _rows(0.7, 0.71, 0.72)}
    assert level_with("a", several, 10) == ["b"]
    one = {"a": _rows(0.95), "b": _rows(0.9), "c": _rows(0.5)}
    assert level_with("a", one, 100) == ["b"]  # Wilson: 0.888 to 0.978 and 0.826 to 0.945
    assert level_with("a", one, 10_000) == []


def test_a_budget_out_of_reach_is_said(tmp_path: Path) -> None:
    report = run(Config(**SMALL | {"macs": 0.001, "methods": ("random",)}), Run(tmp_path / "run"))
    assert report.headline == "No method reached the budget"
    assert "at least" in str(report.tables[-1].rows[0][2])
    report.save(tmp_path)


def test_names_of_methods_for_images() -> None:
    assert methods_for_images(()) == [*methods.module_method_names(), *BASELINES]
    assert methods_for_images(("fpgm", "fpgm")) == ["fpgm"]
    with pytest.raises(InputError, match="did you mean 'random'"):
        methods_for_images(("randm",))


@pytest.mark.parametrize(("name", "value"), [("macs", 0.0), ("macs", 2.0), ("epochs", 0), ("image_size", 1)])
def test_options_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Config(**{name: value})
