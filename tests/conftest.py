"""Fixtures for all tests: a home of their own, and a small paper that another package brings."""

from __future__ import annotations

import functools
import gc
import importlib
import importlib.util
import itertools
import os
import re
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from installed_paper import write_paper

# Two pytest workers share two cores: one thread each keeps them from slowing each other down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
# Compiled modules are kept, beside what numba compiles, also where the machine says otherwise (containers often do):
# else each worker, and each process that a test starts, compiles the modules of paperworks and of the tests again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

pytest_plugins = ("budget", "scheduling", "pytester")

OBJECTS_BETWEEN_COLLECTIONS = 20_000
"""Python's 700 would walk again and again through the modules that tests import."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Imports and collection make what stays: no search for garbage while they do, and none in what they made.

    The searches took a quarter of the time that collection needs.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
        gc.enable()


_numbers = itertools.count()


def new_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder of a test. pytest's ``mktemp`` reads the names of all folders before it: 10 ms where there are 8,000."""
    folder = factory.getbasetemp() / "of_tests" / f"{name}{next(_numbers)}"
    folder.mkdir(0o700, parents=True)
    return folder


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """pytest's fixture; see ``new_folder``."""
    return new_folder(tmp_path_factory, re.sub(r"\W", "_", request.node.name)[:30])


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for runs and inputs that no other test sees."""
    folder = new_folder(tmp_path_factory, "home")
    monkeypatch.setenv("PAPERWORKS_HOME", str(folder))
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test asks another machine: an HTTP client reads one certificate, not 140, which takes 50 ms of each client."""
    if importlib.util.find_spec("certifi") is None:
        return
    import certifi

    first, end, _ = certifi.contents().partition("-----END CERTIFICATE-----\n")
    file = tmp_path_factory.mktemp("certificates") / "one.pem"
    file.write_text(first + end, encoding="utf-8")
    os.environ["SSL_CERT_FILE"] = str(file)


@pytest.fixture
def tiny_paper(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the tiny paper, installed for this process and for those that it starts."""
    root = new_folder(tmp_path_factory, "site")
    package = write_paper(root)
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]))
    for module in [m for m in sys.modules if m.split(".")[0] == "tiny_paper"]:
        del sys.modules[module]
    importlib.invalidate_caches()
    return package


@pytest.fixture
def every_item_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress after every item, and a check for cancellation before each, however fast the machine is."""
    monkeypatch.setattr("paperworks.runs.run.PROGRESS_SECONDS", 0.0)


@pytest.fixture
def one_round_of_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes of pruning measure speeds in one short round in place of several, where a test does not look at them."""
    from paperworks.language import speeds_in_turn
    from paperworks.pruning import source
    from paperworks.structure.trace import measure_latency

    monkeypatch.setattr(source, "speeds_in_turn", functools.partial(speeds_in_turn, rounds=1))
    for name, least in (("rounds", 1), ("seconds", 0.001)):
        monkeypatch.setitem(measure_latency.__kwdefaults__, name, least)
