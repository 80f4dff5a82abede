"""Training a system on the user's records, and the report of what it serves and for how long."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from paperworks import runs
from paperworks.classification import take_rows
from paperworks.errors import InputError
from paperworks.metrics import Interval, wilson_interval
from paperworks.papers.s3t import figures
from paperworks.papers.s3t.actions import read_key
from paperworks.papers.s3t.config import Config
from paperworks.papers.s3t.evaluation import (
    accuracy_of,
    decline,
    full_fine_tuning,
    stage_logits,
    token_loss,
    uniform_requests,
)
from paperworks.papers.s3t.examples import Records, class_codes, read_records
from paperworks.papers.s3t.layers import Lora
from paperworks.papers.s3t.sequences import mean_pairwise_distance
from paperworks.papers.s3t.simulation import replay, simulate_deletions
from paperworks.papers.s3t.system import S3T
from paperworks.papers.s3t.theory import collector_mean, deletion_rate, deletion_rate_std
from paperworks.runs.files import write_text
from paperworks.training import TrainSettings

FOLDER = "s3t"
"""Name of the trained folder among the files of a run."""
MOST_LINES = 40
"""Sequences that the timeline shows."""


@dataclass
class _Split:
    train: np.ndarray
    test: np.ndarray
    codes: np.ndarray | None
    classes: tuple[str, ...]


def fit(config: Config, run: runs.Run) -> runs.Report:
    """Train shards, slices and sequences on records; measure what is served, and for how long."""
    run.step(f"reading {config.data}")
    records = read_records(config, run)
    split = _split(records, config)
    small = config.model is None and records.kind in ("images", "table")
    settings = TrainSettings(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate or (0.005 if small else 0.001),
        device=config.device,
        seed=config.seed % 2**32,
    )
    base = records.base(len(split.classes), config.seed % 2**32)
    fresh = copy.deepcopy(base.module)
    lora = Lora(config.rank, config.alpha, config.dropout)
    path = run.output(FOLDER)
    system = S3T(
        base,
        path,
        task="language" if records.kind == "language" else "classification",
        n_shards=config.shards,
        n_slices=config.slices,
        budget=config.sequences,
        layers_per_slice=config.layers_per_slice or "auto",
        peft_config=lora,
        settings=settings,
        aggregation=config.aggregation,
        selection=config.selection,
        order=config.blocks,
        seed=config.seed,
        key=read_key(config),
    )
    train = take_rows(records.examples, split.train)
    names = [records.ids[row] for row in split.train]
    run.step(
        f"training {config.shards} x {system.budget} sequences of {config.slices} slices on {len(names):,} records"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the notes are in the report
        system.fit(
            train,
            None if split.codes is None else split.codes[split.train],
            names,
            owners=None if records.owners is None else [records.owners[r] for r in split.train],
            risk=None if records.risk is None else records.risk[split.train],
            classes=split.classes,
            checkpoint_dir=run.state / "stages",
            extra=records.about,
            progress=run.progress,
        )
    run.step("one fine-tuning on all records, to compare with")
    full = full_fine_tuning(
        fresh,
        lora,
        train,
        None if split.codes is None else split.codes[split.train],
        settings,
        task=system.task,
        head=system.adapted.head,
        seed=settings.seed,
        checkpoint_dir=run.state / "full",
        progress=run.progress,
    )
    _write_records(run, records, split, system)
    test = take_rows(records.examples, split.test)
    if split.codes is None:
        return _language_report(config, run, records, system, full, test)
    return _report(config, run, records, system, full, test, split.codes[split.test], len(names))


def _split(records: Records, config: Config) -> _Split:
    """Held-out records and the others, stratified by class; held-out ones never touch the model."""
    from sklearn.model_selection import train_test_split

    codes, classes = (None, ()) if records.kind == "language" else class_codes(records.labels, config.data)
    rows = np.arange(len(records.ids))
    try:
        train, test = train_test_split(
            rows, test_size=config.test_size, stratify=codes, random_state=config.seed % 2**32
        )
    except ValueError as error:
        raise InputError("test_size", f"{config.test_size} ({error})", "a share with records of every class") from None
    return _Split(np.sort(train), np.sort(test), codes, classes)


def _write_records(run: runs.Run, records: Records, split: _Split, system: S3T) -> None:
    manifest = system.manifest
    held = set(split.test.tolist())
    rows = []
    for row, name in enumerate(records.ids):
        place: tuple[Any, Any] = (None, None) if row in held else manifest.records[manifest.key(name)]
        label = None if split.codes is None else split.classes[split.codes[row]]
        rows.append(
            {
                "row": row,
                "id": name,
                "label": label,
                "part": "held out" if row in held else "trained on",
                "shard": place[0],
                "slice": place[1],
            }
        )
    table = pd.DataFrame(rows).astype({"shard": "Int64", "slice": "Int64"})
    write_text(run.files / "records.csv", table.to_csv(index=False))


def _report(
    config: Config,
    run: runs.Run,
    records: Records,
    system: S3T,
    full: Any,
    test: Any,
    truth: np.ndarray,
    count: int,
) -> runs.Report:
    manifest, m, slices, budget = system.manifest, config.shards, config.slices, system.budget
    logits = stage_logits(system, test, progress=run.progress)
    served = wilson_interval(int((system.predict(test) == truth).sum()), len(truth))
    whole = wilson_interval(*accuracy_of(full, test, truth, config.device))
    orders = {shard: [q.order for q in sequences] for shard, sequences in enumerate(manifest.sequences)}
    prior = None if manifest.system.prior is None else np.asarray(manifest.system.prior)
    run.step("simulating requests")
    length = max(4, math.ceil(1.6 * deletion_rate(m, slices, budget)))
    streams = uniform_requests(m, slices, min(config.streams, 300), min(length, 400), run.rng("requests"), prior)
    kept = decline(logits, truth, orders, streams, config.aggregation)
    sisa = decline(logits, truth, {s: o[:1] for s, o in orders.items()}, streams, config.aggregation)
    lives = _lives(config, run, system, prior)
    tables = [_accuracy_table(served, whole, logits, truth, slices, count, m), _requests_table(system, lives, prior)]
    drawn = _figures(config, run, system, lives, kept.accuracy, sisa.accuracy, whole, streams)
    first = min(m, streams.shape[1])
    return runs.Report(
        headline=f"{served.estimate:.1%} of {len(truth):,} held-out records right (one fine-tuning on all records "
        f"{whole.estimate:.1%}). {_outlook(lives)}",
        metrics={
            "accuracy": served.estimate,
            "accuracy of one fine-tuning": whole.estimate,
            "expected requests": lives["expected"],
            "expected requests, SISA": lives["expected_sisa"],
            "simulated requests": float(lives["s3t"].mean()),
            "simulated requests, SISA": float(lives["sisa"].mean()),
            f"accuracy after {first} requests": float(kept.accuracy[:, first].mean()),
            f"accuracy after {first} requests, SISA": float(sisa.accuracy[:, first].mean()),
        },
        tables=tables,
        figures=drawn,
        files=_files(),
        lead=list(records.notes),
        notes=[*system.notes, *_caveats(config)],
    )


def _language_report(config: Config, run: runs.Run, records: Records, system: S3T, full: Any, test: Any) -> runs.Report:
    run.step("measuring perplexity")
    prior = None if system.manifest.system.prior is None else np.asarray(system.manifest.system.prior)
    served, whole = system.token_loss(test), token_loss(full, test, config.device)
    lives = _lives(config, run, system, prior)
    full.reset(0)
    before = token_loss(full, test, config.device)
    rows: list[list[Any]] = [
        [name, loss, math.exp(loss)]
        for name, loss in (("served now", served), ("one fine-tuning on all records", whole), ("base", before))
    ]
    note = "Held-out texts; shards answer with the mean of their next-token distributions."
    return runs.Report(
        headline=f"Perplexity {math.exp(served):.2f} on held-out texts (one fine-tuning on all records "
        f"{math.exp(whole):.2f}, base {math.exp(before):.2f}). {_outlook(lives)}",
        metrics={
            "perplexity": math.exp(served),
            "perplexity of one fine-tuning": math.exp(whole),
            "perplexity of the base": math.exp(before),
            "expected requests": lives["expected"],
            "expected requests, SISA": lives["expected_sisa"],
        },
        tables=[
            runs.Table("Held-out texts", ["model", "loss per token", "perplexity"], rows, note),
            _requests_table(system, lives, prior),
        ],
        figures=_figures(config, run, system, lives, None, None, None, None),
        files=_files(),
        lead=list(records.notes),
        notes=[*system.notes, *_caveats(config)],
    )


def _lives(config: Config, run: runs.Run, system: S3T, prior: np.ndarray | None) -> dict[str, Any]:
    """Requests that the system and SISA serve: simulated, and in closed form."""
    m, slices, budget = config.shards, config.slices, system.budget
    if prior is None:
        expected, expected_sisa = deletion_rate(m, slices, budget), deletion_rate(m, slices, 1)
    else:
        firsts = [{q.order[0] for q in sequences} for sequences in system.manifest.sequences]
        expected = collector_mean([prior[s, c] for s, chosen in enumerate(firsts) for c in chosen])
        expected_sisa = collector_mean([prior[s, q[0].order[0]] for s, q in enumerate(system.manifest.sequences)])
    options: dict[str, Any] = {"streams": config.streams, "prior": prior}
    every = [[q.order for q in sequences] for sequences in system.manifest.sequences]
    first = [orders[:1] for orders in every]
    found: dict[str, Any] = {"expected": expected, "expected_sisa": expected_sisa}
    for name, mean, b, orders in (("s3t", expected, budget, every), ("sisa", expected_sisa, 1, first)):
        if math.isinf(mean):  # a slice that no request is for keeps it alive
            found[name] = np.full(config.streams, math.inf)
        else:
            found[name] = simulate_deletions(m, slices, b, sequences=orders, rng=run.rng("lives"), **options).requests
    return found


def _outlook(lives: dict[str, Any]) -> str:
    """For how many requests records can be deleted, in words."""
    own, sisa = lives["expected"], lives["expected_sisa"]
    served = "any number" if math.isinf(sisa) else f"{sisa:.1f}"
    if math.isinf(own):
        return f"Records can be deleted at once; by these risks a retraining is never due. SISA serves {served}"
    until = f"for {own:.1f} requests in expectation before a retraining is due"
    return f"Records can be deleted at once, {until}; SISA serves {served}"


def _accuracy_table(
    served: Interval, whole: Interval, logits: Any, truth: np.ndarray, slices: int, count: int, m: int
) -> runs.Table:
    rows: list[list[Any]] = [
        ["served now: all shards", count, *_cells(served)],
        ["one fine-tuning on all records", count, *_cells(whole)],
    ]
    for depth in range(slices, 0, -1):
        values = [float((v.argmax(1) == truth).mean()) for (_, _, d), v in logits.items() if d == depth]
        rows.append(
            [
                f"one shard with {depth} live blocks",
                round(count / m * depth / slices),
                np.mean(values),
                min(values),
                max(values),
            ]
        )
    return runs.Table(
        "Held-out records",
        ["model", "records trained on", "accuracy", "from", "to"],
        rows,
        f"First two: Wilson intervals (95%) over {len(truth):,} held-out records. Others: mean, lowest, highest over "
        "shards and sequences.",
    )


def _requests_table(system: S3T, lives: dict[str, Any], prior: np.ndarray | None) -> runs.Table:
    m, slices, budget = system.n_shards, system.n_slices, system.budget
    distance = mean_pairwise_distance([q.order for q in system.manifest.sequences[0]])
    differ = f" Sequences of a shard differ in {distance:.2f} of {slices} places on average." if budget > 1 else ""
    rows: list[list[Any]] = []
    for name, b, values, expected in (
        ("S3T", budget, lives["s3t"], lives["expected"]),
        ("SISA", 1, lives["sisa"], lives["expected_sisa"]),
    ):
        std = deletion_rate_std(m, slices, b) if prior is None else float("nan")
        if math.isinf(expected):
            rows.append([name, b, "never due", None, "never due", None])
        else:
            rows.append([name, b, expected, std, float(values.mean()), float(values.std())])
    return runs.Table(
        "Requests before a retraining is due",
        ["method", "sequences per shard", "closed form", "std", "simulated", "simulated std"],
        rows,
        f"Requests {'uniform' if prior is None else 'by risk'}, with replacement, {len(lives['s3t']):,} streams."
        f"{differ}",
    )


def _figures(
    config: Config,
    run: runs.Run,
    system: S3T,
    lives: dict[str, Any],
    kept: np.ndarray | None,
    sisa: np.ndarray | None,
    whole: Interval | None,
    streams: np.ndarray | None,
) -> list[runs.Figure]:
    manifest, m, slices = system.manifest, config.shards, config.slices
    found = [
        runs.Figure(
            "Requests served before retraining",
            figures.requests_figure(lives["s3t"], lives["sisa"], lives["expected"], lives["expected_sisa"]),
            "Simulated streams of requests, and their expected number in closed form.",
        )
    ]
    if kept is not None and sisa is not None and whole is not None:
        chance = 1 / len(manifest.classes)
        found.append(
            runs.Figure(
                "Accuracy as requests arrive",
                figures.decline_figure(kept, sisa, whole.estimate, chance),
                "Means over streams and their middle halves, from the trained stages. SISA serves the first order.",
            )
        )
    prior = manifest.system.prior
    stream = (
        uniform_requests(m, slices, 1, 2000, run.rng("timeline"), None if prior is None else np.asarray(prior))[0]
        if streams is None
        else streams[int(np.argsort(lives["s3t"][: len(streams)])[len(streams) // 2])]
    )
    lines, names = [], []
    for shard, sequences in enumerate(manifest.sequences):
        orders = [q.order for q in sequences]
        own = np.where(stream[:, 0] == shard, stream[:, 1], -1)
        depth = replay(orders, own[own >= 0].tolist(), slices)
        lines.append(depth[np.concatenate([[0], np.cumsum(own >= 0)])])
        names += [f"{shard}: {'-'.join(map(str, order))}" for order in orders]
    depth = np.concatenate(lines, axis=1)
    end = int(np.argmax(depth.max(1) == 0)) if (depth.max(1) == 0).any() else len(depth) - 1
    found.append(
        runs.Figure(
            "Blocks that a stream of requests deactivates",
            figures.timeline_figure(depth[: end + 1, :MOST_LINES], names[:MOST_LINES], slices),
            "One simulated stream, until no block is live. A line is a sequence (shard: order of slices).",
        )
    )
    return found


def _files() -> list[runs.ReportFile]:
    return [
        runs.ReportFile(FOLDER, "the trained system, a PEFT adapter for every sequence; --folder of the other actions"),
        runs.ReportFile("records.csv", "id, label, shard and slice of every record"),
    ]


def _caveats(config: Config) -> list[str]:
    return [
        "A deletion is exact where requests do not depend on the models' answers. Which classes and columns there are "
        "counts as public. Copies of the data and backups are not in this folder."
    ]


def _cells(interval: Interval) -> list[float]:
    return [interval.estimate, interval.low, interval.high]
