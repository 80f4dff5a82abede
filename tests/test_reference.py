"""What CONTRIBUTING.md names to contributors exists, and has a page of the API reference."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("mkdocs")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def docs_pages() -> ModuleType:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        return importlib.import_module("docs_pages")
    finally:
        sys.path.remove(str(ROOT / "scripts"))


def resolved(name: str) -> tuple[str, list[str]]:
    """The module that a dotted name of Paperworks is in, and the attributes that lead from it to the name."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            importlib.import_module(".".join(("paperworks", *parts[:n])))
        except ModuleNotFoundError:
            continue
        return ".".join(parts[:n]), parts[n:]
    return "", parts


def test_names_of_contributing_exist_and_have_a_page(docs_pages: ModuleType) -> None:
    names = docs_pages.NAMED.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(names) > 30
    pages = docs_pages.documented()
    for name in names:
        module, attributes = resolved(name)
        found = importlib.import_module(f"paperworks.{module}") if module else importlib.import_module("paperworks")
        for attribute in attributes:
            assert hasattr(found, attribute), name
            found = getattr(found, attribute)
        assert module in pages or name == "papers", name


def test_a_page_lists_the_public_names(docs_pages: ModuleType) -> None:
    page = docs_pages._reference("inputs.texts")
    assert "# paperworks.inputs.texts" in page
    assert "::: paperworks.inputs.texts.read_texts" in page
    assert "_folder" not in page
