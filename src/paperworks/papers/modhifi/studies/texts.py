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
from paperworks.runs import Finding, Run, largest

SCORES = ("energy", "magnitude", "random", "singleton")
WAYS: dict[str, dict[str, Any]] = {"none": {"compensation": "none", "restore_mean": False}, "rescaled": {}}


def _sentences(seed: int, calibration: int, held: int) -> tuple[list[str], list[str]]:
    from paperworks.language import bundled_text

    lines = [t.strip() for t in bundled_text("train").split("\n") if 8 <= len(t.split()) <= 60]
    order = np.random.default_rng(seed).permutation(len(lines))[: calibration + held]
    chosen = [" ".join(lines[i].split()[:30]) for i in order]
    return chosen[:calibration], chosen[calibration:]


@runs.study(
    claims=["language-model-pruning"],
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
        return found

    rows = by_seed(run, "encoder", fast, measure, 3)
    yield from _compared(rows)
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


@runs.study(
    claims=["local-to-global-bound"],
    title="all-MiniLM-L6-v2: the bound for an edit of the last feed-forward layer",
    minutes=1,
)
def last_layer(run: Run, fast: bool) -> Iterator[Finding]:
    """Both sides of the bound on held-out sentences. Behind the layer there is one LayerNorm only.

    The constants of earlier layers multiply those of all blocks behind them: no error could exceed such a bound.
    """
    model = load_text_model("minilm", "cpu")
    calibration, held = _sentences(0, *((48, 12) if fast else (512, 64)))
    arms = Arms(model.module, model.batches(calibration), size=32)
    batch = model.batches(held, len(held))[0]
    number = len(model.module.get_submodule("encoder.layer")) - 1  # type: ignore[arg-type]
    block = f"encoder.layer.{number}.output"
    worst, said = 0.0, []
    for gone in (0.2, 0.4):
        edited = copy.deepcopy(model.module)
        made = arms.masked(gone, "energy", statistics=False, restore_mean=False).get_submodule(f"{block}.dense")
        edited.get_submodule(f"{block}.dense").load_state_dict(made.state_dict())
        error, local, least = _both_sides(model.module, edited.eval(), batch, block)
        constant = bert_tail_constant(edited, number, {f"{block}.LayerNorm": least}, batch["input_ids"].shape[1])
        worst = largest((worst, error / (constant * local)))
        said.append(f"{gone:.0%} gone: error {error:.3g}, of the layer {local:.3g}, constant {constant:.3g}")
    yield Finding(
        "local-to-global-bound",
        "MiniLM, last feed-forward layer edited: error of the hidden states over its bound by the layer's error, worst",
        "exact",
        worst,
        "<=",
        1,
        detail="; ".join(said),
    )


def _both_sides(
    dense: torch.nn.Module, edited: torch.nn.Module, batch: dict[str, torch.Tensor], block: str
) -> tuple[float, float, float]:
    """Root mean square errors of the last hidden states and of the edited layer; the LayerNorm's least deviation."""
    read: list[torch.Tensor] = []
    made: list[torch.Tensor] = []
    handles = []
    for module in (dense, edited):
        norm, layer = module.get_submodule(f"{block}.LayerNorm"), module.get_submodule(f"{block}.dense")
        handles.append(norm.register_forward_pre_hook(lambda _m, args: read.append(args[0])))
        handles.append(layer.register_forward_hook(lambda _m, _a, out: made.append(out)))
    with torch.no_grad():
        out = [module(**batch).last_hidden_state for module in (dense, edited)]
    for handle in handles:
        handle.remove()
    error, local = (
        float((a - b).double().square().sum() / len(a)) ** 0.5 for a, b in ((out[0], out[1]), (made[0], made[1]))
    )
    return error, local, min(least_deviation(x) for x in read)


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
