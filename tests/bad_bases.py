"""Options beside which a bad value or file of one option is tried, so that the recipe comes to look at it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paperworks import catalog
from paperworks.runs import Config
from paperworks.runs.config import names_file
from test_resume import tiny_module


class Bases:
    """The small sets of options of a paper, with their inputs in ``folder``.

    A paper's ``tiny.py`` may say in ``BESIDE`` which option an option needs beside it in order to be read, for those
    that none of its sets has: ``{"predict": {"data": "wine"}}``, or by the number of a set: ``{"encoder": 1}``.
    """

    def __init__(self, paper: catalog.Paper, kind: type[Config], folder: Path) -> None:
        module = tiny_module(paper)
        self.sets: list[dict[str, Any]] = [{"device": "cpu"} | values for values in module.options(folder)]
        self.beside: dict[str, int | dict[str, Any]] = getattr(module, "BESIDE", {})
        self.inputs = {name for name, field in kind.model_fields.items() if names_file(field) is not None}

    def beside_of(self, option: str) -> dict[str, Any]:
        """The first set that has ``option``, or what ``BESIDE`` says.

        Other options are tried beside the first set; one that names a file without the set's own inputs, which could be
        what is refused in its place.
        """
        for values in self.sets:
            if option in values:
                return values
        beside = self.beside.get(option)
        if isinstance(beside, int):
            return self.sets[beside]
        alone = {name: value for name, value in self.sets[0].items() if name not in self.inputs}
        return (alone if option in self.inputs else self.sets[0]) | (beside or {})
