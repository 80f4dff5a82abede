"""Papers that read a table of the user's: one set of options, with one meaning."""

from __future__ import annotations

import pytest

from paperworks import catalog
from paperworks.inputs.options import TableOptions
from paperworks.runs import build_config
from paperworks.runs.recipe import load_recipe


def tabular() -> list[str]:
    return [p.slug for p in catalog.papers() if p.has_recipe and issubclass(_config(p.slug), TableOptions)]


def _config(slug: str) -> type:
    return load_recipe(slug, f"{catalog.find(slug).module}.recipe").config


@pytest.mark.parametrize("slug", tabular())
def test_options_of_tables_are_the_same(slug: str, tmp_path) -> None:
    kind = _config(slug)
    path = tmp_path / "t.csv"
    rows = [f"{i};{i % 7},5;{'?' if i == 3 else i % 2};{'uv'[i % 2]}\n" for i in range(40)]
    path.write_text("id;a;b;y\n" + "".join(rows))
    table = "input" if "input" in kind.model_fields else "data"
    values = {table: str(path), "drop": ("b",), "missing": ("?", "-9")}
    by_label, by_target = (build_config(kind, values | {name: "y"}) for name in ("label", "target"))
    assert by_label == by_target
    assert isinstance(by_label, TableOptions)
    read = by_label.read_table(path, "y")
    assert read.numeric == ("a",)
    assert read.features["a"][1] == 1.5
    assert any("Left out: 'id'" in note for note in read.notes)
    kept = build_config(kind, values | {"label": "y", "keep_row_numbers": True})
    assert isinstance(kept, TableOptions)
    assert "id" in kept.read_table(path, "y").features
    assert kept.read_table(path, "y").features["a"].notna().all()


def test_there_are_tabular_papers() -> None:
    assert len(tabular()) >= 4
