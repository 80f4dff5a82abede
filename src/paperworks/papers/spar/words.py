"""The bundled requests: definitions of words, from the WordNet glosses in the package's own text."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.spar.refiners import RefineRequest, RuleEditor
from paperworks.papers.spar.taxonomy import PLACE, Seed, make_prompts

_ENTRY = re.compile(
    r"^(?P<word>[a-z]{3,12})(?:, [^()\n]*)? \((?P<kind>noun|verb)\): (?P<gloss>[^\n]{15,160})$", re.MULTILINE
)
INSTRUCTIONS = (
    "punctuation:no_comma",
    "startend:end_checker",
    "length_constraints:number_words",
    "keywords:forbidden_words",
    "startend:quotation",
)
"""What the bundled requests ask for: what a model of 5.7 million parameters can learn in a minute."""


def glosses(split: str = "train") -> list[tuple[str, str, str]]:
    """(word, part of speech, gloss) of the WordNet entries in a bundled text whose first word is one plain word."""
    from paperworks.language import bundled_text

    found: dict[str, tuple[str, str, str]] = {}
    for match in _ENTRY.finditer(bundled_text(split)):  # type: ignore[arg-type]
        found.setdefault(match["word"], (match["word"], match["kind"], match["gloss"]))
    return list(found.values())


START_CHATS = 240
"""Entries that the bundled model is tuned on before the first round."""


def _drawn(first: int, count: int, seed: int) -> list[tuple[str, str, str]]:
    """Entries of nouns in a random order, from the ``first`` on."""
    entries = [one for one in glosses() if one[1] == "noun"]
    if first + count > len(entries):
        raise InputError("prompts_per_round", first + count, f"at most {len(entries)} bundled words in all")
    rows = np.random.default_rng([seed, 7]).permutation(len(entries))[first : first + count]
    return [entries[row] for row in rows]


def _request(word: str, kind: str) -> Seed:
    return Seed(word, f"Define a word. {PLACE}\n\n{word} ({kind}):")


def word_seeds(count: int, seed: int = 0) -> list[Seed]:
    """Requests to define words, drawn from the bundled text; the answer is asked for in the form of its entries."""
    return [_request(word, kind) for word, kind, _ in _drawn(START_CHATS, count, seed)]


def word_chats(seed: int = 0, count: int = START_CHATS) -> list[dict[str, Any]]:
    """Chats to begin with (stage 0): other words than ``word_seeds`` has, their real glosses as answers.

    A program edits each gloss so that about half of the instructions are obeyed: the model learns the form of an answer
    and something of the instructions, and there is something left to learn.
    """
    entries = _drawn(0, count, seed)
    prompts = make_prompts([_request(word, kind) for word, kind, _ in entries], seed=seed, instructions=INSTRUCTIONS)
    editor = RuleEditor(repair=0.4, harm=0.0, seed=seed)
    edited = editor.refine([RefineRequest(p, one[2], "", 0) for p, one in zip(prompts, entries, strict=True)])
    return [
        {"messages": [*map(dict, prompt.messages), {"role": "assistant", "content": one.response}]}
        for prompt, one in zip(prompts, edited, strict=True)
        if one is not None
    ]
