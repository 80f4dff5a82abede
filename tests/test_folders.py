"""A paper is its folder: nothing outside names it, and deleting a folder or adding one leaves the rest as it was."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from paperworks import catalog

ROOT = Path(__file__).parents[1]
OURS = [paper for paper in catalog.papers() if paper.folder.is_relative_to(ROOT)]
CHECKED = ["tests/test_contract.py", "tests/test_catalog.py"]


def shared(*folders: str) -> list[Path]:
    """The Python files of these folders that do not belong to a paper."""
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return [path for path in files if "papers" not in path.relative_to(ROOT).parts[:-1]]


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("folders", [("src", "scripts"), ("tests",)], ids=" ".join)
def test_nothing_outside_a_papers_folder_names_the_paper(folders: tuple[str, ...]) -> None:
    modules = tuple(paper.module for paper in OURS)
    # A slug of one word ("paging", "ladder") is an ordinary word too.
    slugs = {name for paper in OURS for name in (paper.slug, paper.folder.name) if "-" in paper.slug}
    found = []
    for path in shared(*folders):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = [module for module in imported(tree) if module.startswith(modules)]
        named += [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in slugs
        ]
        found += [f"{path.relative_to(ROOT)}: {name}" for name in named]
    assert found == []


@pytest.mark.over_budget("runs pytest on a copy of the tree")
def test_deleting_folders_and_adding_one_leaves_the_rest_green(tmp_path: Path) -> None:
    """On a copy of the tree: all papers but one are deleted, and ``paperworks new`` makes another."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for folder in ("src", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, copy_function=os.symlink, ignore=ignored)
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, tmp_path)
    kept = next(paper for paper in OURS if paper.works and not paper.extra)
    for paper in OURS:
        if paper != kept:
            shutil.rmtree(tmp_path / paper.folder.relative_to(ROOT))
            shutil.rmtree(tmp_path / "tests" / "papers" / paper.folder.name, ignore_errors=True)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    made = run("paperworks", "new", "a-new-paper").splitlines()
    assert made[0] == str(tmp_path / "src" / "paperworks" / "papers" / "a_new_paper" / "paper.toml")
    # Without the tests that import the method of the paper that is kept: its packages take seconds.
    said = run(
        "pytest", "-vv", "-p", "no:cacheprovider", "-n", "0", *CHECKED, "-k", "not every_claim and not documented"
    )
    assert f"test_options[{kept.slug}] PASSED" in said
    assert "test_options[a-new-paper] PASSED" in said
    assert said.count("test_options[") == 2
