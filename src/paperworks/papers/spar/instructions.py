"""Verifiable instructions: their ids and arguments as in IFEval's files, their wording, and their check."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from paperworks.errors import InputError, nearest
from paperworks.papers.spar import checks

Check = Callable[..., bool]

WORDING: dict[str, str] = {
    "keywords:existence": "Use the words {keywords}.",
    "keywords:frequency": "Use the word {keyword} {relation} {frequency} times.",
    "keywords:forbidden_words": "Do not use the words {forbidden_words}.",
    "keywords:letter_frequency": "Use the letter {letter} {let_relation} {let_frequency} times.",
    "language:response_language": "Answer in the language with the code {language} only.",
    "length_constraints:number_sentences": "Write {relation} {num_sentences} sentences.",
    "length_constraints:number_paragraphs": "Write {num_paragraphs} paragraphs with *** between them.",
    "length_constraints:number_words": "Write {relation} {num_words} words.",
    "length_constraints:nth_paragraph_first_word": (
        "Write {num_paragraphs} paragraphs with an empty line between them; paragraph {nth_paragraph} begins with the "
        "word {first_word}."
    ),
    "detectable_content:number_placeholders": "Use at least {num_placeholders} placeholders such as [address].",
    "detectable_content:postscript": "Add a postscript that begins with {postscript_marker}",
    "detectable_format:number_bullet_lists": "Write exactly {num_bullets} bullet points, each with * in front.",
    "detectable_format:constrained_response": (
        "Answer with one of: My answer is yes. / My answer is no. / My answer is maybe."
    ),
    "detectable_format:number_highlighted_sections": "Highlight at least {num_highlights} parts, as in *this*.",
    "detectable_format:multiple_sections": "Write {num_sections} sections that begin {section_spliter} 1 and so on.",
    "detectable_format:json_format": "Write the whole answer as JSON.",
    "detectable_format:title": "Give a title in double angular brackets, as in <<title>>.",
    "combination:two_responses": "Give two different answers with ****** between them.",
    "combination:repeat_prompt": "First repeat this request word for word, then answer: {prompt_to_repeat}",
    "startend:end_checker": "End with exactly this phrase: {end_phrase}",
    "startend:quotation": "Put the whole answer into double quotation marks.",
    "change_case:capital_word_frequency": "Use {capital_relation} {capital_frequency} words in capital letters.",
    "change_case:english_capital": "Write in English and in capital letters only.",
    "change_case:english_lowercase": "Write in English and in lowercase letters only.",
    "punctuation:no_comma": "Do not use any commas.",
}
"""The 25 ids, with the words that ask for them."""
_CHECKS: dict[str, Check] = {name: getattr(checks, name.replace(":", "_")) for name in WORDING}
_RELATIONS = ("less than", "at least")
_UNUSED = frozenset(
    name for check in _CHECKS.values() for name in inspect.signature(check).parameters if name != "text"
)


def instruction_ids() -> tuple[str, ...]:
    """The ids of all instruction types."""
    return tuple(WORDING)


@dataclass(frozen=True)
class Instruction:
    """One verifiable instruction.

    Attributes
    ----------
    id : one of ``instruction_ids()``, such as "punctuation:no_comma".
    kwargs : its arguments by IFEval's names; those that are None count as not given.

    Raises InputError for an unknown id, and for arguments that are missing, unknown or of another type.
    """

    id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.id not in _CHECKS:
            raise InputError(
                "instruction_id_list", repr(self.id), f"an instruction of IFEval{nearest(self.id, WORDING)}"
            )
        parameters = list(inspect.signature(_CHECKS[self.id]).parameters)[1:]
        given = {name: value for name, value in self.kwargs.items() if value is not None}
        for name in given:
            if name not in parameters and name not in _UNUSED:
                raise InputError("kwargs", f"{name!r} for {self.id}", f"{', '.join(parameters) or 'no argument'}")
        missing = [name for name in parameters if name not in given]
        if missing:
            raise InputError("kwargs", f"{self.id} without {missing[0]}", ", ".join(parameters))
        clean = {name: _argument(self.id, name, given[name]) for name in parameters}
        object.__setattr__(self, "kwargs", MappingProxyType(clean))

    def __hash__(self) -> int:
        return hash((self.id, tuple(self.kwargs.items())))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.id, dict(self.kwargs))

    def follows(self, response: str) -> bool:
        """Whether a response obeys. An empty one never does."""
        return bool(response.strip()) and _CHECKS[self.id](response, **self.kwargs)

    def describe(self) -> str:
        """The instruction in words."""
        shown = {k: ", ".join(v) if isinstance(v, tuple) else v for k, v in self.kwargs.items()}
        return WORDING[self.id].format(**shown)


def _argument(instruction: str, name: str, value: Any) -> Any:
    """An argument of the right type."""
    where = f"{name} of {instruction}"
    if name in ("keywords", "forbidden_words"):
        if not isinstance(value, (list, tuple)) or not value or not all(isinstance(w, str) and w for w in value):
            raise InputError(where, repr(value), "a list of words")
        return tuple(value)
    if name.endswith("relation"):
        if value not in _RELATIONS:
            raise InputError(where, repr(value), " or ".join(_RELATIONS))
        return value
    if name.startswith(("num_", "nth_")) or name.endswith("frequency"):
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # columns with missing values are read as decimal numbers
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InputError(where, repr(value), "a whole number of 0 or more")
        return value
    if not isinstance(value, str) or not value.strip():
        raise InputError(where, repr(value), "a text")
    return value
