"""Vocabularies: classes with one name or several, cleaned, and the unit vectors of all names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paperworks.errors import InputError

EncodeText = Callable[[list[str]], Any]
"""From n texts to vectors ``[n, E]``, as an array or a tensor."""

PLAIN = ("{}",)
"""The prompt template of the paper: the name alone."""


def clean_name(name: str) -> str:
    """A class name as COCO's are cleaned: ``-merged`` and ``-other`` removed, ``-`` and ``_`` to spaces."""
    words = re.sub(r"-(merged|other)\b", "", name.strip())
    return " ".join(re.sub(r"[-_]", " ", words).split())


@dataclass(frozen=True)
class Vocabulary:
    """Classes in order, each with its names. Made by ``parse_vocabulary``.

    Attributes
    ----------
    classes : class -> its names; a class's score is the largest of its names'.
    """

    classes: Mapping[str, tuple[str, ...]]

    @property
    def class_names(self) -> list[str]:
        """The classes, in order."""
        return list(self.classes)

    @property
    def names(self) -> list[str]:
        """The names of all classes, one after the other."""
        return [name for names in self.classes.values() for name in names]

    @property
    def class_of(self) -> np.ndarray:
        """Class of each name, int64 ``[names]``."""
        return np.repeat(np.arange(len(self.classes)), [len(names) for names in self.classes.values()])

    def __len__(self) -> int:
        return len(self.classes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and list(self.classes.items()) == list(other.classes.items())

    def __hash__(self) -> int:
        return hash(tuple(self.classes.items()))


def parse_vocabulary(
    source: Vocabulary | str | Sequence[str] | Mapping[str, str | Sequence[str]], field: str = "vocabulary"
) -> Vocabulary:
    """A vocabulary from names, from a dictionary of class to names, or from text such as ``"sofa|couch, cat"``.

    In text, commas separate classes, and ``|`` separates the names of one class; the first is the class. Names are
    cleaned by ``clean_name``. A name that a class has twice counts once.

    Raises
    ------
    InputError : no class, an empty name, two classes of one name after cleaning, or a name that two classes have.
    """
    if isinstance(source, Vocabulary):
        return source
    if isinstance(source, str):
        source = [part for part in source.split(",") if part.strip()]
        source = [part.split("|") for part in source]  # type: ignore[misc]
    if isinstance(source, Mapping):
        pairs = [(cls, [names] if isinstance(names, str) else list(names)) for cls, names in source.items()]
    else:
        lists = [[item] if isinstance(item, str) else list(item) for item in source]
        pairs = [(names[0] if names else "", names) for names in lists]
    if not pairs:
        raise InputError(field, "no class", "at least one name, such as 'cat, sofa|couch'")
    classes: dict[str, tuple[str, ...]] = {}
    owner: dict[str, str] = {}
    for cls, given in pairs:
        names = [clean_name(_text(name, field)) for name in given] or [clean_name(_text(cls, field))]
        key = clean_name(_text(cls, field))
        if not key or not all(names):
            raise InputError(field, f"an empty name in class {cls!r}", "names with at least one letter")
        if key in classes:
            raise InputError(field, f"class {key!r} twice after cleaning", "every class once")
        classes[key] = tuple(dict.fromkeys(names))
        for name in classes[key]:
            if owner.setdefault(name.lower(), key) != key:
                raise InputError(field, f"the name {name!r} in {owner[name.lower()]!r} and {key!r}", "one class a name")
    return Vocabulary(classes)


def _text(name: Any, field: str) -> str:
    if not isinstance(name, str):
        raise InputError(field, f"a name of type {type(name).__name__}", "text")
    return name


def encode_names(names: Sequence[str], encode_text: EncodeText, templates: Sequence[str] = PLAIN) -> np.ndarray:
    """Unit vectors of names, float32 ``[n, E]``: the mean over prompt templates of unit vectors, normalised again.

    Raises
    ------
    InputError : a template without ``{}``, or vectors that are not ``[n, E]``, not finite or zero.
    """
    wrong = [template for template in templates if template.count("{}") != 1]
    if wrong or not templates:
        raise InputError("templates", repr(wrong[0]) if wrong else "none", "texts with {} once, for the name")
    total: np.ndarray | float = 0.0
    for template in templates:
        found = encode_text([template.format(name) for name in names])
        vectors = np.asarray(found.detach().cpu() if hasattr(found, "detach") else found, dtype=np.float64)
        if vectors.ndim != 2 or len(vectors) != len(names):
            raise InputError("encode_text", f"vectors of shape {vectors.shape}", f"[{len(names)}, width]")
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(vectors).all() or (norms == 0).any():
            raise InputError("encode_text", "a vector that is zero or not finite", "finite vectors above 0")
        total = total + vectors / norms
    mean = np.asarray(total)
    norms = np.linalg.norm(mean, axis=1, keepdims=True)
    return (mean / np.maximum(norms, 1e-12)).astype(np.float32)
