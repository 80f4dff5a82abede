"""The arms of the method on the shape world, three seeds each: names, distillation, two stages.

Every arm starts from the bundled trunk, sees the same scenes in the same order and has the same losses but its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from paperworks.metrics import mean_interval
from paperworks.papers.gkc.fitting import Distillation, Diversification, fit_segmenter
from paperworks.papers.gkc.prediction import accuracy_of, semantic_maps
from paperworks.papers.gkc.segmenter import GKCForOpenVocabularySegmentation
from paperworks.papers.gkc.segments import Scene
from paperworks.papers.gkc.shape_world import (
    BASE,
    COMBINATIONS,
    EVERY,
    TRAINED,
    held_out_name,
    make_scenes,
    synonyms_of,
)
from paperworks.papers.gkc.starting import bundled_towers, new_segmenter
from paperworks.papers.gkc.synonyms import SynonymTable
from paperworks.papers.gkc.towers import Towers
from paperworks.papers.gkc.training_data import RegionVectors, region_vectors
from paperworks.papers.gkc.two_stage import two_stage_maps
from paperworks.papers.gkc.world_scores import scene_sets, score
from paperworks.runs import Finding, Run, study
from paperworks.runs.files import write_text
from paperworks.training import TrainSettings

SEEDS, STEPS, SCENES, TESTS, BATCH = 3, 400, 1000, 40, 16
RATE, POINTS = 1e-3, 128
LOOKS = 4
"""Times that an arm is measured while it trains, at equal distances."""


@dataclass(frozen=True)
class Arm:
    """How an arm trains, and whether the two-stage way is measured on its masks."""

    diversification: Diversification
    distillation: Distillation
    two_stage: bool = False


ARMS: Mapping[str, Arm] = {
    "plain": Arm("off", "off", two_stage=True),
    "synonyms": Arm("threshold", "off", two_stage=True),
    "both": Arm("threshold", "distance"),
}
"""Synonyms are text diversification; both is the paper's method."""

Sets = tuple[list[Scene], list[Scene]]
MEASURES = ("base", "novel", "base, other names", "harmonic", "two stages, base", "two stages, novel")


@study(
    claims=[
        "open-vocabulary-accuracy",
        "seen-classes-kept",
        "text-diversification",
        "distillation-forms",
        "diversification-helps-others",
    ],
    title="Three arms on the shape world, three seeds",
    minutes=12,
)
def shape_world(run: Run, fast: bool) -> Iterator[Finding]:
    """Mean IoU of base and of novel shapes, with their own names and with names that no training saw.

    Base scenes are read with the trained names, novel scenes with the novel ones and the backgrounds; the harmonic mean
    is of scenes with all shapes, where all 18 names compete.
    """
    seeds = range(2 if fast else SEEDS)
    found: dict[str, dict[str, list[float]]] = {name: {measure: [] for measure in MEASURES} for name in ARMS}
    curves: dict[str, list[list[list[float]]]] = {name: [] for name in ARMS}
    for seed in seeds:
        measured = measure_seed(run, seed, fast)
        for name, row in measured.items():
            for measure, value in row.items():
                found[name][measure].append(value)
            curves[name].append(_curve(run, seed, name))
    means = {name: np.array(rows).mean(0) for name, rows in curves.items()}
    yield from _findings({name: {m: np.array(v) for m, v in row.items()} for name, row in found.items()}, means)


def measure_seed(run: Run, seed: int, fast: bool = False) -> dict[str, dict[str, float]]:
    """Mean IoU of every arm by measure; what a run was stopped after is not measured again."""
    file = run.state / f"shapes-{seed}.json"
    done: dict[str, dict[str, float]] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    towers = bundled_towers()
    train = make_scenes(24 if fast else SCENES, 10_000 + seed, BASE)
    tests = 10 if fast else TESTS
    sets = scene_sets(tests, 20_000 + 2 * seed)
    mixed = make_scenes(tests, 30_000 + seed, COMBINATIONS, EVERY)
    regions = region_vectors(train, towers)
    for name, arm in ARMS.items():
        if name not in done:
            run.step(f"shape world, seed {seed}: {name}")
            model = _fitted(run, name, train, towers, regions, seed, 4 if fast else STEPS, sets)
            done[name] = _measured(model, arm, towers, sets, mixed)
            write_text(file, json.dumps(done))
    return done


def _curve_file(run: Run, seed: int, name: str) -> Path:
    return run.state / f"curve-{seed}-{name}.json"


def _curve(run: Run, seed: int, name: str) -> list[list[float]]:
    """Steps, base and novel mean IoU each time that an arm was measured."""
    file = _curve_file(run, seed, name)
    rows: list[list[float]] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    return rows


