"""Processor time of tests: measured for each, summed for each paper, and held to a budget.

Processor seconds of the test's process and of the children that it waited for are counted, not wall-clock seconds. They
are turned into those of a quiet reference machine (tests/pace.py), because a loaded or slower machine needs more of
them for the same work. A test's figure is its call alone; a paper's (a folder of tests/papers) includes the setup of
what its tests share. Work that needs more than the budget is a study or a benchmark. Left out is what is done once in a
worker or on a machine, for the first test that needs it: imports, what numba compiles (it is kept in ``__pycache__``),
and the start of the server that forks processes (tests/forked.py).

Every run of pytest fails where a budget is exceeded three times over. With ``--hold-budget`` it fails where a budget
is exceeded at all, which is for a machine that does nothing else.
"""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Generator
from importlib.machinery import ExtensionFileLoader, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import forked
from pace import Pace

TEST_SECONDS = 3.0
PAPER_SECONDS = 20.0
MARGIN = 3.0
"""What the pace leaves: no two kinds of work slow down alike (docs/decisions/0016)."""
SHOWN = 15
PROPERTY = "processor seconds"

EXCEPTION = "over_budget"
"""Mark of a test that may take longer, with the reason: ``@pytest.mark.over_budget("compiles what it inspects")``."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--hold-budget",
        action="store_true",
        help="fail where tests need more processor time than allowed; otherwise where it is over three times as much",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{EXCEPTION}(reason): may take more processor time than other tests")
    watch_imports()
    config.stash[_pace] = Pace()
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Budget(), "budget of processor time")


_counted: pytest.StashKey[float] = pytest.StashKey()
"""Processor seconds up to the phase that runs."""
_pace: pytest.StashKey[Pace] = pytest.StashKey()


@pytest.hookimpl(tryfirst=True, wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    watch_numba()
    item.config.stash[_counted] = processor_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    stash = item.config.stash
    seconds = stash[_pace].at_reference(processor_seconds() - stash[_counted])
    report.user_properties.append((PROPERTY, seconds))
    stash[_counted] = processor_seconds()
    if item.get_closest_marker(EXCEPTION):
        report.user_properties.append((EXCEPTION, True))
    return report


def processor_seconds() -> float:
    """User and system seconds of this process and of the children that it or its server of forks has waited for."""
    times = os.times()
    here = times.user + times.system + times.children_user + times.children_system
    return here + forked.seconds() - _once.seconds


class Stopwatch:
    """Processor seconds within this process's pieces of work of a kind, of which one may call another."""

    def __init__(self) -> None:
        self.seconds, self.depth, self.started = 0.0, 0, 0.0

    def start(self, *_: object) -> None:
        if not self.depth:
            self.started = time.process_time()
        self.depth += 1

    def stop(self, *_: object) -> None:
        self.depth -= 1
        if not self.depth:
            self.seconds += time.process_time() - self.started


_once = Stopwatch()
"""What is done once in a worker or on a machine, for the first test that needs it."""
_watched: set[str] = set()


def watch_imports() -> None:
    """Time the modules that are executed from now on."""
    if "imports" in _watched:
        return
    _watched.add("imports")
    for loader in (SourceFileLoader, ExtensionFileLoader):
        execute = loader.exec_module

        def exec_module(self: Any, module: ModuleType, execute: Any = execute) -> None:
            _once.start()
            try:
                execute(self, module)
            finally:
                _once.stop()

        loader.exec_module = exec_module  # type: ignore[method-assign]


def watch_numba() -> None:
    """Time what numba compiles from now on, if it has been imported."""
    event = sys.modules.get("numba.core.event")
    if "numba" in _watched or event is None:
        return
    _watched.add("numba")

    class Listener(event.Listener):
        on_start = staticmethod(_once.start)
        on_end = staticmethod(_once.stop)

    event.register("numba:compile", Listener())


class Budget:
    """Collects the figures of all workers, and shows them at the end."""

    def __init__(self) -> None:
        self.tests: dict[str, float] = {}
        self.exceptions: set[str] = set()
        self.papers: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        seconds = next((value for name, value in report.user_properties if name == PROPERTY), 0.0)
        if report.when == "call":
            self.tests[report.nodeid] = float(seconds)
            if (EXCEPTION, True) in map(tuple, report.user_properties):
                self.exceptions.add(report.nodeid)
        parts = Path(report.nodeid.partition("::")[0]).parts
        if "papers" in parts[:-2]:
            self.papers[parts[parts.index("papers") + 1]] += float(seconds)

    def exceeded(self, config: pytest.Config) -> list[str]:
        """What is over its budget, a line each; without ``--hold-budget`` what is over three times the budget."""
        margin = 1.0 if config.getoption("--hold-budget") else MARGIN
        tests = [
            f"{test}: {seconds:.1f} s, more than {margin * TEST_SECONDS:g} s"
            for test, seconds in self.tests.items()
            if seconds > margin * TEST_SECONDS and test not in self.exceptions
        ]
        papers = [
            f"{paper}: {seconds:.1f} s in all, more than {margin * PAPER_SECONDS:g} s"
            for paper, seconds in self.papers.items()
            if seconds > margin * PAPER_SECONDS
        ]
        return papers + tests

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        yield
        if self.exceeded(session.config) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        slow = sorted(self.tests.items(), key=lambda item: -item[1])[:SHOWN]
        slow = [(test, seconds) for test, seconds in slow if seconds >= TEST_SECONDS / 3]
        if slow:
            terminalreporter.section(f"processor time: {sum(self.tests.values()):.0f} s of tests; the slowest")
            for test, seconds in slow:
                terminalreporter.line(f"{seconds:6.1f} s  {test}")
        if self.exceeded(config):
            terminalreporter.section("over the budget of processor time (tests/budget.py)", red=True)
            for line in self.exceeded(config):
                terminalreporter.line(line)
