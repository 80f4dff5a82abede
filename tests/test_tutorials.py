"""The tutorials: one question, few commands on input that the reader makes first, and files that other tools open."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import forked
from paperworks import catalog
from paperworks.runs import load_recipe
from paperworks.runs.config import is_sequence, names_file
from test_documented_commands import commands

ROOT = Path(__file__).resolve().parent.parent
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
QUOTED = re.compile(r"^> (.+)$", re.MULTILINE)


def blocks(path: Path) -> list[str]:
    return BLOCK.findall(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", TUTORIALS, ids=[path.stem for path in TUTORIALS])
def test_a_tutorial_is_a_question_and_its_answer(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    paper = catalog.find_with_recipe(path.stem)
    head, _, rest = text.partition("\n\n")
    assert re.fullmatch(r"# [^\n]+\?", head)
    assert rest.startswith("You leave with ")
    assert 1 <= len(list(commands(text))) <= 5
    assert f"src/paperworks/papers/{paper.folder.name}/README.md" in text
    for block in blocks(path):
        ast.parse(block)


@pytest.mark.parametrize("path", TUTORIALS, ids=[path.stem for path in TUTORIALS])
def test_its_input_is_made_by_its_first_block(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block runs as it stands, and every file that the first command names is there afterwards."""
    words = next(iter(commands(path.read_text(encoding="utf-8"))))
    assert words[:2] == ["run", path.stem]
    first = blocks(path)[0] if "<!-- input -->" in path.read_text(encoding="utf-8") else ""
    if first:
        monkeypatch.chdir(tmp_path)
        made = forked.run(forked.code, first)
        assert made.code == 0, made.errors[-2000:]
    paper = catalog.find_with_recipe(path.stem)
    fields = load_recipe(paper.slug, f"{paper.module}.recipe").config.model_fields
    for flag, value in pairwise(words):
        name = flag.removeprefix("--").replace("-", "_")
        file = names_file(fields[name]) if flag.startswith("--") and name in fields else None
        if file is None or file.is_name(value):
            continue
        for one in value.split(",") if is_sequence(fields[name].annotation) else (value,):
            assert (tmp_path / one).exists(), f"{flag} {one}"


@pytest.mark.over_budget("runs all that a tutorial has")
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not os.environ.get("PAPERWORKS_TUTORIALS"), reason="run by 'make tutorials'")
@pytest.mark.parametrize("path", TUTORIALS, ids=[path.stem for path in TUTORIALS])
def test_it_runs_as_it_stands(path: Path, tmp_path: Path) -> None:
    """All its code and commands, in order; each sentence that it quotes is one of a report, apart from the digits."""
    text = path.read_text(encoding="utf-8")
    said = []

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=os.environ | {"PYTHONSAFEPATH": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[-2000:]}"
        return done.stdout

    python = blocks(path)
    if "<!-- input -->" in text:
        run("-c", python.pop(0))
    for words in commands(text):
        said.append(json.loads(run("-m", "paperworks", *words, "--quiet", "--json"))["headline"])
    for block in python:
        run("-c", block)
    quoted = QUOTED.findall(text)
    assert quoted
    assert {digits_apart(sentence) for sentence in quoted} <= {digits_apart(sentence) for sentence in said}


def digits_apart(text: str) -> str:
    return re.sub(r"[-+]?\d[\d,.]*\d|[-+]?\d", "#", text)


def test_the_index_lists_every_tutorial() -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        pytest.importorskip("mkdocs")
        import docs_pages
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    text = docs_pages.tutorials_index()
    assert [line.partition("](")[2].partition(")")[0] for line in text.splitlines()[6:]] == [p.name for p in TUTORIALS]
