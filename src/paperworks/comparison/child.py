"""One method with one seed, in a process of its own, so that its time and its memory are its own.

``python -m paperworks.comparison.child FOLDER`` reads ``FOLDER/task.json``, prunes, measures, tunes,
measures again, and writes ``FOLDER/result.json``. Each step that is done is not done again when the process is started
anew.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch

from paperworks.comparison.methods import load_method
from paperworks.errors import InputError, PaperworksError
from paperworks.language import (
    Question,
    load_model,
    load_tokenizer,
    read_questions,
    speeds_in_turn,
    token_windows,
)
from paperworks.language.choice import continuation_questions
from paperworks.nn import stored_dtype
from paperworks.pruning import PruningJob, lora_targets, quality_of, size_of, text_parts
from paperworks.pruning.recovery import recover
from paperworks.runs.files import new_folder, write_text
from paperworks.runs.processes import end_with_parent
from paperworks.runs.usage import UsageMeter
from paperworks.structure import save_model
from paperworks.structure.checkpoints import REPORT_FILE

T = TypeVar("T")
CHOICES, CONTEXT, ENDING = 200, 48, 12
"""Questions made of the held-out text where the user gives none: so many, of so many tokens of context and ending."""
DENSE = "dense"
PLACES = ("model", "out", "text", "evaluation", "choices")
"""What of a task is a path."""


def main(folder: Path) -> None:
    """Do what ``task.json`` says."""
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    for name in PLACES:
        if task[name] is not None:  # a path of this machine, or one beside the folder
            task[name] = os.path.normpath(folder.absolute() / task[name])
    torch.manual_seed(task["seed"])
    try:
        result = _measure(task, folder)
    except PaperworksError as error:
        result = {"error": str(error)}
    except Exception as error:
        # One method's fault must not hide the others' figures; its kind and words go into the table.
        result = {"error": f"{type(error).__name__}: {error}"}
    write_text(folder / "result.json", json.dumps(result))


def _measure(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    source, out = Path(task["model"]), Path(task["out"])
    tokenizer = load_tokenizer(source)
    parts = text_parts(_path(task["text"]), _path(task["evaluation"]))
    held = token_windows(tokenizer, parts.held_out, task["length"])
    held = held[: task["evaluation_sequences"]]
    questions = _questions(task, tokenizer, held)
    texts = tuple(parts.texts)
    progress = ProgressFile(folder / "progress.json")
    job = PruningJob(
        source,
        task["target"],
        texts,
        folder / "work",
        task["sequences"],
        task["length"],
        task["batch_size"],
        task["train_steps"],
        task["learning_rate"],
        task["seed"],
        task["device"],
        progress,
    )
    job.state.mkdir(exist_ok=True)
    dense = task["method"] == DENSE

    def measured(where: Path) -> dict[str, float]:
        model, _ = load_model(where, "float32", task["device"])
        return quality_of(model, held, questions, batch_size=task["batch_size"], progress=progress)

    pruned_at = source if dense else out / "pruned"
    about: dict[str, Any] = {"seconds": 0.0, "memory": 0, "steps": 0, "notes": []}
    if not dense:
        about = _once(folder / "pruned.json", lambda: _prune(task, job, pruned_at, tokenizer))
    before = _once(folder / "before.json", lambda: measured(pruned_at))
    # All models end with the same number of optimiser steps: those that trained while pruning have fewer left.
    left = task["train_steps"] + task["recovery_steps"] - int(about["steps"])
    tuned_at = out / "tuned"
    after = before
    if left > 0:
        if not tuned_at.exists():
            _tune(task, job, pruned_at, tuned_at, tokenizer, left)
        after = _once(folder / "after.json", lambda: measured(tuned_at))
    final = tuned_at if left > 0 else pruned_at
    return {
        "before": before,
        "after": after,
        "tuning steps": max(0, left),
        **about,
        **_once(folder / "size.json", lambda: _size_and_speed(task, final, source)),
        "folder": None if dense else str(final.relative_to(out.parents[2])),
    }


def _prune(task: dict[str, Any], job: PruningJob, out: Path, tokenizer: Any) -> dict[str, Any]:
    method = load_method(task["method"])
    with UsageMeter() as meter:
        start = time.monotonic()
        pruned = method(job)
        seconds = time.monotonic() - start
    parameters = sum(p.numel() for p in {id(p): p for p in pruned.model.parameters()}.values())
    if parameters > job.target:
        raise InputError("target", f"{parameters:,} parameters are left", f"at most {job.target:,}")
    if not out.exists():
        save_model(
            pruned.model.to(stored_dtype(job.folder)),
            out,
            tokenizer,
            {"method": task["method"], "seed": task["seed"], "notes": pruned.notes},
        )
    return {
        "seconds": seconds,
        "memory": max(0, meter.peak_bytes - meter.start_bytes),
        "steps": pruned.steps,
        "notes": pruned.notes,
    }


def _tune(task: dict[str, Any], job: PruningJob, source: Path, out: Path, tokenizer: Any, steps: int) -> None:
    model, _ = load_model(source, "float32", task["device"])
    merged, _ = recover(
        model,
        job.windows(tokenizer),
        lora_targets(source),
        steps=steps,
        rank=task["rank"],
        alpha=task["rank"],
        dropout=0.0,
        learning_rate=task["learning_rate"],
        batch_size=task["batch_size"],
        patience=0,
        seed=task["seed"],
        eval_every=max(1, steps // 4),
        device=task["device"],
        checkpoint_dir=job.state / "recovery",
        progress=job.progress,
    )
    report = {"method": task["method"], "seed": task["seed"], "tuning steps": steps}
    _save(merged.to(stored_dtype(job.folder)), out, tokenizer, report)


def _save(model: Any, out: Path, tokenizer: Any, report: dict[str, Any]) -> None:
    """Save a tuned model: ours, or a stock one, which is what a model of equal widths was loaded as."""
    if str(model.config.model_type).startswith(("sliced_", "pruned_")):
        save_model(model, out, tokenizer, report)
        return
    with new_folder(out) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_text(folder / REPORT_FILE, json.dumps(report, indent=1))


def _size_and_speed(task: dict[str, Any], folder: Path, source: Path) -> dict[str, Any]:
    model, _ = load_model(folder, "float32", task["device"])
    dense, _ = load_model(source, "float32", task["device"])
    size = size_of(model, task["length"], stored_dtype(source))
    prompt = max(1, min(128, task["length"] // 2))
    speeds = speeds_in_turn(
        {"own": model, "dense": dense}, prompt=prompt, new_tokens=min(16, prompt), rounds=task["rounds"]
    )
    own, (prefill, decode) = speeds.median("own"), speeds.ratios("own", to="dense")
    return {
        "parameters": size.parameters,
        "macs": size.macs,
        "cache": size.cache,
        "bytes": size.bytes,
        "speed": {
            "prefill": own.prefill_tokens_per_second,
            "decode": own.decode_tokens_per_second,
            "latency": own.seconds_per_token,
            "prefill ratio": prefill,
            "decode ratio": decode,
        },
    }


def _questions(task: dict[str, Any], tokenizer: Any, held: torch.Tensor) -> list[Question]:
    if task["choices"]:
        return read_questions(task["choices"], tokenizer, longest=task["length"])
    if len(held) < 4 or held.shape[1] < CONTEXT + ENDING:
        return []
    import numpy as np

    rng = np.random.default_rng(0)  # the same questions for every seed of the methods
    return continuation_questions(held, min(CHOICES, len(held)), CONTEXT, ENDING, rng)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _once(kept: Path, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if not kept.exists():
        write_text(kept, json.dumps(measure()))
    return json.loads(kept.read_text(encoding="utf-8"))


class ProgressFile:
    """A ``Progress`` that writes what is being done to a file, for the process that waits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = 0.0

    def __call__(self, iterable: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
        """Iterate, and write down at most twice a second how far it is."""
        for done, item in enumerate(iterable):
            if time.monotonic() - self.last > 0.5:
                self.last = time.monotonic()
                count = total if total is not None else (len(iterable) if hasattr(iterable, "__len__") else None)  # type: ignore[arg-type]
                write_text(self.path, json.dumps({"description": description, "done": done, "total": count}))
            yield item


if __name__ == "__main__":
    end_with_parent()
    main(Path(sys.argv[1]))
