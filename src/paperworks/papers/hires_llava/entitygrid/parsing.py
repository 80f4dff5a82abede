"""An answer in words as one of the choices, or as none of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from paperworks.papers.hires_llava.entitygrid.entities import NUMBERS
from paperworks.papers.hires_llava.entitygrid.positions import NAMES

VERTICAL = {
    "top": 0,
    "upper": 0,
    "above": 0,
    "bottom": 2,
    "lower": 2,
    "below": 2,
}
HORIZONTAL = {"left": 0, "right": 2, "lefthand": 0, "righthand": 2}
MIDDLE = ("center", "centre", "middle", "central", "mid", "centered")
WORDS = {word: str(number) for number, word in enumerate(NUMBERS)} | {
    "none": "0",
    "no": "0",
    "both": "2",
    "single": "1",
}


def parse_answer(text: str, choices: Sequence[str], task: str = "") -> str | None:
    """The choice that an answer names, or None where it names none or several.

    Understood are a choice in whole, its letter ("B", "(b)", "B. the cat"), one choice within a sentence, numbers in
    words, and positions in other words ("upper-left", "middle of the bottom row", "position 5").
    """
    words = _folded(text)
    folded = {_folded(choice): choice for choice in choices}
    if words in folded:
        return folded[words]
    if task == "position":
        return _position(words, choices) or _letter(text, choices)
    if task == "counting":
        return _number(words, choices) or _letter(text, choices)
    return _letter(text, choices) or _mentioned(words, folded)


def _folded(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]|_", " ", text.casefold()).split())


def _letter(text: str, choices: Sequence[str]) -> str | None:
    found = re.match(r"^\s*(?:answer\s*:?\s*)?\(?([a-z])(?:\)|\.(?:\s|$)|:|\s*$)", text, re.IGNORECASE)
    number = ord(found[1].lower()) - ord("a") if found else -1
    return choices[number] if 0 <= number < len(choices) else None


def _mentioned(words: str, folded: dict[str, str]) -> str | None:
    """The one choice that the words contain; a choice within a longer one that is there does not count."""
    names = {**folded, **{WORDS[name]: choice for name, choice in folded.items() if name in WORDS}}
    left, found = f" {words} ", set[str]()
    for name in sorted(names, key=len, reverse=True):
        if name and f" {name} " in left:
            found.add(names[name])
            left = left.replace(f" {name} ", " | ")
    return found.pop() if len(found) == 1 else None


def _number(words: str, choices: Sequence[str]) -> str | None:
    found = {WORDS.get(word, word) for word in words.split()}
    numbers = {word for word in found if word.isdecimal()}
    number = numbers.pop() if len(numbers) == 1 else None
    return number if number in choices else None


def _position(words: str, choices: Sequence[str]) -> str | None:
    numbered = re.fullmatch(r"(?:the |in |at )*(?:position |number |cell |region )?([1-9])", words)
    if numbered:
        return NAMES[int(numbered[1]) - 1] if NAMES[int(numbered[1]) - 1] in choices else None
    tokens = words.replace("left hand", "left").replace("right hand", "right").split()
    rows = {VERTICAL[w] for w in tokens if w in VERTICAL}
    columns = {HORIZONTAL[w] for w in tokens if w in HORIZONTAL}
    middle = any(w in MIDDLE for w in tokens)
    if len(rows) > 1 or len(columns) > 1 or not (rows or columns or middle):
        return None
    if len(rows) + len(columns) == 1 and not middle:
        return None  # "left" alone says no row
    row, column = rows.pop() if rows else 1, columns.pop() if columns else 1
    name = NAMES[3 * row + column]
    return name if name in choices else None
