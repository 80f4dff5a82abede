"""Whether training prompts repeat a benchmark: shared runs of n words (the paper does not report it)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paperworks.errors import InputError
from paperworks.papers.spar.prompts import InstructionPrompt
from paperworks.papers.spar.units import words


@dataclass(frozen=True)
class Overlap:
    """A prompt that shares runs of words with a benchmark.

    Attributes
    ----------
    id, benchmark_id : of the prompt, and of the benchmark's prompt that it shares most with.
    share : share of the prompt's runs that are in the benchmark, from 0 to 1.
    example : the first run that they share.
    """

    id: str
    benchmark_id: str
    share: float
    example: str


def overlaps(prompts: Sequence[InstructionPrompt], benchmark: Sequence[InstructionPrompt], n: int = 8) -> list[Overlap]:
    """Prompts that share at least one run of ``n`` words with a benchmark, in lower case and without signs.

    A prompt of fewer words is one run of its own. The most overlapping come first.
    """
    if n < 1:
        raise InputError("ngram", n, "1 or more words")
    places: dict[tuple[str, ...], list[str]] = {}
    for one in benchmark:
        for run in set(_runs(one.text, n)):
            places.setdefault(run, []).append(one.id)
    found = []
    for prompt in prompts:
        runs = _runs(prompt.text, n)
        shared = [run for run in runs if run in places]
        if shared:
            ids = [name for run in shared for name in places[run]]
            most = max(dict.fromkeys(ids), key=ids.count)
            found.append(Overlap(prompt.id, most, len(shared) / len(runs), " ".join(shared[0])))
    return sorted(found, key=lambda one: -one.share)


def _runs(text: str, n: int) -> list[tuple[str, ...]]:
    parts = words(text.lower())
    return [tuple(parts[i : i + n]) for i in range(max(1, len(parts) - n + 1))] if parts else []