def _fitted(
    run: Run,
    name: str,
    scenes: list[Scene],
    towers: Towers,
    regions: RegionVectors,
    seed: int,
    steps: int,
    sets: Sets,
) -> GKCForOpenVocabularySegmentation:
    model = new_segmenter(seed=seed)
    settings = TrainSettings(
        steps=steps,
        batch_size=BATCH,
        learning_rate=RATE,
        weight_decay=0.05,
        clip_norm=1.0,
        warmup_steps=min(10, steps // 4),
        checkpoint_every=50,
        device="cpu",
        seed=seed,
    )

    def look(step: int, loss: float, rate: float) -> None:
        if step % (steps // LOOKS) == 0:
            copy = deepcopy(model)  # a vocabulary is part of the model
            rows = [row for row in _curve(run, seed, name) if row[0] < step]
            write_text(_curve_file(run, seed, name), json.dumps([*rows, [step, *score(copy, towers, sets)]]))

    fit_segmenter(
        model,
        scenes,
        SynonymTable({name: tuple(synonyms_of(name)) for name in TRAINED}),
        towers,
        settings,
        diversification=ARMS[name].diversification,
        distillation=ARMS[name].distillation,
        points=POINTS,
        backbone_rate=1.0,
        regions=regions,
        checkpoint_dir=run.state / f"training-{seed}-{name}",
        progress=run.progress,
        on_step=look,
    )
    return model


def _measured(
    model: GKCForOpenVocabularySegmentation, arm: Arm, towers: Towers, sets: Sets, mixed: list[Scene]
) -> dict[str, float]:
    row: dict[str, float] = {}
    row["base"], row["novel"] = score(model, towers, sets)
    row["base, other names"], _ = score(model, towers, sets, held_out_name)
    model.set_vocabulary(list(EVERY), towers.encode_text)
    guess = semantic_maps(model, [scene.image for scene in mixed])
    seen, unseen = range(len(BASE)), range(len(TRAINED), len(EVERY))
    row["harmonic"] = accuracy_of(guess, mixed, len(EVERY), seen, unseen).harmonic
    if arm.two_stage:
        maps = partial(two_stage_maps, towers=towers)
        row["two stages, base"], row["two stages, novel"] = score(model, towers, sets, maps=maps)
    return row


def _findings(found: Mapping[str, Mapping[str, np.ndarray]], curves: Mapping[str, np.ndarray]) -> Iterator[Finding]:
    plain, both, synonyms = found["plain"], found["both"], found["synonyms"]
    drop = {name: found[name]["base"] - found[name]["base, other names"] for name in ("plain", "synonyms")}
    yield Finding(
        "text-diversification",
        "names that no training saw: the fall of the base classes' mean IoU with synonyms, less 0.7 times that without",
        "empirical",
        mean_interval(drop["synonyms"] - 0.7 * drop["plain"]),
        "<=",
        0,
        baseline=float(drop["plain"].mean()),
        baseline_name="fall without synonyms",
        detail=f"fall with synonyms {drop['synonyms'].mean():.3f}; mean IoU with such names "
        f"{_mean(synonyms, 'base, other names')} against {_mean(plain, 'base, other names')} without",
    )
    yield _gain("text-diversification", "synonyms in training against plain names", synonyms, plain, "novel", 0, ">")
    yield _gain(
        "open-vocabulary-accuracy",
        "synonyms and text-guided distillation, alone at test time, against the two-stage way with the plain student",
        both,
        plain,
        "novel",
        0,
        ">",
        "two stages, novel",
    )
    statement = "synonyms and distillation against plain"
    detail = "; ".join(f"{name}: {_in_words(curves[name][:, [0, 2]])}" for name in ("plain", "synonyms", "both"))
    yield _gain("open-vocabulary-accuracy", statement, both, plain, "novel", 0, ">=", detail=detail)
    yield _gain("open-vocabulary-accuracy", statement, both, plain, "harmonic", 0, ">")
    yield _gain("seen-classes-kept", "synonyms and distillation against plain", both, plain, "base", -0.02, ">=")
    yield _gain(
        "seen-classes-kept",
        "synonyms and distillation, alone at test time, against the two-stage way with the plain student",
        both,
        plain,
        "base",
        0,
        ">",
        "two stages, base",
    )
    statement = "text-guided distillation added to synonyms against synonyms alone"
    yield _gain("distillation-forms", statement, both, synonyms, "novel", 0, ">")
    yield _gain(
        "diversification-helps-others",
        "the two-stage way on a student with synonyms against one without",
        synonyms,
        plain,
        "two stages, novel",
        0,
        ">",
    )


def _gain(
    claim: str,
    statement: str,
    ours: Mapping[str, np.ndarray],
    theirs: Mapping[str, np.ndarray],
    measure: str,
    bound: float,
    relation: str,
    other_measure: str = "",
    detail: str = "",
) -> Finding:
    what = "mean IoU of novel shapes" if measure == "novel" else "mean IoU of base shapes"
    if "two stages" in measure:
        what = f"mean IoU of {measure.split()[-1]} shapes"
    if measure == "harmonic":
        what = "harmonic mean of base and novel shapes' mean IoU where all 18 names compete"
    other = theirs[other_measure or measure]
    return Finding(
        claim,
        f"{statement}: difference of the {what}",
        "empirical",
        mean_interval(ours[measure] - other),
        relation,  # type: ignore[arg-type]
        bound,
        baseline=float(other.mean()),
        baseline_name="the latter's",
        detail=f"{ours[measure].mean():.3f}" + (f"; while training, {detail}" if detail else ""),
    )


def _mean(row: Mapping[str, np.ndarray], measure: str) -> str:
    return f"{row[measure].mean():.3f}"


def _in_words(curve: np.ndarray) -> str:
    return ", ".join(f"{value:.2f} after {step:.0f}" for step, value in curve)
