"""Training records in LLaVA's format, as token ids with a place for the image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paperworks.errors import InputError

IMAGE_MARK = "<image>"
USER, ASSISTANT = "USER: ", " ASSISTANT:"


@dataclass(frozen=True)
class Conversation:
    """One record: turns of (question, answer) about one image.

    Attributes
    ----------
    image : file name, relative to the image root; empty for text alone.
    turns : pairs of texts, without the image's mark.
    """

    image: str
    turns: tuple[tuple[str, str], ...]


def read_conversations(source: Any) -> list[Conversation]:
    """Records from a JSON or JSONL file, or from a list of them: ``image``, ``conversations`` of human and gpt.

    Raises InputError naming the record and what is wrong with it.
    """
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        try:
            text = path.read_text(encoding="utf-8")
            rows = [json.loads(line) for line in text.splitlines() if line.strip()] if path.suffix == ".jsonl" else None
            source = json.loads(text) if rows is None else rows
        except (OSError, ValueError, RecursionError) as error:
            raise InputError("records", f"{path} ({error})", "a JSON file in LLaVA's format") from None
    if not isinstance(source, list) or not source:
        raise InputError("records", type(source).__name__ if source else "none", "a list of at least one record")
    return [_conversation(row, number) for number, row in enumerate(source)]


def _conversation(row: Any, number: int) -> Conversation:
    expected = "image, and conversations that alternate between human and gpt"
    field = f"records, number {number}"
    if not isinstance(row, dict) or not isinstance(row.get("conversations"), list):
        raise InputError(field, str(row)[:80], expected)
    texts = []
    for place, turn in enumerate(row["conversations"]):
        who = ("human", "gpt")[place % 2]
        if not isinstance(turn, dict) or turn.get("from") != who or not isinstance(turn.get("value"), str):
            raise InputError(field, str(turn)[:80], expected)
        texts.append(turn["value"].replace(IMAGE_MARK, "").strip())
    image = row.get("image", "")
    if not isinstance(image, str) or len(texts) < 2 or len(texts) % 2:
        raise InputError(field, f"image {image!r}, {len(texts)} turns", expected)
    return Conversation(image, tuple(zip(texts[::2], texts[1::2], strict=True)))


def token_parts(tokenizer: Any, turns: Sequence[tuple[str, str | None]]) -> tuple[list[int], list[int], list[int]]:
    """Ids before the image, ids after it, and for the latter which of them are answers (1) or not (0).

    The image stands in front of the first question. An answer ends with the tokenizer's end token. A turn without an
    answer (None) is a prompt.
    """
    start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    before = [*start, *_ids(tokenizer, USER)]
    after, answers = list[int](), list[int]()
    for number, (question, answer) in enumerate(turns):
        asked = _ids(tokenizer, f"{USER if number else ''}{question}{ASSISTANT}")
        after += asked
        answers += [0] * len(asked)
        if answer is not None:
            said = _ids(tokenizer, f" {answer}")
            said += [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
            after += said
            answers += [1] * len(said)
    return before, after, answers


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
