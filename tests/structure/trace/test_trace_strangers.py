"""Modules as people have them: sizes that other axes share by chance, torch's attention, weight norms, dicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from paperworks.errors import InputError
from paperworks.structure import magnitude_scores
from paperworks.structure.trace import analyze, cut, export_onnx, load_cut, masked_outputs, ranked_plan, save_cut
from paperworks.structure.trace.capture import call
from paperworks.structure.trace.positions import largest_difference


class OneModule(nn.Module):
    """Patches and attention in one module: four patches, four heads, so that the length 4 says nothing by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 4
        self.embed, self.qkv = nn.Linear(6, 10), nn.Linear(10, 3 * 8)
        self.out, self.head = nn.Linear(8, 10), nn.Linear(10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        parts = self.qkv(x).chunk(3, -1)
        q, k, v = (t.reshape(len(x), 4, self.heads, t.shape[-1] // self.heads).transpose(1, 2) for t in parts)
        x = x + self.out((torch.softmax(q @ k.mT, -1) @ v).transpose(1, 2).reshape(len(x), 4, -1))
        return self.head(x.mean(1))


def test_heads_go_where_other_axes_have_their_number_by_chance() -> None:
    torch.manual_seed(0)
    model = OneModule().double().eval()
    groups = analyze(model, torch.randn(2, 4, 6, dtype=torch.float64))
    assert groups["qkv/head"].by_default
    plan = groups.keep({"qkv/head": [0, 2, 3]})
    smaller = cut(groups, plan)
    assert (smaller.heads, smaller.qkv.out_features, smaller.out.in_features) == (3, 18, 6)
    assert largest_difference(masked_outputs(groups, plan), call(smaller, groups.inputs)) < 1e-12
    assert model.heads == 4


class Crossed(nn.Module):
    """Two inputs that meet in torch's own attention, sequence first."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.q, self.kv, self.attention = nn.Linear(5, 16), nn.Linear(3, 16), nn.MultiheadAttention(16, 4, **options)
        self.up, self.out = nn.Linear(16, 12), nn.Linear(12, 2)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        q, kv = self.q(a).relu().transpose(0, 1), self.kv(b).relu().transpose(0, 1)
        return self.out(self.up(self.attention(q, kv, kv)[0].mean(0)).relu())


def test_torchs_attention_keeps_its_widths_and_says_so() -> None:
    torch.manual_seed(0)
    groups = analyze(Crossed(), (torch.randn(2, 7, 5), torch.randn(2, 6, 3)))
    assert not groups["q/ffn"].by_default
    assert "attention, an nn.MultiheadAttention, checks it; after prunable_attention(model)" in str(groups)
    own_keys = analyze(Crossed(add_bias_kv=True), (torch.randn(2, 7, 5), torch.randn(2, 6, 3)))
    assert "with keys of its own, which prunable_attention leaves as it is" in str(own_keys)
    assert groups["up/ffn"].by_default
    cut(groups, ranked_plan(groups, magnitude_scores(groups.model, groups.units), keep=0.5))
    with pytest.raises(InputError, match="Nothing was changed"):
        cut(groups, groups.keep({"q/ffn": range(15)}))


class Modulated(nn.Module):
    """A condition scales channels; how wide it is stands in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.condition, self.a, self.b = nn.Linear(3, 8), nn.Linear(5, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        scale, shift = self.condition(z).split(4, 1)
        return self.b((self.a(x) * scale + shift).relu())


def test_a_size_in_the_code_has_its_line() -> None:
    line = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if ".split(4, 1)" in text)
    groups = analyze(Modulated(), (torch.randn(2, 5), torch.randn(2, 3)))
    assert f"{Path(__file__).name}:{line}" in str(groups)
    with pytest.raises(InputError, match=f":{line}"):
        ranked_plan(groups, magnitude_scores(groups.model, groups.units), keep=0.5)


def _chain(first: nn.Module) -> nn.Sequential:
    return nn.Sequential(first, nn.ReLU(), nn.Linear(8, 2))


def test_weight_norms_say_how_to_take_them_out() -> None:
    inputs = torch.randn(2, 5)
    groups = analyze(_chain(parametrizations.weight_norm(nn.Linear(5, 8))), inputs)
    assert not len(groups)
    with pytest.raises(InputError, match="remove_parametrizations of 0 leaves"):
        ranked_plan(groups, magnitude_scores(groups.model, groups.units), keep=0.5)
    parametrize.remove_parametrizations(groups.model.get_submodule("0"), "weight")
    assert list(analyze(groups.model, inputs)) == ["0/ffn"]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_old_weight_norms_cannot_be_copied() -> None:
    model = _chain(nn.utils.weight_norm(nn.Linear(5, 8)))
    with pytest.raises(InputError, match=r"remove_weight_norm\(model\.0\)") as caught:
        analyze(model, torch.randn(2, 5))
    assert caught.value.field == "model.0.weight"
    nn.utils.remove_weight_norm(model[0])
    assert list(analyze(model, torch.randn(2, 5))) == ["0/ffn"]


class Batched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        return {"logits": self.b(self.a(batch["rows"]).relu())}


def test_a_batch_that_is_a_dict_becomes_onnx(tmp_path: Path) -> None:
    inputs = ({"rows": torch.randn(2, 4)},)
    groups = analyze(Batched(), inputs)
    smaller = cut(groups, groups.keep({"a/ffn": range(3)}))
    assert export_onnx(smaller, inputs, tmp_path / "cut.onnx") < 1e-5


class Lazy(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 6), nn.ReLU(), nn.LazyLinear(2))


def test_a_build_without_sizes_and_a_type_without_kernels_say_so(tmp_path: Path) -> None:
    inputs = torch.randn(2, 4)
    model = Lazy()
    model(inputs)
    groups = analyze(model, inputs)
    smaller = cut(groups, groups.keep({"0/ffn": range(3)}))
    save_cut(smaller, tmp_path / "cut")
    with pytest.raises(InputError, match=r"2\.weight has no size yet"):
        load_cut(tmp_path / "cut", build=Lazy)
    with pytest.raises(InputError, match="onnxruntime"):
        export_onnx(smaller.bfloat16(), inputs.bfloat16(), tmp_path / "cut.onnx")
    assert not (tmp_path / "cut.onnx").exists()
