"""Calibration text, multiple choice, and recovery fine-tuning, on the bundled language model."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from paperworks import runs
from paperworks.language import bundled_model_path, bundled_text, token_windows
from paperworks.language.choice import choice_outcomes, continuation_questions
from paperworks.metrics import bootstrap_interval, mean_interval, ratio_interval
from paperworks.papers.slicegpt.studies.bench import DRAWS, LENGTH, Bench
from paperworks.pruning import lora_targets
from paperworks.pruning.recovery import recover
from paperworks.runs import Finding

CHANCE = 0.25


@runs.study(
    claims=["calibration-size", "calibration-data", "zero-shot"], title="Calibration and multiple choice", minutes=4
)
def calibrations(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """How much calibration text, which text, and what is left of the ability to tell the true ending of a passage."""
    bench = Bench(run, fast)
    many = 8 if fast else 128
    questions = continuation_questions(
        token_windows(bench.tokenizer, bundled_text("test"), 64), 20 if fast else 400, 40, 24, run.rng("questions")
    )
    code = "\n\n".join(path.read_text(encoding="utf-8", errors="ignore") for path in _stdlib_files())
    few: list[float] = []
    found: dict[str, list[float]] = {"own": [], "code": []}
    right: dict[str, list[np.ndarray]] = {"own": [], "code": []}
    for seed in bench.seeds:
        few.append(bench.perplexity(bench.sliced(calibration=bench.calibration(4, seed), seed=seed).model_))
        for name, text in (("own", None), ("code", code)):
            model = bench.sliced(calibration=bench.calibration(many, seed, text), seed=seed).model_
            found[name].append(bench.perplexity(model))
            right[name].append(choice_outcomes(model, questions, progress=run.progress)[0])
    dense = choice_outcomes(bench.dense, questions, progress=run.progress)[0]
    own, other = (np.mean(right[name], axis=0) for name in ("own", "code"))
    kind = f"{len(questions)} held-out passages, which of 4 endings is the true one; {len(few)} calibration draws"
    return [
        Finding(
            "calibration-size",
            f"Perplexity at 25 % with {many} calibration sequences over that with 4, paired by draw",
            "empirical",
            ratio_interval([m / f for m, f in zip(found["own"], few, strict=True)], unit=DRAWS),
            "<",
            1.0,
            baseline=statistics.mean(few),
            baseline_name="4 sequences, mean perplexity",
            detail=f"{many}: {_listed(found['own'])}; 4: {_listed(few)}; {LENGTH} tokens each",
        ),
        Finding(
            "zero-shot",
            "Share of the dense model's accuracy above chance that is left at 25 %",
            "empirical",
            bootstrap_interval(lambda cut, whole: (cut.mean() - CHANCE) / (whole.mean() - CHANCE), own, dense),
            ">",
            0.8,
            baseline=float(dense.mean()),
            baseline_name="dense accuracy",
            detail=f"{kind}: accuracy {_listed([r.mean() for r in right['own']])}",
        ),
        Finding(
            "calibration-data",
            "Accuracy when calibrated on text like the test's, less that on program code, paired by question",
            "empirical",
            mean_interval(own - other, unit="questions"),
            ">",
            0.0,
            baseline=float(other.mean()),
            baseline_name="calibrated on code",
            detail=f"{kind}: own {_listed([r.mean() for r in right['own']])}, code "
            f"{_listed([r.mean() for r in right['code']])}; perplexity {_listed(found['own'])} against "
            f"{_listed(found['code'])}",
        ),
    ]


def _listed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _stdlib_files() -> list[Path]:
    """Modules of Python's standard library, enough for 128 calibration sequences."""
    return sorted(Path(statistics.__file__).parent.glob("*.py"))[:60]


@runs.study(claims=["recovery-fine-tuning"], title="Recovery fine-tuning", minutes=6)
def recovery(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """LoRA of rank 8 on the model with a quarter of its hidden size cut."""
    bench = Bench(run, fast)
    windows = token_windows(bench.tokenizer, bundled_text("train"), LENGTH)
    steps = 4 if fast else 200
    before, after = [], []
    for seed in bench.seeds:
        model = bench.sliced(calibration=bench.calibration(8 if fast else 128, seed), seed=seed).model_
        before.append(bench.perplexity(model))
        merged, _ = recover(
            model,
            windows,
            lora_targets(bundled_model_path()),
            steps=steps,
            rank=8,
            alpha=32,
            dropout=0.05,
            batch_size=4,
            seed=seed,
            device="cpu",
            checkpoint_dir=run.state / f"training-{seed}",
            progress=run.progress,
        )
        after.append(bench.perplexity(merged))
    return [
        Finding(
            "recovery-fine-tuning",
            f"Perplexity after at most {steps} steps of LoRA on the sliced model, over that before, paired by draw",
            "empirical",
            ratio_interval([a / b for a, b in zip(after, before, strict=True)], unit=DRAWS),
            "<",
            1.0,
            baseline=statistics.mean(before),
            baseline_name="before, mean perplexity",
            detail=f"before {_listed(before)}; after {_listed(after)}; dense {bench.dense_perplexity:.4g}; steps of "
            f"4 x {LENGTH} tokens, rank 8, from the calibration text; the best weights by text that is kept from "
            "training",
        )
    ]
