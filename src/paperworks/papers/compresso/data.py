"""Examples to prune on: instruction rows, plain text or tokens, each with labels on what the model has to write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from paperworks.errors import InputError
from paperworks.inputs.kinds import read_unpacked
from paperworks.language import read_texts, token_windows
from paperworks.papers.compresso.prompt import (
    Kind,
    PromptTemplate,
    all_plain_ids,
    all_request_ids,
    plain_ids,
    prefix_ids,
    request_ids,
)
from paperworks.training.losses import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Row = Mapping[str, Any]
Data = Sequence[Row] | Sequence[str] | torch.Tensor
"""Rows {instruction, input?, output} (lists, or a set of the library ``datasets``), rows {text}, texts, rows
{input_ids, labels}, or token ids int64 [n, T]."""

LEAST_ROOM = 16
"""Tokens that must be left behind the prompt for the user's text and the response."""
_ENTRY = re.compile(r"^([^:\n()]+) \((noun|verb|adjective|adverb)\): (.+)$")
_QUOTE = re.compile(r'; "([^"]+)"')


@dataclass(frozen=True)
class Examples:
    """Examples for the training loop, all of one length, and the tokens that stand in front of every one.

    Attributes
    ----------
    prefix : int64 [P]; computed once for a batch, since it is the same for all of it.
    input_ids, attention_mask, labels : int64 [n, T]; padding on the right; labels are -100 where nothing is learned.
    kind : what the rows were.
    """

    prefix: torch.Tensor
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    kind: Kind = "instruction"

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: getattr(self, name)[index] for name in ("input_ids", "attention_mask", "labels")}

    def take(self, n: int) -> Examples:
        """The first ``n`` examples."""
        return Examples(self.prefix, self.input_ids[:n], self.attention_mask[:n], self.labels[:n], self.kind)

    def with_prefix(self, prefix: Sequence[int]) -> Examples:
        """The same examples behind other tokens."""
        ids = torch.tensor(list(prefix), dtype=torch.int64)
        return Examples(ids, self.input_ids, self.attention_mask, self.labels, self.kind)

    def whole(self) -> dict[str, torch.Tensor]:
        """Prefix and examples in one, as a model takes them: input_ids, attention_mask and labels [n, P + T]."""
        n = len(self)
        front = self.prefix.expand(n, -1)
        return {
            "input_ids": torch.cat([front, self.input_ids], 1),
            "attention_mask": torch.cat([torch.ones_like(front), self.attention_mask], 1),
            "labels": torch.cat([torch.full_like(front, IGNORED), self.labels], 1),
        }


def build_examples(
    data: Data, tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, max_length: int, field: str = "dataset"
) -> Examples:
    """Examples of at most ``max_length`` tokens, the prompt among them.

    A response ends with the end-of-text token and is cut at its end where it does not fit. Plain texts are joined by
    blank lines and cut into windows. Tokens are taken as they are: they must hold their prompt already.

    Raises
    ------
    InputError : named ``field``, with the row's number: a row without output, or of another make-up; no target at all;
        a prompt that leaves no room in ``max_length``; a prompt asked for in front of tokens.
    """
    if isinstance(data, torch.Tensor):
        _no_prompt(template)
        if data.ndim != 2 or data.numel() == 0 or data.shape[1] < 2:
            raise InputError(field, f"a tensor of shape {tuple(data.shape)}", "token ids [n, T] with T of at least 2")
        ids = data.to(torch.int64)
        return Examples(torch.zeros(0, dtype=torch.int64), ids, torch.ones_like(ids), ids.clone(), "text")
    if len(data) == 0:
        raise InputError(field, "no rows", "at least one row")
    rows_of: Any = data
    first = rows_of[0]
    if isinstance(first, str) or "text" in first:
        texts = [row if isinstance(row, str) else _text_of(row, number, field) for number, row in enumerate(rows_of)]
        return _text_examples(texts, tokenizer, template, max_length)
    if "input_ids" in first:
        _no_prompt(template)
        rows = [_token_row(row, number, field) for number, row in enumerate(rows_of)]
        return _padded(rows, [], "text", tokenizer, max_length, field)
    return _instruction_examples(data, tokenizer, template, max_length, field)


