"""Which Boolean functions does a model learn from examples in its prompt? Curves beside optimal learners."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from paperworks import runs
from paperworks.errors import InputError
from paperworks.nn import resolve_device
from paperworks.papers.icl_discrete import reporting
from paperworks.papers.icl_discrete.binary_tables import read_binary_table, table_prompts
from paperworks.papers.icl_discrete.bundle import bundled_model_path
from paperworks.papers.icl_discrete.config import Config
from paperworks.papers.icl_discrete.curves import after_teaching, correct, last
from paperworks.papers.icl_discrete.endpoint import Endpoint
from paperworks.papers.icl_discrete.fitting import TrainOptions, fit
from paperworks.papers.icl_discrete.heads import THRESHOLD, head_scores
from paperworks.papers.icl_discrete.language_models import LocalModel, ask_prompts, small_task
from paperworks.papers.icl_discrete.learners import (
    Averaging,
    Elimination,
    Learner,
    Logistic,
    Neighbours,
    Null,
    reference_learners,
)
from paperworks.papers.icl_discrete.modeling import InContextConfig, InContextModel, load_in_context_model, new_model
from paperworks.papers.icl_discrete.prompts import instruction_text, text_prompt
from paperworks.papers.icl_discrete.tasks import BooleanTask, Prompts
from paperworks.runs.files import new_folder, write_text

TAUGHT = {
    "conjunction": "teach_biconjunction",
    "mono_conjunction": "teach_conjunction",
    "sparse_parity": "teach_sparse_parity",
}
"""The same class with a teaching sequence in front."""

DIMS, POINTS, TEXT_DIMS, TEXT_POINTS = 8, 30, 5, 50


def run(config: Config, run: runs.Run) -> runs.Report:
    """Measure how a model learns Boolean functions, or a table of yes and no, from examples in its prompt."""
    if config.model is not None or config.endpoint is not None:
        return _ask_language_model(config, run)
    return _ask_in_context_model(config, run)


# -- models that read points ------------------------------------------------------------------------------------------


def _ask_in_context_model(config: Config, run: runs.Run) -> runs.Report:
    task = BooleanTask(config.task, config.dims or DIMS)
    model, losses = _model(config, run, task)
    if config.dims is not None and model.config.n_dims != config.dims:
        raise InputError("dims", config.dims, f"{model.config.n_dims}, as the checkpoint reads (or train: steps)")
    task = replace(task, n_dims=model.config.n_dims)
    points = config.points or min(POINTS, model.config.max_points)
    if points > model.config.max_points:
        raise InputError("points", points, f"at most {model.config.max_points}, as the model allows")
    notes: list[str] = []
    groups: dict[str, tuple[Prompts, list[Learner]]] = {}
    tables: list[runs.Table] = []
    if config.input is not None:
        prompts, names = _table(config, run, model.config.n_dims, points, notes)
        groups["rows of the table"] = (prompts, _table_learners())
        tables.append(_bits_table(names))
    else:
        groups[task.kind.title] = (task.sample(config.prompts, points, run.rng("prompts")), reference_learners(task))
        if config.task in TAUGHT:
            taught = replace(task, name=TAUGHT[config.task])
            groups[taught.kind.title] = (
                taught.sample(config.prompts, points, run.rng("taught")),
                reference_learners(taught),
            )
        tables.append(_examples_table(groups))
    name = f"{'trained' if config.steps else 'bundled' if config.checkpoint is None else 'given'} model"
    right = {group: _measure(config, run, name, model, *what) for group, what in groups.items()}
    titles = {kind.kind.title: kind.name for kind in (task, replace(task, name=TAUGHT.get(config.task, config.task)))}
    for group, hits in right.items():
        paper = {name: reporting.PAPER.get(titles.get(group, ""), "")}
        tables.append(reporting.accuracy_table(f"Accuracy: {group}", hits, run.rng("bootstrap"), paper, _NOTE))
    first, *others = right
    scores = _heads(model, run)
    figures = [
        runs.Figure(f"Accuracy per example: {g}", reporting.curve_figure(h), "Bands: 5 % to 95 % of the bootstrap.")
        for g, h in right.items()
    ]
    if scores:
        figures.append(runs.Figure("Attention heads", reporting.heads_figure(scores), _HEADS))
    if losses:
        figures.append(runs.Figure("Training", reporting.loss_figure(losses), "Fresh functions and inputs each step."))
    files = _save_curves(run, right)
    if config.steps:
        with new_folder(run.output("model")) as folder:
            model.save_pretrained(folder)
        files.append(runs.ReportFile("model", "the trained model: --checkpoint, load_in_context_model"))
    hits = right[first]
    metrics = {
        "accuracy": float(hits[name].mean()),
        "accuracy_last_5": last(hits[name]),
        "nearest_neighbour_last_5": last(hits["1-NN"]),
        "null_accuracy": float(hits["null"].mean()),
    }
    seen = f"{points - min(5, hits[name].shape[1])} to {points - 1}" if hits[name].shape[1] > 1 else points - 1
    headline = (
        f"{first[0].upper()}{first[1:]}, {model.config.n_dims} bits: after {seen} examples the {name} is "
        f"right in {metrics['accuracy_last_5']:.1%} (1-NN {metrics['nearest_neighbour_last_5']:.1%}, always -1 "
        f"{last(hits['null']):.1%}"
    )
    best = next((n for n in ("elimination", "exact Bayes", "logistic regression", "perceptron") if n in hits), None)
    headline += f", {best} {last(hits[best]):.1%})" if best else ")"
    for group in others:
        metrics["accuracy_after_teaching"] = after_teaching(right[group][name], groups[group][0].taught)
        headline += f"; right after a teaching sequence {metrics['accuracy_after_teaching']:.1%}"
    if scores:
        metrics["nearest_neighbour_heads"] = int((scores["nearest neighbour"] >= THRESHOLD).sum())
    if config.checkpoint is None and not config.steps and (config.input or config.task not in _SEEN):
        notes.append("The bundled model has seen conjunctions only: train one on another class with steps.")
    labels = {
        "accuracy": f"accuracy of the {name}, all positions",
        "accuracy_last_5": f"accuracy of the {name}, last five positions",
        "nearest_neighbour_last_5": "nearest neighbour, last five positions",
        "null_accuracy": "always -1, all positions",
        "accuracy_after_teaching": "accuracy after a teaching sequence",
        "nearest_neighbour_heads": "attention heads that look at the nearest example",
    }
    return runs.Report(
        headline + ".",
        metrics,
        tables,
        figures,
        files,
        labels={metric: words for metric, words in labels.items() if metric in metrics},
        lead=notes,
    )


_SEEN = ("conjunction", "teach_biconjunction")
_NOTE = (
    "A score of exactly 0 is wrong, such as nearest neighbours before the first example. Elimination starts from the "
    "labels alone; planted inputs tell more than their labels, which exact Bayes and trained models use."
)
_HEADS = (
    "Nearest neighbour: attention from a point to the label of the nearest earlier point. Prefix: attention to the "
    "labels of the same point in earlier copies of the prompt."
)


def _model(config: Config, run: runs.Run, task: BooleanTask) -> tuple[InContextModel, list[float]]:
    device = resolve_device(config.device)
    if not config.steps:
        run.step("loading the model")
        model = load_in_context_model(config.checkpoint or bundled_model_path())
        torch.nn.Module.to(model, device)
        return model, []
    points = config.points or POINTS
    model = new_model(
        InContextConfig(
            config.architecture, task.n_dims, config.width, config.layers, config.heads, max_points=max(points, 100)
        ),
        int(run.rng("model").integers(2**31)),
    )
    options = TrainOptions(
        config.steps, config.batch, points, config.rate, config.noise, seed=int(run.rng("train").integers(2**31))
    )
    run.step(f"training a {config.architecture} of {sum(p.numel() for p in model.parameters()):,} parameters")
    result = fit(model, task, options, checkpoint_dir=run.state / "training", device=str(device), progress=run.progress)
    torch.nn.Module.to(model, device)
    return model.eval(), result.losses


def _measure(
    config: Config, run: runs.Run, name: str, model: InContextModel, prompts: Prompts, learners: list[Learner]
) -> dict[str, np.ndarray]:
    seed = int(run.rng("noise").integers(2**31))
    right = {}
    for learner in run.progress([None, *learners], "predictors"):
        label, predictor = (name, model) if learner is None else (learner.name, learner)
        right[label] = correct(predictor, prompts, noise=config.noise, seed=seed)[:, prompts.start :]
    return right


def _heads(model: InContextModel, run: runs.Run) -> dict[str, np.ndarray]:
    if model.config.architecture not in ("transformer", "gpt2"):
        return {}
    points = min(80, model.config.max_points)
    if points < 48:
        return {}
    run.step("looking at the attention heads")
    seed = int(run.rng("heads").integers(2**31))
    nearest = head_scores(model, "nn", n_points=points, start=points // 2 + 1, prompts=40, seed=seed)
    return {"nearest neighbour": nearest, "prefix": head_scores(model, "prefix", prompts=40, seed=seed)}


# -- language models --------------------------------------------------------------------------------------------------


def _ask_language_model(config: Config, run: runs.Run) -> runs.Report:
    dims = config.dims or TEXT_DIMS
    task = small_task(BooleanTask(config.task, dims))
    notes: list[str] = []
    endpoint = None
    if config.endpoint is not None:
        endpoint = Endpoint(
            config.endpoint,
            config.endpoint_model or "",
            config.api,
            config.samples,
            last_number=config.instruction == "steps",
            kept=run.state / "answers.sqlite",
        )
        source = f"{config.endpoint_model} at {config.endpoint}"
    else:
        run.step(f"loading {config.model}")
        path = None if config.model == "bundled" else config.model
        local = LocalModel.load(path, config.method, config.device)
        source = "the bundled language model" if path is None else str(path)
    words = instruction_text(config.instruction, None if config.input else task)
    points = config.points or TEXT_POINTS
    if endpoint is None and config.points is None:
        points = _points_that_fit(local, words, dims, notes)
    if config.input is not None:
        prompts, names = _table(config, run, dims, points, notes)
        learners, tables, group = _table_learners(), [_bits_table(names)], "rows of the table"
    else:
        prompts, group = task.sample(config.prompts, points, run.rng("prompts")), task.kind.title
        learners, tables = reference_learners(task), [_examples_table({group: (prompts, [])})]
    if config.noise:
        raise InputError("noise", config.noise, "0 when a language model is asked")
    try:
        result = ask_prompts(
            endpoint or local,
            prompts,
            every=config.every,
            instruction=words,
            learners=learners,
            progress=run.progress,
        )
    finally:
        if endpoint is not None:
            endpoint.close()
    positions = sorted(result.answers["position"].unique().tolist())
    right = result.right
    tables.append(
        reporting.accuracy_table(
            f"Accuracy: {group}",
            right,
            run.rng("bootstrap"),
            {},
            f"Asked after {', '.join(map(str, positions))} examples of each of {len(prompts)} prompts; "
            "'examples until' counts these questions. The paper: GPT-4, LLaMA-2 and others are at least competitive "
            "with nearest neighbours.",
        )
    )
    write_text(run.files / "answers.csv", result.answers.to_csv(index=False))
    example = text_prompt(prompts.xs[0], prompts.ys[0], (positions[-1],), words)
    write_text(run.files / "prompt.txt", example.text)
    files = [
        *_save_curves(run, {group: right}, positions),
        runs.ReportFile("answers.csv", "every question: prompt, examples before it, label, answer, text"),
        runs.ReportFile("prompt.txt", "the longest prompt of the first function, as it was asked"),
    ]
    own, nearest = float(right["language model"].mean()), float(right["1-NN"].mean())
    headline = (
        f"{source[0].upper()}{source[1:]} is right in {own:.1%} of {right['language model'].size:,} questions on "
        f"{group} of {dims} bits; 1-NN on the same prompts {nearest:.1%}, always -1 {right['null'].mean():.1%}; "
        f"{result.tenable:.1%} of its answers are 0 or 1."
    )
    metrics = {"accuracy": own, "nearest_neighbour": nearest, "tenable": result.tenable}
    figure = reporting.curve_figure(right, positions)
    return runs.Report(
        headline,
        metrics,
        tables,
        [runs.Figure(f"Accuracy per example: {group}", figure)],
        files,
        lead=notes,
        labels={
            "accuracy": "share of questions answered rightly",
            "nearest_neighbour": "nearest neighbour on the same prompts",
            "tenable": "share of answers that are 0 or 1",
        },
    )


def _points_that_fit(model: LocalModel, words: str, dims: int, notes: list[str]) -> int:
    """As many points as the context holds, at most the paper's 50."""
    points = TEXT_POINTS
    limit = model.limit or 10**9
    fits = points
    for bit in (-1, 1):  # a tokenizer may need more tokens for the one than for the other
        row = np.full((points, dims), bit, np.int8)
        text = text_prompt(row, row[:, 0], tuple(range(points)), words)
        fits = min(fits, sum(len(model.tokenizer(q)["input_ids"]) + 2 <= limit for q in text.questions))
    if fits < 2:
        raise InputError("model", f"a context of {limit} tokens", "one that holds two examples")
    if fits < points:
        notes.append(f"The model's context of {limit} tokens holds {fits} examples (the paper asks with 50).")
    return fits


