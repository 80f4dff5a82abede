"""Extras: what each installs, and the one line that names the extra that is missing."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

from paperworks import catalog, extras
from paperworks.cli import NEEDS, run_command
from paperworks.errors import InputError
from paperworks.runs import Store

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED: dict[str, list[str]] = PROJECT["optional-dependencies"]
WITH_RECIPE = [p for p in catalog.papers() if p.has_recipe]
OURS = [p for p in WITH_RECIPE if p.folder.is_relative_to(ROOT)]


def as_metadata(declared: dict[str, list[str]]) -> list[str]:
    """Requirements as a wheel of this pyproject.toml has them."""
    lines = list(PROJECT["dependencies"])
    for extra, requirements in declared.items():
        for requirement in requirements:
            name, _, marker = (part.strip() for part in requirement.partition(";"))
            lines.append(f"{name}; ({marker}) and extra == '{extra}'" if marker else f"{name}; extra == '{extra}'")
    return lines


@pytest.fixture(autouse=True)
def _this_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkout's extras, whatever version was installed."""
    monkeypatch.setattr(metadata, "requires", lambda name: as_metadata(DECLARED))


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "_installed", lambda name: False)


def test_an_extra_brings_those_that_it_includes(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = {
        "a": ["x>=1", "paperworks[b,c]"],
        "b": ["y[fast]>=2; sys_platform != 'none'", "nowhere; sys_platform == 'none'"],
        "c": ["z", "paperworks[a]"],
        "d": ["w"],
    }
    monkeypatch.setattr(metadata, "requires", lambda name: as_metadata(declared))
    assert set(extras.packages_of("a")) == {"x", "y", "z"}
    assert extras.packages_of("d") == ["w"]
    assert extras.packages_of("unknown") == []


def test_what_is_installed_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: as_metadata({"a": ["pytest", "no-such-package-here"]}))
    assert extras.missing_packages("a") == ["no-such-package-here"]
    with pytest.raises(InputError, match=re.escape("no-such-package-here not installed; expected pip install")):
        extras.require_extra("a", "a command")
    extras.require_extra("", "a command")


def test_the_extra_all_installs_every_extra_for_users() -> None:
    rest = {name for extra in DECLARED if extra not in ("all", "dev", "docs") for name in extras.packages_of(extra)}
    assert set(extras.packages_of("all")) == rest


def test_every_extra_that_is_named_exists() -> None:
    assert {p.extra for p in catalog.papers() if p.extra} | set(NEEDS.values()) <= set(DECLARED)


COMMANDS = [["run", p.slug] for p in WITH_RECIPE if p.extra] + [
    ["compare-methods"],
    ["page"],
    ["feed", "refresh"],
    ["digest", "send"],
]


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_names_the_extra_that_is_missing(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    papers = {p.slug: p.extra for p in WITH_RECIPE}
    extra = NEEDS.get(command[0]) or papers.get(command[-1], "llm")
    assert run_command(list(command)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"pip install 'paperworks[{extra}]'" in said
    assert Store().records() == []


@pytest.mark.usefixtures("nothing_installed")
def test_help_needs_no_extra(capsys: pytest.CaptureFixture[str]) -> None:
    slug = next(p.slug for p in WITH_RECIPE if p.extra)
    assert run_command(["run", slug, "--help"]) == 0
    assert "--seed" in capsys.readouterr().out


class Imports:
    """The third-party modules that importing a module of the package brings, read from the sources.

    Imports in an ``if``, a ``try`` and in functions do not count; those in functions of the folder ``whole`` do.
    ``asked_for`` has the extras that this folder asks for by name where it needs them.
    """

    def __init__(self, whole: Path) -> None:
        self.whole = whole
        self.seen: set[str] = set()
        self.third_party: dict[str, str] = {}
        self.asked_for: set[str] = set()

    def follow(self, module: str) -> None:
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            self._read(".".join(parts[:end]))

    def _read(self, module: str) -> None:
        if module in self.seen:
            return
        self.seen.add(module)
        path = ROOT / "src" / Path(*module.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if not path.is_file():
            return
        statements, required = read_imports(path, path.is_relative_to(self.whole))
        self.asked_for |= required
        for node in statements:
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self._name(str(node.module), alias.name, path)
            else:
                for alias in node.names:
                    self._name(alias.name, "", path)

    def _name(self, module: str, name: str, path: Path) -> None:
        if module.partition(".")[0] != "paperworks":
            self.third_party.setdefault(module.partition(".")[0], str(path.relative_to(ROOT)))
            return
        self.follow(module)
        package = ROOT / "src" / Path(*module.split("."))
        if (package / f"{name}.py").is_file() or (package / name).is_dir():
            self.follow(f"{module}.{name}")
        elif package.is_dir():
            home = lazy_homes(package).get(name)
            if home:
                self.follow(home)


@cache
def read_imports(path: Path, whole: bool) -> tuple[list[ast.Import | ast.ImportFrom], set[str]]:
    """The imports of a file that count, and the extras that a ``whole`` one asks for."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return list(_statements(tree, whole)), set(_required(tree)) if whole else set()


def _statements(node: ast.AST, whole: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not _skipped(child, whole):
            yield from _statements(child, whole)


def _skipped(node: ast.AST, whole: bool) -> bool:
    return isinstance(node, ast.If | ast.Try) or (isinstance(node, ast.FunctionDef) and not whole)


def _required(tree: ast.AST) -> Iterator[str]:
    """The extras that code asks for by ``require_extra("name", ...)`` before it imports what they bring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require_extra":
            first = node.args[0]
            if isinstance(first, ast.Constant):
                yield str(first.value)


@cache
def lazy_homes(package: Path) -> dict[str, str]:
    """Name -> module of the names that a package imports lazily."""
    blocks = [n for n in ast.parse((package / "__init__.py").read_text(encoding="utf-8")).body if isinstance(n, ast.If)]
    imports = [n for block in blocks for n in block.body if isinstance(n, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


@cache
def owners() -> dict[str, set[str]]:
    """Module -> the distributions that have it."""
    return {module: set(map(normal, names)) for module, names in metadata.packages_distributions().items()}


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


@pytest.mark.parametrize("paper", OURS, ids=[p.slug for p in OURS])
def test_a_recipe_imports_no_more_than_its_extra_brings(paper: catalog.Paper) -> None:
    imports = Imports(paper.folder)
    imports.follow(f"{paper.module}.recipe")
    base = {normal(re.split(r"[\[<>=!~; ]", text, maxsplit=1)[0]) for text in PROJECT["dependencies"]}
    brought = [paper.extra, *sorted(imports.asked_for)]
    allowed = base | {normal(name) for extra in brought for name in extras.packages_of(extra)}
    optional = {normal(name) for one in DECLARED for name in extras.packages_of(one)}
    missing = {
        module: path
        for module, path in imports.third_party.items()
        if owners().get(module, set()) & optional and not owners()[module] & allowed
    }
    assert missing == {}
