"""Image classifiers made smaller by several methods at equal multiply-accumulates: one table, one plot.

Every method gets the same dense network, images, seed and optimiser steps: those that it did not take while it pruned
follow as recovery. The papers' methods are those of ``prune_module``; the baselines rank traced units by a classic
criterion.
"""

from __future__ import annotations

import copy
import json
import statistics
import time
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from paperworks import runs
from paperworks.comparison.config import Config
from paperworks.comparison.methods import load_module_method, module_method_names
from paperworks.errors import InputError, nearest
from paperworks.metrics import mean_interval, wilson_interval
from paperworks.parameters import check_seed
from paperworks.pruning import (
    ImageOptions,
    ImageTask,
    ModuleJob,
    PrunedModule,
    accuracy,
    image_task,
    model_maker,
    train_classifier,
)
from paperworks.pruning.evidence import Evidence
from paperworks.pruning.unit_criteria import UNIT_CRITERIA, score_units
from paperworks.runs.files import write_text
from paperworks.structure.trace import cut, measure_latency, ranked_plan, save_cut

BASELINES = ("group-norm", "l1", "taylor", "mean-activation", "random")
"""Compared unless others are named; any criterion for units may be."""
TOLERANCE = 1e-9
Row = dict[str, Any]


def methods_for_images(given: Sequence[str]) -> list[str]:
    """The methods named, or all papers' and the usual baselines. Raises InputError for an unknown name."""
    papers = module_method_names()
    known = [*papers, *UNIT_CRITERIA]
    for name in given:
        if name not in known:
            raise InputError("methods", name, f"some of {', '.join(known)}{nearest(name, known)}")
    return list(dict.fromkeys(given)) or [*papers, *BASELINES]


def by_criterion(name: str, job: ModuleJob) -> PrunedModule:
    """Units ranked over the whole network by a classic criterion, cut at once."""
    model = job.copy()
    groups = job.analyze(model)
    evidence = Evidence(job.data, job.unlabelled, batch_size=job.batch_size, seed=job.seed)
    plan = ranked_plan(groups, score_units(name, model, groups, evidence), macs=job.macs)
    return PrunedModule(cut(groups, plan), 0, [])


def compare_images(config: Config, run: runs.Run) -> runs.Report:
    """Train (or take) a dense classifier for every seed, prune it by every method, recover alike, measure."""
    assert config.images is not None
    methods = methods_for_images(config.methods)
    options = ImageOptions(
        data=config.images,
        size=config.image_size,
        limit=config.image_limit,
        model=config.network,
        seed=config.seed,
        device=config.device,
    )
    run.step(f"reading {config.images}")
    task = image_task(options, run)
    make, trained = model_maker(config.network, task, progress=run.progress)
    rows: list[Row] = []
    work = [(seed, method) for seed in range(config.seeds) for method in methods]
    dense: dict[int, nn.Module] = {}
    for number, method in run.progress(work, "methods"):
        seed = (config.seed + number) % 2**31
        if seed not in dense:
            dense[seed] = _dense(config, run, task, make(seed), trained, seed)
            found = accuracy(dense[seed], task.test, config.device)
            rows.append({"method": "dense", "seed": number, "after": found})
        rows.append({"method": method, "seed": number, **_result(config, run, task, dense[seed], method, seed)})
    write_text(run.files / "comparison.json", json.dumps(rows, indent=1))
    return _write_up(config, task, methods, rows)


def _dense(config: Config, run: runs.Run, task: ImageTask, model: nn.Module, trained: bool, seed: int) -> nn.Module:
    kept = run.state / f"dense-{seed}.pt"
    if trained:
        return model.eval()
    if kept.is_file():
        model.load_state_dict(torch.load(kept, weights_only=True))
        return model.eval()
    train_classifier(
        model,
        task.train,
        epochs=config.epochs,
        learning_rate=config.image_learning_rate,
        batch_size=config.image_batch_size,
        seed=seed,
        device=config.device,
        settle_norms=True,
        progress=run.progress,
    )
    torch.save(model.state_dict(), kept.with_suffix(".part"))
    kept.with_suffix(".part").replace(kept)
    return model.eval()


