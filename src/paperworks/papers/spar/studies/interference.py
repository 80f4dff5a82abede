"""What DPO learns from pairs that differ in the length of a text only, and from pairs that differ in its case, too; and
rounds of self-play on the same task, with and without the parts of the method. Three seeds.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.metrics import Interval, mean_interval
from paperworks.papers.spar.search import TreeSearchRefiner
from paperworks.papers.spar.studies import letters
from paperworks.runs import Finding
from paperworks.training import Generated, Rows, TrainSettings, train

START = TrainSettings(steps=1500, batch_size=64, learning_rate=2e-3, schedule="cosine", device="cpu")
DPO = TrainSettings(steps=100, batch_size=32, learning_rate=3e-4, schedule="constant", device="cpu")
ROUNDS, ROUND_STEPS, DRAWS = 3, 33, 4
Pair = tuple[str, str, str]


def started(seed: int, fast: bool) -> Any:
    """The model after training on noisy data."""
    model = letters.make_model(seed)
    settings = replace(START, steps=60 if fast else START.steps, seed=seed)
    train(model, Generated(letters.noisy_batch), settings)
    return model


def preferred(model: Any, pairs: Sequence[Pair], steps: int, seed: int) -> Any:
    """A copy of the model after so many steps of DPO, without the SFT term."""
    from paperworks.papers.spar.examples import pad_pairs
    from paperworks.papers.spar.loss import preference_training_loss

    rows = letters.pair_rows(model, pairs)
    tuned = copy.deepcopy(model)
    settings = replace(DPO, steps=steps, batch_size=min(DPO.batch_size, len(rows)), seed=seed)
    train(tuned, Rows(rows, collate=pad_pairs), settings, loss=preference_training_loss(beta=0.1, sft_weight=0.0))
    return tuned


def imitated(model: Any, pairs: Sequence[Pair], steps: int, seed: int) -> Any:
    """A copy of the model after so many steps of SFT on the chosen responses (as in SELF)."""
    from paperworks.papers.spar.examples import pad_rows

    tuned = copy.deepcopy(model)
    rows = [letters.encode(prompt, chosen) for prompt, chosen, _ in pairs]
    settings = replace(DPO, steps=steps, batch_size=min(DPO.batch_size, len(rows)), seed=seed)
    train(tuned, Rows(rows, collate=pad_rows), settings)
    return tuned


@runs.study(claims=["interfering-factors"], title="what DPO learns from refined and from interfering pairs", minutes=6)
def interference(run: runs.Run, fast: bool) -> Iterator[Finding]:
    names = ("refinement", "interfering", "independent")
    length: dict[str, list[float]] = {name: [] for name in ("start", *names)}
    case: dict[str, list[float]] = {name: [] for name in ("start", *names)}
    for seed in run.progress(range(2 if fast else 3), "seeds"):
        model = started(seed, fast)
        rng = np.random.default_rng([seed, 5])
        models = {"start": model}
        for name in names:
            given = letters.pairs(name, 100 if fast else 2000, rng)
            models[name] = preferred(model, given, 5 if fast else DPO.steps or 100, seed)
        for name, one in models.items():
            right, upper = letters.measure(one, seed)
            length[name].append(right)
            case[name].append(upper)
    detail = "; ".join(
        f"{name}: right length {_listed(length[name])}, capitals {_listed(case[name])}" for name in length
    )
    detail = f"600 sampled responses a seed after 100 steps of DPO; {detail}"

    def difference(a: str, b: str) -> Interval:
        return mean_interval(np.array(length[a]) - np.array(length[b]), unit="seeds")

    claim = "interfering-factors"
    yield Finding(
        claim,
        "Right length after refined pairs less after interfering pairs.",
        "empirical",
        difference("refinement", "interfering"),
        ">=",
        0.15,
        baseline=float(np.mean(length["interfering"])),
        baseline_name="interfering pairs",
        detail=detail,
    )
    yield Finding(
        claim,
        "Right length after refined pairs less before.",
        "empirical",
        difference("refinement", "start"),
        ">",
        0.15,
        baseline=float(np.mean(length["start"])),
        baseline_name="before DPO",
    )
    yield Finding(
        claim,
        "Share of capitals after interfering pairs.",
        "empirical",
        mean_interval(np.array(case["interfering"]), unit="seeds"),
        ">",
        0.9,
        baseline=float(np.mean(case["start"])),
        baseline_name="before DPO",
    )
    yield Finding(
        claim,
        "Share of capitals after refined pairs.",
        "empirical",
        mean_interval(np.array(case["refinement"]), unit="seeds"),
        "<",
        0.8,
        baseline=float(np.mean(case["start"])),
        baseline_name="before DPO",
    )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def played(model: Any, draws: int, kind: str, seed: int, prompts: int) -> list[Pair]:
    """The pairs of one round: searches, single repairs, or independent samples, from several draws of all prompts."""
    from paperworks.papers.spar.selfplay import SelfPlay

    depth = {"one repair": 1}.get(kind, 3)
    branch = {"one repair": 1}.get(kind, 3)
    found: list[Pair] = []
    for draw in range(draws):
        own = 1000 * seed + draw
        editor, judge = letters.LetterEditor(own), letters.LetterJudge()
        game = SelfPlay(
            letters.LetterActor(model),
            editor,
            letters.letter_prompts(prompts, np.random.default_rng(own)),
            judge,
            TreeSearchRefiner(editor, judge, branch=branch, max_depth=depth),
            temperature=1.0,
            top_p=1.0,
            max_new_tokens=letters.ROOM,
            together=1000,
            seed=own,
        )
        with tempfile.TemporaryDirectory() as folder:
            result = game.run_iteration(Path(folder))
        rows = result.independent if kind == "independent" else result.pairs
        found += [
            (r["prompt"][0]["content"], r["chosen"][0]["content"] + "$", _ended(r["rejected"][0]["content"]))
            for r in rows
        ]
    return found


def _ended(text: str) -> str:
    """A response as characters of the task; one that was cut off has no end."""
    return text[:-1] if text.endswith("!") else f"{text}$"


@runs.study(
    claims=["instruction-following-improves", "ablations"],
    title="rounds of self-play in miniature, and what each part of the method brings",
    minutes=6,
)
def rounds(run: runs.Run, fast: bool) -> Iterator[Finding]:
    by_round: list[list[float]] = []
    ends: dict[str, list[float]] = {}
    size = 12 if fast else 100
    draws = 1 if fast else DRAWS
    steps = 3 if fast else ROUND_STEPS
    for seed in run.progress(range(2 if fast else 3), "seeds"):
        first = started(seed, fast)
        curve = [letters.measure(first, seed)[0]]
        model = first
        for number in range(ROUNDS):
            model = preferred(model, played(model, draws, "search", 10 * seed + number, size), steps, seed)
            curve.append(letters.measure(model, seed)[0])
        by_round.append(curve)
        variants = {
            "without tree search": ("one repair", preferred),
            "without refinement": ("independent", preferred),
            "SFT on repairs": ("search", imitated),
        }
        for name, (kind, tune) in variants.items():
            model = first
            for number in range(ROUNDS):
                model = tune(model, played(model, draws, kind, 10 * seed + number, size), steps, seed)
            ends.setdefault(name, []).append(letters.measure(model, seed)[0])
        at_once = [
            pair for number in range(ROUNDS) for pair in played(first, draws, "search", 10 * seed + number, size)
        ]
        ends.setdefault("without rounds", []).append(
            letters.measure(preferred(first, at_once, ROUNDS * steps, seed), seed)[0]
        )
    table = np.array(by_round)
    detail = f"right lengths by round, mean of seeds: {_listed(table.mean(0))}; after three rounds, " + "; ".join(
        f"{name} {_listed(values)}" for name, values in ends.items()
    )
    for number in range(1, ROUNDS + 1):
        yield Finding(
            "instruction-following-improves",
            f"Letters in miniature: right lengths after round {number} less before it.",
            "empirical",
            mean_interval(table[:, number] - table[:, number - 1], unit="seeds"),
            ">",
            0.0,
            baseline=float(table[:, number - 1].mean()),
            baseline_name=f"before round {number}",
            detail=detail,
        )
    yield from _against(table[:, -1], ends)


def _against(full: np.ndarray, ends: dict[str, list[float]]) -> Iterator[Finding]:
    for claim, names in (
        ("instruction-following-improves", ("SFT on repairs", "without refinement")),
        ("ablations", ("without tree search", "without rounds", "without refinement")),
    ):
        for name in names:
            other = np.array(ends[name])
            words = (
                "DPO on independent samples (as in Self-Rewarding)"
                if claim != "ablations" and "SFT" not in name
                else name
            )
            yield Finding(
                claim,
                f"Letters in miniature: right lengths after three rounds of the full method less those of: {words}.",
                "empirical",
                mean_interval(full - other, unit="seeds"),
                ">",
                0.0,
                baseline=float(other.mean()),
                baseline_name=words,
            )
