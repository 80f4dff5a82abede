"""The written list of dependencies says what pyproject.toml, constraints.txt and the environment say."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit_dependencies", ROOT / "scripts" / "audit_dependencies.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_list_is_right(audit: ModuleType) -> None:
    assert audit.differences(audit.written(audit.LIST.read_text(encoding="utf-8"))) == []


def test_what_is_wrong_is_found(audit: ModuleType) -> None:
    rows = audit.written(audit.LIST.read_text(encoding="utf-8"))
    assert len(rows) > 50
    bad = dict(rows)
    del bad["numpy"]
    bad["left-pad"] = audit.Dependency("left-pad", "1.0", "MIT", "padding")
    bad["httpx"] = bad["httpx"]._replace(version="0.0.1")
    bad["fastapi"] = bad["fastapi"]._replace(licence="Proprietary")
    bad["nh3"] = bad["nh3"]._replace(purpose="?")
    wrong = "\n".join(audit.differences(bad))
    for start in (
        "numpy: not in",
        "left-pad: in the list",
        "httpx: 0.0.1",
        "fastapi: licence 'Proprietary'",
        "nh3: the",
    ):
        assert start in wrong


def test_writing_keeps_purposes_and_is_idempotent(audit: ModuleType) -> None:
    text = audit.LIST.read_text(encoding="utf-8")
    once = audit.rewritten(text.replace(f"| {audit.written(text)['httpx'].version} |", "| 0.0.1 |"))
    assert once == audit.rewritten(once)
    assert {n: d.purpose for n, d in audit.written(once).items()} == {
        n: d.purpose for n, d in audit.written(text).items()
    }


def audited(name: str, *faults: str) -> dict[str, object]:
    return {"name": name, "version": "1.0", "vulns": [{"id": f, "fix_versions": ["1.1"]} for f in faults]}


SKIPPED = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited: c (1.0)"}


@pytest.mark.parametrize(
    ("answer", "status", "faults", "said"),
    [
        ([audited("a"), audited("b")], 0, 0, "pip-audit knows 0 faults of 2 dependencies"),
        ([audited("a", "CVE-1", "CVE-2"), audited("b")], 1, 2, "a 1.0: CVE-2, fixed in 1.1"),
        ([audited("a"), SKIPPED], 0, 0, "could not look up 1 of 2: c"),
        ([SKIPPED], 0, None, ""),  # it ends well, and asked nobody
        ("no connection", 1, None, ""),
        ({"error": 1}, 1, None, ""),
    ],
)
def test_what_pip_audit_says(
    audit: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: object,
    status: int,
    faults: int | None,
    said: str,
) -> None:
    """A module in the place of pip-audit answers as it does (the answers were taken from version 2.10)."""
    text = json.dumps({"dependencies": answer, "fixes": []} if isinstance(answer, list) else answer)
    (tmp_path / "pip_audit.py").write_text(f"import sys\nprint({text!r})\nsys.exit({status})\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert audit.known_faults() == faults
    printed = capsys.readouterr()
    assert said in printed.out + printed.err
    assert audit.main([]) == (1 if faults else 0)
    assert ("only the written list is checked" in capsys.readouterr().err) == (faults is None)


def test_without_pip_audit_the_list_is_checked(audit: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert audit.known_faults() is None