def _result(config: Config, run: runs.Run, task: ImageTask, dense: nn.Module, method: str, seed: int) -> Row:
    """What a method came to, or the reason why not; found once."""
    check_seed("seed", seed)
    kept = run.state / f"{method}-{seed}.json"
    if kept.is_file():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    job = ModuleJob(
        model=dense,
        example_inputs=task.example,
        macs=config.macs,
        data=task.train,
        train_steps=config.train_steps,
        learning_rate=config.image_learning_rate,
        batch_size=config.image_batch_size,
        seed=seed,
        device=config.device,
        state=run.state / f"{method}-{seed}",
        progress=run.progress,
    )
    assert job.state is not None
    job.state.mkdir(exist_ok=True)
    try:
        row = _measured(config, run, task, job, method)
    except InputError as error:
        row = {"error": str(error)}
    write_text(kept, json.dumps(row))
    return row


def _measured(config: Config, run: runs.Run, task: ImageTask, job: ModuleJob, method: str) -> Row:
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        made = by_criterion(method, job) if method in UNIT_CRITERIA else load_module_method(method)(job)
    seconds = time.perf_counter() - started
    whole, now = job.dense_cost(), job.analyze(made.module).cost()
    if now.macs > job.macs * whole.macs * (1 + TOLERANCE):
        raise InputError("macs", f"{now.macs / whole.macs:.4f} of the dense network's", f"at most {job.macs:g}")
    before = accuracy(made.module, task.test, config.device)
    left = config.train_steps + config.recovery_steps - made.steps
    if left > 0:
        train_classifier(
            made.module,
            task.train,
            steps=left,
            learning_rate=config.image_learning_rate,
            batch_size=config.image_batch_size,
            seed=job.seed + 1,
            device=config.device,
            settle_norms=True,
            progress=run.progress,
        )
    place = run.files / "models" / method / f"seed-{job.seed}"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        save_cut(made.module.cpu(), place)
    images = task.test.tensors[0][:64]
    speeds = measure_latency(
        {"dense": copy.deepcopy(job.model).cpu(), "own": made.module}, images, rounds=config.rounds
    )
    return {
        "before": before,
        "after": accuracy(made.module, task.test, config.device),
        "steps": made.steps,
        "seconds": seconds,
        "macs": now.macs / whole.macs,
        "parameters": now.parameters / whole.parameters,
        "speed": speeds["dense"].median / speeds["own"].median,
        "notes": made.notes,
    }


