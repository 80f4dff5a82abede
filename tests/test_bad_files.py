"""Files that no paper can use, for every option of every paper that names a file: one line of words, no raw error.

Every option is tried with some of the kinds of ``bad_paths``, the next one with others: all with every option are a
thousand recipes more (``scripts/try_bad_input.py``).
"""

from __future__ import annotations

import functools
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bad_bases import Bases
from bad_calls import refusal
from bad_paths import bad_paths
from paperworks import catalog
from paperworks.errors import InputError, PaperworksError
from paperworks.runs import Cancelled, Run, build_config, load_recipe
from paperworks.runs.config import is_sequence, names_file

HERE = [p for p in catalog.papers() if p.has_recipe and p.module.startswith("paperworks.papers.")]
OPTIONS = [
    (paper, name)
    for paper in HERE
    for name, field in load_recipe(paper.slug, f"{paper.module}.recipe").config.model_fields.items()
    if names_file(field)
]
EVERY = 4
"""An option is tried with each file of this number."""
SECONDS = 1.0
"""Processor time after which no further file is tried, for recipes that work long before they can be stopped."""


class Reading(Run):
    """A run that ends where the work begins: what is tested is how files are read."""

    checks = 0

    def check(self) -> None:
        self.checks += 1
        if self.checks > 3:
            raise Cancelled
        super().check()


@pytest.fixture(scope="session")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Path]]:
    """Names of faults with a path each."""
    return list(bad_paths(tmp_path_factory.mktemp("bad")))


@pytest.fixture(scope="session")
def bases_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[catalog.Paper], Bases]:
    """A paper's small sets of options, with their inputs written once."""

    @functools.cache
    def made(slug: str) -> Bases:
        paper = catalog.find(slug)
        kind = load_recipe(slug, f"{paper.module}.recipe").config
        return Bases(paper, kind, tmp_path_factory.mktemp("base"))

    return lambda paper: made(paper.slug)


@pytest.mark.parametrize("number", range(len(OPTIONS)), ids=[f"{paper.slug}-{option}" for paper, option in OPTIONS])
def test_bad_files_are_refused_with_words(
    number: int,
    tmp_path: Path,
    bad_files: list[tuple[str, Path]],
    bases_of: Callable[[catalog.Paper], Bases],
    capfd: Any,
) -> None:
    paper, option = OPTIONS[number]
    recipe = load_recipe(paper.slug, f"{paper.module}.recipe")
    bases = bases_of(paper)
    base = bases.beside_of(option)
    column = next((name for name in ("label", "target") if name in recipe.config.model_fields), None)
    several = is_sequence(recipe.config.model_fields[option].annotation)
    known = {*recipe.config.model_fields, *recipe.config.other_names}
    wrong, ends = [], math.inf
    for place, (name, path) in enumerate(bad_files[number % EVERY :: EVERY]):
        if time.process_time() > ends:
            break
        if place == 1:  # the first file has waited for what the recipe imports
            ends = time.process_time() + SECONDS
        values = {
            **base,
            option: [str(path)] if several else str(path),
        }
        if column is not None and option in ("data", "input"):
            values[column] = "y"
        try:
            recipe.function(build_config(recipe.config, values), Reading(tmp_path / f"{place}"))
        except InputError as error:
            first = re.split(r"[ ,.\[]", error.field)[0]
            inside = path / error.field.partition(",")[0]
            own = first in known or (path.is_dir() and inside.exists())
            fault = refusal(str(error), (path.name, first if own else ""), left=False)
            if fault != "refused":
                wrong.append(f"{name}: {fault}: {str(error)[:300]!r}")
        except (Cancelled, PaperworksError):
            continue
        except Exception as error:
            wrong.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
    assert not wrong, "\n".join(wrong)
    assert "Exception ignored" not in capfd.readouterr().err
