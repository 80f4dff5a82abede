"""The budget of processor time: children count, waiting and a slow machine do not, and what is over it fails."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import budget
import forked
from pace import EVERY_SECONDS, Pace, slowness

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

COMPILES = """
import numba, time

def test_compiles():
    started = time.process_time()
    for factor in range(12):
        @numba.njit
        def total(n):
            found = 0
            for i in range(n):
                found += factor * i * i
            return found

        total(3)
    assert time.process_time() - started > 0.3
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # each pytest here would import them again
    monkeypatch.setattr("budget.TEST_SECONDS", 0.1)
    monkeypatch.setattr("budget.Pace", lambda: Pace(lambda: 1.0))
    pytester.mkdir("papers").joinpath("slow").mkdir()
    (pytester.path / "papers" / "slow" / "test_slow.py").write_text(TESTS)
    return pytester


def test_what_works_too_long_fails_and_what_waits_does_not(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("-p", "budget", "-p", "no:cacheprovider", "--hold-budget")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=4)
    over = [line for line in result.outlines if line.endswith("more than 0.1 s")]
    assert [line.partition("::")[2].partition(":")[0] for line in over] == ["test_works", "test_lets_a_child_work"]


def test_every_run_fails_where_a_budget_is_exceeded_three_times_over(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("budget.TEST_SECONDS", 0.04)
    result = suite.runpytest_inprocess("-p", "budget", "-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=4)
    assert len([line for line in result.outlines if line.endswith("more than 0.12 s")]) == 2


def test_on_a_machine_of_half_the_pace_a_test_may_take_twice_the_time(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("budget.Pace", lambda: Pace(lambda: 2.0))
    result = suite.runpytest_inprocess("-p", "budget", "-p", "no:cacheprovider", "--hold-budget")
    assert result.ret == pytest.ExitCode.OK
    monkeypatch.setattr("budget.TEST_SECONDS", 0.06)
    result = suite.runpytest_inprocess("-p", "budget", "-p", "no:cacheprovider", "--hold-budget")
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_work_is_judged_by_the_slower_of_the_readings_before_and_after_it() -> None:
    readings = iter([1.0, 4.0, 2.0, 1.0])
    pace = Pace(lambda: next(readings))
    assert pace.at_reference(EVERY_SECONDS) == EVERY_SECONDS / 4
    assert pace.at_reference(EVERY_SECONDS) == EVERY_SECONDS / 4
    assert pace.at_reference(EVERY_SECONDS / 2) == EVERY_SECONDS / 2 / 2
    assert pace.at_reference(EVERY_SECONDS / 2) == EVERY_SECONDS / 2 / 2
    assert pace.last == 1.0


def test_the_pace_is_that_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pace.REFERENCE_SECONDS", 1e-4)
    assert slowness() > 3
    monkeypatch.setattr("pace.REFERENCE_SECONDS", 10.0)
    assert slowness() == 1.0


@pytest.mark.over_budget("starts a pytest of its own, which imports numba")
def test_what_numba_compiles_does_not_count(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    # In a process of its own: here pytester would forget the modules of numba, which cannot be imported twice.
    places = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeconftest("import budget\nbudget.TEST_SECONDS = 0.3")
    pytester.makepyfile(COMPILES)
    result = pytester.runpytest_subprocess("-p", "budget", "-p", "no:cacheprovider", "--hold-budget")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.OK


def test_imports_do_not_count(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setattr("budget.TEST_SECONDS", 0.1)
    pytester.makepyfile(
        slow_module=f"import time\n{BURN.format(0.3)}", test_it="def test_imports(): import slow_module"
    )
    result = pytester.runpytest_inprocess("-p", "budget", "-p", "no:cacheprovider", "--hold-budget")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.OK


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    print("burnt")


def test_forked_functions_count() -> None:
    forked.run(burn, 0.0)  # the server's start does not
    before = budget.processor_seconds()
    assert forked.run(burn, 0.3).output == "burnt\n"
    assert budget.processor_seconds() - before >= 0.3


def test_the_budget_of_a_paper_is_the_sum_of_its_tests(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budget.TEST_SECONDS", 100.0)
    monkeypatch.setattr("budget.PAPER_SECONDS", 0.25)
    result = suite.runpytest_inprocess("-p", "budget", "-p", "no:cacheprovider", "--hold-budget")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["slow: * s in all, more than 0.25 s"])


def test_the_slowest_are_shown(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budget.TEST_SECONDS", 0.3)
    result = suite.runpytest_inprocess("-p", "budget", "-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["* s  papers/slow/test_slow.py::test_works"])
    result.stdout.no_fnmatch_line("*more than*")
