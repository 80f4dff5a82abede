"""Models behind judges and refiners, each with its answers on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

from paperworks.language.generation import CachedGenerator, Generator


class Wrapped:
    """Puts a cache in front of every generator; one generator has one cache, under its role."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path, self.stack = path, stack
        self.made: dict[int, CachedGenerator] = {}

    def generator(self, given: Generator, role: str) -> Generator:
        """The generator with a cache; one that has a cache stays as it is."""
        if isinstance(given, CachedGenerator):
            return given
        if id(given) not in self.made:
            known = getattr(given, "identity", "") or type(given).__name__
            cached = CachedGenerator(given, self.path, identity=f"{role}|{known}")
            self.made[id(given)] = self.stack.enter_context(cached)
        return self.made[id(given)]

    def inside(self, given: Any, role: str) -> Any:
        """A judge or refiner whose generator, or whose inner judge's, has a cache."""
        if not is_dataclass(given) or isinstance(given, type):
            return given
        inner = getattr(given, "generator", None)
        if isinstance(inner, Generator):
            return replace(given, generator=self.generator(inner, role))  # type: ignore[call-arg]
        model = getattr(given, "model", None)
        if is_dataclass(model):
            return replace(given, model=self.inside(model, role))  # type: ignore[call-arg]
        return given


@contextmanager
def caches(path: Path) -> Iterator[Wrapped]:
    """Caches in one file, closed at the end."""
    with ExitStack() as stack:
        yield Wrapped(path, stack)
