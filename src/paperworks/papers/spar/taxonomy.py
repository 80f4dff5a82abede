"""Prompts with several constraints, made from plain requests: by program, or rewritten by a model.

The taxonomy has three families with 14 leaves. A leaf is drawn uniformly as the main constraint of each prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.language.generation import GenerationSettings, Generator, Message, SampleRequest, generate_samples
from paperworks.papers.spar.instructions import Instruction
from paperworks.papers.spar.pairs import prompt_rng
from paperworks.papers.spar.prompts import InstructionPrompt, read_rows, read_text
from paperworks.papers.spar.wording import parse_block, rewrite_chat
from paperworks.parameters import check_seed

TAXONOMY: dict[str, tuple[str, ...]] = {
    "Format": ("length", "text format", "character format", "template", "punctuation", "numeric format"),
    "Content": ("keyword", "symbol", "sentence", "genre"),
    "General": ("language", "situation", "language style", "sentiment"),
}
LEAVES = tuple((family, leaf) for family, leaves in TAXONOMY.items() for leaf in leaves)
PLACE = "{constraints}"

Draw = Callable[[np.random.Generator], tuple[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Seed:
    """A plain request. ``{constraints}`` in its text is where constraints go; otherwise they are put after it.

    ``keywords`` are words that an answer may be asked to use or to leave out.
    """

    id: str
    text: str
    keywords: tuple[str, ...] = ()


def read_seeds(path: str | Path, field: str = "seeds") -> list[Seed]:
    """Requests from JSON lines (``id``, ``prompt``, optional ``keywords``), or from ``.txt``, one a line."""
    path = Path(path).expanduser()
    if path.suffix.lower() == ".txt":
        lines = read_text(path, field).split("\n")
        found = [Seed(str(n), line.strip()) for n, line in enumerate(lines, 1) if line.strip()]
    else:
        found = [_seed(row, where, field) for where, row in read_rows(path, field)]
    if not found:
        raise InputError(field, f"{path}, without a request", "one or more")
    for name, values in (("id", [one.id for one in found]), ("request", [one.text for one in found])):
        twice = (
            next((value for value in values if values.count(value) > 1), None)
            if len(set(values)) < len(values)
            else None
        )
        if twice is not None:
            raise InputError(field, f"{path.name}: the {name} {twice[:60]!r} twice", f"every {name} once")
    return found


def _seed(row: Any, where: str, field: str) -> Seed:
    if not isinstance(row, Mapping) or row.get("id") in (None, "") or not isinstance(row.get("prompt"), str):
        raise InputError(field, f"{where}: no id or no prompt", "id and prompt")
    if not row["prompt"].strip():
        raise InputError(field, f"{where}: an empty prompt", "a request")
    words = row.get("keywords") or []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InputError(field, f"{where}: keywords {str(words)[:40]!r}", "a list of words")
    return Seed(str(row["id"]), row["prompt"], tuple(words))


def make_prompts(
    seeds: Sequence[Seed],
    *,
    seed: int = 0,
    more: tuple[int, int] = (0, 1),
    leaves: Sequence[str] = (),
    instructions: Sequence[str] = (),
) -> list[InstructionPrompt]:
    """Prompts with constraints that a program can verify.

    Parameters
    ----------
    seeds : the requests.
    more : how many constraints are added to the main one, at least and at most; fewer where they would contradict.
    leaves : use these leaves only; genre, situation, style and sentiment have no verifiable instruction.
    instructions : use these ids only.
    """
    check_seed("seed", seed)
    known = {leaf for _, leaf in LEAVES}
    unknown = [leaf for leaf in leaves if leaf not in known]
    if unknown:
        raise InputError("leaves", repr(unknown[0]), f"of {', '.join(sorted(known))}")
    table = {
        leaf: tuple(name for name in names if not instructions or name in instructions)
        for leaf, names in VERIFIABLE.items()
        if not leaves or leaf in leaves
    }
    table = {leaf: names for leaf, names in table.items() if names}
    if not table:
        raise InputError("leaves", ", ".join(leaves) or "none", f"one that can be verified: {', '.join(VERIFIABLE)}")
    return [_prompt(one, table, more, prompt_rng(seed, one.id, "constraints")) for one in seeds]


def _prompt(
    one: Seed, table: Mapping[str, tuple[str, ...]], more: tuple[int, int], rng: np.random.Generator
) -> InstructionPrompt:
    leaves = [str(leaf) for leaf in rng.permutation(list(table))]
    wanted = 1 + int(rng.integers(more[0], more[1] + 1))
    chosen: list[Instruction] = []
    for leaf in leaves:
        name = str(rng.choice(table[leaf]))
        if len(chosen) < wanted and not any(_contradict(name, other.id) for other in chosen):
            chosen.append(Instruction(name, _arguments(name, one, rng)))
    asked = " ".join(instruction.describe() for instruction in chosen)
    text = one.text.replace(PLACE, asked) if PLACE in one.text else f"{one.text}\n\n{asked}"
    return InstructionPrompt(one.id, (Message(role="user", content=text),), tuple(chosen))


VERIFIABLE: dict[str, tuple[str, ...]] = {
    "length": ("length_constraints:number_words", "length_constraints:number_sentences"),
    "text format": (
        "detectable_format:number_bullet_lists",
        "detectable_format:json_format",
        "detectable_format:title",
    ),
    "character format": ("change_case:english_lowercase", "change_case:english_capital"),
    "template": ("combination:two_responses", "detectable_content:postscript"),
    "punctuation": ("punctuation:no_comma", "startend:quotation"),
    "numeric format": ("detectable_content:number_placeholders",),
    "keyword": ("keywords:existence", "keywords:forbidden_words"),
    "symbol": ("keywords:letter_frequency",),
    "sentence": ("startend:end_checker",),
    "language": ("language:response_language",),
}
"""Instructions of each leaf that a program can put into any request."""
WHOLE = frozenset(
    {
        "detectable_format:json_format",
        "combination:two_responses",
        "startend:quotation",
        "startend:end_checker",
        "change_case:english_capital",
        "change_case:english_lowercase",
        "detectable_content:postscript",
        "detectable_format:number_bullet_lists",
        "language:response_language",
        "detectable_format:title",
    }
)
"""At most one of these in a prompt: two of them may contradict each other."""
_KEYWORDS = ("time", "people", "world", "small", "found")
_ENDS = ("That is all.", "So it is.", "This is the end.")


def _contradict(first: str, second: str) -> bool:
    lengths = {first, second} == set(VERIFIABLE["length"])
    return first == second or (first in WHOLE and second in WHOLE) or lengths


def _arguments(name: str, one: Seed, rng: np.random.Generator) -> dict[str, Any]:
    """Arguments of an instruction, drawn."""
    words = [w for w in one.keywords if w] or [str(w) for w in rng.permutation(_KEYWORDS)]
    drawn: dict[str, Callable[[], dict[str, Any]]] = {
        "length_constraints:number_words": lambda: {"num_words": int(rng.integers(8, 16)), "relation": "less than"},
        "length_constraints:number_sentences": lambda: {
            "num_sentences": int(rng.integers(2, 4)),
            "relation": "less than",
        },
        "detectable_format:number_bullet_lists": lambda: {"num_bullets": int(rng.integers(2, 5))},
        "detectable_content:postscript": lambda: {"postscript_marker": "P.S."},
        "detectable_content:number_placeholders": lambda: {"num_placeholders": int(rng.integers(1, 4))},
        "keywords:existence": lambda: {"keywords": words[:1]},
        "keywords:forbidden_words": lambda: {"forbidden_words": [str(rng.choice(["the", "or", "and"]))]},
        "keywords:letter_frequency": lambda: {
            "letter": str(rng.choice(list("sdh"))),
            "let_frequency": int(rng.integers(2, 6)),
            "let_relation": "less than",
        },
        "startend:end_checker": lambda: {"end_phrase": str(rng.choice(_ENDS))},
        "language:response_language": lambda: {"language": str(rng.choice(["en", "fr", "de", "es"]))},
    }
    return drawn[name]() if name in drawn else {}


@dataclass(frozen=True)
class Rewriting:
    """Prompts that a model wrote, and the ids of requests that were dropped, with the reason."""

    prompts: tuple[InstructionPrompt, ...]
    dropped: Mapping[str, str]


def rewrite_prompts(
    seeds: Sequence[Seed],
    generator: Generator,
    *,
    temperature: float = 0.7,
    max_new_tokens: int = 1024,
    attempts: int = 3,
    seed: int = 0,
) -> Rewriting:
    """Requests made harder by a model, one leaf of the taxonomy each; only a model can judge the answers.

    Requests that the model answers with None (mathematics, programming) are dropped, and those whose replies cannot be
    read.
    """
    check_seed("seed", seed)
    settings = GenerationSettings(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    found: dict[str, InstructionPrompt] = {}
    dropped: dict[str, str] = {}
    for attempt in range(attempts):
        wanted = [one for one in seeds if one.id not in found and dropped.get(one.id) != "not suitable"]
        requests = []
        for one in wanted:
            family, leaf = LEAVES[int(prompt_rng(seed, one.id, "leaf").integers(len(LEAVES)))]
            chat = rewrite_chat(one.text.replace(PLACE, "").strip(), family, leaf, [name for _, name in LEAVES])
            requests.append(SampleRequest(chat, settings, attempt))
        for one, reply in zip(wanted, generate_samples(generator, requests) if requests else [], strict=True):
            text = parse_block(reply)
            if (text or reply).strip().strip(".") == "None":
                dropped[one.id] = "not suitable"
            elif text is None:
                dropped[one.id] = "no reply that can be read"
            else:
                dropped.pop(one.id, None)
                found[one.id] = InstructionPrompt(one.id, (Message(role="user", content=text),))
    return Rewriting(tuple(found[one.id] for one in seeds if one.id in found), dropped)
