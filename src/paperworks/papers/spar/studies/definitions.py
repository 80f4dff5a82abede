"""The whole of the plumbing on real text: the bundled model writes glosses of WordNet's words under verifiable
instructions, a program repairs them with noise, and rules judge.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.language.generation import TransformersGenerator
from paperworks.metrics import mean_interval
from paperworks.papers.spar.examples import PLAIN_TEMPLATE
from paperworks.papers.spar.inference import compare_at_inference
from paperworks.papers.spar.judges import RuleJudge
from paperworks.papers.spar.pairs import similarity
from paperworks.papers.spar.prompts import InstructionPrompt
from paperworks.papers.spar.refiners import RuleEditor
from paperworks.papers.spar.scores import check_response
from paperworks.papers.spar.selfplay import SelfPlay
from paperworks.papers.spar.taxonomy import make_prompts
from paperworks.papers.spar.words import INSTRUCTIONS, word_seeds
from paperworks.runs import Finding

TOKENS, MOST = 20, 10


def _actor() -> TransformersGenerator:
    from paperworks.language import load_model

    model, tokenizer = load_model(None, "float32", "cpu")
    tokenizer.chat_template = PLAIN_TEMPLATE
    return TransformersGenerator(model, tokenizer, batch_size=64)


@runs.study(
    claims=["refined-pairs-are-more-alike", "search-at-inference"],
    title="pairs and search on glosses of WordNet's words",
    minutes=2,
)
def definitions(run: runs.Run, fast: bool) -> Iterator[Finding]:
    count = 10 if fast else 80
    prompts = make_prompts(word_seeds(count, run.seed), seed=run.seed, instructions=INSTRUCTIONS)
    actor, editor, judge = _actor(), RuleEditor(0.6, 0.1, run.seed), RuleJudge()
    game = SelfPlay(
        actor, editor, prompts, judge, max_new_tokens=TOKENS, together=16, seed=run.seed, progress=run.progress
    )
    with tempfile.TemporaryDirectory() as folder:
        result = game.run_iteration(Path(folder))
    by_text = {prompt.text: prompt for prompt in prompts}
    wrong = 0
    for row in result.pairs:
        prompt = by_text[row["prompt"][0]["content"]]
        good, bad = (all(check_response(prompt, row[side][0]["content"]).strict) for side in ("chosen", "rejected"))
        wrong += (not good) + bad
    claim = "refined-pairs-are-more-alike"
    yield Finding(
        claim,
        f"{len(result.pairs)} pairs of repaired and failed glosses: sides that the rules do not confirm (chosen fails, "
        "or rejected passes).",
        "exact",
        wrong if result.pairs else None,
        "==",
        0,
        unit="sides",
    )
    refined, independent = (_by_prompt(rows) for rows in (result.pairs, result.independent))
    both = [name for name in refined if name in independent]
    yield Finding(
        claim,
        "Similarity (difflib) of refined pairs less that of independent pairs of the same prompts.",
        "empirical",
        mean_interval([refined[name] - independent[name] for name in both], unit="prompts") if len(both) > 1 else None,
        ">",
        0.0,
        baseline=float(np.mean([independent[name] for name in both])) if both else None,
        baseline_name="independent pairs",
        detail=f"{len(both)} prompts with both; {len(refined)} refined pairs {np.mean(list(refined.values())):.3f}; "
        f"{len(independent)} independent ones {np.mean(list(independent.values())):.3f}; paper about 0.90 and 0.85",
    )
    yield from _inference(run, prompts, actor, editor, judge)


def _by_prompt(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The similarity of each pair, by its prompt."""
    return {row["prompt"][0]["content"]: float(value) for row, value in zip(rows, similarity(rows), strict=True)}


def _inference(
    run: runs.Run, prompts: list[InstructionPrompt], actor: TransformersGenerator, editor: RuleEditor, judge: RuleJudge
) -> Iterator[Finding]:
    found = compare_at_inference(prompts, actor, editor, judge, most=MOST, max_new_tokens=TOKENS, seed=run.seed + 1)
    passed = {name: np.array([one.passed for one in attempts], float) for name, attempts in found.attempts.items()}
    detail = ", ".join(f"{name} {values.mean():.3f}" for name, values in passed.items())
    for other in ("greedy", "best-of-N"):
        yield Finding(
            "search-at-inference",
            f"Glosses under instructions: share passed with breadth-first search less with {other}; at most {MOST} "
            "generated answers each.",
            "empirical",
            mean_interval(passed["bfs"] - passed[other], unit="prompts"),
            ">",
            0.0,
            baseline=float(passed[other].mean()),
            baseline_name=other,
            detail=f"{len(prompts)} prompts; {detail}; the refiner is a program, the actor the bundled model untuned",
        )
