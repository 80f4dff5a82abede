"""Prompts as text for language models, and what their answers mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from paperworks.papers.icl_discrete.tasks import BooleanTask

Instruction = Literal["plain", "class", "algorithm", "steps", "python"]

_PLAIN = (
    "Below are examples of an unknown Boolean function. Each input is a row of bits, each label is the value of the "
    "function, 0 or 1. Give the label of the last input. Answer with one digit, 0 or 1."
)
_ELIMINATION = (
    "Below are examples of an unknown conjunction: an AND of some bits and negated bits. To find it, begin with every "
    "bit and every negated bit in the AND. For each example with label 1, take out those that are 0 on its input. "
    "The label of the last input is 1 if all that are left are 1 on it, else 0. Answer with one digit, 0 or 1."
)
_STEPS = (
    "Below are examples of an unknown Boolean function. Each input is a row of bits, each label is the value of the "
    "function, 0 or 1. Think step by step about which function it is, then give the label of the last input as the "
    "last number of your answer."
)
_PYTHON = (
    "The labels below were printed by a Python function that takes a list of bits and returns a bool made of its "
    "elements with and, or, not and comparisons:\n\ndef f(x: list[int]) -> int:\n    return int(...)\n\n"
    "Give what it returns for the last input. Answer with one digit, 0 or 1."
)


def instruction_text(kind: Instruction, task: BooleanTask | None = None) -> str:
    """The words in front of the examples; "class" names the task's class."""
    if kind == "class" and task is not None:
        name = task.kind.title
        return _PLAIN.replace("an unknown Boolean function", f"one unknown function of this class: {name}")
    return {"algorithm": _ELIMINATION, "steps": _STEPS, "python": _PYTHON}.get(kind, _PLAIN)


@dataclass(frozen=True)
class TextPrompt:
    """A text and the places in it where a label is asked for: ``text[:end]`` ends with ``Label:``.

    Each question's prompt is the beginning of the next one's.
    """

    text: str
    ends: tuple[int, ...]

    @property
    def questions(self) -> list[str]:
        """The prompts, one for each place."""
        return [self.text[:end] for end in self.ends]


def text_prompt(xs: np.ndarray, ys: np.ndarray, positions: tuple[int, ...], instruction: str) -> TextPrompt:
    """Blocks ``Input: 0 1 1`` / ``Label: 0`` with blank lines between, up to the last question.

    Parameters
    ----------
    xs, ys : one prompt, int8 ``[m, n]`` and ``[m]`` of -1 and +1.
    positions : the points that are asked for, in order, each from the pairs before it.
    """
    text, ends = instruction, []
    for j in range(positions[-1] + 1):
        text += "\n\nInput: " + " ".join("1" if bit > 0 else "0" for bit in xs[j]) + "\nLabel:"
        if j in positions:
            ends.append(len(text))
        if j < positions[-1]:
            text += " 1" if ys[j] > 0 else " 0"
    return TextPrompt(text, tuple(ends))


@dataclass(frozen=True)
class Answer:
    """What a model said: +1 or -1, or 0 where it said neither (untenable: it counts as wrong)."""

    label: int
    text: str


def parse_answer(text: str, *, last_number: bool = False) -> Answer:
    """The first word must be 0 or 1; with ``last_number`` the last number of the text counts."""
    if last_number:
        numbers = re.findall(r"\d+(?:\.\d+)?", text)
        word = numbers[-1] if numbers else ""
    else:
        head = re.split(r"\n|Input", text.lstrip(" "), maxsplit=1)[0].split()
        word = head[0].rstrip(".,;") if head else ""
    return Answer({"0": -1, "1": 1}.get(word, 0), text)


def majority(answers: list[Answer]) -> Answer:
    """The vote of several answers; untenable ones do not vote, and a tie is untenable."""
    total = sum(a.label for a in answers)
    return Answer((total > 0) - (total < 0), " | ".join(a.text for a in answers))
