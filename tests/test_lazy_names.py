"""Names that are imported when first used: type checkers see them, nothing hides them, a wrong one is refused."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

import paperworks
from paperworks.lazy import lazy_imports

SOURCE = Path(paperworks.__file__).parent
LAZY = sorted(
    ".".join(("paperworks", *path.parent.relative_to(SOURCE).parts))
    for path in SOURCE.rglob("__init__.py")
    if "lazy_imports(__name__)" in path.read_text(encoding="utf-8")
)


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE / "py.typed").is_file()


@pytest.mark.parametrize("package", LAZY)
def test_every_name_is_listed_once(package: str) -> None:
    module = importlib.import_module(package)
    lazy = set(dir(module)) - set(vars(module))
    assert len(module.__all__) == len(set(module.__all__))
    assert lazy <= set(module.__all__)


def write_package(folder: Path, name: str, files: dict[str, str]) -> None:
    (folder / name).mkdir()
    for file, text in files.items():
        (folder / name / file).write_text(text)


INIT = """
from typing import TYPE_CHECKING
from paperworks.lazy import lazy_imports
if TYPE_CHECKING:
    from {name}.parts import first, missing
else:
    __getattr__, __dir__ = lazy_imports(__name__)
__all__ = ["first"]
"""


def test_a_module_is_imported_with_the_first_of_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path, "lazy_one", {"__init__.py": INIT.format(name="lazy_one"), "parts.py": "first = 1\n"})
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("lazy_one")
    assert "lazy_one.parts" not in sys.modules
    assert {"first", "missing"} <= set(dir(module))
    assert module.first == 1
    assert vars(module)["first"] == 1
    with pytest.raises(AttributeError, match="no attribute 'second'"):
        _ = module.second
    with pytest.raises(AttributeError, match="missing"):
        _ = module.missing


def test_a_module_must_not_hide_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path, "lazy_two", {"__init__.py": INIT.format(name="lazy_two"), "first.py": ""})
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="the module first hides the name first"):
        importlib.import_module("lazy_two")


def test_a_package_without_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("lazy_three")
    module.__path__ = []
    module.__spec__ = None
    monkeypatch.setitem(sys.modules, "lazy_three", module)
    with pytest.raises(ImportError, match="read from its source"):
        lazy_imports("lazy_three")
