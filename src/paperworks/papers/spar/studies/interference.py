"""What DPO learns from pairs that differ in the length of a text only, and from pairs that differ in its case, too; and
rounds of self-play on the same task, with and without the parts of the method. Three seeds.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.spar.search import TreeSearchRefiner
from paperworks.papers.spar.studies import letters
from paperworks.runs import Finding
from paperworks.training import Generated, Rows, TrainSettings, train

START = TrainSettings(steps=1500, batch_size=64, learning_rate=2e-3, schedule="cosine", device="cpu")
DPO = TrainSettings(steps=100, batch_size=32, learning_rate=3e-4, schedule="constant", device="cpu")
ROUNDS, ROUND_STEPS, DRAWS = 3, 20, 1
LOSSES = {"with the SFT term": 0.1, "DPO alone": 0.0}
"""The paper's loss, and the one of its experiment on interference as the specification has it."""
Pair = tuple[str, str, str]


def started(seed: int, fast: bool) -> Any:
    """The model after training on noisy data."""
    model = letters.make_model(seed)
    settings = replace(START, steps=60 if fast else START.steps, seed=seed)
    train(model, Generated(letters.noisy_batch), settings)
    return model


def preferred(model: Any, pairs: Sequence[Pair], steps: int, seed: int, sft_weight: float = 0.1) -> Any:
    """A copy of the model after so many steps of DPO with the paper's SFT term, or with another weight of it."""
    from paperworks.papers.spar.examples import pad_pairs
    from paperworks.papers.spar.loss import preference_training_loss

    tuned = copy.deepcopy(model)
    if not pairs:
        return tuned
    rows = letters.pair_rows(model, pairs)
    settings = replace(DPO, steps=steps, batch_size=min(DPO.batch_size, len(rows)), seed=seed)
    train(
        tuned, Rows(rows, collate=pad_pairs), settings, loss=preference_training_loss(beta=0.1, sft_weight=sft_weight)
    )
    return tuned


def imitated(model: Any, pairs: Sequence[Pair], steps: int, seed: int) -> Any:
    """A copy of the model after so many steps of SFT on the chosen responses (as in SELF)."""
    from paperworks.papers.spar.examples import pad_rows

    tuned = copy.deepcopy(model)
    if not pairs:
        return tuned
    rows = [letters.encode(prompt, chosen) for prompt, chosen, _ in pairs]
    settings = replace(DPO, steps=steps, batch_size=min(DPO.batch_size, len(rows)), seed=seed)
    train(tuned, Rows(rows, collate=pad_rows), settings)
    return tuned


@runs.study(
    claims=["interfering-factors", "instruction-following-improves", "ablations"],
    title="a model of letters: what pairs teach, rounds of self-play, and what each part of the method brings",
    minutes=6,
)
def letters_in_miniature(run: runs.Run, fast: bool) -> Iterator[Finding]:
    taught: dict[str, list[tuple[float, float]]] = {}
    curves: list[list[float]] = []
    ends: dict[str, list[float]] = {}
    for seed in run.progress(range(2 if fast else 3), "seeds"):
        model = started(seed, fast)
        _teach(model, seed, fast, taught)
        curves.append(_play(model, seed, fast, ends))
    yield from _interference({name: np.array(values) for name, values in taught.items()})
    yield from _rounds(np.array(curves), ends)


def _teach(model: Any, seed: int, fast: bool, taught: dict[str, list[tuple[float, float]]]) -> None:
    """DPO on each kind of pairs, with and without the SFT term: (right lengths, capitals) before and after."""
    rng = np.random.default_rng([seed, 5])
    taught.setdefault("start", []).append(letters.measure(model, seed))
    for name in ("refinement", "interfering", "independent"):
        given = letters.pairs(name, 100 if fast else 2000, rng)
        for kind, weight in LOSSES.items():
            tuned = preferred(model, given, 5 if fast else DPO.steps or 100, seed, weight)
            taught.setdefault(f"{name}, {kind}", []).append(letters.measure(tuned, seed))


