"""The written list of dependencies says what pyproject.toml, constraints.txt and the environment say."""

from __future__ import annotations

import importlib.util
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
