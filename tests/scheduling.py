"""Which tests run in one worker of pytest-xdist (``--dist loadgroup``), and in which order workers go through them.

In one worker run those that share what is slow to make.

Tests of a paper share trained networks and what numba compiles; tests of the page share servers. xdist 3.8 writes
groups to a private name that pytest 9 no longer uses, so that ``xdist_group`` has no effect: the scheduler is given
here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from paperworks import catalog

WORKER = "PYTEST_XDIST_WORKER"


class Backwards(pytest.Dir):
    """A folder whose last entry is collected first."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        return reversed(list(super().collect()))


def collects_backwards() -> bool:
    """Whether this is every other worker.

    Workers import all tests at the same time. Two that go through the folders from both ends each compile one half of
    them, and find the other half compiled.
    """
    return int(os.environ.get(WORKER, "gw0").removeprefix("gw")) % 2 == 1


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if not collects_backwards() or (path / "__init__.py").is_file():
        return None
    return Backwards.from_parent(parent, path=path)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers have to report the same order.

    xdist starts large groups first, and then tests that are alone in this order. Long ones come first of those: where
    one is the last to start, the other workers wait for it.
    """
    if WORKER in os.environ:
        items.sort(key=lambda item: (not is_long_and_alone(item), item.path.parts))


def is_long_and_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("over_budget") is not None and group_of(item.nodeid) == item.nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """xdist's scheduler of scopes, with the groups as scopes."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        """With thousands of groups, xdist goes through all of them, and through all tests, after each test."""

        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

        def add_node_collection(self, node: Any, collection: Any) -> None:
            super().add_node_collection(node, collection)
            if node in self.registered_collections:
                self.registered_collections[node] = Collected(collection)

        def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
            group = group_of(self.registered_collections[node][item_index])
            if group not in self.assigned_work[node]:  # a test may report more than once
                return
            super().mark_test_complete(node, item_index, duration)
            if all(self.assigned_work[node][group].values()):
                del self.assigned_work[node][group]

    return GroupScheduling(config, log)


class Collected(list[str]):
    """The tests that a worker collected, with their places."""

    def __init__(self, tests: Iterable[str]) -> None:
        super().__init__(tests)
        self._places = {test: place for place, test in enumerate(self)}

    def index(self, test: str, *_: Any) -> int:
        return self._places[test]


def group_of(nodeid: str) -> str:
    """The group of a test; a test that shares nothing is a group of its own."""
    path, _, rest = nodeid.partition("::")
    folders = PurePosixPath(path).parts[:-1]
    if "papers" in folders[:-1]:
        return folders[folders.index("papers") + 1]
    if folders[-2:] == ("page", "web"):
        return "page"
    values = f"-{rest.partition('[')[2].rpartition(']')[0]}-"
    return next((folder for slug, folder in papers() if f"-{slug}-" in values), nodeid)


@lru_cache
def papers() -> list[tuple[str, str]]:
    """Slug and folder of every paper, long slugs first."""
    return sorted(((p.slug, p.folder.name) for p in catalog.papers()), key=lambda found: -len(found[0]))