def _play(first: Any, seed: int, fast: bool, ends: dict[str, list[float]]) -> list[float]:
    """Right lengths before and after each round; those of the variants after all rounds go into ``ends``."""
    size, draws, steps = (12, 1, 3) if fast else (100, DRAWS, ROUND_STEPS)

    def after(kind: str, tune: Any, note: list[float] | None = None) -> float:
        model = first
        for number in range(ROUNDS):
            model = tune(model, played(model, draws, kind, 10 * seed + number, size), steps, seed)
            if note is not None:
                note.append(letters.measure(model, seed)[0])
        return letters.measure(model, seed)[0]

    curve = [letters.measure(first, seed)[0]]
    after("search", preferred, curve)
    for name, kind, tune in (
        ("without tree search", "one repair", preferred),
        ("without refinement", "independent", preferred),
        ("SFT on repairs", "search", imitated),
    ):
        ends.setdefault(name, []).append(after(kind, tune))
    at_once = [pair for n in range(ROUNDS) for pair in played(first, draws, "search", 10 * seed + n, size)]
    tuned = preferred(first, at_once, ROUNDS * steps, seed)
    ends.setdefault("without rounds", []).append(letters.measure(tuned, seed)[0])
    return curve


def _interference(taught: dict[str, np.ndarray]) -> Iterator[Finding]:
    detail = "; ".join(
        f"{name}: right length {_listed(values[:, 0])}, capitals {_listed(values[:, 1])}"
        for name, values in taught.items()
    )
    detail = f"600 sampled responses a seed after 100 steps; {detail}"
    for loss in LOSSES:
        yield from _interference_of(loss, taught, detail)


def _interference_of(loss: str, taught: dict[str, np.ndarray], detail: str) -> Iterator[Finding]:
    claim = "interfering-factors"
    refined, interfering = (taught[f"{name}, {loss}"] for name in ("refinement", "interfering"))
    yield Finding(
        claim,
        f"Right length after refined pairs less after interfering pairs, {loss}.",
        "empirical",
        mean_interval(refined[:, 0] - interfering[:, 0], unit="seeds"),
        ">=",
        0.15,
        baseline=float(interfering[:, 0].mean()),
        baseline_name="interfering pairs",
        detail=detail,
    )
    yield Finding(
        claim,
        f"Right length after refined pairs less before, {loss}.",
        "empirical",
        mean_interval(refined[:, 0] - taught["start"][:, 0], unit="seeds"),
        ">",
        0.15,
        baseline=float(taught["start"][:, 0].mean()),
        baseline_name="before DPO",
    )
    for values, words, relation, bound in ((interfering, "interfering", ">", 0.9), (refined, "refined", "<", 0.8)):
        yield Finding(
            claim,
            f"Share of capitals after {words} pairs, {loss}.",
            "empirical",
            mean_interval(values[:, 1], unit="seeds"),
            relation,  # type: ignore[arg-type]
            bound,
            baseline=float(taught["start"][:, 1].mean()),
            baseline_name="before DPO",
        )


def _listed(values: Iterable[float]) -> str:
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
            (r["prompt"][0]["content"], r["chosen"][0]["content"] + "$", ended(r["rejected"][0]["content"]))
            for r in rows
        ]
    return found


def ended(text: str) -> str:
    """A response as characters of the task; one that was cut off has no end."""
    return text[:-1] if text.endswith("!") else f"{text}$"


def _rounds(table: np.ndarray, ends: dict[str, list[float]]) -> Iterator[Finding]:
    detail = f"right lengths by round, mean of seeds: {_listed(table.mean(0))}; after three rounds, " + "; ".join(
        f"{name} {_listed(values)}" for name, values in {"full": table[:, -1].tolist(), **ends}.items()
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
