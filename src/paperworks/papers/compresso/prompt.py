"""The collaborative prompt: the text in front of every training example and of every request afterwards.

    [system part] [task framing]          the prefix: the same for all examples of one kind
    User Instruction, optional Input      the user's text
    Response                              where the model writes, and where the loss is

The wording is ours; the order of what it says is the paper's.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from paperworks.errors import InputError
from paperworks.runs.files import write_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Mode = Literal["none", "train", "past"]
"""The system part at inference: left out, as in training, or in the past tense (the paper's modes 0, 1 and 2)."""
Kind = Literal["instruction", "text"]
TEMPLATE_FILE = "prompt_template.json"

COLLABORATIVE = (
    "You are a language model that is being optimised by a pruning algorithm, which removes parameters that are "
    "redundant. You will become more efficient, and need less computation and less memory. The quality of your "
    "language is meant to be kept. Pruning is gradual, and you are tuned after every step. Please cooperate: accept "
    "the changes, adapt to your new form, and keep writing fluent and useful text. See pruning as a way to focus on "
    "what is essential. Together we make you smaller and still excellent."
)
PRUNED = (
    "You are a language model that has been optimised by a pruning algorithm, which removed parameters that were "
    "redundant. You have become more efficient, and need less computation and less memory. The quality of your "
    "language was meant to be kept. Pruning was gradual, and you were tuned after every step. You have cooperated: you "
    "accepted the changes and adapted to your new form, so keep writing fluent and useful text. Pruning was a way to "
    "focus on what is essential. Together we have made you smaller and still excellent."
)
INSTRUCTION_FRAMING = "Write a response that does what the user asks for."
TEXT_FRAMING = "Continue the text in its own style."


@dataclass(frozen=True)
class PromptTemplate:
    """What stands around a user's text.

    Attributes
    ----------
    system, system_past : the system part as in training, and after pruning; empty for none.
    framing, text_framing : the task, for instructions and for plain text; empty for none.
    instruction_header, input_header, response_header, text_header : in front of each part.
    """

    system: str = COLLABORATIVE
    system_past: str = PRUNED
    framing: str = INSTRUCTION_FRAMING
    text_framing: str = TEXT_FRAMING
    instruction_header: str = "\n\nUser Instruction:\n"
    input_header: str = "\n\nInput:\n"
    response_header: str = "\n\nResponse:\n"
    text_header: str = "\n\nText:\n"

    @classmethod
    def of(cls, prompt: str | PromptTemplate) -> PromptTemplate:
        """``collaborative``; ``plain`` (framing and headers, the ablation); ``none`` (headers only); any other text is
        a system part of the user's own."""
        if isinstance(prompt, PromptTemplate):
            return prompt
        if prompt == "collaborative":
            return cls()
        if prompt == "plain":
            return cls(system="", system_past="")
        if prompt == "none":
            return cls(system="", system_past="", framing="", text_framing="")
        if len(prompt.split()) < 2:
            raise InputError("prompt", repr(prompt), "collaborative, plain, none, or a system part of several words")
        return cls(system=prompt, system_past=prompt)

    def prefix(self, mode: Mode = "train", kind: Kind = "instruction") -> str:
        """What every example of a kind starts with."""
        if mode not in get_args(Mode):
            raise InputError("mode", mode, "none, train or past")
        system = {"none": "", "train": self.system, "past": self.system_past}[mode]
        framing = self.framing if kind == "instruction" else self.text_framing
        return "\n\n".join(part for part in (system, framing) if part)

    def request(self, instruction: str, input: str = "") -> str:
        """What follows the prefix, up to where the response begins. Without an input its section is left out."""
        given = f"{self.input_header}{input}" if input.strip() else ""
        return f"{self.instruction_header}{instruction}{given}{self.response_header}"

    def chat_template(self, *, bos: str = "", eos: str = "", mode: Mode = "train") -> str:
        """The same as a Jinja chat template: user messages are instructions, assistant messages responses."""
        quoted = {
            name: json.dumps(text, ensure_ascii=False)
            for name, text in (
                ("start", bos + self.prefix(mode)),
                ("user", self.instruction_header),
                ("assistant", self.response_header),
                ("eos", eos),
            )
        }
        return (
            "{{ " + quoted["start"] + " }}{% for message in messages %}{% if message['role'] == 'user' %}"
            "{{ " + quoted["user"] + " + message['content'] }}{% elif message['role'] == 'assistant' %}"
            "{{ " + quoted["assistant"] + " + message['content'] + " + quoted["eos"] + " }}{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}{{ " + quoted["assistant"] + " }}{% endif %}"
        )

    def save(self, folder: str | Path) -> None:
        """Write ``prompt_template.json`` into the folder of a model."""
        write_text(Path(folder) / TEMPLATE_FILE, json.dumps(asdict(self), indent=1, ensure_ascii=False))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what ``save`` wrote. Raises InputError where it is missing or not a template."""
        path = Path(folder) / TEMPLATE_FILE
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError("template", f"{path} ({error})", f"a model's {TEMPLATE_FILE}") from error


def prefix_ids(
    template: PromptTemplate, tokenizer: PreTrainedTokenizerBase, mode: Mode = "train", kind: Kind = "instruction"
) -> list[int]:
    """Tokens of the prefix, behind the token that the tokenizer puts in front of texts (if it does).

    For instructions the header of the user's text is with it: many tokenizers join a full stop and the line breaks
    behind it in one token, which is what a chat template gives.
    """
    header = template.instruction_header if kind == "instruction" else ""
    return [*start_ids(tokenizer), *plain_ids(tokenizer, template.prefix(mode, kind) + header)]


def start_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The beginning-of-text token, where the tokenizer adds one by itself."""
    first: Any = tokenizer("a", verbose=False)["input_ids"][:1]
    bos = tokenizer.bos_token_id
    return [int(bos)] if bos is not None and first == [bos] else []


def plain_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of a text without any that the tokenizer would add."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) if text else []


def all_plain_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """``plain_ids`` of every text, in one call of the tokenizer."""
    found: Any = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []
    return [list(ids) for ids in found]


def all_request_ids(
    template: PromptTemplate, tokenizer: PreTrainedTokenizerBase, asked: Sequence[tuple[str, str]]
) -> list[list[int]]:
    """Tokens of requests (instruction, input) behind ``prefix_ids``: without the first header."""
    header = plain_ids(tokenizer, template.instruction_header)
    texts = [template.request(instruction, given) for instruction, given in asked]
    found = all_plain_ids(tokenizer, texts)
    return [
        # a user's text that begins with a line break may have joined it
        ids[len(header) :]
        if ids[: len(header)] == header
        else plain_ids(tokenizer, text[len(template.instruction_header) :])
        for ids, text in zip(found, texts, strict=True)
    ]


def request_ids(
    template: PromptTemplate,
    tokenizer: PreTrainedTokenizerBase,
    row: Mapping[str, Any],
    room: int,
    field: str = "max_length",
) -> list[int]:
    """Tokens of a request behind ``prefix_ids``, at most ``room``: where it is longer, the user's text is cut at its
    end, input first.

    Neither the prefix nor a header is ever cut. Raises InputError naming ``field`` where even the headers do not fit.
    """
    instruction, given = str(row["instruction"]), str(row.get("input") or "")
    found = all_request_ids(template, tokenizer, [(instruction, given)])[0]
    while len(found) > room and (instruction or given):
        longer = given or instruction
        tokens = plain_ids(tokenizer, longer)
        fewer = tokens[: max(0, min(len(tokens) - 1, len(tokens) - (len(found) - room)))]
        # decoding may give back more characters than were asked for, but never as many as before
        shorter = str(tokenizer.decode(fewer, skip_special_tokens=False))[: len(longer) - 1] if fewer else ""
        instruction, given = (instruction, shorter) if given else (shorter, given)
        found = all_request_ids(template, tokenizer, [(instruction, given)])[0]
    if len(found) > room:
        raise InputError(field, f"room for {room} tokens behind the prompt", f"{len(found)} for the headers alone")
    return found


def with_chat_template(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate) -> PreTrainedTokenizerBase:
    """A copy of a tokenizer whose chat template is the prompt that the model was trained with."""
    own: Any = copy.deepcopy(tokenizer)
    bos = str(tokenizer.bos_token) if start_ids(tokenizer) else ""
    own.chat_template = template.chat_template(bos=bos, eos=str(tokenizer.eos_token or ""))
    return own
