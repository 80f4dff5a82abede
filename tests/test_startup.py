"""What a user waits for before anything runs: help, listings and search start at once, whatever the papers import."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest

from pace import slowness

HEAVY = ("torch", "transformers", "accelerate", "sklearn", "pandas", "scipy", "numba", "matplotlib")
SECONDS = 1.0
"""Processor seconds that a command may take before its work begins, at the pace of a quiet machine (tests/pace.py)."""

BUILD_CONFIGS = """
import json, sys, time
from paperworks import catalog
from paperworks.runs import load_recipe
found = {}
for paper in catalog.papers():
    if paper.has_recipe:
        began = time.process_time()
        before = set(sys.modules)
        load_recipe(paper.slug, f"{paper.module}.recipe").config()
        heavy = sorted(set(sys.argv[1:]) & (set(sys.modules) - before))
        found[paper.slug] = [round(time.process_time() - began, 3), heavy]
print(json.dumps(found))
"""


def processor_seconds(*arguments: str) -> float:
    """User and system seconds of a command; the smaller of two tries, since the first may write byte code."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "paperworks", *arguments], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / slowness()

    first = once()
    return first if first < SECONDS else min(first, once())


def test_options_are_read_without_what_the_methods_need() -> None:
    done = subprocess.run([sys.executable, "-c", BUILD_CONFIGS, *HEAVY], check=True, capture_output=True, text=True)
    found, pace = json.loads(done.stdout), slowness()
    assert {slug: heavy for slug, (_, heavy) in found.items() if heavy} == {}
    assert {slug: seconds for slug, (seconds, _) in found.items() if seconds / pace > SECONDS / 2} == {}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("list",),
        ("search", "a", "short", "list", "of", "rules"),
        ("run", "tiny-paper", "--help"),
        ("compare-methods", "--help"),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("tiny_paper")
def test_commands_start_within_a_second_of_processor_time(arguments: tuple[str, ...]) -> None:
    assert processor_seconds(*arguments) < SECONDS
