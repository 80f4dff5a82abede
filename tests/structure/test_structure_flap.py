"""Fluctuation scores against their formula, and biases that stand in for removed units."""

from __future__ import annotations

import pytest
import torch
from tiny_plans import FAMILIES, distance, numel
from tiny_transformers import outputs, same_weights, tiny, token_ids
from transformers import AutoModel, AutoModelForCausalLM

from paperworks.errors import InputError
from paperworks.structure import (
    KeepPlan,
    add_output_biases,
    compensate,
    count,
    per_layer_config,
    prune,
    read_channels,
    save_model,
    stock_config,
    uniform_export,
    units_of,
)


def _inputs_of(model, path, ids, mask=None):
    """What a module reads, [tokens, C]."""
    seen = []
    handle = model.get_submodule(path).register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    outputs(model, ids, **({} if mask is None else {"attention_mask": mask}))
    handle.remove()
    rows = seen[0].reshape(-1, seen[0].shape[-1])
    return rows.double() if mask is None else rows[mask.flatten().bool()].double()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt"])
def test_fluctuations_are_those_of_the_formula(kind):
    model = tiny(kind, **({"num_attention_heads": 8} if kind == "llama" else {}))
    ids, mask = token_ids(4, 12), torch.ones(4, 12, dtype=torch.int64)
    mask[2, 7:] = 0
    units = units_of(model)
    batches = [{"input_ids": ids[i : i + 2], "attention_mask": mask[i : i + 2]} for i in (0, 2)]
    found = read_channels(model, units, batches)
    for key, unit_set in units.items():
        path = unit_set.gates[0].module
        rows = _inputs_of(model, path, ids, mask)
        weight = model.get_submodule(path).weight.detach().double()
        weight = weight if kind == "gpt2" else weight.T  # [in, out]
        metric, power = [], []
        for c in range(rows.shape[1]):
            norm = sum(float(w) ** 2 for w in weight[c])
            mean = float(rows[:, c].sum()) / len(rows)
            metric.append(sum((float(x) - mean) ** 2 for x in rows[:, c]) / len(rows) * norm)
            power.append(float(rows[:, c].square().mean()) * norm)
        middle = sum(metric) / len(metric)
        spread = (sum((m - middle) ** 2 for m in metric) / len(metric)) ** 0.5
        width = len(metric) // unit_set.n_units  # a group's channels lie side by side
        for unit in range(unit_set.n_units):
            own = range(unit * width, (unit + 1) * width)
            expected = sum((metric[c] - middle) / spread for c in own) / width
            assert float(found[key].standardised[unit]) == pytest.approx(expected, rel=1e-3, abs=1e-4)
            assert float(found[key].wanda[unit]) == pytest.approx(sum(power[c] for c in own), rel=1e-4)


def _constant_channels(model, family):
    """Make channels 3 and 4 of the feed-forward of layer 1 the same for all tokens, and not 0. False: it cannot be."""
    units = units_of(model, ["ffn"])
    reads = [piece for piece in units[1, "ffn"].slices if piece.param.endswith(".bias")]
    if not reads:
        return False
    with torch.no_grad():
        for piece in units[1, "ffn"].slices:
            if piece in reads:
                continue
            if piece.module != units[1, "ffn"].gates[0].module:
                model.get_parameter(piece.param).index_fill_(piece.axis, piece.index.positions([3, 4]), 0)
        for piece in reads:
            model.get_parameter(piece.param)[piece.index.positions([3, 4])] = torch.tensor([1.5, 0.7])
    return True


@pytest.mark.parametrize("family", ["llama", "phi", "gpt2", "opt", "bert"])
def test_what_constant_units_gave_is_kept(family):
    model, ids = tiny(family, **({"mlp_bias": True} if family == "llama" else {})), token_ids(3, 10)
    assert _constant_channels(model, family)
    plain = outputs(model, ids)
    units = units_of(model)
    channels = read_channels(model, units, [{"input_ids": ids}])
    read = channels[1, "ffn"]
    assert float(read.mean[[3, 4]].abs().min()) > 0.1
    assert float(read.variance[[3, 4]].max()) < 1e-12
    assert float(read.standardised[[3, 4]].max() - read.standardised.min()) < 1e-9
    plan = KeepPlan.of(units, {(1, "ffn"): [u for u in range(units[1, "ffn"].n_units) if u not in (3, 4)]})
    bare = prune(model, plan, inplace=False)
    assert distance(outputs(bare, ids), plain) > 1e-3
    compensate(model, units, plan, channels)
    cut = prune(model, plan)
    assert distance(outputs(cut, ids), plain) < 1e-5
    with torch.no_grad():
        shifted = token_ids(3, 10, seed=8)  # constant for these tokens as well
        assert torch.isfinite(outputs(cut, shifted)).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_added_biases_are_counted_saved_and_loaded(tmp_path, family):
    model, ids = tiny(family), token_ids(2, 10)
    plain, before = outputs(model, ids), numel(model)
    units = units_of(model)
    channels = read_channels(model, units, [{"input_ids": ids}])
    added = add_output_biases(model)
    assert torch.equal(outputs(model, ids), plain)
    assert numel(model) == before + 32 * 3 * len(added)
    plan = KeepPlan.of(units, {(0, "ffn"): range(20), (2, "kv_group"): [1]})
    compensate(model, units, plan, channels)
    counted = count(model, plan).parameters
    cut = prune(model, plan)
    assert numel(cut) == counted
    assert stock_config(cut) is None
    save_model(cut, tmp_path / "m")
    again = (AutoModel if family == "bert" else AutoModelForCausalLM).from_pretrained(tmp_path / "m").eval()
    assert type(again) is type(cut)
    assert same_weights(again, cut)
    assert torch.equal(outputs(again, ids), outputs(cut, ids))
    if added:
        bias = f"{units[0, 'ffn'].gates[0].module}.bias"
        assert float(again.get_parameter(bias).detach().abs().max()) > 0
        for export in (per_layer_config, uniform_export):
            with pytest.raises(InputError, match="added_biases"):
                export(cut)


def test_a_matrix_without_a_bias_is_named():
    model = tiny("llama")
    units = units_of(model)
    channels = read_channels(model, units, [{"input_ids": token_ids(2, 8)}])
    with pytest.raises(InputError, match=r"down_proj\.bias: found none"):
        compensate(model, units, KeepPlan.of(units, {(0, "ffn"): [1]}), channels)
    compensate(model, units, KeepPlan(), channels)  # nothing goes, nothing is needed
    with pytest.raises(InputError, match="kinds"):
        read_channels(model, units_of(model, ["hidden"]), [{"input_ids": token_ids(2, 8)}])
