"""The budget of processor time: children count, waiting does not, and what is over it fails where it is held."""

from __future__ import annotations

import pytest

BURN = "end = time.process_time() + {}\nwhile time.process_time() < end: pass"
TESTS = f"""
import pytest, subprocess, sys, time

def test_waits():
    time.sleep(0.2)

def test_works():
    {BURN.format(0.15).replace(chr(10), chr(10) + "    ")}

@pytest.mark.over_budget("says so")
def test_may_work():
    {BURN.format(0.15).replace(chr(10), chr(10) + "    ")}

def test_lets_a_child_work():
    subprocess.run([sys.executable, "-S", "-c", "import time\\n" + {BURN.format(0.15)!r}], check=True)
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setattr("budget.TEST_SECONDS", 0.1)
    pytester.mkdir("papers").joinpath("slow").mkdir()
    (pytester.path / "papers" / "slow" / "test_slow.py").write_text(TESTS)
    return pytester


def test_what_works_too_long_fails_and_what_waits_does_not(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("-p", "budget", "-p", "no:cacheprovider", "--hold-budget")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=4)
    over = [line for line in result.outlines if line.endswith("more than 0.1 s")]
    assert [line.partition("::")[2].partition(":")[0] for line in over] == ["test_works", "test_lets_a_child_work"]


def test_the_budget_of_a_paper_is_the_sum_of_its_tests(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budget.TEST_SECONDS", 100.0)
    monkeypatch.setattr("budget.PAPER_SECONDS", 0.25)
    result = suite.runpytest_inprocess("-p", "budget", "-p", "no:cacheprovider", "--hold-budget")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["slow: * s in all, more than 0.25 s"])


def test_without_the_option_the_slowest_are_shown_only(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("-p", "budget", "-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["* s  papers/slow/test_slow.py::test_works"])
    result.stdout.no_fnmatch_line("*more than*")
