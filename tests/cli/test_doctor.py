"""``paperworks doctor``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import paperworks
from paperworks.cli import run_command
from paperworks.extras import declared_extras


def checks(capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, dict[str, str]]:
    assert run_command(["doctor", "--json"]) == code
    return {check["name"]: check for check in json.loads(capsys.readouterr().out)}


def test_what_is_installed_and_where_files_lie(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    found = checks(capsys)
    assert paperworks.__version__ in found["paperworks"]["found"]
    assert found["home"]["found"].startswith(str(home))
    assert {f"extra {name}" for name in declared_extras()} <= set(found)
    assert {"torch", "llm", "page"} <= set(declared_extras())
    assert not {"dev", "docs"} & set(declared_extras())
    assert run_command(["doctor"]) == 0
    assert f"home: {home}" in capsys.readouterr().out


def test_a_missing_extra_is_named_with_its_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paperworks.extras.missing_packages", lambda extra: ["av"] if extra == "video" else [])
    found = checks(capsys)
    assert (
        found["extra video"] | {"state": "missing", "advice": "pip install 'paperworks[video]'"} == found["extra video"]
    )
    assert found["extra torch"]["state"] == "good"


def test_what_is_bad_is_the_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    (home / "runs/broken").mkdir(parents=True)
    assert "broken" in checks(capsys, code=1)["store"]["found"]
    shutil.rmtree(home / "runs")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    assert checks(capsys, code=1)["free space"]["state"] == "bad"
    monkeypatch.undo()
    (home / "file").write_text("")
    monkeypatch.setenv("PAPERWORKS_HOME", str(home / "file"))
    assert checks(capsys, code=1)["home"]["advice"].startswith("set PAPERWORKS_HOME")
