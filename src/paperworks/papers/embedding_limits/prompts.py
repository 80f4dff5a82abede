"""A text before each text of an encoder: by the encoder itself where it can, else before it gets the texts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np

from paperworks.errors import InputError


def with_prompt(encoder: Any, given: str | None, usual: Sequence[str], option: str) -> Any:
    """The encoder with a prompt.

    Parameters
    ----------
    given : the text, or the name of one of the encoder's ``prompts``; None for the first of ``usual`` that it has.
    option : name of the option, for messages.

    Raises
    ------
    InputError : a prompt that is no text.
    """
    known = getattr(encoder, "prompts", None) or {}
    wanted = given if given is not None else next((name for name in usual if known.get(name)), None)
    if wanted is None:
        return encoder
    if not isinstance(wanted, str):
        raise InputError(option, repr(wanted), "text that is put before each text")
    text = known.get(wanted, wanted)
    if not (hasattr(encoder, "prompts") and hasattr(encoder, "prompt")):
        return Prompted(encoder, text)
    other = copy.copy(encoder)
    other.prompt = text
    return other


class Prompted:
    """An encoder in memory, with a text before each text.

    One whose ``encode`` takes a ``prompt`` (sentence-transformers) puts it there itself, in the place of its default.
    """

    def __init__(self, encoder: Any, prompt: str) -> None:
        self._encoder, self._prompt = encoder, prompt
        try:
            self._own = "prompt" in signature(encoder.encode).parameters
        except (TypeError, ValueError):
            self._own = False
        name = getattr(encoder, "identity", getattr(encoder, "name", type(encoder).__name__))
        self.identity = f"{name}|{prompt!r}"

    def encode(self, items: Sequence[str]) -> np.ndarray:
        if self._own:
            return np.asarray(self._encoder.encode(list(items), prompt=self._prompt))
        return np.asarray(self._encoder.encode([self._prompt + item for item in items]))
