"""Chats as token ids, with labels on the assistant's last turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.language.generation.local import prompt_text
from paperworks.papers.spar.prompts import read_rows
from paperworks.training import Batch

Example = dict[str, list[int]]
PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] + eos_token }}"
    "{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
)
"""The text of a chat as it stands, for models that continue texts: no marks of roles, a blank before an answer."""


def chat_example(tokenizer: Any, prompt: Sequence[Any], response: str, limit: int) -> Example | None:
    """Token ids of a chat, ``labels`` that are -100 before the response, and a mask of ones.

    Prompt and response are tokenised together; a token that spans their border is the response's. An end-of-text token
    is added where the template writes none. What is longer than ``limit`` tokens loses its end; None where nothing of
    the response is left.
    """
    before = prompt_text(tokenizer, list(prompt))
    answer = {"role": "assistant", "content": response}
    whole = str(tokenizer.apply_chat_template([*prompt, answer], tokenize=False))
    if not whole.startswith(before):  # templates that write something else before an answer that is there already
        whole = before + response
    ids = list(tokenizer(whole, add_special_tokens=False)["input_ids"])
    head = list(tokenizer(before, add_special_tokens=False)["input_ids"])
    start = next((i for i, (a, b) in enumerate(zip(ids, head, strict=False)) if a != b), min(len(ids), len(head)))
    end = tokenizer.eos_token_id
    if end is not None and end not in ids[start:][-3:]:
        ids.append(end)
    ids = ids[:limit]
    if start >= len(ids):
        return None
    return {"input_ids": ids, "labels": [-100] * start + ids[start:], "attention_mask": [1] * len(ids)}


def pad_rows(rows: Sequence[Mapping[str, Any]], prefix: str = "", length: int | None = None) -> Batch:
    """Examples padded on the right to the longest (or ``length``), int64 ``[n, T]`` each."""
    width = length or max(len(row[f"{prefix}input_ids"]) for row in rows)
    fills = {"input_ids": 0, "labels": -100, "attention_mask": 0}
    return {
        f"{prefix}{name}": torch.tensor(
            [row[f"{prefix}{name}"] + [fill] * (width - len(row[f"{prefix}{name}"])) for row in rows]
        )
        for name, fill in fills.items()
    }


def pad_pairs(rows: Sequence[Mapping[str, Any]]) -> Batch:
    """Pairs padded to one length, with the reference's log-probabilities where they are known."""
    width = max(len(row[f"{side}_input_ids"]) for row in rows for side in ("chosen", "rejected"))
    batch = {**pad_rows(rows, "chosen_", width), **pad_rows(rows, "rejected_", width)}
    for name in ("reference_chosen", "reference_rejected"):
        if name in rows[0]:
            batch[name] = torch.tensor([row[name] for row in rows], dtype=torch.float32)
    return batch


def read_pairs(path: Any, field: str = "pairs") -> list[dict[str, Any]]:
    """Preference rows from ``.jsonl`` in TRL's formats: prompt, chosen and rejected as texts or as messages.

    Without ``prompt``, chosen and rejected are whole chats that begin alike (TRL's implicit prompts).
    """
    return [preference_of(row, where, field) for where, row in _some(read_rows(path, field), path, field)]


def preference_of(row: Any, where: str, field: str = "pairs") -> dict[str, Any]:
    """A preference row with all three parts as messages."""
    if not isinstance(row, Mapping) or "chosen" not in row or "rejected" not in row:
        raise InputError(field, f"{where}: no preference", "prompt, chosen and rejected")
    sides = {side: _turns(row[side], f"{where}, {side}", field) for side in ("chosen", "rejected")}
    prompt = row.get("prompt")
    if prompt is None:
        good, bad = sides["chosen"], sides["rejected"]
        same = next((i for i, (a, b) in enumerate(zip(good, bad, strict=False)) if a != b), min(len(good), len(bad)))
        if same == 0:
            raise InputError(field, f"{where}: no prompt", "prompt, or two chats that begin alike")
        return {"prompt": good[:same], "chosen": good[same:], "rejected": bad[same:]}
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else _turns(prompt, where, field)
    return {"prompt": turns, **sides}


def read_chats(path: Any, field: str = "chats") -> list[dict[str, Any]]:
    """Rows with ``messages`` that end with the assistant's turn, from ``.jsonl``."""
    return [chat_of(row, where, field) for where, row in _some(read_rows(path, field), path, field)]


def chat_of(row: Any, where: str, field: str = "chats") -> dict[str, Any]:
    """A row with ``messages`` that end with the assistant's turn."""
    if not isinstance(row, Mapping) or not isinstance(row.get("messages"), list):
        raise InputError(field, f"{where}: no messages", "messages that end with the assistant's")
    turns = _turns(row["messages"], where, field)
    if turns[-1]["role"] != "assistant" or len(turns) < 2:
        last = turns[-1]["role"]
        found = "one turn only" if last == "assistant" else f"the last turn is the {last}'s"
        raise InputError(field, f"{where}: {found}", "a chat of which the last turn is the assistant's")
    return {"messages": turns}


def _some(rows: list[tuple[str, Any]], path: Any, field: str) -> list[tuple[str, Any]]:
    if not rows:
        raise InputError(field, f"{path}, without a row", "one or more")
    return rows


def _turns(given: Any, where: str, field: str) -> list[dict[str, str]]:
    if isinstance(given, str) and given.strip():
        return [{"role": "assistant", "content": given}]
    turns = given if isinstance(given, list) and given else None
    if turns is None or not all(
        isinstance(m, Mapping) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in turns
    ):
        raise InputError(field, f"{where}: {str(given)[:60]!r}", "a text, or messages with role and content")
    return [{"role": m["role"], "content": m["content"]} for m in turns]
