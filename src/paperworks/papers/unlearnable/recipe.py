"""The user's images protected, written back, and tested on those who would train on them."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd

from paperworks import runs
from paperworks.inputs.images import write_images
from paperworks.metrics import wilson_interval
from paperworks.papers.unlearnable.baselines import error_minimizing_noise, random_noise
from paperworks.papers.unlearnable.budgets import visibility
from paperworks.papers.unlearnable.config import NETWORKS, Config
from paperworks.papers.unlearnable.estimator import BayesErrorEstimator
from paperworks.papers.unlearnable.evaluation import CLEAN_PART, evaluate_protection
from paperworks.papers.unlearnable.figures import ascent_figure, examples_figure, mixture_figure
from paperworks.papers.unlearnable.images import (
    Source,
    default_eps,
    protected_batch,
    read_source,
    stored_images,
    surrogate_maker,
)
from paperworks.papers.unlearnable.protector import BEOProtector
from paperworks.papers.unlearnable.surrogates import MakeModel, SurrogateTraining
from paperworks.runs.files import write_text

__all__ = ["Config", "run"]

OURS, NOISE, SHORTCUT = "Bayes error optimisation", "random noise", "error-minimising noise"


def run(config: Config, run: runs.Run) -> runs.Report:
    """Change images within a budget so that models trained on them learn badly."""
    run.step(f"reading {config.data}")
    source = read_source(config, run)
    make = surrogate_maker(config, source, run)
    eps = default_eps(source.batch.shape) if config.eps is None else config.eps
    rows = ~source.test if source.own_split else np.ones(len(source.labels), dtype=bool)
    run.step(
        f"protecting {rows.sum():,} images: every value may change by {eps:.3g}"
        if config.norm == "inf"
        else f"protecting {rows.sum():,} images: the change of an image has norm {eps:.3g} at most"
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        protector = _protect(config, run, source, make, rows, eps)
    warned = [str(w.message) for w in said if issubclass(w.category, UserWarning)]
    images = stored_images(source, np.flatnonzero(rows), protector.perturbation_)
    written = write_images(
        source.images.subset(np.flatnonzero(rows)),
        run.output("protected"),
        images,
        format="png" if source.resized else "keep",
        progress=run.progress,
    )
    seen = protected_batch(source, images)
    change = visibility(source.batch[rows], seen)
    run.step("training on the protected images, as others would")
    table = _evaluate(config, run, source, make, rows, seen, eps)
    files = _save(run, protector, table)
    return _report(
        config,
        source,
        rows,
        seen,
        protector,
        eps,
        change,
        table,
        [*dict.fromkeys(warned), *source.notes[1:], *written.notes],
        files,
    )


def _training(config: Config, epochs: int) -> SurrogateTraining:
    return SurrogateTraining(epochs=epochs, learning_rate=config.training_lr)


def _protect(
    config: Config, run: runs.Run, source: Source, make: MakeModel, rows: np.ndarray, eps: float
) -> BEOProtector:
    protector = BEOProtector(
        make,
        eps=eps,
        norm=config.norm,
        steps=config.steps,
        lr=config.lr,
        retrain=config.retrain,
        fresh_every=config.fresh_every,
        training=_training(config, config.epochs),
        estimator=BayesErrorEstimator(config.kernel, config.sigma, reference=config.reference, device=config.device),
        device=config.device,
        random_state=config.seed % 2**31,
    )
    return protector.fit(
        source.batch[rows], source.labels[rows], checkpoint=run.state / "ascent.pt", progress=run.progress
    )


def _evaluate(
    config: Config, run: runs.Run, source: Source, make: MakeModel, rows: np.ndarray, seen: np.ndarray, eps: float
) -> pd.DataFrame:
    cache = run.state / "evaluation.json"
    if cache.is_file():
        return pd.DataFrame(json.loads(cache.read_text(encoding="utf-8")))
    train = ~source.test
    clean, y = source.batch[train], source.labels[train]
    protected = {OURS: seen[train[rows]]}
    if config.norm == "inf":
        others = {NOISE: random_noise(clean, eps, config.seed % 2**31)}
        if config.compare:
            others[SHORTCUT] = error_minimizing_noise(
                clean,
                y,
                make,
                eps=eps,
                training=_training(config, config.epochs),
                device=config.device,
                random_state=config.seed % 2**31,
                progress=run.progress,
            )
        for name, changed in others.items():  # in the depth of the images, as ours
            protected[name] = protected_batch(source, stored_images(source, np.flatnonzero(train), changed - clean))
    table = evaluate_protection(
        make,
        clean,
        protected,
        y,
        (source.batch[source.test], source.labels[source.test]),
        ratios=config.ratios,
        repeats=config.repeats,
        training=_training(config, config.test_epochs),
        estimator=BayesErrorEstimator(config.kernel, config.sigma, reference=config.reference, device=config.device),
        device=config.device,
        random_state=config.seed % 2**31,
        progress=run.progress,
    )
    write_text(cache, json.dumps(table.to_dict("records")))
    return table


def _save(run: runs.Run, protector: BEOProtector, table: pd.DataFrame) -> list[runs.ReportFile]:
    protector.save(run.output("protection"))
    table.to_csv(run.files / "evaluation.csv", index=False)
    pd.DataFrame(protector.history_).rename_axis("step").to_csv(run.files / "history.csv")
    return [
        runs.ReportFile("protected", "the protected images, in the form of yours, without loss"),
        runs.ReportFile("protection", "the change as safetensors, and the options"),
        runs.ReportFile("evaluation.csv", "every training that tested the protection"),
        runs.ReportFile("history.csv", "estimate of the Bayes error, and the surrogate's accuracy, by step"),
    ]


def _report(
    config: Config,
    source: Source,
    rows: np.ndarray,
    seen: np.ndarray,
    protector: BEOProtector,
    eps: float,
    change: dict[str, float],
    table: pd.DataFrame,
    notes: list[str],
    files: list[runs.ReportFile],
) -> runs.Report:
    means = table.groupby(["method", "ratio"], sort=False)[["test_accuracy", "training_accuracy", "bayes_error"]].mean()
    clean = means.loc[("clean", 0.0)]
    most = max(config.ratios)
    ours = means.loc[(OURS, most)]
    count = int(source.test.sum())
    share = "protected" if most == 1 else f"{most:.0%} protected"
    fall = clean.test_accuracy - ours.test_accuracy
    verdict = "" if fall > 0.02 else " The protection does not show on these images at this budget."
    majority = float(np.bincount(source.labels[source.test]).max() / count)
    if wilson_interval(round(clean.test_accuracy * count), count).low <= majority:
        verdict = (
            " This tests nothing: trained on the clean images it is no better than naming the most frequent class. "
            "Train longer (--test-epochs), or take more images."
        )
    body = [[name, ratio, *map(float, row)] for (name, ratio), row in zip(means.index, means.to_numpy(), strict=True)]
    begin = "from scratch" if config.model in NETWORKS else f"from the weights in {config.model}"
    lead = [source.notes[0]]
    if (OURS, most) in means.index and (SHORTCUT, most) in means.index:
        short = means.loc[(SHORTCUT, most)]
        if short.test_accuracy < ours.test_accuracy:
            lead.append(
                f"Error-minimising noise of the same size lowers the accuracy further here, to "
                f"{short.test_accuracy:.1%}; it is a shortcut, which the training set itself does not show "
                f"(accuracy {short.training_accuracy:.1%} on it, {ours.training_accuracy:.1%} with ours)."
            )
    return runs.Report(
        headline=f"A classifier trained on the {share} images gets {ours.test_accuracy:.1%} of {count:,} unchanged "
        f"images right; trained on the clean ones, {clean.test_accuracy:.1%}. The largest change of a value is "
        f"{change['linf']:.3g} of 1.{verdict}",
        metrics={
            "accuracy, trained on protected images": float(ours.test_accuracy),
            "accuracy, trained on clean images": float(clean.test_accuracy),
            "Bayes error of protected images, estimate": float(ours.bayes_error),
            "Bayes error of clean images, estimate": float(clean.bayes_error),
            "largest change": change["linf"],
            "PSNR, dB": change["psnr"],
            "SSIM": change["ssim"],
        },
        tables=[
            runs.Table(
                "Classifiers trained on mixtures",
                [
                    "training set",
                    "share changed",
                    "accuracy on clean images",
                    "accuracy on its own set",
                    "Bayes error, estimate",
                ],
                body,
                f"Means of {config.repeats} training{'s' * (config.repeats > 1)} each, {begin}, tested on "
                f"{count:,} clean images."
                + (
                    f" '{CLEAN_PART}': trained on the images of the mixture that are not changed."
                    if CLEAN_PART in set(table["method"])
                    else ""
                ),
            ),
            runs.Table(
                "The change",
                ["", "value"],
                [
                    ["images", int(rows.sum())],
                    ["budget", eps],
                    ["norm", config.norm],
                    ["largest change of a value", change["linf"]],
                    ["mean norm of the change of an image", change["l2"]],
                    ["peak signal-to-noise ratio, dB", change["psnr"]],
                    ["structural similarity (1: the same)", change["ssim"]],
                ],
            ),
        ],
        figures=[
            runs.Figure(
                "Images before and after",
                examples_figure(source.batch[rows], seen, source.labels[rows]),
                "Above: as they were. Middle: protected. Below: the change, grey for none.",
            ),
            runs.Figure(
                "The ascent",
                ascent_figure(protector.history_, _ceiling(source.labels[rows])),
                "Estimate of the Bayes error in the features of the surrogate of each step; the line is the most that "
                "the estimate can reach. A surrogate that does not learn would also raise it: its accuracy is shown.",
            ),
            runs.Figure(
                "Mixtures with clean images",
                mixture_figure(table, clean.test_accuracy),
                "Left: accuracy on clean images. Right: accuracy on the training set itself, which a raised Bayes "
                "error lowers and a shortcut raises.",
            ),
        ],
        files=files,
        notes=[
            "Who has clean images of the same kind can train on those alone: nothing protects against that.",
            "A few protected images in a large collection are not kept from being memorised.",
            "A high estimate in one network's features does not prove a high Bayes error of the images.",
            *notes,
            *(["Noise of the same size is compared for norm inf only."] if config.norm != "inf" else []),
        ],
        lead=lead,
    )


def _ceiling(labels: np.ndarray) -> float:
    return float(1 - np.bincount(labels).max() / len(labels))
