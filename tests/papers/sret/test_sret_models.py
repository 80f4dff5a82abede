"""Sizes and costs of the released variants, the transformers interface, the official format, resolution and ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from tiny_sret import SMALL, images, small
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import forked
from paperworks.errors import InputError
from paperworks.papers.sret import (
    SReTConfig,
    SReTForImageClassification,
    SReTModel,
    attention_macs,
    load_official,
    official_state,
    profile,
    resize_positions,
    to_onnx,
)
from paperworks.papers.sret.configuration import variant_config

VARIANTS = [
    ("tiny", {}, 4_755_979, 1.1124, 1.3657),
    ("tiny-large", {}, 4_988_024, 1.1645, 1.4177),
    ("tiny-large", {"groups1": (16, 14, 1), "groups2": (1, 1, 1)}, 4_988_024, 1.2245, 1.4177),
    ("small", {}, 20_899_692, 4.1728, 4.6714),
    ("tiny", {"sliced": False, "image_size": 384}, 4_853_259, 6.408, 6.408),
    ("small", {"sliced": False, "image_size": 384}, 21_091_212, 18.443, 18.443),
    ("small", {"sliced": False, "image_size": 512}, 21_317_004, 42.672, 42.672),
    ("tiny", {"sliced": False, "recursive_num": (4, 10, 6)}, 7_984_582, 1.3657, 1.3657),
    ("tiny", {"sliced": False, "depth": (2, 5, 3)}, 4_176_375, 0.7319, 0.7319),
]
"""Counted on the official code: parameters, and 10^9 multiply-adds with and without slices."""


def on_meta(config: SReTConfig) -> SReTForImageClassification:
    with torch.device("meta"):
        return SReTForImageClassification(config)


@pytest.mark.parametrize(("name", "options", "parameters", "sliced", "unsliced"), VARIANTS)
def test_released_variants_have_the_official_sizes(
    name: str, options: dict[str, object], parameters: int, sliced: float, unsliced: float
) -> None:
    config = variant_config(name, **options)  # type: ignore[arg-type]
    found = profile(config)
    assert sum(p.numel() for p in on_meta(config).parameters()) == found.parameters == parameters
    assert found.macs / 1e9 == pytest.approx(sliced, rel=1e-3)
    assert found.macs_unsliced / 1e9 == pytest.approx(unsliced, rel=1e-3)


def test_multiply_adds_are_those_that_pytorch_counts() -> None:
    for options in ({}, {"groups1": (1, 1), "groups2": (1, 1)}, {"use_nll": False, "stem_strides": (1, 1, 1)}):
        model = small(**options)
        with torch.no_grad(), FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
            model(images(1))
        assert profile(model).macs == counted.get_total_flops() / 2
        assert profile(model).parameters == sum(p.numel() for p in model.parameters())


def test_cost_of_attention() -> None:
    assert [attention_macs(784, 64, g) for g in (1, 2, 4, 8)] == [91_521_024, 52_183_040, 32_514_048, 22_679_552]
    for loops in (2, 4, 7):
        quadratic = [attention_macs(784, 64, g) - 4 * 784 * 64**2 for g in (loops, 1)]
        assert loops * quadratic[0] == quadratic[1]
    with pytest.raises(InputError, match="a divisor of 784"):
        attention_macs(784, 64, 5)
    assert 0 < profile(small()).attention_share < 1
    assert profile(small(), image_size=16).macs > profile(small()).macs
    with pytest.raises(InputError, match="model"):
        profile(torch.nn.Linear(1, 1))


def test_the_spec_s_small_network_has_its_parameters() -> None:
    pairs = {"image_size": (8, 16), "base_dims": (8, 8), "recursive_num": (1, 1), "num_labels": 19}
    for depth, expected in (((1, 1), 17_887), ((2, 2), 20_643)):
        assert profile(SReTConfig(**{**SMALL, **pairs, "depth": depth})).parameters == expected


def test_saved_models_load_to_the_bit_and_evaluation_is_deterministic(tmp_path: Path) -> None:
    from transformers import AutoModel, AutoModelForImageClassification

    model, x = small(), images()
    model.save_pretrained(tmp_path / "m")
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "m")
    with torch.no_grad():
        expected = model(x).logits
        assert torch.equal(model(x).logits, expected)
        assert torch.equal(again(x).logits, expected)
        assert not torch.equal(small(permutation_seed=1)(x).logits, expected)
        features = AutoModel.from_pretrained(tmp_path / "m")(x).pooler_output
        assert torch.equal(model.classifier(features), expected)
    assert isinstance(again, SReTForImageClassification)
    assert isinstance(AutoModel.from_config(SReTConfig(**SMALL)), SReTModel)


def test_auto_classes_know_the_architecture_after_import_paperworks(tmp_path: Path) -> None:
    small().save_pretrained(tmp_path / "m")
    code = (
        "import paperworks\nfrom transformers import AutoModelForImageClassification as A\n"
        f"print(type(A.from_pretrained({str(tmp_path / 'm')!r})).__module__)"
    )
    done = forked.run(forked.code, code, imported=forked.BARE)
    assert done.output.strip() == "paperworks.papers.sret.modeling", done.errors[-2000:]


def test_random_inference_is_there_on_request() -> None:
    model, x = small(permute="always"), images()
    with torch.no_grad():
        assert not torch.equal(model(x).logits, model(x).logits)


def test_outputs_and_loss() -> None:
    model, x = small(), images(3)
    found = model(x, labels=torch.tensor([0, 1, 4]), output_hidden_states=True)
    assert [tuple(m.shape) for m in found.hidden_states] == [(3, 8, 8, 8), (3, 16, 4, 4)]
    expected = torch.nn.functional.cross_entropy(found.logits, torch.tensor([0, 1, 4]))
    assert torch.allclose(found.loss, expected)
    features = model.sret(x)
    assert torch.allclose(features.last_hidden_state.transpose(1, 2).reshape(3, 16, 4, 4), found.hidden_states[1])
    found.loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_gradient_checkpointing_and_decay() -> None:
    model = small()
    model.gradient_checkpointing_enable()
    assert all(stage.gradient_checkpointing for stage in model.sret.stages)
    kept = model.no_weight_decay()
    assert {"sret.positions", "sret.stages.0.blocks.0.coefficients", "classifier.bias", "sret.norm.weight"} <= kept
    assert not any(name.endswith("qkv.weight") for name in kept)


def test_group_norm_does_not_depend_on_the_batch() -> None:
    for norm, same in (("group", True), ("batch", False)):
        model, x = small(stem_norm=norm, permute="fixed").train(), images(4)
        assert torch.allclose(model(x).logits[:1], model(x[:1]).logits, atol=1e-5) == same


def test_official_checkpoints(tmp_path: Path) -> None:
    model = on_meta(variant_config("tiny"))
    official = official_state(model)
    buffers = [name for name in official if "running" in name or "batches" in name]
    assert len(official) == 510
    named = {"patch_embed.conv1.weight", "transformers.0.blocks.2.attn.qkv.weight", "pools.1.conv.bias", "pos_embed"}
    assert named | {"transformers.1.blocks.3.coefficient2.bias", "head.weight", "norm.bias"} <= official.keys()
    assert sum(p.numel() for p in model.parameters()) < sum(official[n].numel() for n in official if n not in buffers)

    narrow = {"base_dims": (4, 4, 4), "heads": (1, 2, 4), "image_size": 32, "num_labels": 3}
    config = variant_config("tiny", **narrow, groups1=(4, 2, 1))
    torch.manual_seed(0)
    model = SReTForImageClassification(config).eval()
    for module in model.modules():
        if getattr(module, "coefficients", None) is not None:
            torch.nn.init.normal_(module.coefficients)
    state = official_state(model)
    distinct = {(v.data_ptr(), v.shape) for n, v in state.items() if "running" not in n and "batches" not in n}
    assert len(distinct) == 341
    torch.save({"model": state, "epoch": 3, "args": argparse.Namespace(lr=1)}, tmp_path / "t.pth")
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(load_official(tmp_path / "t.pth", config)(x).logits, model(x).logits)

    broken = {**state, "transformers.0.blocks.2.mlp.fc1.bias": state["transformers.0.blocks.2.mlp.fc1.bias"] + 1}
    few = {name: value for name, value in state.items() if name != "pools.0.conv.weight"}
    cases = {
        r"transformers\.0\.blocks\.2\.mlp\.fc1\.bias: .*one shared block": broken,
        r"blocks\.2\.coefficient1\.bias": {**state, "transformers.0.blocks.2.coefficient1.bias": torch.ones(1)},
        r"pools\.0\.conv\.weight: found no such tensor": few,
        r"cls_token: found a tensor without a place": {**state, "cls_token": torch.ones(1)},
        r"classifier\.weight: found shape": {**state, "head.weight": torch.ones(4, 16)},
    }
    for message, content in cases.items():
        torch.save({"model": content}, tmp_path / "bad.pth")
        with pytest.raises(InputError, match=message):
            load_official(tmp_path / "bad.pth", config)
    with pytest.raises(InputError, match="one of tiny, tiny-large, small, or the configuration"):
        load_official(tmp_path / "t.pth")
    (tmp_path / "text.pth").write_text("no tensors")
    for name in ("text.pth", "missing.pth"):
        with pytest.raises(InputError, match="path"):
            load_official(tmp_path / name)


def test_a_released_variant_is_recognised(tmp_path: Path) -> None:
    narrow = {"num_labels": 2, "image_size": 32, "groups1": (4, 2, 1)}
    for name in ("tiny", "tiny-large"):
        model = SReTForImageClassification(variant_config(name, **narrow))
        torch.save(official_state(model), tmp_path / f"{name}.pth")
        found = load_official(tmp_path / f"{name}.pth", groups1=(4, 2, 1)).config
        assert (found.mlp_ratio, found.image_size, found.num_labels) == (model.config.mlp_ratio, 32, 2)


def test_another_resolution() -> None:
    model = small()
    with pytest.raises(InputError, match=r"images of 16 x 16; expected 8 x 8.*resize_positions"):
        model(torch.rand(1, 1, 16, 16))
    larger = resize_positions(model, 16)
    assert larger(torch.rand(1, 1, 16, 16)).logits.shape == (1, 5)
    assert larger.sret.positions.shape == (1, 8, 16, 16)
    same = resize_positions(model, 8)
    assert torch.allclose(same(images()).logits, model(images()).logits, atol=1e-5)
    model.sret.positions.data[:] = 0.25
    assert torch.allclose(resize_positions(model, 24).sret.positions, torch.tensor(0.25))
    with pytest.raises(InputError, match=r"groups1\[0\]: found 4 groups of 36 tokens|groups1\[0\]"):
        resize_positions(model, 6, groups1=(5, 1))


@pytest.mark.over_budget("torch.onnx.export takes seconds")
def test_onnx_has_the_fixed_permutations(tmp_path: Path) -> None:
    shallow = small(depth=(2, 2), recursive_num=(1, 1))  # torch takes a second of each use of a block
    assert to_onnx(shallow, tmp_path / "m.onnx") < 1e-5
    with pytest.raises(InputError, match="exists"):
        to_onnx(small(), tmp_path / "m.onnx")
    with pytest.raises(InputError, match="always"):
        to_onnx(small(permute="always"), tmp_path / "n.onnx")
    assert not (tmp_path / "n.onnx").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups1": (5, 1)}, r"groups1\[0\]: found 5 groups of 64 tokens; expected a divisor of 64: 1, 2, 4, 8"),
        ({"groups2": (1, 3)}, r"groups2\[1\]: found 3 groups of 16 tokens"),
        ({"depth": (3, 2)}, r"depth\[0\]: found 3; expected a multiple of the 2 distinct blocks"),
        ({"image_size": 9}, "image_size: found 9 x 9; expected multiples of 2"),
        ({"image_size": (8, 8, 8)}, "image_size"),
        ({"image_size": 12, "stem_strides": (2, 2, 2)}, "multiples of 16"),
        ({"heads": (2,)}, "heads: found 1 values; expected 2"),
        ({"heads": (0, 2)}, r"heads\[0\]"),
        ({"base_dims": (4, 3)}, r"base_dims\[1\]: found a stage of width 12 behind one of 8"),
        ({"permute": "never"}, "permute"),
        ({"share_order": "x"}, "share_order"),
        ({"stem_norm": "layer"}, "stem_norm"),
        ({"stem_strides": (3,)}, "stem_strides"),
        ({"stem_strides": ()}, "stem_strides"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
        ({"mlp_ratio": -1}, "mlp_ratio"),
        ({"permutation_seed": -1}, "permutation_seed"),
        ({"num_channels": 0}, "num_channels"),
    ],
)
def test_bad_configurations_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SReTConfig(**{**SMALL, **options})


def test_drop_path_follows_the_number_of_the_block() -> None:
    config = variant_config("tiny")
    found = [config.drop_path_of(s, b) for s in range(3) for b in range(config.recursive_num[s])]
    assert found == pytest.approx([0.1 * n / 20 for n in (0, 1, 4, 5, 6, 7, 8, 14, 15, 16)])
    with pytest.raises(InputError, match="tiny"):
        variant_config("huge")
