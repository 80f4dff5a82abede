"""Instruction data: the usual formats of files, as one type."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from paperworks.errors import InputError
from paperworks.language.generation.protocol import Message

Format = Literal["messages", "alpaca", "prompt-completion"]
SUFFIXES = (".jsonl", ".json", ".parquet", ".csv")
ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
    "tool": "tool",
}
COMPLETION_KEYS = ("completion", "response", "output", "answer")


@dataclass(frozen=True)
class InstructionRecord:
    """One conversation.

    Attributes
    ----------
    id : the record's own ``id``, else its number in the file, from 0.
    messages : the turns, in order; the last is usually the assistant's.
    extra : what else the record has.
    """

    id: str
    messages: tuple[Message, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The turns before the last answer of the assistant (all of them, where the last is not the assistant's)."""
        return self.messages[:-1] if self.messages[-1]["role"] == "assistant" else self.messages

    @property
    def response(self) -> str | None:
        """The last answer of the assistant; None where the last turn is not the assistant's."""
        return self.messages[-1]["content"] if self.messages[-1]["role"] == "assistant" else None

    @property
    def instruction(self) -> str:
        """The first message of the user."""
        return next((m["content"] for m in self.messages if m["role"] == "user"), "")


def read_instructions(path: str | Path, field: str = "instructions") -> list[InstructionRecord]:
    """Records from JSON lines, a JSON list, Parquet or CSV.

    Each row is one of: chat (``messages`` with role and content, or ``conversations`` with from and value), Alpaca
    (``instruction``, optional ``input``, ``output``), or ``prompt`` with ``completion``, ``response``, ``output`` or
    ``answer`` (either a text or a list of messages each). ``system`` is a first message. What is null is an empty text.

    Raises
    ------
    InputError : named ``field``: no such file, another kind, a row of no known form (with its number), or no row.
    """
    path = check_file(path, field)
    rows = _rows(path, field)
    records = [record_of(row, number, f"{path}, row {number}", field) for number, row in enumerate(rows)]
    if not records:
        raise InputError(field, f"{path}, without a row", "one record or more")
    return records


def write_instructions(records: Iterable[InstructionRecord], path: str | Path, format: Format = "messages") -> None:
    """Write JSON lines, moved into place when whole.

    Parameters
    ----------
    records : what to write; ``extra`` is kept.
    path : a new file that ends in ``.jsonl``.
    format : "messages", "alpaca" or "prompt-completion"; the last two hold one turn of a user, one answer, and a system
        message at most.
    """
    from paperworks.runs.files import write_text

    path = Path(path)
    if path.exists() or path.suffix.lower() != ".jsonl":
        raise InputError("path", f"{path}{', which exists' if path.exists() else ''}", "a new file that ends in .jsonl")
    if format not in ("messages", "alpaca", "prompt-completion"):
        raise InputError("format", repr(format), "messages, alpaca or prompt-completion")
    lines = [json.dumps(_as(record, format), ensure_ascii=False) + "\n" for record in records]
    write_text(path, "".join(lines))


def check_file(path: str | Path, field: str) -> Path:
    """The path of a file of a known kind. Raises InputError for anything else."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(field, f"{path}, {'a folder' if path.is_dir() else 'nothing there'}", "a file")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(field, str(path), f"a file that ends in {', '.join(SUFFIXES)}")
    return path


def _rows(path: Path, field: str) -> list[Any]:
    try:
        if path.suffix.lower() == ".jsonl":
            # JSON may hold other line separators inside strings: only \n ends a record
            lines = path.read_text(encoding="utf-8-sig").split("\n")
            return [parse_line(text, f"{path}, line {n}", field) for n, text in enumerate(lines, 1) if text.strip()]
        if path.suffix.lower() == ".json":
            content = json.loads(path.read_text(encoding="utf-8-sig"))
            return content if isinstance(content, list) else [content]
        import pandas as pd

        frame = (
            pd.read_parquet(path)
            if path.suffix.lower() == ".parquet"
            else pd.read_csv(path, dtype=str, keep_default_na=False)
        )
        return [plain_row(row) for row in frame.to_dict("records")]
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(field, f"{path}, which cannot be read ({reason})", "records") from error


def parse_line(text: str, where: str, field: str) -> Any:
    """The JSON of a line. Raises InputError that says where."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(field, f"{where}: not JSON ({error})", "an object in each line") from error


