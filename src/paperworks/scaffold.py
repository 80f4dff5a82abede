"""``paperworks new``: the folder of a new paper, with placeholders that fail until they are written."""

from __future__ import annotations

import re
from pathlib import Path

from paperworks.catalog import OURS, checkout, papers
from paperworks.errors import InputError
from paperworks.runs.files import new_folder

PAPER_TOML = """slug = "{slug}"
title = "WRITE the paper's title"
arxiv = "0000.00000"
date = "{date}"
authors = 1
tags = ["WRITE"]
purpose = "WRITE one line: what a user gets from running it on their own input"
summary = "WRITE two to four sentences in your own words: the problem, the idea, the result."
repository = ""

[[claims]]
id = "WRITE-a-short-name"
statement = "WRITE what the paper claims, in one sentence of your own"
setting = "WRITE the model, data and setting"
value = "WRITE the paper's figure"
baseline = "WRITE what it is compared with"
source = "WRITE Table 1, Theorem 2, ..."
reason = ""
"""

INIT = '''"""{slug}: WRITE one line on what this paper's method does.

The public names of the method, few and typed, are imported here.
"""
'''

RECIPE = '''"""The method on the user's own input."""

from __future__ import annotations

from pydantic import Field

from paperworks import runs


class Config(runs.Config):
    """Options of the recipe. Give every field bounds, a default that runs offline in about a minute, and its unit."""

    amount: float = Field(0.5, ge=0, le=1, description="WRITE what this is, with its unit")


def run(config: Config, run: runs.Run) -> runs.Report:
    """WRITE what the recipe does, in one line."""
    raise NotImplementedError("WRITE {slug}: run the method, save what it makes in run.files, return a Report")
'''

STUDY = '''"""The paper's claims, measured again at a scale that two cores can bear."""

from __future__ import annotations

from paperworks import runs


@runs.study(claims=["WRITE-a-short-name"], title="WRITE what is measured", minutes=1)
def first_study(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """WRITE what is measured against which baseline in the same run."""
    raise NotImplementedError("WRITE {slug}: measure, and return a Finding per statement")
'''

README = """# {slug}

WRITE how it works here, how to use it (command line and Python), where it departs from the paper and why.

    paperworks run {slug}
"""

TEST = '''"""{slug}: WRITE its exact properties as tests: an invariance, an identity, a bound, a brute-force optimum."""

from __future__ import annotations


def test_exact_property() -> None:
    raise NotImplementedError("WRITE {slug}: a test of an exact property of the method, against an independent value")
'''


def new_paper(slug: str, into: Path | None = None) -> list[Path]:
    """Create the folder of a new paper and, in a checkout, its test; returns the files.

    ``into`` is the folder that gets the paper's folder: by default the checkout's ``papers`` folder, or this one.
    Raises InputError for a slug that is malformed, known already, or whose folder exists.
    """
    from datetime import date

    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", slug):
        raise InputError("slug", repr(slug), "lower-case words joined by hyphens, as in 'fold-se'")
    if slug in {p.slug for p in papers()}:
        raise InputError("slug", f"{slug!r}, which is in the catalogue", "a new slug")
    root = checkout() if into is None else None
    name = slug.replace("-", "_")
    folder = (into or (OURS if root else Path())) / name
    contents = {
        "paper.toml": PAPER_TOML,
        "__init__.py": INIT,
        "recipe.py": RECIPE,
        "study.py": STUDY,
        "README.md": README,
    }
    with new_folder(folder, "slug") as aside:
        for file, text in contents.items():
            (aside / file).write_text(text.format(slug=slug, date=date.today().isoformat()), encoding="utf-8")
    written = [folder / file for file in contents]
    if root is not None:
        tests = root / "tests" / "papers" / name
        with new_folder(tests, "tests") as aside:
            (aside / f"test_{name}.py").write_text(TEST.format(slug=slug), encoding="utf-8")
        written.append(tests / f"test_{name}.py")
    return written
