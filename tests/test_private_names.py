"""A name that begins with an underscore is used in its own module only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import paperworks

ROOT = Path(paperworks.__file__).parent


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def uses(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of each private name of another module of Paperworks that a module imports or reaches into."""
    nodes = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Import | ast.ImportFrom | ast.Attribute)]
    modules: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "paperworks":
            for alias in node.names:
                if private(alias.name):
                    yield node.lineno, f"{node.module}.{alias.name}"
                modules.add(alias.asname or alias.name)
        elif isinstance(node, ast.Import):
            modules |= {alias.asname for alias in node.names if alias.asname and alias.name.startswith("paperworks.")}
    modules = {name for name in modules if name == name.lower()}  # classes have private names of their own modules
    for node in nodes:
        reached = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules
        if reached and private(node.attr):
            yield node.lineno, f"{node.value.id}.{node.attr}"


def test_a_private_name_is_seen() -> None:
    source = (
        "from paperworks.a import _b, c, D\nimport paperworks.e as e\nc._f\nD._g\ne._h\nc.__doc__\nimport x\nx._y\n"
    )
    assert [name for _, name in uses(source)] == ["paperworks.a._b", "c._f", "e._h"]


FOLDERS = sorted(
    str(place.relative_to(ROOT))
    for place in [*ROOT.iterdir(), *(ROOT / "papers").iterdir()]
    if place.is_dir() and place.name not in ("__pycache__", "papers")
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_private_names_stay_in_their_modules(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, name in uses(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_private_names_of_the_top_modules_stay_there() -> None:
    found = [f"{p.name}:{at}: {name}" for p in sorted(ROOT.glob("*.py")) for at, name in uses(p.read_text())]
    assert found == []
