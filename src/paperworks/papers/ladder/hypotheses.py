"""Hypotheses about why a class fails, and the interface of what proposes them (step 4)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from paperworks.errors import InputError
from paperworks.runs.files import write_text


@dataclass(frozen=True)
class Hypothesis:
    """An attribute that the classifier is thought to lean on.

    Attributes
    ----------
    name : the attribute in few words, such as ``blue water``.
    statement : the hypothesis as a sentence.
    test_sentences : sentences whose mean embedding stands for the attribute.
    """

    name: str
    statement: str
    test_sentences: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.test_sentences or not all(s.strip() for s in self.test_sentences):
            raise InputError("hypothesis", f"name {self.name!r}", "a name, and test sentences, none of them empty")


@runtime_checkable
class Backend(Protocol):
    """What proposes hypotheses."""

    def propose(self, class_name: str, sentences: Sequence[str], corpus: Sequence[str], n: int) -> list[Hypothesis]:
        """At most ``n`` hypotheses for a class, from its top sentences (best first) and from all sentences."""
        ...


class CachedBackend:
    """A backend whose proposals are kept in a JSON file, and read from it when the same is asked again.

    Parameters
    ----------
    backend : the backend; its ``identity``, where it has one, is part of the key.
    path : the file; made where it is missing.
    """

    def __init__(self, backend: Backend, path: str | Path) -> None:
        self.backend, self.path = backend, Path(path)
        self.asked = 0

    @property
    def identity(self) -> str:
        """That of the backend."""
        return str(getattr(self.backend, "identity", type(self.backend).__name__))

    def bind(self, encode: Any) -> CachedBackend:
        """The same around the backend with a text encoder."""
        bind = getattr(self.backend, "bind", None)
        return self if bind is None else CachedBackend(bind(encode), self.path)

    def propose(self, class_name: str, sentences: Sequence[str], corpus: Sequence[str], n: int) -> list[Hypothesis]:
        """Those in the file, else the backend's."""
        asked = json.dumps([self.identity, class_name, list(sentences), list(corpus), n], ensure_ascii=False)
        key = hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()
        known = self._read()
        if key not in known:
            self.asked += 1
            found = self.backend.propose(class_name, sentences, corpus, n)
            known[key] = [asdict(h) for h in found]
            write_text(self.path, json.dumps(known, ensure_ascii=False, indent=1))
        return hypotheses_from(known[key], str(self.path))

    def _read(self) -> dict[str, Any]:
        if not self.path.is_file():
            return {}
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(str(self.path), f"what cannot be read ({error})", "a cache of this backend") from None
        if not isinstance(found, dict):
            raise InputError(str(self.path), type(found).__name__, "a cache of this backend")
        return found


def hypotheses_from(items: Any, source: str) -> list[Hypothesis]:
    """Hypotheses from JSON: a list of ``{"name", "statement"?, "test_sentences"}``. Raises InputError naming one."""
    if not isinstance(items, list):
        raise InputError(source, type(items).__name__, "a list of hypotheses with name and test_sentences")
    found = []
    for number, item in enumerate(items):
        field = f"{source}, hypothesis {number}"
        if isinstance(item, Hypothesis):
            found.append(item)
            continue
        if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
            raise InputError(field, repr(item)[:80], 'an object with "name" and "test_sentences"')
        tests = item.get("test_sentences", [item["name"]])
        if (
            not isinstance(tests, (list, tuple))
            or not tests
            or not all(isinstance(t, str) and t.strip() for t in tests)
        ):
            raise InputError(f"{field}, test_sentences", repr(tests)[:80], "a list of sentences")
        statement = item.get("statement") or f"The classifier leans on {item['name']}."
        found.append(Hypothesis(item["name"], str(statement), tuple(tests)))
    return found