# -- shared -----------------------------------------------------------------------------------------------------------


def _table(config: Config, run: runs.Run, dims: int, points: int, notes: list[str]) -> tuple[Prompts, list[str]]:
    run.step(f"reading {config.input}")
    table = read_binary_table(str(config.input), config.target, config.read_table)
    prompts, names = table_prompts(table, dims, config.prompts, points, run.rng("rows"))
    notes += table.notes
    notes.append(f"Label 1 is {table.positive!r}, 0 is {table.negative!r}.")
    if len(table.names) > dims:
        notes.append(
            f"The table has {len(table.names)} bits; the {dims} that tell most about the label on one half of the rows "
            "are used, and the prompts come from the other half."
        )
    return prompts, names


def _table_learners() -> list[Learner]:
    return [Logistic(), Neighbours(1), Neighbours(3), Averaging(), Elimination(), Null()]


def _bits_table(names: list[str]) -> runs.Table:
    return runs.Table("Bits", ["bit", "is 1 where"], [[f"x{i}", name] for i, name in enumerate(names)])


def _examples_table(groups: dict[str, Any]) -> runs.Table:
    rows: list[list[Any]] = []
    for group, (prompts, _) in groups.items():
        for b in range(min(4, len(prompts))):
            rows.append(
                [group, str(prompts.functions[b]), float((prompts.ys[b] > 0).mean()), int(prompts.taught[b]) or None]
            )
    return runs.Table("Some of the functions", ["prompts", "function", "share of ones", "teaching points"], rows)


def _save_curves(
    run: runs.Run, groups: dict[str, dict[str, np.ndarray]], positions: list[int] | None = None
) -> list[runs.ReportFile]:
    frame = reporting.curves_frame(groups, positions)
    write_text(run.files / "curves.csv", frame.to_csv(index=False))
    write_text(run.files / "curves.json", json.dumps(frame.to_dict("records")))
    return [
        runs.ReportFile("curves.csv", "accuracy of every predictor at every position, with interval"),
        runs.ReportFile("curves.json", "the same as JSON"),
    ]
