"""Prompts with instructions: one type, and files of JSON lines in IFEval's format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paperworks.errors import InputError
from paperworks.inputs.kinds import binary_kind
from paperworks.language.generation import Message
from paperworks.papers.spar.instructions import Instruction


@dataclass(frozen=True)
class InstructionPrompt:
    """A prompt and what a program can verify of it.

    Attributes
    ----------
    id : unique among the prompts.
    messages : the chat that is to be answered; the last turn is the user's.
    instructions : its verifiable instructions; none where only a model can judge.
    """

    id: str
    messages: tuple[Message, ...]
    instructions: tuple[Instruction, ...] = ()

    @property
    def text(self) -> str:
        """The request as one text; turns of a longer chat begin with their role."""
        if len(self.messages) == 1:
            return self.messages[0]["content"]
        return "\n\n".join(f"[{m['role']}]\n{m['content']}" for m in self.messages)

    def to_dict(self) -> dict[str, Any]:
        """The prompt as a line of a file."""
        single = len(self.messages) == 1 and self.messages[0]["role"] == "user"
        return {
            "id": self.id,
            "prompt": self.messages[0]["content"] if single else [dict(m) for m in self.messages],
            "instruction_id_list": [one.id for one in self.instructions],
            "kwargs": [
                {k: list(v) if isinstance(v, tuple) else v for k, v in one.kwargs.items()} for one in self.instructions
            ],
        }


def prompt_of(row: Any, where: str = "prompts", field: str = "prompts") -> InstructionPrompt:
    """A row of a file as a prompt; ``where`` names it in errors.

    Raises InputError for a row without id (or ``key``) or prompt, and for instructions that are not IFEval's.
    """
    if not isinstance(row, Mapping):
        raise InputError(field, f"{where}: {type(row).__name__}", "an object with id and prompt")
    name = next((row[key] for key in ("id", "key") if row.get(key) not in (None, "")), None)
    if isinstance(name, (list, dict, bool)) or name is None:
        raise InputError(field, f"{where}, without an id", "an id (or key) for each prompt")
    given = row.get("prompt", row.get("messages"))
    messages = _messages(given, f"{where} (id {name!r})", field)
    ids, kwargs = row.get("instruction_id_list") or [], row.get("kwargs")
    if kwargs is None:
        kwargs = [{}] * len(ids)
    lists = isinstance(ids, Sequence) and isinstance(kwargs, Sequence) and not isinstance(ids, str)
    if not lists or len(ids) != len(kwargs) or not all(isinstance(one, Mapping) for one in kwargs):
        raise InputError(
            field, f"{where} (id {name!r}): instructions and kwargs of other forms", "two lists of one length"
        )
    try:
        instructions = tuple(Instruction(str(i), k) for i, k in zip(ids, kwargs, strict=True))
    except InputError as error:
        raise InputError(field, f"{where} (id {name!r}): {error.field}: {error.found}", error.expected) from None
    return InstructionPrompt(str(name), messages, instructions)


def _messages(given: Any, where: str, field: str) -> tuple[Message, ...]:
    if isinstance(given, str) and given.strip():
        return (Message(role="user", content=given),)
    turns = given if isinstance(given, (list, tuple)) else []
    right = all(
        isinstance(m, Mapping) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in turns
    )
    if not turns or not right or turns[-1]["role"] != "user" or not turns[-1]["content"].strip():
        shown = "an empty prompt" if isinstance(given, str) or not given else repr(given)[:60]
        raise InputError(field, f"{where}: {shown}", "a text, or messages of which the last is the user's")
    return tuple(Message(role=m["role"], content=m["content"]) for m in turns)


def as_prompt(given: InstructionPrompt | str | Mapping[str, Any], number: int = 0) -> InstructionPrompt:
    """A prompt from a prompt, a text (its id is made of the text), or a row of a file (then with an id)."""
    if isinstance(given, InstructionPrompt):
        return given
    if isinstance(given, str) and given.strip():
        name = hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return InstructionPrompt(name, (Message(role="user", content=given),))
    if isinstance(given, Mapping):
        return prompt_of(given, f"number {number}")
    shown = "an empty text" if isinstance(given, str) else type(given).__name__
    raise InputError(f"prompts, number {number}", shown, "a prompt, a text, or a row with id and prompt")


def check_prompts(
    prompts: Iterable[InstructionPrompt | Mapping[str, Any]], field: str = "prompts"
) -> list[InstructionPrompt]:
    """The prompts as a list.

    Raises InputError for none, for an id that repeats, and for a prompt that repeats with the same instructions.
    """
    given = list(prompts)
    nameless = next((i for i, one in enumerate(given) if isinstance(one, str)), None)
    if nameless is not None:
        raise InputError(f"{field}, number {nameless}", "a text without an id", "an id for each prompt")
    found = [as_prompt(one, number) for number, one in enumerate(given)]
    if not found:
        raise InputError(field, "no prompt", "one or more")
    ids: dict[str, int] = {}
    texts: dict[Any, int] = {}
    for number, prompt in enumerate(found):
        if not prompt.id:
            raise InputError(f"{field}, number {number}", "no id", "an id for each prompt")
        first = ids.setdefault(prompt.id, number)
        if first != number:
            raise InputError(field, f"the id {prompt.id!r} of prompts {first} and {number}", "an id for each prompt")
        first = texts.setdefault((prompt.text, prompt.instructions), number)
        if first != number:
            raise InputError(field, f"prompts {first} and {number}, which are the same", "every prompt once")
    return found


def read_prompts(path: str | Path, field: str = "prompts") -> list[InstructionPrompt]:
    """Prompts from a file of JSON lines (``.jsonl``) or a JSON list (``.json``).

    A line has ``id`` (or ``key``), ``prompt`` (a text, or messages), and where it can be verified
    ``instruction_id_list`` and ``kwargs``, as in IFEval's own file.

    Raises
    ------
    InputError : named ``field``, with the line's number: no such file, not JSON, and all that ``prompt_of`` and
        ``check_prompts`` refuse.
    """
    return check_prompts((prompt_of(row, where, field) for where, row in read_rows(path, field)), field)


def read_rows(path: str | Path, field: str) -> list[tuple[str, Any]]:
    """(where, row) of every row of a ``.jsonl`` or ``.json`` file."""
    path = Path(path).expanduser()
    text = read_text(path, field, (".jsonl", ".json"))
    if path.suffix.lower() == ".json":
        content = _json(text, str(path), field)
        rows = content if isinstance(content, list) else [content]
        return [(f"{path.name}, row {n}", row) for n, row in enumerate(rows)]
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    return [(f"{path.name}, line {n}", _json(line, f"{path.name}, line {n}", field)) for n, line in lines]


def read_text(path: Path, field: str, endings: tuple[str, ...] = ()) -> str:
    """A file's text. Raises InputError named ``field`` for anything but text in UTF-8, and for other endings."""
    if not path.is_file():
        raise InputError(field, f"{path}, {'a folder' if path.is_dir() else 'nothing there'}", "a file")
    if endings and path.suffix.lower() not in endings:
        raise InputError(field, str(path), f"a file that ends in {' or '.join(endings)}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(field, f"{path}, which cannot be read ({error.strerror})", "a file") from None
    kind = binary_kind(data[:4096])
    if kind:
        raise InputError(field, f"{path}, {kind}", "text in UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(field, f"{path}, not UTF-8 at byte {error.start}", "text in UTF-8") from None


def _json(text: str, where: str, field: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(field, f"{where}: not JSON ({error})", "JSON, one object in each line") from None


def write_prompts(prompts: Iterable[InstructionPrompt], path: Path) -> None:
    """Write JSON lines that ``read_prompts`` reads, moved into place when whole."""
    from paperworks.runs.files import write_text

    lines = (json.dumps(prompt.to_dict(), ensure_ascii=False) for prompt in prompts)
    write_text(path, "".join(f"{line}\n" for line in lines))
