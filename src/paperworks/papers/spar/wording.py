"""What judge, refiner and rewriter are asked, and how their answers are read. Each text stands here once."""

from __future__ import annotations

import re
from collections.abc import Iterable

from paperworks.language.generation import Message
from paperworks.papers.spar.prompts import InstructionPrompt

MARKER = "Final Judgement"
START, END = "[[start]]", "[[end]]"

JUDGE = """You check whether an answer obeys an instruction.

Go through every constraint of the instruction, one after the other: say what it asks for, and whether the answer obeys
it. Then list the constraints that the answer violates. End with one line: "Final Judgement: Yes" if the answer obeys
all of them, or "Final Judgement: No" if it violates any.

# Instruction
{instruction}

# Answer
{response}"""

REFINE = """Now repair the answer. First think about what has to change so that every constraint is obeyed, and what can
stay as it is: change no more than is needed. Then write the whole repaired answer between [[start]] and [[end]], with
nothing else between these marks."""

REWRITE = """Rewrite a request so that it becomes harder to obey.

Its main new constraint is of this kind: {family}, {leaf}. Add one to three further constraints of other kinds from this
list: {leaves}. All constraints must go together, must fit the request, and must be about text, not about anything to
look at. Prefer constraints that are not about length. Write them as part of the request, not as a list.

If the request is about mathematics or programming, answer only with None. Otherwise write the new request between
[[start]] and [[end]].

# Request
{request}"""

_ECHO = re.compile(
    r"[(\[{][^()\[\]{}]*\byes\b[^()\[\]{}]*\bno\b[^()\[\]{}]*[)\]}]|[\"'\u201c]?\byes\b[\"'\u201d]?\s*(?:or|/|\|)\s*[\"'\u201c]?\bno\b[\"'\u201d]?",
    re.IGNORECASE,
)
_MARK = re.compile(r"final\s+judge?ment", re.IGNORECASE)


def judge_chat(prompt: InstructionPrompt, response: str) -> list[Message]:
    """The chat that a judge answers with a critique and a final judgement."""
    names = {"{instruction}": prompt.text, "{response}": response}
    return [_user(re.sub(r"\{(?:instruction|response)\}", lambda m: names[m.group()], JUDGE))]


def refine_chat(prompt: InstructionPrompt, response: str, critique: str) -> list[Message]:
    """The chat that a refiner answers with a reflection and a repaired output: the judgement, and a second request."""
    turns = judge_chat(prompt, response)
    return [*turns, Message(role="assistant", content=critique), _user(REFINE)]


def rewrite_chat(request: str, family: str, leaf: str, leaves: Iterable[str]) -> list[Message]:
    """The chat that a rewriter answers with a request of several constraints, or with None."""
    names = {"{family}": family, "{leaf}": leaf, "{leaves}": ", ".join(leaves), "{request}": request}
    return [_user(re.sub(r"\{(?:family|leaf|leaves|request)\}", lambda m: names[m.group()], REWRITE))]


def _user(content: str) -> Message:
    return Message(role="user", content=content)


def parse_judgement(text: str, *, strict_official_parser: bool = False) -> int:
    """1 where a judgement ends with Yes, 0 for No, -1 where it cannot be told.

    After the marker, an echoed "(Yes or No)" is passed over, and only whole words count. Where nothing follows one
    marker, the next is looked at.

    Parameters
    ----------
    strict_official_parser : the rule of the authors' code: between the first marker and the second, if any, the first
        of the letters ``Yes`` and ``No`` decides. It takes an echo for Yes, and None, Not or Note for No.
    """
    if strict_official_parser:
        parts = text.split(MARKER)
        places = {label: parts[1].find(word) for label, word in ((1, "Yes"), (0, "No"))} if len(parts) > 1 else {}
        found = {label: place for label, place in places.items() if place >= 0}
        return min(found, key=lambda label: found[label]) if found else -1
    for part in _MARK.split(text)[1:]:
        rest = _ECHO.sub(" ", part)
        match = re.match(r"\W*(?:is\W+)?\b(yes|no)\b", rest, re.IGNORECASE) or re.search(r"\b(Yes|No|YES|NO)\b", rest)
        if match:
            return int(match.group(1).lower() == "yes")
    return -1


def parse_block(text: str) -> str | None:
    """What stands between the first ``[[start]]`` and the ``[[end]]`` after it; None where there is nothing."""
    _, start, rest = text.partition(START)
    inner, end, _ = rest.partition(END)
    return inner.strip() or None if start and end else None