def _write_up(config: Config, task: ImageTask, methods: list[str], rows: list[Row]) -> runs.Report:
    dense = [r["after"] for r in rows if r["method"] == "dense"]
    good = {m: [r for r in rows if r["method"] == m and "error" not in r] for m in methods}
    good = {m: found for m, found in good.items() if found}
    steps = config.train_steps + config.recovery_steps
    means = {m: statistics.fmean(r["after"] for r in found) for m, found in good.items()}
    body: list[list[Any]] = []
    for method in sorted(good, key=lambda m: -means[m]):
        found = good[method]
        ends: list[Any] = [None, None]
        if len(found) > 1:
            interval = mean_interval([r["after"] for r in found])
            ends = [max(0.0, interval.low), min(1.0, interval.high)]  # an accuracy is no less and no more
        names = ("before", "macs", "parameters", "speed", "steps", "seconds")
        body.append([method, means[method], *ends, *(statistics.fmean(r[name] for r in found) for name in names)])
    columns = ["method", f"accuracy after {steps} steps", "low", "high", "right after pruning", "MACs", "parameters"]
    columns += ["images per second, times dense", "steps while pruning", "seconds"]
    note = (
        f"Means over {config.seeds} seed(s), 95 % interval of Student over seeds; dense {statistics.fmean(dense):.3f}. "
        f"MACs and parameters are shares of the dense network's. Every network ends with {steps} optimiser steps of "
        f"{config.image_batch_size} on the same images: those that a method took while pruning count."
    )
    failed = [[r["method"], r["seed"], r["error"]] for r in rows if "error" in r]
    tables = [runs.Table("Methods at equal operations", columns, body, note)]
    if failed:
        tables.append(runs.Table("Methods that did not get there", ["method", "seed", "reason"], failed))
    if not good:
        headline = "No method reached the budget"
    else:
        best = max(means, key=lambda m: means[m])
        equal = level_with(best, good, len(task.test))
        headline = (
            f"At {config.macs:.0%} of the operations {best} keeps the most: accuracy {means[best]:.1%} after {steps} "
            f"steps (dense {statistics.fmean(dense):.1%}); {_level(equal, len(good) - 1)}"
        )
    notes = [f"{r['method']}, seed {r['seed']}: {note}" for r in rows for note in r.get("notes", ())]
    files = [runs.ReportFile("comparison.json", "every figure of every method and seed")]
    if good:
        files.append(runs.ReportFile("models", "the pruned networks, for structure.trace.load_cut"))
    return runs.Report(
        headline,
        {f"accuracy, {m}": value for m, value in means.items()} | {"accuracy, dense": statistics.fmean(dense)},
        tables,
        [_figure(good, statistics.fmean(dense), config.macs)] if good else [],
        files,
        notes,
        lead=[task.notes[0]],
    )


def level_with(best: str, good: dict[str, list[Row]], tested: int) -> list[str]:
    """The methods that are not shown to be behind ``best``.

    With several seeds: the 95 % interval of the differences, seed by seed, reaches 0. With one: Wilson's intervals of
    the two accuracies on ``tested`` images overlap.
    """
    after = {m: {r["seed"]: r["after"] for r in found} for m, found in good.items()}
    found = []
    for method, own in after.items():
        if method == best:
            continue
        seeds = sorted(own.keys() & after[best].keys())
        if len(seeds) > 1:
            behind = mean_interval([after[best][s] - own[s] for s in seeds]).low > 0
        else:
            one, other = (
                wilson_interval(round(v * tested), tested)
                for v in (next(iter(after[best].values())), next(iter(own.values())))
            )
            behind = one.low > other.high
        if not behind:
            found.append(method)
    return found


def _level(equal: list[str], others: int) -> str:
    if not equal:
        return "all others are behind it"
    if len(equal) == others:
        return "no difference to the others is shown"
    return f"no difference is shown to {', '.join(equal)}"


def _figure(good: dict[str, list[Row]], dense: float, macs: float) -> runs.Figure:
    from matplotlib.figure import Figure

    from paperworks.comparison.plot import AFTER, BEFORE

    order = sorted(good, key=lambda m: statistics.fmean(r["after"] for r in good[m]))
    figure = Figure(figsize=(8, 1.5 + 0.4 * len(order)))
    axes = figure.subplots()
    for place, method in enumerate(order):
        for when, colour in (("before", BEFORE), ("after", AFTER)):
            values = [r[when] for r in good[method]]
            middle = statistics.fmean(values)
            # where all values are equal, their mean may lie beyond them by rounding
            spread = [[max(middle - min(values), 0.0)], [max(max(values) - middle, 0.0)]]
            axes.errorbar(middle, place, xerr=spread, fmt="o", color=colour, capsize=3)
    axes.axvline(dense, color=AFTER, linestyle=":", linewidth=1)
    axes.set_yticks(range(len(order)), order)
    axes.set_xlabel("accuracy on test images (dotted: the dense network)")
    axes.plot([], [], "o", color=BEFORE, label="right after pruning")
    axes.plot([], [], "o", color=AFTER, label="at the end")
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return runs.Figure(f"Methods at {macs:.0%} of the operations", figure, "Bars: from the lowest to the highest seed.")
