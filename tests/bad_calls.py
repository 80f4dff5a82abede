"""Recipes run with bad input as the command line runs them, and what is wrong with how that ended."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
from matplotlib.figure import Figure

from paperworks.cli.options import merge_options, option_names
from paperworks.errors import PaperworksError
from paperworks.errors import plain as shown
from paperworks.runs import Cancelled, LocalEngine, Run, build_config, load_recipe
from paperworks.runs.recipe import Recipe
from paperworks.runs.store import Store

UNSAFE = ("weights_only", "allow_pickle=True", "trust_remote_code=True", "unsafe", "np.str_", "\\x")
"""What no message may pass on: unsafe advice of libraries, and raw bytes."""
REFUSED = re.compile(r"(?P<field>.+?): found (?P<found>.*); expected (?P<expected>.+)", re.DOTALL)
FINE = ("refused", "works", "stopped")
"""What may become of a call; everything else is a fault."""


@dataclass(frozen=True)
class Outcome:
    """What became of a call: one of ``FINE``, or a fault in words; and the message or the headline."""

    kind: str
    words: str


def call(recipe: Recipe, values: Mapping[str, Any], names: Sequence[str], listener: Any = None) -> Outcome:
    """Run a recipe in the store of this process's home with options as they are typed.

    A message that refuses them has to name one of ``names``: the option, or the file.
    """
    store = Store()
    before = set(store.working.glob("*"))
    try:
        with option_names(recipe.config):
            config = build_config(recipe.config, merge_options(recipe.config, None, values))
            run_id = store.create(recipe.slug, recipe.module, config)
            return Outcome("works", LocalEngine().execute(store, run_id, listener).headline)
    except Cancelled as error:
        return Outcome("stopped", str(error))
    except PaperworksError as error:
        if isinstance(error, ValueError):
            return Outcome(refusal(str(error), names, left=bool(set(store.working.glob("*")) - before)), str(error))
        return Outcome("fails", f"{type(error).__name__}: {error}")
    except BaseException as error:
        return Outcome("raw error", f"{type(error).__name__}: {error}")


def refusal(message: str, names: Sequence[str], left: bool) -> str:
    """ "refused", or what is wrong with a message of bad input."""
    if not message.isprintable() or any(word in message for word in UNSAFE):
        return "unsafe or unprintable"
    if not REFUSED.fullmatch(message):
        return "does not say what was found and expected"
    plain = message.replace("-", "_")
    if not any(name and shown(name).replace("-", "_") in plain for name in names):
        return "names another option"
    return "leaves a run" if left else "refused"


@contextmanager
def stopped_early(checks: int) -> Iterator[None]:
    """Runs are cancelled at their check of this number, or when they draw their first figure.

    By then their input has been read, and figures take most of the time of a small run.
    """
    counts: dict[int, int] = {}

    def check(self: Run) -> None:
        counts[id(self)] = counts.get(id(self), 0) + 1
        if counts[id(self)] > checks or self.cancelled:
            raise Cancelled

    def draw(self: Figure, *args: object, **options: object) -> None:
        raise Cancelled

    with mock.patch.object(Run, "check", check), mock.patch.object(Figure, "__init__", draw):
        yield


def attempt(
    slug: str, module: str, calls: Sequence[tuple[dict[str, Any], Sequence[str]]], lines: Path, checks: int, most: int
) -> None:
    """Make calls one after the other, and write a line for the outcome of each. For a process of its own.

    ``checks`` as in ``stopped_early``, 0 for whole runs; ``most`` are the bytes that the process gets beside those that
    it was forked with.
    """
    held = psutil.Process().memory_info().vms + most
    resource.setrlimit(resource.RLIMIT_AS, (held, held))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    recipe = load_recipe(slug, module)
    for values, names in calls:
        if checks:
            with stopped_early(checks):
                found = call(recipe, values, names)
        else:
            found = call(recipe, values, names)
        shutil.rmtree(os.environ["PAPERWORKS_HOME"], ignore_errors=True)
        with lines.open("a", encoding="utf-8") as out:
            out.write(json.dumps(asdict(found)) + "\n")
