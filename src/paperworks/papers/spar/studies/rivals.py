"""Rivals of self-play on the letters, each with as many generated responses as the full method took. Three seeds."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.spar.search import TreeSearchRefiner
from paperworks.papers.spar.selfplay import RoundResult, SelfPlay
from paperworks.papers.spar.studies import letters
from paperworks.papers.spar.studies.interference import ROUND_STEPS, ROUNDS, Pair, ended, imitated, preferred, started
from paperworks.runs import Finding

BUDGET = 15
"""Repairs of a failing response, at most: those of the tree."""
RIVALS = (
    "DPO on independent samples (as in Self-Rewarding)",
    "SFT on samples that pass (rejection sampling, as in AutoIF)",
    "SFT on repairs without a tree (as in SELF)",
    "DPO on repairs without a tree",
)
FULL = "full method"


@runs.study(
    claims=["instruction-following-improves"],
    title="a model of letters: rivals at an equal number of generated responses",
    minutes=4,
)
def letters_rivals(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Three rounds of each method from the same first model; the judge, the editor and the prompts are the same."""
    ends: dict[str, list[float]] = {}
    spent: dict[str, list[int]] = {}
    for seed in run.progress(range(2 if fast else 3), "seeds"):
        first = started(seed, fast)
        budgets = _follow(FULL, first, seed, fast, None, ends)
        spent.setdefault(FULL, []).append(sum(budgets))
        for name in RIVALS:
            spent.setdefault(name, []).append(sum(_follow(name, first, seed, fast, budgets, ends)))
    full = np.array(ends[FULL])
    shown = "; ".join(f"{name} {_listed(values)} ({np.mean(spent[name]):.0f})" for name, values in ends.items())
    for name in RIVALS:
        yield Finding(
            "instruction-following-improves",
            f"Letters, right lengths after three rounds, as many generated responses: the full method less {name}.",
            "empirical",
            mean_interval(full - np.array(ends[name]), unit="seeds"),
            ">",
            0.0,
            baseline=float(np.mean(ends[name])),
            baseline_name=name,
            detail=f"right lengths by seed (generated responses in all rounds, mean): {shown}. A rival that samples "
            "has no fewer responses than the full method; one that repairs has at most as many for each prompt",
        )


def _follow(
    name: str, first: Any, seed: int, fast: bool, budgets: list[int] | None, ends: dict[str, list[float]]
) -> list[int]:
    """All rounds of a method; the right lengths at the end go into ``ends``. Returns generated responses by round."""
    prompts, steps = (12, 3) if fast else (100, ROUND_STEPS)
    model, spent = first, []
    for number in range(ROUNDS):
        draws = 5 if budgets is None or "repairs" in name else -(-budgets[number] // prompts)
        result = _round(name, model, 10 * seed + number, prompts, draws)
        repairs = 0 if "samples" in name else sum(one.n_generated for one in result.results.values())
        spent.append(repairs + sum(len(one.responses) for one in result.judged))
        tune: Callable[[Any, list[Pair], int, int], Any] = imitated if name.startswith("SFT") else preferred
        model = tune(model, _examples(name, result), steps, seed)
    ends.setdefault(name, []).append(letters.measure(model, seed)[0])
    return spent


def _round(name: str, model: Any, seed: int, prompts: int, draws: int) -> RoundResult:
    """One round: drafts, and searches where the method repairs."""
    own = 1000 * seed
    editor, judge = letters.LetterEditor(own), letters.LetterJudge()
    search = TreeSearchRefiner(editor, judge, budget=BUDGET)
    if name != FULL:
        search = replace(search, branch=1, select=1, max_depth=BUDGET if "repairs" in name else 1)
    game = SelfPlay(
        letters.LetterActor(model),
        editor,
        letters.letter_prompts(prompts, np.random.default_rng(own)),
        judge,
        search,
        responses=draws,
        temperature=1.0,
        top_p=1.0,
        max_new_tokens=letters.ROOM,
        pair_kind="independent" if "samples" in name else "refinement",
        together=1000,
        seed=own,
    )
    with tempfile.TemporaryDirectory() as folder:
        return game.run_iteration(Path(folder))


def _examples(name: str, result: RoundResult) -> list[Pair]:
    """(prompt, chosen, rejected); SFT looks at the chosen ones only."""
    if name.startswith("SFT on samples"):
        return [
            (one.prompt.text, one.responses[one.of_label(1)[0]] + "$", "$") for one in result.judged if one.of_label(1)
        ]
    rows = result.independent if "samples" in name else result.pairs
    return [
        (r["prompt"][0]["content"], r["chosen"][0]["content"] + "$", ended(r["rejected"][0]["content"])) for r in rows
    ]


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)
