"""The baselines meet the budget, cut every layer alike, and rank as they say; sizes are those of the running model."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from paperworks.errors import InputError
from paperworks.language import bundled_text, load_model
from paperworks.pruning import BASELINES, PruningJob
from paperworks.pruning.baselines import fill
from paperworks.structure import count, prune, random_scores, read_channels, units_of

TEXT = (bundled_text("test")[:20_000],)


def job_of(folder: Path, state: Path, target: int, **more: object) -> PruningJob:
    return PruningJob(folder, target, TEXT, state, sequences=4, length=16, batch_size=2, **more)  # type: ignore[arg-type]


def target_of(folder: Path, share: float) -> int:
    model, _ = load_model(folder, "float32", "cpu")
    dense = count(model)
    return int(dense.parameters - (1 - share) * dense.prunable)


@pytest.mark.parametrize("name", sorted(BASELINES))
@pytest.mark.parametrize("share", [0.8, 0.5])
def test_the_budget_is_met_within_one_channel_and_layers_are_alike(
    checkpoint: Path, tmp_path: Path, name: str, share: float
) -> None:
    before = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in checkpoint.iterdir()}
    target = target_of(checkpoint, share)
    model = BASELINES[name](job_of(checkpoint, tmp_path, target)).model
    parameters = sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())
    assert target - 3 * 32 < parameters <= target  # a channel is a row of gate and of up, and a column of down
    heads = {layer.self_attn.k_proj.out_features for layer in model.model.layers}
    widths = [layer.mlp.down_proj.in_features for layer in model.model.layers]
    if name != "flap":  # it ranks the units of all layers together
        assert len(heads) == 1
        assert max(widths) - min(widths) <= 1
    assert torch.isfinite(model(input_ids=torch.arange(6)[None]).logits).all()
    assert before == {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in checkpoint.iterdir()}


def test_magnitude_keeps_the_largest_channels(checkpoint: Path, tmp_path: Path) -> None:
    dense, _ = load_model(checkpoint, "float32", "cpu")
    model = BASELINES["magnitude"](job_of(checkpoint, tmp_path, target_of(checkpoint, 0.6))).model
    for old, new in zip(dense.model.layers, model.model.layers, strict=True):
        weight = old.mlp.gate_proj.weight.square().sum(1) + old.mlp.up_proj.weight.square().sum(1)
        weight += old.mlp.down_proj.weight.square().sum(0)
        kept = weight.argsort(descending=True)[: new.mlp.down_proj.in_features].sort().values
        assert torch.equal(new.mlp.gate_proj.weight, old.mlp.gate_proj.weight[kept])


def test_fluctuation_ranks_all_layers_together_and_moves_means_into_biases(checkpoint: Path, tmp_path: Path) -> None:
    dense, tokenizer = load_model(checkpoint, "float32", "cpu")
    with torch.no_grad():
        dense.model.layers[1].mlp.down_proj.weight[:, :24] *= 20
    quiet = tmp_path / "louder"
    dense.save_pretrained(quiet)
    tokenizer.save_pretrained(quiet)
    job = job_of(quiet, tmp_path, target_of(quiet, 0.6))
    model = BASELINES["flap"](job).model
    units = units_of(dense, ["ffn", "kv_group"])
    channels = read_channels(dense, units, job.calibration(tokenizer).batches(2))
    ranked = {key: read.standardised for key, read in channels.items()}
    kept = [layer.mlp.down_proj.in_features for layer in model.model.layers]
    for number, width in enumerate(kept):
        best = ranked[number, "ffn"].argsort(descending=True)[:width].sort().values
        down, whole = model.model.layers[number].mlp.down_proj, dense.model.layers[number].mlp.down_proj.weight
        assert torch.equal(down.weight, whole[:, best])
        gone = sorted(set(range(48)) - set(best.tolist()))
        expected = channels[number, "ffn"].mean[gone] @ whole[:, gone].T.double()
        torch.testing.assert_close(down.bias.double(), expected, rtol=1e-5, atol=1e-8)
    last_kept = min(float(ranked[n, "ffn"].sort(descending=True).values[w - 1]) for n, w in enumerate(kept))
    first_gone = max(float(ranked[n, "ffn"].sort(descending=True).values[w]) for n, w in enumerate(kept) if w < 48)
    assert last_kept >= first_gone - 0.2  # one threshold for all layers, but for the unit that fills the budget up
    assert len(set(kept)) > 1
    with pytest.raises(InputError, match=r"target: .* at least"):
        BASELINES["flap"](job_of(quiet, tmp_path, 1000))


def test_chance_follows_the_seed(checkpoint: Path, tmp_path: Path) -> None:
    target = target_of(checkpoint, 0.6)
    one, same, other = (
        BASELINES["random"](job_of(checkpoint, tmp_path, target, seed=seed)).model.model.layers[0].mlp.gate_proj.weight
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_budget_out_of_reach_names_the_least(checkpoint: Path) -> None:
    model, _ = load_model(checkpoint, "float32", "cpu")
    units = units_of(model, ["ffn", "kv_group"])
    scores = random_scores(units, torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match=r"at least ([\d,]+), the least that") as caught:
        fill(model, units, scores, 1000)
    least = int(str(caught.value).split("at least ")[1].split(", the least")[0].replace(",", ""))
    assert count(prune(model, fill(model, units, scores, least))).parameters == least
