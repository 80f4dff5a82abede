"""ProcX trained on simulated videos: what it learns, what its score says, and what pre-training is worth.

Sizes are those that the processor of a laptop bears: d = 64 in place of 128 (the paper: 512), 240 videos in place of
400, and 20 epochs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.sieve_swap.evaluation import evaluate
from paperworks.papers.sieve_swap.procedures import KnowledgeBase
from paperworks.papers.sieve_swap.procx import ProcX
from paperworks.papers.sieve_swap.segments import temporal_iou
from paperworks.papers.sieve_swap.settings import ProcXConfig
from paperworks.papers.sieve_swap.sieve import SieveSwap, bundled_irrelevant
from paperworks.papers.sieve_swap.simulation import simulate_features, simulate_videos, truth_of, uniform_steps
from paperworks.papers.sieve_swap.steps_dataset import StepDataset
from paperworks.papers.sieve_swap.studies.sieving import some_recipes
from paperworks.runs import Finding
from paperworks.runs.files import write_text
from paperworks.training import TrainSettings

SEEDS = 3
THRESHOLDS = (0.3, 0.5, 0.7)
RECIPES, TRAINING, TEST, FEW = 300, 240, 60, 40
CONFIG = ProcXConfig(
    dim=64,
    heads=4,
    levels=3,
    encoder_layers=1,
    decoder_layers=1,
    feed_forward=128,
    queries=20,
    positions=64,
    caption_layers=1,
    most_tokens=16,
    vocabulary=1200,
    contrastive_dim=64,
)
SETTINGS = TrainSettings(
    epochs=20,
    batch_size=16,
    learning_rate=1e-3,
    betas=(0.9, 0.999),
    weight_decay=1e-4,
    clip_norm=1.0,
    schedule="cosine",
    device="cpu",
)

Scores = dict[str, dict[str, float]]


class World:
    """Videos of one seed: for training and for testing, of different recipes, with features."""

    def __init__(self, seed: int, fast: bool) -> None:
        from paperworks.embedding import sentence_encoder

        self.seed, self.fast = seed, fast
        encoder = sentence_encoder(required=True)
        drawn = some_recipes(200 + seed, 40 if fast else RECIPES)
        order = np.random.default_rng([seed, 10]).permutation(len(drawn))
        cut = len(drawn) * 4 // 5
        self.recipes, others = [drawn[i] for i in order[:cut]], [drawn[i] for i in order[cut:]]
        chatter = bundled_irrelevant()
        self.videos = simulate_videos(self.recipes, 24 if fast else TRAINING, chatter, seed, prefix="train")
        held = simulate_videos(others, 6 if fast else TEST, chatter, seed + 50, prefix="test")
        self.training, self.test = truth_of(self.videos), truth_of(held)
        self.features = simulate_features(StepDataset({**self.training, **self.test}), encoder, seed)

    def train(
        self, config: ProcXConfig, dataset: StepDataset, before: StepDataset | None = None, **options: Any
    ) -> ProcX:
        """ProcX on a set, after another if there is one, with the seed of the world."""
        settings = replace(SETTINGS, seed=self.seed, **(options | ({"epochs": 1} if self.fast else {})))
        model = ProcX(config, settings=settings, device="cpu", seed=self.seed)
        return model.fit(dataset, self.features, pretrain=None if before is None else (before, self.features))

    def scores(self, model: ProcX) -> dict[str, float]:
        """Scores on the videos for testing, and Spearman's rank correlation of score and overlap over all queries."""
        from scipy.stats import spearmanr

        durations = {video: steps.duration for video, steps in self.test.items()}
        found = model.predict_all({video: self.features[video] for video in self.test}, durations)
        values, overlaps = [], []
        for video, steps in self.test.items():
            segments, score = model.scored_segments(self.features[video], steps.duration)
            overlaps += temporal_iou(segments, np.array(steps.timestamps)).max(1).tolist()
            values += score.tolist()
        return _scored(found, self.test) | {"spearman": float(spearmanr(values, overlaps).statistic)}


def _scored(found: Mapping[str, Any], truth: StepDataset) -> dict[str, float]:
    scores = evaluate(found, truth, ("f1", "soda_c", "cider"), scorer="token_f1", thresholds=THRESHOLDS)
    return {name: scores[name] for name in ("f1", "soda_c", "cider")}


def _kept(run: runs.Run, name: str, compute: Callable[[], Scores]) -> Scores:
    """What an earlier attempt of the study has measured, or what ``compute`` gives."""
    path = run.state / f"{name}.json"
    if path.is_file():
        stored: Scores = json.loads(path.read_text(encoding="utf-8"))
        return stored
    found = compute()
    write_text(path, json.dumps(found))
    return found


