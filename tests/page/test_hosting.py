"""The guide for a group: its environment file, its unit and its container start the page as they say."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from paperworks import catalog
from paperworks.page.settings import load_settings
from test_documented_commands import check

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(catalog.checkout() is None, reason="not a checkout")


def block(language: str) -> str:
    text = (ROOT / "docs" / "hosting.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return str(found)


def variables() -> dict[str, str]:
    return dict(line.split("=", 1) for line in block("ini").splitlines())


def test_the_environment_file_is_one_with_which_a_public_page_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables().items():
        monkeypatch.setenv(name, value)
    settings = load_settings(public=True)
    assert settings.database_url == "postgresql:///paperworks"
    assert settings.address() == "https://papers.example.org"
    assert "papers.example.org" in settings.hosts
    assert not settings.uploads_allowed
    assert settings.moderators == ("you@example.org",)


def test_the_unit_is_one(tmp_path: Path) -> None:
    unit = block("systemd")
    (started,) = re.findall(r"^ExecStart=/opt/paperworks/bin/paperworks (.+)$", unit, re.MULTILINE)
    check(shlex.split(started))
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd here")
    # The program and the user are those of another machine.
    unit = unit.replace("/opt/paperworks/bin/paperworks", sys.executable).replace("User=paperworks\n", "")
    (tmp_path / "paperworks.service").write_text(unit)
    done = subprocess.run([analyze, "verify", str(tmp_path / "paperworks.service")], capture_output=True, text=True)
    assert [line for line in done.stderr.splitlines() if "paperworks.service" in line] == []


def test_the_container_installs_extras_that_there_are_and_starts_the_page() -> None:
    lines = block("dockerfile").splitlines()
    (command,) = (json.loads(line.removeprefix("CMD ")) for line in lines if line.startswith("CMD"))
    assert command[0] == "paperworks"
    check(command[1:])
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    text = (ROOT / "docs" / "hosting.md").read_text(encoding="utf-8")
    for named in re.findall(r"paperworks\[([\w,]+)\]", text):
        assert set(named.split(",")) <= set(extras)


def test_the_proxy_lets_as_much_through_as_the_page_takes() -> None:
    (size,) = re.findall(r"client_max_body_size (\d+)m;", block("nginx"))
    assert int(size) * 2**20 == load_settings().upload_bytes
