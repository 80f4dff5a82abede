"""Hypotheses that the user wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paperworks.errors import InputError, nearest
from paperworks.inputs.kinds import require_text
from paperworks.papers.ladder.hypotheses import Hypothesis, hypotheses_from


class StaticBackend:
    """Hypotheses from a dictionary: class name -> list of hypotheses.

    Parameters
    ----------
    hypotheses : class name -> list of ``Hypothesis``, or of ``{"name", "test_sentences", "statement"}``, or of names
        alone (``["grass", "water"]``, or a dictionary from name to test sentences). A class without an entry gets none.
    """

    def __init__(self, hypotheses: Mapping[str, Any]) -> None:
        if not isinstance(hypotheses, Mapping) or not hypotheses:
            raise InputError("hypotheses", repr(hypotheses)[:60], "class name -> list of hypotheses")
        self.hypotheses = {str(name): _as_list(items, str(name)) for name, items in hypotheses.items()}

    @classmethod
    def from_json(cls, path: str | Path) -> StaticBackend:
        """From a JSON file. Raises InputError naming it."""
        file = Path(path).expanduser()
        if not file.is_file():
            raise InputError("hypotheses", f"{file}, which is no file", "a JSON file: class name -> list of hypotheses")
        data = file.read_bytes()
        require_text(file, data[:4096], "JSON: class name -> list of hypotheses")
        try:
            return cls(json.loads(data.decode("utf-8")))
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(str(file), f"no JSON ({type(error).__name__})", "class name -> hypotheses") from None

    @property
    def identity(self) -> str:
        """What decides the hypotheses."""
        return f"static|{self.hypotheses!r}"

    def check_classes(self, class_names: Sequence[str]) -> None:
        """Raise InputError for an entry of a class that there is not."""
        unknown = next((name for name in self.hypotheses if name not in class_names), None)
        if unknown is not None:
            raise InputError("hypotheses", f"class {unknown!r}", f"a class{nearest(unknown, class_names)}")

    def propose(self, class_name: str, sentences: Sequence[str], corpus: Sequence[str], n: int) -> list[Hypothesis]:
        """The first ``n`` hypotheses of the class."""
        return self.hypotheses.get(class_name, [])[:n]


def _as_list(items: Any, name: str) -> list[Hypothesis]:
    if isinstance(items, Mapping):
        items = [{"name": k, "test_sentences": v} for k, v in items.items()]
    if isinstance(items, (list, tuple)):
        items = [{"name": item} if isinstance(item, str) else item for item in items]
    return hypotheses_from(list(items) if isinstance(items, tuple) else items, f"hypotheses of {name!r}")
