"""Parameter counts in closed form against the formulas of the paper, the official numbers, and built models."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_transformers import KINDS, D, tiny, tiny_config
from transformers import LlamaConfig, OPTConfig, PhiConfig

from paperworks.errors import InputError
from paperworks.papers.slicegpt import predicted_parameters
from paperworks.papers.slicegpt.widths import (
    constant_cuts,
    given_cuts,
    scheduled_cuts,
    target_cuts,
    width_at,
    width_by_variance,
)
from paperworks.structure import cost_of
from paperworks.structure.modeling_sliced import MODEL_CLASSES

PHI2 = {"vocab_size": 51200, "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 32}


def test_official_counts():
    assert predicted_parameters(OPTConfig(), 0.2) == 147_250_880
    assert predicted_parameters(PhiConfig(**PHI2, num_attention_heads=32), 0.2) == 2_391_772_160
    small = {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
    assert round(predicted_parameters(LlamaConfig(**small, num_attention_heads=32), 0.25) / 1e9, 2) == 5.70
    big = {"vocab_size": 32000, "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80}
    llama70 = LlamaConfig(**big, num_attention_heads=64, num_key_value_heads=8)
    assert round(predicted_parameters(llama70, 0.3) / 1e9, 1) == 53.6


def test_opt_125m_has_that_many_parameters_when_it_is_built():
    cost = cost_of(OPTConfig())
    assert cost.dense_parameters == 125_239_296
    config = MODEL_CLASSES["opt"].config_class(
        layer_widths=[{"stream": w} for w in cost.stream_widths(constant_cuts(cost, 608, False))],
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        model = MODEL_CLASSES["opt"](config)
    assert sum(p.numel() for p in model.parameters()) == 147_250_880


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), draw=st.data())
def test_the_count_is_that_of_the_model_at_any_widths(kind, draw):
    slice_head = draw.draw(st.booleans())
    tie = draw.draw(st.booleans())
    config = tiny_config(kind, **({} if kind == "bert" else {"tie_word_embeddings": tie}))
    cost = cost_of(config)
    cuts = draw.draw(st.lists(st.integers(8, D), min_size=cost.cuts, max_size=cost.cuts))
    cuts[-1] = max(cuts[0], cuts[-1]) if slice_head else D
    fields = {k: v for k, v in config.to_dict().items() if k not in ("model_type", "tie_word_embeddings")}
    layer_widths = [{"stream": widths} for widths in cost.stream_widths(cuts)]
    model_class = MODEL_CLASSES[kind]
    more = {"restored": slice_head} if kind == "bert" else {"tie_word_embeddings": False}
    with torch.device("meta"):
        model = model_class(model_class.config_class(**fields, layer_widths=layer_widths, **more))
    assert cost.parameters(cuts, slice_head) == sum(p.numel() for p in model.parameters())
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear) or hasattr(m, "nf")]
    maps = [p for n, p in model.named_parameters() if n.endswith(("_residual.weight", "restore.weight"))]
    pooler = D * D if kind == "bert" else 0
    assert cost.macs(cuts, slice_head) == sum(m.weight.numel() for m in linear) + sum(p.numel() for p in maps) - pooler


@pytest.mark.parametrize("d", [8, 16, 24, 32])
def test_the_llama_form_of_the_paper(d):
    hq, hk, f, v, layers = 32, 16, 48, 96, 3
    expected = v * d + v * D + layers * ((2 * hq + 2 * hk) * d + 3 * f * d + 2 * d * d) + (D - d) * (f + d)
    cost = cost_of(tiny_config("llama"))
    assert cost.parameters(constant_cuts(cost, d, False)) == expected


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt"])
def test_a_tied_head_is_counted_once_before_and_apart_after(kind):
    tied = cost_of(tiny_config(kind, tie_word_embeddings=True))
    untied = cost_of(tiny_config(kind, tie_word_embeddings=False))
    assert untied.dense_parameters - tied.dense_parameters == 96 * D
    assert tied.untied_parameters == untied.dense_parameters
    cuts = constant_cuts(tied, 16, False)
    assert tied.parameters(cuts) == untied.parameters(cuts)
    model = tiny(kind, tie_word_embeddings=True)
    assert cost_of(model) == tied
    assert tied.dense_parameters == sum(p.numel() for p in model.parameters())


def test_the_cache_is_counted_by_key_value_heads():
    assert cost_of(tiny_config("llama")).cache_values == 2 * 3 * 2 * 8
    assert cost_of(tiny_config("bert")).cache_values == 0


@pytest.mark.parametrize(
    ("slicing", "width", "round_to", "d"),
    [
        (0.25, 4096, 8, 3072),
        (0.3, 8192, 8, 5728),
        (0.2, 768, 8, 608),
        (0.3, 2560, 8, 1792),
        (0, 100, 8, 100),
        (0.2, 128, 8, 96),
    ],
)
def test_the_width_of_a_slicing_level(slicing, width, round_to, d):
    assert width_at(slicing, width, round_to) == d


@pytest.mark.parametrize("slicing", [1, 1.5, -0.1, float("nan"), "half", 0.9])
def test_impossible_slicing_levels_are_refused(slicing):
    with pytest.raises(InputError) as caught:
        width_at(slicing, 32, 8)
    assert caught.value.field == "slicing"


@settings(max_examples=60, deadline=None)
@given(target=st.integers(1, 60_000), round_to=st.sampled_from([1, 2, 8]), slice_head=st.booleans())
def test_a_target_gets_the_largest_width_that_meets_it(target, round_to, slice_head):
    cost = cost_of(tiny_config("llama"))
    possible = [d for d in range(8, D + 1) if d % round_to == 0]
    meeting = [d for d in possible if cost.parameters(constant_cuts(cost, d, slice_head)) <= target]
    if meeting and target < cost.dense_parameters:
        assert target_cuts(cost, target, round_to, slice_head)[0] == max(meeting)
    else:
        with pytest.raises(InputError, match=r"target.*parameters for this model"):
            target_cuts(cost, target, round_to, slice_head)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=8, max_size=40), st.floats(0, 0.999), st.sampled_from([1, 4, 8]))
def test_the_width_by_variance_is_the_smallest_that_keeps_enough(values, discarded, round_to):
    spectrum = torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
    d = width_by_variance(spectrum, discarded, round_to)
    total = float(spectrum.sum())
    assert float(spectrum[d:].sum()) <= discarded * total + 1e-9 * total
    assert d == len(values) or d % round_to == 0
    if d - round_to >= 8 and d < len(values):
        assert float(spectrum[d - round_to :].sum()) > discarded * total - 1e-9 * total


def test_lists_and_schedules_of_widths():
    cost = cost_of(tiny_config("llama"))
    assert given_cuts(cost, [16, 24, 32], 8, False) == [16, 16, 24, 24, 32, 32, 32]
    assert given_cuts(cost, [8, 16, 24, 32, 24, 16], 8, False) == [8, 16, 24, 32, 24, 16, 32]
    assert given_cuts(cost, [16, 24, 24], 8, True)[-1] == 24
    assert scheduled_cuts(cost, lambda depth: 0.5 * depth, 8, False) == [32, 24, 24, 24, 16, 16, 32]
    for dims, field in (
        ([16, 24], "dims"),
        ([16, 24, 33], "dims[2]"),
        ([16, 20, 24], "dims[1]"),
        ([0, 8, 8], "dims[0]"),
    ):
        with pytest.raises(InputError) as caught:
            given_cuts(cost, dims, 8, False)
        assert caught.value.field == field
