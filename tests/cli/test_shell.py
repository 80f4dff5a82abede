"""What shells meet: flags in help, completion, warnings of libraries."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from paperworks import catalog
from paperworks.cli import run_command
from paperworks.cli.app import build_app
from paperworks.cli.options import COMPLETION


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run_command([*words, "--help"]) == 0
    return capsys.readouterr().out


def test_help_has_no_flag_that_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """No ``--no-quiet`` and no ``--empty-study``; ``--no-`` stands only where something is on."""
    for words in ("reproduce", "list", "remove", "resume", "search", "page", "feed", "data", "open"):
        text = help_of(capsys, words)
        assert "--empty-" not in text, words
        assert "--no-quiet" not in text, words
    assert "--no-browser" in help_of(capsys, "open")


@pytest.mark.parametrize("slug", [p.slug for p in catalog.papers() if p.has_recipe])
def test_help_of_a_paper_has_no_flag_that_does_nothing(capsys: pytest.CaptureFixture[str], slug: str) -> None:
    text = help_of(capsys, "run", slug)
    for name in ("--empty-", "--no-quiet", "--no-json", "--no-keep-row-numbers"):
        assert name not in text


def test_completion_knows_commands_and_papers() -> None:
    app = build_app([COMPLETION])
    for shell in ("bash", "zsh", "fish"):
        script = app.generate_completion(prog_name="paperworks", shell=shell)
        for word in ("reproduce", "run", *(p.slug for p in catalog.papers() if p.has_recipe)):
            assert word in script, (shell, word)


def test_warnings_of_libraries_are_not_printed() -> None:
    """Only with ``--debug``: what a user has to know is in the report."""
    code = (
        "import sys, warnings; from paperworks import cli; "
        "cli.run_command = lambda arguments, debug: warnings.warn('raw advice') or 0; cli.main(sys.argv[1:])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"}
    for arguments, seen in ((["list"], False), (["list", "--debug"], True)):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, check=True
        )
        assert ("raw advice" in done.stderr) == seen
