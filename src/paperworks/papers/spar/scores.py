"""IFEval's four scores: by prompt and by instruction, strict and loose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from paperworks.errors import InputError
from paperworks.papers.spar.prompts import InstructionPrompt


@dataclass(frozen=True)
class InstructionResult:
    """What one response obeys.

    Attributes
    ----------
    id : of the prompt.
    strict : by instruction, whether the response obeys it as it is.
    loose : by instruction, whether one of the eight ``loose_variants`` obeys it.
    """

    id: str
    strict: tuple[bool, ...]
    loose: tuple[bool, ...]


def loose_variants(response: str) -> list[str]:
    """The response; without its first line, its last line, both; and these four without stars (Zhou et al. 2023)."""
    lines = response.split("\n")
    cut = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    variants = [response, *cut]
    return variants + [text.replace("*", "") for text in variants]


def check_response(prompt: InstructionPrompt, response: str) -> InstructionResult:
    """Check one response against every verifiable instruction of its prompt."""
    if not isinstance(response, str):
        raise InputError(f"response to prompt {prompt.id!r}", type(response).__name__, "a text")
    variants = loose_variants(response)
    strict = tuple(one.follows(response) for one in prompt.instructions)
    loose = tuple(any(one.follows(text) for text in variants) for one in prompt.instructions)
    return InstructionResult(prompt.id, strict, loose)


def ifeval_scores(results: Iterable[InstructionResult | tuple[InstructionPrompt, str]]) -> dict[str, float]:
    """Shares of prompts (P) and of instructions (I) that are obeyed, strict (S) and loose (L), and their mean.

    Parameters
    ----------
    results : of ``check_response``, or (prompt, response) pairs.

    Returns
    -------
    P_L, I_L, P_S, I_S and avg, each from 0 to 1.

    Raises
    ------
    InputError : no result with an instruction, or a response that is no text.
    """
    checked = [one if isinstance(one, InstructionResult) else check_response(*one) for one in results]
    checked = [one for one in checked if one.strict]
    if not checked:
        raise InputError("results", "no prompt with a verifiable instruction", "one or more")
    total = sum(len(one.strict) for one in checked)
    scores = {
        "P_L": sum(all(one.loose) for one in checked) / len(checked),
        "I_L": sum(sum(one.loose) for one in checked) / total,
        "P_S": sum(all(one.strict) for one in checked) / len(checked),
        "I_S": sum(sum(one.strict) for one in checked) / total,
    }
    return scores | {"avg": sum(scores.values()) / 4}
