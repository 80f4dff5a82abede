"""Every ``paperworks`` command in the README, in docs/ and in a paper's README is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest
from cyclopts import App

from paperworks import catalog
from paperworks.cli.app import build_app
from paperworks.cli.options import merge_options
from paperworks.cli.recipes import run_app
from paperworks.runs.config import build_config
from paperworks.runs.recipe import load_recipe

ROOT = Path(__file__).resolve().parent.parent
HERE = [p for p in catalog.papers() if p.has_recipe and p.module.startswith("paperworks.papers.")]
GUIDES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMAND = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/|uv run )?paperworks (.+)$")
PLACEHOLDER = re.compile(r"\.\.\.|\bSLUG\b|\bCOMMAND\b|\[--|…|<[a-z-]+>")
END = ("|", ">", ">>", "&&", "&", ";", "2>")


def code_lines(text: str) -> Iterator[str]:
    """Lines of code blocks, fenced or indented, and inline code with options; continued lines are joined."""
    fenced = False
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in joined.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()
        else:
            yield from re.findall(r"`(paperworks [^`]* --[^`]+)`", line)


def commands(text: str) -> Iterator[list[str]]:
    """Words of each command after ``paperworks``; those with a placeholder are left out."""
    for line in code_lines(text):
        found = COMMAND.match(line)
        if not found or PLACEHOLDER.search(found[1].partition(" #")[0]):
            continue
        words: list[str] = []
        lexer = shlex.shlex(found[1], posix=True, punctuation_chars="|&;>")
        lexer.whitespace_split = True
        for word in lexer:
            if word in END:
                break
            words.append(word)
        yield words


@lru_cache
def app_for(start: tuple[str, ...]) -> App:
    """The command line for commands that begin so; only ``run SLUG`` and ``compare-methods`` have one of their own."""
    if start[:1] != ("run",):
        return build_app(list(start))
    app = App()
    app.command(run_app(list(start)), name="run")
    return app


def check(words: list[str]) -> None:
    """Parse a command; the options of a recipe are validated, and nothing is run."""
    slug = words[1] if words[:1] == ["run"] and len(words) > 1 and not words[1].startswith("-") else None
    start = words[:2] if slug else words[:1] if words[:1] == ["compare-methods"] else []
    _, bound, *_ = app_for(tuple(start)).parse_args(words, exit_on_error=False, print_error=False)
    if slug:
        recipe = load_recipe(slug, f"{catalog.find_with_recipe(slug).module}.recipe")
        given = {**bound.arguments, **bound.arguments.get("options", {})}
        given = {name: value for name, value in given.items() if name in recipe.config.model_fields}
        build_config(recipe.config, merge_options(recipe.config, None, given))


def wrong(path: Path) -> list[str]:
    """The commands of a document that are refused, with the reason."""
    found = []
    for words in commands(path.read_text(encoding="utf-8")):
        try:
            check(words)
        except Exception as error:  # whatever the parser raises
            found.append(f"paperworks {shlex.join(words)}: {type(error).__name__}: {error}")
    return found


@pytest.mark.parametrize("path", GUIDES, ids=[str(p.relative_to(ROOT)) for p in GUIDES])
def test_commands_of_guides(path: Path) -> None:
    assert wrong(path) == []


def test_scripts_and_targets_that_documents_name_are_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    lost = []
    for path in [*GUIDES, *(paper.folder / "README.md" for paper in HERE)]:
        text = path.read_text(encoding="utf-8")
        scripts = re.findall(r"\b((?:benchmarks|scripts)/\w+\.py)\b", text)
        wanted = [line.split()[1] for line in code_lines(text) if re.match(r"make [a-z]+( |$)", line)]
        lost += [f"{path.name}: {name}" for name in scripts if not (ROOT / name).is_file()]
        lost += [f"{path.name}: make {name}" for name in wanted if name not in targets]
    assert lost == []


@pytest.mark.parametrize("paper", HERE, ids=[p.slug for p in HERE])
def test_commands_of_papers(paper: catalog.Paper) -> None:
    assert list(commands((paper.folder / "README.md").read_text(encoding="utf-8")))
    assert wrong(paper.folder / "README.md") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("    paperworks list --works  # a comment\n", [["list", "--works"]]),
        ("```\n$ paperworks run a --x 'b c' \\\n    --y 2 | head\n```\n", [["run", "a", "--x", "b c", "--y", "2"]]),
        ("`paperworks list --works`, not `paperworks list`.\n", [["list", "--works"]]),
        ("    paperworks run SLUG --help\n    ls\nparagraph paperworks list\n", []),
    ],
)
def test_commands_are_found(text: str, expected: list[list[str]]) -> None:
    assert list(commands(text)) == expected


@pytest.mark.parametrize(
    "words", [["lists"], ["list", "--workz"], ["run", "no-such-paper"], ["run", HERE[0].slug, "--no-such", "1"]]
)
def test_a_command_that_is_none_is_refused(words: list[str]) -> None:
    with pytest.raises(Exception, match=r".") as caught:
        check(words)
    assert not isinstance(caught.value, AssertionError)


NOT_RUN_HERE = {
    ("run",): "checked above; recipes run in the tests of their papers, and those of tutorials in 'make tutorials'",
    ("reproduce",): "studies take minutes; tests/test_reproduction.py runs the command",
    ("compare-methods",): "takes minutes; tests/pruning/test_comparison.py runs the command",
    ("mcp",): "serves until it is ended; tests/mcp_server starts it",
    ("page", "--public"): "serves until it is ended; tests/page/web/test_web_server.py starts it",
    ("feed", "import", "2401.15024"): "asks arXiv",
    ("new",): "writes into the checkout; tests/test_folders.py runs it on a copy",
    ("resume", "last", "--engine", "ray"): "needs a cluster; tests/runs/test_cluster.py runs it",
}
PASTED = ROOT / "tests" / "page" / "feed" / "pages" / "01-issue-date-and-comments-on-one-line.txt"


def test_every_other_command_of_the_guides_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the documents, in one new home; what is not run here is named with the reason."""
    from paperworks.cli import run_command
    from paperworks.page.database import open_database
    from paperworks.page.feed import seed_catalogue
    from paperworks.page.settings import load_settings

    monkeypatch.chdir(tmp_path)
    Path("daily.txt").write_bytes(PASTED.read_bytes())
    database = open_database(load_settings().database_url)
    seed_catalogue(database)  # as the page does when it starts
    database.close()
    seen: set[tuple[str, ...]] = set()
    ran = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for words in commands(path.read_text(encoding="utf-8")):
            if tuple(words) in seen or any(tuple(words[: len(start)]) == start for start in NOT_RUN_HERE):
                continue
            seen.add(tuple(words))
            code = run_command([word.replace("/var/backups/", f"{tmp_path}/backups-") for word in words])
            output = capsys.readouterr()
            ran.append((code, shlex.join(words), output.err))
    assert [line for line in ran if line[0] != 0] == []
    assert len(ran) >= 12