def plain_row(value: Any) -> Any:
    """Arrays of a Parquet file as lists, missing values as None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(k): plain_row(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_row(v) for v in value]
    return None if isinstance(value, float) and value != value else value


def record_of(row: Any, number: int, where: str, field: str) -> InstructionRecord:
    """A row of any known form as a record; ``where`` says which in an error."""
    if not isinstance(row, Mapping):
        raise InputError(field, f"{where}: {type(row).__name__}", "an object")
    used = {"id", "system"}
    turns: list[Any]
    completion = next((k for k in COMPLETION_KEYS if row.get(k) is not None), None)
    if row.get("messages") or row.get("conversations"):
        key = "messages" if row.get("messages") else "conversations"
        turns, used = list(row[key]), used | {key}
    elif isinstance(row.get("instruction"), str) or ("instruction" in row and row["instruction"] is None):
        more = row.get("input")
        content = (row["instruction"] or "") + (f"\n\n{more}" if isinstance(more, str) and more.strip() else "")
        turns, used = [{"role": "user", "content": content}], used | {"instruction", "input"}
        if completion is not None:
            turns.append({"role": "assistant", "content": row[completion]})
            used.add(completion)
    elif row.get("prompt") is not None:
        turns, used = _turns(row["prompt"], "user"), used | {"prompt"}
        if completion is not None:
            turns += _turns(row[completion], "assistant")
            used.add(completion)
    elif empty := {"messages", "conversations", "prompt"} & set(row):  # null, or no turn: a record without text
        turns, used = [{"role": "user", "content": ""}], used | empty
        if completion is not None:
            turns += _turns(row[completion], "assistant")
            used.add(completion)
    else:
        keys = ", ".join(map(str, row)) or "no key"
        raise InputError(field, f"{where}: {keys}", "messages, conversations, instruction, or prompt and completion")
    if isinstance(row.get("system"), str) and row["system"].strip():
        turns.insert(0, {"role": "system", "content": row["system"]})
    messages = tuple(_message(turn, where, field) for turn in turns)
    identity = row.get("id")
    extra = {k: v for k, v in row.items() if k not in used}
    return InstructionRecord(str(number if identity is None else identity), messages, extra)


def _turns(value: Any, role: str) -> list[Any]:
    return [{"role": role, "content": value}] if isinstance(value, str) else list(value)


def _message(turn: Any, where: str, field: str) -> Message:
    role = turn.get("role", turn.get("from")) if isinstance(turn, Mapping) else None
    content = turn.get("content", turn.get("value")) if isinstance(turn, Mapping) else None
    if content is None and isinstance(turn, Mapping) and {"content", "value"} & set(turn):
        content = ""
    if role not in ROLES or not isinstance(content, str):
        known = ", ".join(ROLES)
        raise InputError(field, f"{where}: {str(turn)[:80]}", f"a role ({known}) and a text as its content")
    return {"role": ROLES[role], "content": content}


def _as(record: InstructionRecord, format: Format) -> dict[str, Any]:
    base = {"id": record.id, **record.extra}
    if format == "messages":
        return base | {"messages": [dict(m) for m in record.messages]}
    system = [m for m in record.messages if m["role"] == "system"]
    rest: Sequence[Message] = [m for m in record.messages if m["role"] != "system"]
    if [m["role"] for m in rest] != ["user", "assistant"] or len(system) > 1:
        roles = ", ".join(m["role"] for m in record.messages)
        raise InputError(
            "format", f"{format} for record {record.id} of {roles}", "messages, which holds any conversation"
        )
    base |= {"system": system[0]["content"]} if system else {}
    names = ("instruction", "output") if format == "alpaca" else ("prompt", "completion")
    return base | dict(zip(names, (m["content"] for m in rest), strict=True))
