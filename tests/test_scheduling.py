"""Tests that share what is slow to make are one group of pytest-xdist."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from paperworks import catalog
from scheduling import group_of

PAPER = next(p for p in catalog.papers() if p.has_recipe and "-" in p.slug)


@pytest.mark.parametrize(
    ("nodeid", "expected"),
    [
        ("tests/papers/slow/test_a.py::test_a", "slow"),
        ("tests/papers/slow/deep/test_a.py::test_a[1]", "slow"),
        ("tests/page/web/test_web_x.py::test_b", "page"),
        (f"tests/test_c.py::test_c[{PAPER.slug}]", PAPER.folder.name),
        (f"tests/test_c.py::test_c[banana-{PAPER.slug}]", PAPER.folder.name),
        (f"tests/test_c.py::test_c[{PAPER.slug}-1]", PAPER.folder.name),
        ("tests/test_c.py::test_c[1]", "tests/test_c.py::test_c[1]"),
        ("tests/test_c.py::test_d", "tests/test_c.py::test_d"),
    ],
)
def test_groups(nodeid: str, expected: str) -> None:
    assert group_of(nodeid) == expected


@pytest.mark.over_budget("starts two workers of pytest-xdist")
def test_a_group_runs_in_one_worker(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # three processes would import them all
    for name in ("one", "two", "three"):
        (pytester.path / "papers" / name).mkdir(parents=True)
        (pytester.path / "papers" / name / f"test_{name}.py").write_text(
            "import os, pathlib, pytest, time\n"
            f"with open({str(pytester.path)!r} + '/imported by ' + os.environ['PYTEST_XDIST_WORKER'], 'a') as file:\n"
            f"    file.write('{name} ')\n"
            "@pytest.mark.parametrize('n', range(4))\n"
            "def test_writes(n):\n"
            "    time.sleep(0.05)\n"
            f"    with open({str(pytester.path / name)!r}, 'a') as file:\n"
            "        file.write(os.environ['PYTEST_XDIST_WORKER'] + ' ')\n"
        )
    options = ("-p", "xdist.plugin", "-p", "scheduling", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadgroup")
    result = pytester.runpytest_subprocess(*options)
    result.assert_outcomes(passed=12)
    workers = [set((pytester.path / name).read_text().split()) for name in ("one", "two", "three")]
    assert [len(found) for found in workers] == [1, 1, 1]
    assert len(set.union(*workers)) == 2
    assert (pytester.path / "imported by gw0").read_text().split() == ["one", "three", "two"]
    assert (pytester.path / "imported by gw1").read_text().split() == ["two", "three", "one"]


def test_long_tests_start_before_the_others_that_are_alone(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    pytester.makeini("[pytest]\nmarkers = over_budget")
    long = "import pytest\n@pytest.mark.over_budget('starts a server')\n"
    (pytester.path / "papers" / "one").mkdir(parents=True)
    (pytester.path / "papers" / "one" / "test_c.py").write_text(f"{long}def test_grouped(): pass\n")
    pytester.makepyfile(
        test_a="def test_short(): pass",
        test_b=f"{long}def test_long(): pass\ndef test_short_too(): pass",
    )
    result = pytester.runpytest_inprocess("--collect-only", "-q", "-p", "scheduling")
    found = [line.partition("::")[2] for line in result.outlines if "::" in line]
    assert found == ["test_long", "test_grouped", "test_short", "test_short_too"]
