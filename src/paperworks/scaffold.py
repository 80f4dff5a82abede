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
author_names = ["WRITE"]
tags = ["WRITE"]
purpose = "WRITE one line: what {slug} gives a user on their own input"
summary = "WRITE the problem and the idea. Then the result: two to four sentences, in your own words."
repository = ""
extra = ""  # WRITE the extra of paperworks that the method needs: torch, llm, vision, encoder; empty for the base

[[claims]]
id = "WRITE-a-short-name"
statement = "WRITE what the paper claims, in one sentence of your own"
setting = "WRITE the model, data and setting"
value = "WRITE the paper's figure"
baseline = "WRITE what it is compared with"
source = "WRITE Table 1, Theorem 2, ..."
reason = ""
"""

INIT = '''"""{slug}: WRITE one line on what the method does.

import paperworks as pw

WRITE an example of two lines with pw.{name}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from {module}.method import Method
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = ["Method"]
'''

METHOD = '''"""WRITE the method; name this file and its class after what the paper calls them."""

from __future__ import annotations

from typing import Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data


class Method(ClassifierMixin, BaseEstimator):
    """WRITE what it does and its source (paper, section, equation).

    Parameters
    ----------
    amount : WRITE what this is, with its unit.

    Attributes
    ----------
    classes_ : the labels, in the order of the columns of ``predict_proba`` where there is one.
    """

    def __init__(self, amount: float = 0.5) -> None:
        self.amount = amount

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Learn from rows ``X`` [n, d] and labels ``y`` [n]."""
        X, y = validate_data(self, X, y)
        self.classes_ = np.unique(y)
        raise NotImplementedError("WRITE {slug}: fit")

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The label of each row of ``X`` [n, d]."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        raise NotImplementedError("WRITE {slug}: predict")
'''

CONFIG = '''\
"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from paperworks import runs
from paperworks.inputs.options import TableOptions
from paperworks.inputs.tables import BUNDLED


class Config(TableOptions):
    """Options of the recipe. Every field has bounds, its unit, and a default that runs offline in about a minute."""

    other_names: ClassVar = {{"target": "label"}}

    data: Annotated[str, runs.File(tuple(BUNDLED))] = Field(
        "digits", description="WRITE: a table, .csv or .parquet, or one of " + ", ".join(BUNDLED)
    )
    label: str | None = Field(None, description="column with the label (a bundled table knows its own)")
    amount: float = Field(0.5, ge=0, le=1, description="WRITE what this is, with its unit")
'''

RECIPE = '''"""The method on the user's own input."""

from __future__ import annotations

from sklearn.model_selection import train_test_split

from paperworks import runs
from paperworks.errors import InputError
from {module}.config import Config
from {module}.method import Method
from paperworks.runs.files import write_text


def run(config: Config, run: runs.Run) -> runs.Report:
    """WRITE what the recipe does, in one line."""
    run.step(f"reading {{config.data}}")
    table = config.read_table(config.data, config.label)
    if table.label is None:
        raise InputError("label", "nothing", f"the name of the label's column in {{config.data}}")
    train, test, y_train, y_test = train_test_split(
        table.features.to_numpy(), table.label.to_numpy(), test_size=0.3, random_state=config.seed % 2**32
    )
    run.step("fitting")
    method = Method(config.amount).fit(train, y_train)
    accuracy = float(method.score(test, y_test))
    write_text(run.files / "predictions.csv", "".join(f"{{label}}\\n" for label in method.predict(test)))
    return runs.Report(
        headline=f"WRITE the figure that matters: accuracy {{accuracy:.3f}}",
        metrics={{"accuracy": accuracy}},
        lead=list(table.notes),
        tables=[runs.Table("WRITE", ["method", "accuracy"], [["{slug}", accuracy]])],
        files=[runs.ReportFile("predictions.csv", "the label of each held-out row")],
    )
'''

STUDY = '''"""The paper's claims, measured again at a scale that two cores can bear."""

from __future__ import annotations

from paperworks import runs


@runs.study(claims=["WRITE-a-short-name"], title="WRITE what is measured", minutes=1)
def first_study(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """WRITE what is measured against which baseline in the same run, over which seeds."""
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

CONTENTS = {
    "paper.toml": PAPER_TOML,
    "__init__.py": INIT,
    "method.py": METHOD,
    "config.py": CONFIG,
    "recipe.py": RECIPE,
    "study.py": STUDY,
    "README.md": README,
}


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
    module = f"paperworks.papers.{name}" if folder.parent == OURS else name
    texts = {
        file: text.format(slug=slug, name=name, module=module, date=date.today().isoformat())
        for file, text in CONTENTS.items()
    }
    with new_folder(folder, "slug") as aside:
        for file, text in texts.items():
            (aside / file).write_text(text, encoding="utf-8")
    written = [folder / file for file in texts]
    if root is not None:
        tests = root / "tests" / "papers" / name
        with new_folder(tests, "tests") as aside:
            (aside / f"test_{name}.py").write_text(TEST.format(slug=slug), encoding="utf-8")
        written.append(tests / f"test_{name}.py")
    return written
