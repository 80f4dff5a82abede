"""What one round of self-play leaves to train on: preference pairs for the actor, chats for the refiner."""

from __future__ import annotations

import difflib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paperworks.papers.spar.judges import Judgement
from paperworks.papers.spar.prompts import InstructionPrompt
from paperworks.papers.spar.tree import Node, SearchResult
from paperworks.papers.spar.wording import judge_chat, refine_chat
from paperworks.parameters import check_seed

Row = dict[str, Any]


@dataclass(frozen=True)
class RefinerCaps:
    """How many examples of each kind the refiner is trained on at most (the authors' script)."""

    refinements: int = 4000
    tree_passes: int = 1500
    tree_fails: int = 1000
    first_fails: int = 500
    first_passes: int = 2500


@dataclass(frozen=True)
class Judged:
    """The responses to one prompt and what the judge found of each."""

    prompt: InstructionPrompt
    responses: tuple[str, ...]
    judgements: tuple[Judgement, ...]

    def of_label(self, label: int) -> list[int]:
        """Numbers of the responses with a label: 1, 0, or -1 for no majority."""
        return [i for i, one in enumerate(self.judgements) if one.label == label]


def preference_row(prompt: InstructionPrompt, chosen: str, rejected: str) -> Row:
    """One pair in TRL's conversational preference format."""
    return {
        "prompt": [dict(m) for m in prompt.messages],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def refinement_pairs(prompts: Mapping[str, InstructionPrompt], results: Mapping[str, SearchResult]) -> list[Row]:
    """A pair for every successful search: its final response, and the response that it began with (not the parent)."""
    return [
        preference_row(prompts[name], one.best_response, one.root.response)
        for name, one in results.items()
        if one.success and one.best.number != 0
    ]


def independent_pairs(judged: Sequence[Judged], seed: int = 0) -> list[Row]:
    """The ablation without refinement: a passing and a failing sample of the same prompt, both drawn at random."""
    check_seed("seed", seed)
    rows = []
    for one in judged:
        rng = prompt_rng(seed, one.prompt.id, "independent")
        good, bad = one.of_label(1), one.of_label(0)
        if good and bad:
            chosen, rejected = (one.responses[int(rng.choice(which))] for which in (good, bad))
            rows.append(preference_row(one.prompt, chosen, rejected))
    return rows


def similarity(rows: Sequence[Row]) -> np.ndarray:
    """Difflib's ratio of chosen and rejected in each pair, float64 ``[pairs]``."""
    found = [
        difflib.SequenceMatcher(None, r["rejected"][0]["content"], r["chosen"][0]["content"], autojunk=False).ratio()
        for r in rows
    ]
    return np.array(found, dtype=np.float64)


def refiner_rows(
    prompts: Mapping[str, InstructionPrompt],
    judged: Sequence[Judged],
    results: Mapping[str, SearchResult],
    caps: RefinerCaps | None = None,
    seed: int = 0,
) -> list[Row]:
    """Chats (``messages``) for the refiner: refinements, and judgements that were not unanimous.

    Refinements are built on the parent of the final response, with the refiner's whole reply as target. Of each
    tree one uncertain pass (0.5 < value < 1) and one uncertain fail (0 < value < 0.5) are drawn. Judgements of the same
    prompt and response are kept once, the first kind first; then all are shuffled.
    """
    check_seed("seed", seed)
    caps = caps or RefinerCaps()
    repairs: list[Row] = []
    tree_good: list[Row] = []
    tree_bad: list[Row] = []
    for name, one in results.items():
        prompt, parent = prompts[name], one.parent_of_best
        if one.success and parent is not None:
            turns = refine_chat(prompt, parent.response, parent.critique)
            repairs.append({"messages": [*turns, {"role": "assistant", "content": one.best.reply}]})
        rng = prompt_rng(seed, name, "judgements")
        children = one.tree[1:]
        for kept, low, high in ((tree_good, 0.5, 1.0), (tree_bad, 0.0, 0.5)):
            unsure = [node for node in children if low < node.value < high]
            if unsure:
                kept.append(_judgement(prompt, _drawn(unsure, rng)))
    first_good: list[Row] = []
    first_bad: list[Row] = []
    for stage in judged:
        for response, judgement in zip(stage.responses, stage.judgements, strict=True):
            if judgement.divided and judgement.value is not None:
                kept = first_good if judgement.label == 1 else first_bad
                kept.append(_judgement_row(stage.prompt, response, judgement.critique))
    kinds = [
        (tree_good, caps.tree_passes),
        (tree_bad, caps.tree_fails),
        (first_bad, caps.first_fails),
        (first_good, caps.first_passes),
    ]
    seen: set[str] = set()
    found = repairs[: caps.refinements]
    for rows, cap in kinds:
        new: list[Row] = []
        for row in rows:
            asked = row["messages"][0]["content"]
            if asked not in seen and len(new) < cap:
                seen.add(asked)
                new.append(row)
        found += new
    return [found[i] for i in np.random.default_rng(seed).permutation(len(found))]


def _drawn(nodes: Sequence[Node], rng: np.random.Generator) -> Node:
    return nodes[int(rng.integers(len(nodes)))]


def _judgement(prompt: InstructionPrompt, node: Node) -> Row:
    return _judgement_row(prompt, node.response, node.critique)


def _judgement_row(prompt: InstructionPrompt, response: str, critique: str) -> Row:
    return {"messages": [*judge_chat(prompt, response), {"role": "assistant", "content": critique}]}


def prompt_rng(seed: int, name: str, purpose: str) -> np.random.Generator:
    """A generator that depends on the seed, the prompt's id and the purpose, not on the other prompts."""
    key = zlib.crc32(f"{name}\0{purpose}".encode("utf-8", "surrogatepass"))
    return np.random.default_rng([seed, key])