def _prediction_trial(seed: int, fast: bool) -> Scores:
    world = World(seed, fast)
    out = {}
    for kind in ("iou", "focal"):
        out[kind] = world.scores(world.train(replace(CONFIG, score=kind), world.training))
    common = Counter(t[0] for s in world.training.values() for t in s.sentences).most_common(1)[0][0]
    count = round(float(np.mean([len(s) for s in world.training.values()])))
    equal = {video: uniform_steps(s.duration, count, common) for video, s in world.test.items()}
    return out | {"equal": _scored(equal, world.test)}


@runs.study(claims=("state-of-the-art", "iou-aware-confidence"), title="ProcX on simulated videos", minutes=12)
def prediction(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Segments, captions and scores of ProcX beside equal parts, and beside the same model with a focal score."""
    seeds = run.progress(range(2 if fast else SEEDS), "seeds")
    rows = [_kept(run, f"prediction-{seed}", partial(_prediction_trial, seed, fast)) for seed in seeds]

    def values(kind: str, name: str) -> np.ndarray:
        return np.array([row[kind][name] for row in rows])

    size = "d = 64, 240 simulated videos, 20 epochs; tested on 60 videos of other recipes"
    yield Finding(
        "state-of-the-art",
        "F1 of the segments (overlaps 0.3, 0.5, 0.7) is higher than that of equal parts by 0.15",
        "empirical",
        mean_interval(values("iou", "f1") - values("equal", "f1")),
        ">=",
        0.15,
        baseline=float(values("equal", "f1").mean()),
        baseline_name="F1 of equal parts",
        detail=f"F1 {values('iou', 'f1').mean():.3f}; {size}",
    )
    yield Finding(
        "state-of-the-art",
        "SODA_c (token F1) is higher than with the commonest sentence in equal parts",
        "empirical",
        mean_interval(values("iou", "soda_c") - values("equal", "soda_c")),
        ">",
        0.0,
        baseline=float(values("equal", "soda_c").mean()),
        baseline_name="SODA_c of the baseline",
        detail=f"SODA_c {values('iou', 'soda_c').mean():.3f}",
    )
    yield Finding(
        "iou-aware-confidence",
        "rank correlation (Spearman) of score and overlap over all queries",
        "empirical",
        mean_interval(values("iou", "spearman")),
        ">",
        0.3,
        detail=size,
    )
    yield Finding(
        "iou-aware-confidence",
        "this rank correlation is higher than with focal targets",
        "empirical",
        mean_interval(values("iou", "spearman") - values("focal", "spearman")),
        ">",
        0.0,
        baseline=float(values("focal", "spearman").mean()),
        baseline_name="rank correlation with focal targets",
        detail=f"F1 with focal targets {values('focal', 'f1').mean():.3f}, IoU-aware {values('iou', 'f1').mean():.3f}",
    )


def _pretraining_trial(seed: int, fast: bool) -> Scores:
    world = World(seed + 20, fast)
    few = world.training.subset(list(world.training)[: 8 if fast else FEW])
    rest = [video.transcript for video in world.videos if video.id not in few]
    result = SieveSwap("minilm").fit(KnowledgeBase.of(world.recipes)).transform(rest)
    out = {}
    for name, before in (("scratch", None), ("raw", result.raw), ("swapped", result.swapped)):
        out[name] = world.scores(world.train(CONFIG, few, before, batch_size=8, epochs=12))
    return out


@runs.study(claims=("swap-beats-raw-speech",), title="What pre-training is worth", minutes=14)
def pretraining(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Fine-tuning on 40 videos: from scratch, after raw transcripts, and after the swapped steps at the same times."""
    seeds = run.progress(range(2 if fast else SEEDS), "seeds")
    rows = [_kept(run, f"pretraining-{seed}", partial(_pretraining_trial, seed, fast)) for seed in seeds]

    def values(kind: str, name: str) -> np.ndarray:
        return np.array([row[kind][name] for row in rows])

    size = "d = 64, 200 simulated videos before, 40 after, 12 epochs each"
    for name, other, words in (
        ("cider", "raw", "CIDEr-D after pre-training on swapped steps is at least that after the raw transcript"),
        ("f1", "scratch", "F1 after pre-training on swapped steps is at least that without pre-training"),
    ):
        every = ", ".join(f"{kind} {values(kind, name).mean():.3f}" for kind in ("scratch", "raw", "swapped"))
        yield Finding(
            "swap-beats-raw-speech",
            words,
            "empirical",
            mean_interval(values("swapped", name) - values(other, name)),
            ">=",
            0.0,
            baseline=float(values(other, name).mean()),
            baseline_name=f"{'CIDEr-D' if name == 'cider' else 'F1'}, {other}",
            detail=f"{every}; {size}",
        )
