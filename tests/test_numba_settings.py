"""What numba must be told before it is imported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import forked
from paperworks import numba_settings
from paperworks.numba_settings import OPENMP_THREADS, THREADS

LOOP = """
import sys
assert not {"paperworks", "numba"} & set(sys.modules)
import paperworks, torch, numba, numpy

@numba.njit(parallel=True)
def total(values):
    found = 0.0
    for i in numba.prange(len(values)):
        found += values[i]
    return found

assert total(numpy.ones(10)) == 10
print(torch.get_num_threads())
"""


def test_compiled_code_has_a_place_without_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(numba_settings.VARIABLE, raising=False)
    numba_settings.ensure_cache()
    assert numba_settings.VARIABLE not in os.environ
    monkeypatch.setattr(numba_settings, "_writable", lambda folder: False)
    numba_settings.ensure_cache()
    folder = Path(os.environ[numba_settings.VARIABLE])
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o077 == 0
    monkeypatch.delenv(numba_settings.VARIABLE)


@pytest.mark.parametrize(
    ("openmp", "before", "expected"),
    [("1", None, "1"), ("1,4", None, "1"), ("100000", None, str(os.cpu_count())), ("1", "2", "2")]
    + [(bad, None, None) for bad in (None, "", "0", "-1", "many")],
)
def test_numba_has_the_threads_that_openmp_may_have(
    monkeypatch: pytest.MonkeyPatch, openmp: str | None, before: str | None, expected: str | None
) -> None:
    for name, value in ((OPENMP_THREADS, openmp), (THREADS, before)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    numba_settings.share_threads()
    assert os.environ.get(THREADS) == expected
    monkeypatch.delenv(THREADS, raising=False)


@pytest.mark.over_budget("compiles a parallel loop")
@pytest.mark.skipif(os.cpu_count() == 1, reason="numba has one thread in any case")
def test_a_parallel_loop_leaves_the_threads_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPENMP_THREADS, "1")
    monkeypatch.delenv(THREADS, raising=False)
    found = forked.run(forked.code, LOOP, imported=forked.BARE)
    assert found.output.strip() == "1", found.errors[-2000:]
