"""Digits: training without separate layers, SISA without slices, an attack that guesses membership; many records.

The network and the options are those of ``studies/digits.py``.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from paperworks import classification, runs
from paperworks.metrics import mean_interval
from paperworks.papers.s3t.assignment import derived_seed
from paperworks.papers.s3t.bases import table_base
from paperworks.papers.s3t.evaluation import Decline, decline, full_fine_tuning, stage_logits, uniform_requests
from paperworks.papers.s3t.layers import Adapted
from paperworks.papers.s3t.sequences import Order
from paperworks.papers.s3t.simulation import simulate_deletions
from paperworks.papers.s3t.stages import fit_examples, plain_attention, shard_seed
from paperworks.papers.s3t.store import Folder
from paperworks.papers.s3t.studies.digits import LORA, SETTINGS, Set, digit_sets, digit_system
from paperworks.papers.s3t.system import S3T
from paperworks.papers.s3t.theory import deletion_rate
from paperworks.runs import Finding
from paperworks.training import TrainSettings

SEEDS = 3
SHARDS = 3
ATTACKED = 600
"""Records to train on in the attack, and as many that are never seen."""
CHANGED = 0.2
"""Share of their labels that are changed at random: what can only be known by heart."""


def _slices(system: S3T, count: int) -> np.ndarray:
    """Slice of every record of a system of one shard."""
    manifest = system.manifest
    return np.array([manifest.records[manifest.key(str(i))][1] for i in range(count)])


def _without_isolation(train: Set, test: Set, slices: np.ndarray, order: Order, settings: TrainSettings, seed: int):  # type: ignore[no-untyped-def]
    """Accuracy after every stage where all stages train the adapters of all layers."""
    adapted = Adapted(table_base(64, 10, layers=6, seed=seed).module, LORA)
    adapted.reset(shard_seed(seed, 0, 0))
    found = []
    for stage in range(1, len(order) + 1):
        rows = np.flatnonzero(np.isin(slices, order[:stage]))
        examples = {"inputs": train[0]["inputs"][rows]}
        if stage == 1:
            adapted.fit_statistics(examples)
        adapted.train_only(range(adapted.depth))
        own = replace(settings, seed=derived_seed(seed, 0, 0, order[:stage]))
        fit_examples(adapted.model, examples, train[1][rows], "classification", own)
        with plain_attention():
            found.append(float((classification.predict(adapted.model, test[0], device="cpu") == test[1]).mean()))
    return found


@runs.study(
    claims=["quality-encoders"], title="digits: stages that train a block each, or all layers each", minutes=0.5
)
def isolation(run: runs.Run, fast: bool) -> Iterator[Finding]:
    train, test = digit_sets(fast)
    settings = replace(SETTINGS, epochs=0.5) if fast else SETTINGS
    blocks, all_layers = [], []
    for seed in run.progress(range(2 if fast else SEEDS), "seeds"):
        system = digit_system(None, train, settings, seed, n_slices=3, budget=1)
        order = system.manifest.sequences[0][0].order
        logits = stage_logits(system, test[0])
        blocks.append([float((logits[0, order, d].argmax(1) == test[1]).mean()) for d in (1, 2, 3)])
        all_layers.append(_without_isolation(train, test, _slices(system, len(train[1])), order, settings, seed))
    own, other = np.array(blocks), np.array(all_layers)
    stages = "; ".join(
        f"{name}: {', '.join(f'{v:.3f}' for v in found.mean(0))}"
        for name, found in (("a block each", own), ("all layers each", other))
    )
    yield Finding(
        "quality-encoders",
        "Digits: accuracy of all stages less that of the same stages without separate layers, where each "
        "stage trains all adapters on, which may be 0.05 higher.",
        "empirical",
        mean_interval(own[:, 2] - other[:, 2]),
        ">",
        -0.05,
        baseline=float(other[:, 2].mean()),
        baseline_name="accuracy without separate layers",
        detail=f"accuracy after stages 1 to 3: {stages}. Without separate layers each stage keeps all adapters: three "
        "times the storage, and nothing can be cut off",
    )


@runs.study(
    claims=["deletion-rate", "deletion-rate-headline", "quality-under-deletions"],
    title="SISA without slices",
    minutes=1,
)
def unsliced(run: runs.Run, fast: bool) -> Iterator[Finding]:
    streams = 300 if fast else 4000
    without = simulate_deletions(5, 1, 1, streams=streams, rng=run.rng("without")).requests
    lives = simulate_deletions(5, 4, 4, streams=streams, rng=run.rng("with")).requests
    expected = deletion_rate(5, 1, 1)
    yield Finding(
        "deletion-rate",
        f"SISA without slices (m=5, L=1): distance of the mean of {streams:,} streams from m H_m, in standard errors.",
        "exact",
        float(abs(without.mean() - expected) / (without.std(ddof=1) / np.sqrt(streams))),
        "<=",
        4.0,
        detail=f"simulated {without.mean():.2f}, closed form {expected:.2f}; chance passes 4 once in 16,000",
    )
    yield Finding(
        "deletion-rate-headline",
        "m=5, L=4, B=4: simulated requests before a retraining, relative to SISA without slices.",
        "empirical",
        mean_interval(lives / without.mean(), unit="streams"),
        ">=",
        1.5,
        baseline=1.0,
        baseline_name="SISA without slices",
        detail=f"mean {lives.mean():.1f} and {without.mean():.1f}; closed forms "
        f"{deletion_rate(5, 4, 4):.1f} and {expected:.1f}",
    )
    gains: dict[int, list[float]] = {2: [], 4: [], 6: []}
    found: list[list[Decline]] = []
    for seed in run.progress(range(2 if fast else SEEDS), "seeds"):
        found.append(_declines(run, seed, fast))
        for number, gain in gains.items():
            sliced, _, plain = found[-1]
            gain.append(float((sliced.accuracy[:, number] - plain.accuracy[:, number]).mean()))
    curves = "; ".join(
        f"{name}: " + ", ".join(f"{v:.3f}" for v in np.mean([one[i].accuracy.mean(0) for one in found], axis=0)[:7])
        for i, name in enumerate(("S3T", "SISA", "SISA without slices"))
    )
    for number, gain in gains.items():
        plain_accuracy = float(np.mean([one[2].accuracy[:, number].mean() for one in found]))
        yield Finding(
            "quality-under-deletions",
            f"Digits, three shards, after {number} requests: accuracy of S3T less that of SISA without slices, mean of "
            "200 streams.",
            "empirical",
            mean_interval(gain),
            ">",
            0.0,
            baseline=plain_accuracy,
            baseline_name="accuracy of SISA without slices",
            detail=f"accuracy after 0 to 6 requests: {curves}" if number == 2 else "",
        )


def _declines(run: runs.Run, seed: int, fast: bool) -> list[Decline]:
    """Of S3T, of SISA (the first order) and of SISA without slices, under the same requests."""
    train, (test, truth) = digit_sets(fast)
    settings = replace(SETTINGS, epochs=0.5) if fast else SETTINGS
    system = digit_system(None, train, settings, seed, n_shards=SHARDS, n_slices=3)
    logits = stage_logits(system, test)
    orders = {s: [q.order for q in sequences] for s, sequences in enumerate(system.manifest.sequences)}
    requests = uniform_requests(SHARDS, 3, 200, 6, run.rng(f"requests {seed}"))
    whole: dict[tuple[int, Order, int], np.ndarray] = {}
    manifest = system.manifest
    places = np.array([manifest.records[manifest.key(str(i))][0] for i in range(len(train[1]))])
    for shard in range(SHARDS):
        rows = np.flatnonzero(places == shard)
        own = {"inputs": train[0]["inputs"][rows]}
        base = table_base(64, 10, layers=6, seed=seed).module
        adapted = full_fine_tuning(base, LORA, own, train[1][rows], settings, seed=seed)
        with plain_attention():
            whole[shard, (0,), 1] = classification.predict_logits(adapted.model, test, device="cpu")
    unsliced_requests = requests * np.array([1, 0])
    return [
        decline(logits, truth, orders, requests),
        decline(logits, truth, {s: chosen[:1] for s, chosen in orders.items()}, requests),
        decline(whole, truth, {s: [(0,)] for s in range(SHARDS)}, unsliced_requests),
    ]


@runs.study(claims=["exact-deletion"], title="digits: guessing who was trained on", minutes=0.7)
def membership(run: runs.Run, fast: bool) -> Iterator[Finding]:
    before: list[float] = []
    after: list[float] = []
    kept: list[float] = []
    for seed in run.progress(range(2 if fast else 5), "seeds"):
        for found, auc in zip((before, after, kept), _attack(seed, fast), strict=True):
            found.append(auc)
    about = (
        f"digits, {ATTACKED} records with {CHANGED:.0%} of the labels changed, 20 epochs a stage; records of the third "
        "slice against records never seen, told apart by the loss of the served model"
    )
    yield Finding(
        "exact-deletion",
        "Area under the curve of an attack that guesses by the loss which records were trained on: before the "
        "deletion it succeeds.",
        "empirical",
        mean_interval(before),
        ">",
        0.55,
        detail=f"{about}. A guess has 0.5",
    )
    yield Finding(
        "exact-deletion",
        "The same attack on the deleted records: as good as a guess.",
        "empirical",
        mean_interval(after),
        "<",
        0.55,
        baseline=float(np.mean(before)),
        baseline_name="area before the deletion",
        detail=f"on records of the slices that are served still {np.mean(kept):.3f}",
    )


def _attack(seed: int, fast: bool) -> tuple[float, float, float]:
    """Area under the curve: of the third slice before and after its deletion, and of the others after it."""
    from sklearn.metrics import roc_auc_score

    (x, y), (others, truth) = digit_sets()
    rng = np.random.default_rng([seed, 11])
    pixels, labels = np.concatenate([x["inputs"], others["inputs"]]), np.concatenate([y, truth])
    chosen = rng.permutation(len(labels))[: 2 * ATTACKED]
    codes = np.where(rng.random(2 * ATTACKED) < CHANGED, rng.integers(10, size=2 * ATTACKED), labels[chosen])
    inputs = torch.from_numpy(pixels[chosen])
    settings = replace(SETTINGS, epochs=1 if fast else 20)
    train = ({"inputs": inputs[:ATTACKED]}, codes[:ATTACKED])
    system = digit_system(None, train, settings, seed, n_slices=3, budget=1)
    slices = _slices(system, ATTACKED)
    last = system.manifest.sequences[0][0].order[2]

    def areas() -> tuple[float, float]:
        probabilities = system.predict_proba({"inputs": inputs})
        known = np.log(np.maximum(probabilities[np.arange(len(codes)), codes], 1e-12))
        own, other = known[:ATTACKED][slices == last], known[:ATTACKED][slices != last]
        never = known[ATTACKED:]
        return _area(roc_auc_score, own, never), _area(roc_auc_score, other, never)

    before, _ = areas()
    system.delete(np.flatnonzero(slices == last).tolist())
    return before, *areas()


def _area(score, members: np.ndarray, others: np.ndarray) -> float:  # type: ignore[no-untyped-def]
    truth = np.repeat([1, 0], [len(members), len(others)])
    return float(score(truth, np.concatenate([members, others])))


@runs.study(claims=["one-deletion-time"], title="the time of a deletion, and the number of records", minutes=0.2)
def many_records(run: runs.Run, fast: bool) -> Iterator[Finding]:
    few, many = 1_000, 10_000 if fast else 100_000
    train, _ = digit_sets(fast=True)
    ratios, times = [], []
    with tempfile.TemporaryDirectory() as place:
        folders = {}
        for count in (few, many):
            folders[count] = Path(place) / str(count)
            system = digit_system(folders[count], train, replace(SETTINGS, epochs=0.2), 0, n_shards=2, n_slices=3)
            manifest = system.manifest
            others = {hashlib.sha256(b"%d" % i).hexdigest()[:32]: (i % 2, i % 3) for i in range(count)}
            system.folder.commit(manifest.model_copy(update={"records": {**others, **manifest.records}}))
            system.folder.recover()
        for number in run.progress(range(4 if fast else 20), "deletions"):
            took: dict[int, float] = {}
            for count in (few, many) if number % 2 else (many, few):
                copied = Path(shutil.copytree(folders[count], Path(place) / "copy"))
                started = time.perf_counter()
                Folder(copied).delete([str(number)])
                took[count] = (time.perf_counter() - started) * 1000
                shutil.rmtree(copied)
            ratios.append(took[many] / took[few])
            times.append(took[many])
    yield Finding(
        "one-deletion-time",
        f"Time of a deletion among {many:,} records, relative to one among {few:,}, in turn.",
        "empirical",
        mean_interval(ratios, unit="pairs of deletions"),
        "<",
        1.5,
        baseline=1.0,
        baseline_name=f"{few:,} records",
        detail=f"median {np.median(times):.1f} ms among {many:,}, with the erasure on the disk",
    )