def _instruction_examples(
    data: Any, tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, max_length: int, field: str
) -> Examples:
    prefix = prefix_ids(template, tokenizer)
    room = max_length - len(prefix)
    if room < LEAST_ROOM:
        raise InputError(
            "max_length",
            f"{max_length} tokens with a prompt of {len(prefix)}",
            f"at least {len(prefix) + LEAST_ROOM}, or a shorter prompt",
        )
    end = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    for number, row in enumerate(data):
        for name in ("instruction", "output"):
            if not isinstance(row.get(name), str) or not row[name].strip():
                raise InputError(f"{field}[{number}].{name}", repr(row.get(name)), "a text that is not empty")
    # all at once: a call of the tokenizer for each text takes longer than its tokens
    answers = all_plain_ids(tokenizer, [row["output"] for row in data])
    requests = all_request_ids(
        template, tokenizer, [(str(row["instruction"]), str(row.get("input") or "")) for row in data]
    )
    rows = []
    for row, answer, asked in zip(data, answers, requests, strict=True):
        answer = [*answer, *end]
        # a long request leaves at least half of the room to the response
        most = max(room - len(answer), room // 2)
        if len(asked) > most:
            asked = request_ids(template, tokenizer, row, most)
        answer = answer[: room - len(asked)]
        rows.append(([*asked, *answer], [IGNORED] * len(asked) + answer))
    return _padded(rows, prefix, "instruction", tokenizer, room, field)


def _text_examples(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, max_length: int
) -> Examples:
    prefix = prefix_ids(template, tokenizer, kind="text")
    header = plain_ids(tokenizer, template.text_header) if template.text_framing else []
    room = max_length - len(prefix) - len(header)
    if room < LEAST_ROOM:
        raise InputError(
            "max_length",
            f"{max_length} tokens with a prompt of {len(prefix) + len(header)}",
            f"at least {len(prefix) + len(header) + LEAST_ROOM}, or a shorter prompt",
        )
    windows = token_windows(tokenizer, texts, room)
    front = torch.tensor(header, dtype=torch.int64).expand(len(windows), -1)
    ids = torch.cat([front, windows], 1)
    labels = torch.cat([torch.full_like(front, IGNORED), windows], 1)
    return Examples(torch.tensor(prefix, dtype=torch.int64), ids, torch.ones_like(ids), labels, "text")


def _padded(
    rows: list[tuple[list[int], list[int]]],
    prefix: list[int],
    kind: Kind,
    tokenizer: PreTrainedTokenizerBase,
    most: int,
    field: str,
) -> Examples:
    rows = [(ids[:most], labels[:most]) for ids, labels in rows]
    longest = max(len(ids) for ids, _ in rows)
    padding = 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
    ids = torch.full((len(rows), longest), padding, dtype=torch.int64)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for number, (tokens, targets) in enumerate(rows):
        ids[number, : len(tokens)] = torch.tensor(tokens)
        labels[number, : len(tokens)] = torch.tensor(targets)
        mask[number, : len(tokens)] = 1
        if not bool((labels[number, 1:] != IGNORED).any()):
            raise InputError(f"{field}[{number}]", "no label that counts", "at least one token to learn in every row")
    return Examples(torch.tensor(prefix, dtype=torch.int64), ids, mask, labels, kind)


def _token_row(row: Row, number: int, field: str) -> tuple[list[int], list[int]]:
    ids = torch.as_tensor(row["input_ids"]).flatten().tolist()
    labels = torch.as_tensor(row.get("labels", row["input_ids"])).flatten().tolist()
    mask = torch.as_tensor(row.get("attention_mask", [1] * len(ids))).flatten().tolist()
    if len(mask) != len(ids):
        raise InputError(f"{field}[{number}].attention_mask", f"{len(mask)} values", f"{len(ids)}, as input_ids")
    if len(labels) == len(ids):
        labels = [label for label, real in zip(labels, mask, strict=True) if real]
        ids = [token for token, real in zip(ids, mask, strict=True) if real]
    if len(ids) < 2 or len(ids) != len(labels):
        raise InputError(
            f"{field}[{number}]", f"{len(ids)} tokens and {len(labels)} labels", "as many labels as tokens, at least 2"
        )
    return ids, labels


def _text_of(row: Row, number: int, field: str) -> str:
    text = row.get("text")
    if not isinstance(text, str):
        raise InputError(f"{field}[{number}].text", repr(text), "a text")
    return text


def _no_prompt(template: PromptTemplate) -> None:
    if template.system or template.framing:
        raise InputError("prompt", "a prompt in front of tokens", "none: tokens must hold their prompt already")


def definition_rows(text: str) -> list[dict[str, str]]:
    """Instruction rows made of dictionary entries, by rule.

    A paragraph ``word, synonym (noun): meaning; "an example"`` gives "Define the noun." with the words as input and the
    meaning as output, and for every quoted example of a verb, adjective or adverb, a request for a sentence with it.
    Other paragraphs are left out.
    """
    rows = []
    for paragraph in text.split("\n\n"):
        found = _ENTRY.match(paragraph.strip())
        if not found:
            continue
        words, part, meaning = found.groups()
        plain = _QUOTE.sub("", meaning).strip()
        if plain:
            rows.append({"instruction": f"Define the {part}.", "input": words, "output": plain})
        if part != "noun":
            for example in _QUOTE.findall(meaning)[:1]:
                rows.append({"instruction": f"Use the {part} in a sentence.", "input": words, "output": example})
    return rows


def read_rows(path: str | Path, field: str = "text") -> list[dict[str, str]] | list[str]:
    """Instruction rows from a ``.jsonl`` file (or ``.jsonl.gz``) with the keys instruction, output and maybe input;
    otherwise the texts that ``paperworks.language.read_texts`` finds."""
    path = Path(path).expanduser()
    if not path.is_file() or not path.name.lower().endswith((".jsonl", ".jsonl.gz")):
        return read_texts(path, field)
    try:
        lines = [line for line in read_unpacked(path).decode("utf-8-sig").split("\n") if line.strip()]
        is_instructions = bool(lines) and "instruction" in json.loads(lines[0])
    except (OSError, ValueError, TypeError, RecursionError):
        return read_texts(path, field)  # which says what is wrong, and where
    return _instruction_lines(lines, path, field) if is_instructions else read_texts(path, field)


def _instruction_lines(lines: Iterable[str], path: Path, field: str) -> list[dict[str, str]]:
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(field, f"{path}, line {number}: not JSON ({error})", "one object a line") from error
        for name in ("instruction", "output"):
            if not isinstance(row, dict) or not isinstance(row.get(name), str) or not row[name].strip():
                raise InputError(field, f"{path}, line {number}: no text under {name!r}", "instruction and output")
        rows.append({name: str(row.get(name) or "") for name in ("instruction", "input", "output")})
    return rows
