"""Multiple-choice questions from the user's own JSON lines, tokenised as lm-eval does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paperworks.errors import InputError
from paperworks.inputs.kinds import read_unpacked
from paperworks.language.choice import Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORM = '{"question": "...", "choices": ["...", "..."], "answer": 0}'
CONTEXTS, CHOICES, ANSWERS = ("context", "question"), ("choices", "endings"), ("answer", "label")


def read_questions(
    path: Path | str, tokenizer: PreTrainedTokenizerBase, longest: int | None = None, field: str = "choices"
) -> list[Question]:
    """Questions from a ``.jsonl`` (or ``.jsonl.gz``) file, one object per line.

    Keys: ``context`` or ``question`` (text); ``choices`` or ``endings`` (two texts or more); ``answer`` or ``label``,
    which is the position of the right one (0 first), its letter (A first), or its text.

    An ending follows its context after one space, which belongs to the ending; where the ending begins with white space
    itself, nothing is added. The ending's tokens are those of the whole text behind as many tokens as the context has
    alone. ``lengths`` are the UTF-8 bytes of the endings as the file has them (lm-eval's ``acc_norm``).

    Parameters
    ----------
    longest : tokens that the model can read at once; None: no limit.

    Raises
    ------
    InputError : named ``field``; the file cannot be read, a line is not such an object or has more than ``longest``
        tokens (with its number), or there is no question at all.
    """
    path = Path(path).expanduser()
    name = path.name.lower()
    if not path.is_file() or not name.endswith((".jsonl", ".jsonl.gz")):
        raise InputError(field, f"{path}{'' if path.exists() else ', nothing there'}", "a .jsonl or .jsonl.gz file")
    try:
        lines = read_unpacked(path).decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(field, f"{path}, which cannot be read ({error})", "JSON lines in UTF-8") from error
    questions = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{path}, line {number}"
            questions.append(_question(*_fields(line, where, field), tokenizer, longest, where, field))
    if not questions:
        raise InputError(field, f"{path}, without a question", f"lines such as {FORM}")
    return questions


def _fields(line: str, where: str, field: str) -> tuple[str, list[str], int]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(field, f"{where}: not JSON ({error})", FORM) from error
    if not isinstance(record, dict):
        raise InputError(field, f"{where}: {type(record).__name__}", FORM)

    def value(names: tuple[str, str]) -> Any:
        given = [n for n in names if n in record]
        if len(given) != 1:
            raise InputError(
                field, f"{where}: {' and '.join(given) or 'no ' + names[0]}", f"one of {' or '.join(names)}"
            )
        return record[given[0]]

    context, choices, answer = value(CONTEXTS), value(CHOICES), value(ANSWERS)
    if not isinstance(context, str) or not context.strip():
        raise InputError(field, f"{where}: a context that is {context!r}", "text")
    texts = isinstance(choices, list) and all(isinstance(c, str) and c.strip() for c in choices)
    if not texts or len(choices) < 2:
        raise InputError(field, f"{where}: choices that are {choices!r}", "two texts or more, none of them empty")
    return context.rstrip(), choices, _position(answer, choices, where, field)


def _position(answer: Any, choices: list[str], where: str, field: str) -> int:
    if isinstance(answer, str):
        if choices.count(answer) == 1:
            return choices.index(answer)
        letter = ord(answer.upper()) - ord("A") if len(answer) == 1 and answer.isalpha() else -1
        answer = letter if letter >= 0 else int(answer) if answer.isdecimal() else answer
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        expected = f"0 to {len(choices) - 1}, a letter from A, or the text of one of the choices"
        raise InputError(field, f"{where}: answer {answer!r}", expected)
    return answer


def _question(
    context: str,
    choices: list[str],
    answer: int,
    tokenizer: PreTrainedTokenizerBase,
    longest: int | None,
    where: str,
    field: str,
) -> Question:
    def tokens(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    alone = tokens(context)
    endings = [tuple(tokens(context + (c if c[0].isspace() else f" {c}"))[len(alone) :]) for c in choices]
    if not alone or not all(endings):
        raise InputError(field, f"{where}: a context or an ending without tokens", "text that the tokenizer knows")
    most = len(alone) + max(len(e) for e in endings)
    if longest is not None and most > longest:
        raise InputError(field, f"{where}: {most} tokens", f"at most {longest}, the longest input of this model")
    return Question(tuple(alone), tuple(endings), answer, tuple(len(c.encode()) for c in choices))
