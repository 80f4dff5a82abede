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

    A paper's ``tiny.py`` may have ``beside(folder)``, called after ``options(folder)``: by option, the others beside
    which it is read, where none of the sets does; as in ``{"predict": {"data": "wine"}}``.
    """

    def __init__(self, paper: catalog.Paper, kind: type[Config], folder: Path) -> None:
        module = tiny_module(paper)
        self.sets: list[dict[str, Any]] = module.options(folder)
        self.beside: dict[str, dict[str, Any]] = module.beside(folder) if hasattr(module, "beside") else {}
        self.inputs = {name for name, field in kind.model_fields.items() if names_file(field) is not None}

    def beside_of(self, option: str) -> dict[str, Any]:
        """What ``beside`` says, or the first set that has ``option``.

        Other options are tried beside the first set; one that names a file without the set's own inputs, which could be
        what is refused in its place.
        """
        if option in self.beside:
            return {"device": "cpu", **self.beside[option]}
        chosen = next((values for values in self.sets if option in values), self.sets[0])
        if option in self.inputs and option not in chosen:
            chosen = {name: value for name, value in chosen.items() if name not in self.inputs}
        return {"device": "cpu", **chosen}
