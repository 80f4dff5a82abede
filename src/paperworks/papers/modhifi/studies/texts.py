"""All feed-forward layers of all-MiniLM-L6-v2, pruned from unlabelled English; three samples of sentences."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.modhifi.pruner import ModHiFiPruner
from paperworks.papers.modhifi.studies.arms import Arms
from paperworks.papers.modhifi.studies.digits import by_seed
from paperworks.papers.modhifi.text_models import TextModel, load_text_model, mean_cosine, save_text_model
from paperworks.papers.modhifi.theory import bert_tail_constant, least_deviation
from paperworks.runs import Finding, Run

SCORES = ("energy", "magnitude", "random", "singleton")
WAYS: dict[str, dict[str, Any]] = {"none": {"compensation": "none", "restore_mean": False}, "rescaled": {}}


def _sentences(seed: int, calibration: int, held: int) -> tuple[list[str], list[str]]:
    from paperworks.language import bundled_text

    lines = [t.strip() for t in bundled_text("train").split("\n") if 8 <= len(t.split()) <= 60]
    order = np.random.default_rng(seed).permutation(len(lines))[: calibration + held]
    chosen = [" ".join(lines[i].split()[:30]) for i in order]
    return chosen[:calibration], chosen[calibration:]


@runs.study(
    claims=["language-model-pruning", "local-to-global-bound"],
    title="all-MiniLM-L6-v2: 20 and 40 % of the features of all six feed-forward layers",
    minutes=3,
)
def encoder(run: Run, fast: bool) -> Iterator[Finding]:
    """Mean cosine of sentence vectors to those of the dense encoder, by score, with and without rescaling."""
    model = load_text_model("minilm", "cpu")
    sizes = (48, 12) if fast else (512, 64)

    def measure(seed: int) -> dict[str, float]:
        calibration, held = _sentences(seed, *sizes)
        batches = model.batches(calibration)
        arms = Arms(model.module, batches, size=32)
        dense = model.vectors(model.module, held)
        found = {}
        for gone, scores in ((0.2, SCORES), (0.4, SCORES[:2])):
            for score in scores:
                for name, options in WAYS.items():
                    made = arms.masked(gone, score, seed=seed, statistics=False, **options)
                    found[f"{score} {gone} {name}"] = mean_cosine(model, made, held, dense)
                    if (score, gone, name, seed) == ("energy", 0.2, "rescaled", 0):
                        found |= _bound(model, made, held[:16])
        return found

    rows = by_seed(run, "encoder", fast, measure, 3)
    yield from _compared(rows)
    first = {key: float(value[0]) for key, value in rows.items() if key.startswith("bound")}
    yield from _bounded(rows, first)
    yield _reloaded(model, _sentences(0, *sizes))


def _pair(rows: dict[str, np.ndarray], name: str) -> str:
    return f"{rows[f'{name} rescaled'].mean():.3f} (not rescaled {rows[f'{name} none'].mean():.3f})"


def _compared(rows: dict[str, np.ndarray]) -> Iterator[Finding]:
    claim = "language-model-pruning"
    ours = rows["energy 0.2 rescaled"]
    yield Finding(
        claim,
        "20 % gone, energy, rescaled: mean cosine to the dense vectors of at least 0.975",
        "empirical",
        mean_interval(ours, unit="samples of sentences"),
        ">=",
        0.975,
        detail=f"40 % gone: {_pair(rows, 'energy 0.4')}; magnitude {_pair(rows, 'magnitude 0.4')}",
    )
    for score in SCORES[1:]:
        other = rows[f"{score} 0.2 rescaled"]
        yield Finding(
            claim,
            f"20 % gone, both rescaled: energy is better than {score}",
            "empirical",
            mean_interval(ours - other, unit="samples of sentences"),
            ">",
            0,
            baseline=float(other.mean()),
            baseline_name=score,
            detail=f"energy {ours.mean():.3f}",
        )
    for score in SCORES:
        without = rows[f"{score} 0.2 none"]
        yield Finding(
            claim,
            f"20 % gone, {score}: rescaling is better than none",
            "empirical",
            mean_interval(rows[f"{score} 0.2 rescaled"] - without, unit="samples of sentences"),
            ">",
            0,
            baseline=float(without.mean()),
            baseline_name="not rescaled",
            detail=f"rescaled {rows[f'{score} 0.2 rescaled'].mean():.3f}",
        )


def _bound(model: TextModel, made: torch.nn.Module, texts: list[str]) -> dict[str, float]:
    """Error of the last hidden states, errors of the feed-forward layers, and the constants, on some sentences."""
    batch = model.batches(texts, len(texts))[0]
    paths = [f"encoder.layer.{i}.output.dense" for i in range(6)]
    least: dict[str, float] = {}
    local = dict.fromkeys(paths, 0.0)
    handles: list[Any] = []
    between = [_hybrid(model.module, made, paths, number) for number in range(len(paths) + 1)]
    for module in between:
        for path, part in module.named_modules():
            if path.endswith("LayerNorm"):

                def note(_m: Any, args: Any, path: str = path) -> None:
                    least[path] = min(least.get(path, np.inf), least_deviation(args[0]))

                handles.append(part.register_forward_pre_hook(note))
    with torch.no_grad():
        found, dense = [module(**batch).last_hidden_state for module in between][:: len(paths)]
        for handle in handles:
            handle.remove()
        for path in paths:
            edited = made.get_submodule(path)

            def apart(_m: Any, args: Any, out: Any, path: str = path, edited: Any = edited) -> None:
                local[path] = float((out - edited(args[0])).double().square().sum()) / len(texts)

            handles.append(model.module.get_submodule(path).register_forward_hook(apart))
        model.module(**batch)
    for handle in handles:
        handle.remove()
    error = float((dense - found).double().square().sum()) / len(texts)
    tokens = batch["input_ids"].shape[1]
    bound = sum(bert_tail_constant(made, i, least, tokens) * local[path] ** 0.5 for i, path in enumerate(paths))
    largest = bert_tail_constant(made, 0, least, tokens)
    total = sum(value**0.5 for value in local.values())
    return {
        "bound error": error**0.5,
        "bound value": bound,
        "bound constant": largest,
        "bound ratio": error**0.5 / total,
        "bound least": min(least.values()),
    }


def _hybrid(dense: torch.nn.Module, made: torch.nn.Module, paths: list[str], number: int) -> torch.nn.Module:
    """The edited network with the first ``number`` of its edited layers as they were."""
    mixed = copy.deepcopy(made)
    for path in paths[:number]:
        mixed.get_submodule(path).load_state_dict(dense.get_submodule(path).state_dict())
    return mixed.eval()


def _bounded(rows: dict[str, np.ndarray], first: dict[str, float]) -> Iterator[Finding]:
    yield Finding(
        "local-to-global-bound",
        "MiniLM, 20 % gone: error of the last hidden states over its bound by the errors of the six layers",
        "exact",
        first["bound error"] / first["bound value"],
        "<=",
        1,
        detail=f"largest constant {first['bound constant']:.3g}; measured ratio of the error to the sum of the layers' "
        f"{first['bound ratio']:.3g}; least deviation in front of a LayerNorm {first['bound least']:.3g}",
    )


def _reloaded(model: TextModel, texts: tuple[list[str], list[str]]) -> Finding:
    from transformers import AutoModel

    batches = model.batches(texts[0][:64])
    pruner = ModHiFiPruner(0.8, "channels", scope="group", kinds=("ffn",)).fit(model.module, batches)
    with tempfile.TemporaryDirectory() as folder:
        save_text_model(model, pruner.model_, Path(folder) / "pruned")
        again = AutoModel.from_pretrained(Path(folder) / "pruned").eval()
    batch = model.batches(texts[1][:16])[0]
    with torch.no_grad():
        apart = (again(**batch).last_hidden_state - pruner.model_(**batch).last_hidden_state).abs().max()
    return Finding(
        "language-model-pruning",
        "saved, loaded by AutoModel: largest difference of the hidden states",
        "exact",
        float(apart),
        "<=",
        1e-5,
        detail=f"intermediate_size {again.config.intermediate_size} of 1536",
    )
