"""The bound of the output's error by the layers' errors, and the constants that it is made of."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.nn import build_network
from paperworks.papers.modhifi.pruner import ModHiFiPruner
from paperworks.papers.modhifi.studies.arms import Arms
from paperworks.papers.modhifi.theory import (
    attention_bound,
    bert_tail_constant,
    error_bound,
    layer_norm_bound,
    least_deviation,
    spectral_bound,
    stretch_of,
    tail_constant,
)


def test_norms_of_convolutions_are_bounded() -> None:
    for options in ({}, {"stride": 2}, {"padding": 1, "groups": 2}, {"stride": 3}):
        layer = nn.Conv2d(4, 6, 3, bias=False, **options).double()  # type: ignore[arg-type]
        columns = torch.eye(4 * 36, dtype=torch.float64).view(-1, 4, 6, 6)
        true = float(torch.linalg.matrix_norm(layer(columns).flatten(1).detach(), 2))
        assert true <= spectral_bound(layer) * (1 + 1e-12)
        assert spectral_bound(layer) < 4 * true
    linear = nn.Linear(5, 3)
    assert spectral_bound(linear) == pytest.approx(float(torch.linalg.matrix_norm(linear.weight.detach(), 2)))


def test_strided_and_dilated_kernels_and_repeated_means_are_bounded() -> None:
    layer = nn.Conv2d(1, 1, 3, bias=False, stride=2, dilation=2).double()
    nn.init.ones_(layer.weight)
    columns = torch.eye(15 * 15, dtype=torch.float64).view(-1, 1, 15, 15)
    true = float(torch.linalg.matrix_norm(layer(columns).flatten(1).detach(), 2))
    assert 7 < true <= spectral_bound(layer) < 9.1  # every kernel position sees the same inputs: 3 x 3
    for size, sides in ((1, 4), (2, (3, None)), (5, 3)):
        pool = nn.AdaptiveAvgPool2d(sides)
        columns = torch.eye(size * size).view(-1, 1, size, size)
        assert float(torch.linalg.matrix_norm(pool(columns).flatten(1), 2)) <= stretch_of(pool) * (1 + 1e-6)
    assert stretch_of(nn.AdaptiveAvgPool2d(1)) == 1


def test_a_layer_that_is_called_twice_has_no_constant() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(self.layer(x))

    with pytest.raises(InputError, match="2 times"):
        tail_constant(Twice(), "layer")


def test_batch_norm_and_layer_norm_stretch_no_more_than_they_say() -> None:
    norm = nn.BatchNorm1d(4).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -3, 0.5, 2]))
        assert norm.running_var is not None
        norm.running_var.copy_(torch.tensor([1.0, 4, 0.01, 1]))
    matrix = torch.autograd.functional.jacobian(lambda x: norm(x[None])[0], torch.randn(4))
    assert float(torch.linalg.matrix_norm(matrix, 2)) == pytest.approx(stretch_of(norm), rel=1e-4)
    layer = nn.LayerNorm(6).double()
    x, y = torch.randn(2, 200, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    least = min(least_deviation(x), least_deviation(y))
    ratio = (layer(x) - layer(y)).norm(dim=1) / (x - y).norm(dim=1)
    assert float(ratio.max()) <= layer_norm_bound(layer.weight, least)
    with pytest.raises(InputError, match="above 0"):
        layer_norm_bound(layer.weight, 0.0)


def test_attention_stretches_no_more_than_its_bound() -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True).double().eval()
    weights = [
        torch.cat([w, b[:, None]], 1)
        for w, b in zip(
            attention.in_proj_weight.detach().chunk(3), attention.in_proj_bias.detach().chunk(3), strict=True
        )
    ]
    out = attention.out_proj.weight.detach()
    x = torch.randn(50, 5, 8, dtype=torch.float64)
    y = x + 0.3 * torch.randn(50, 5, 8, dtype=torch.float64)
    norm = float(torch.cat([x, y]).norm(dim=2).max())
    bound = attention_bound(*weights, out, 2, 5, norm)  # type: ignore[arg-type]
    with torch.no_grad():
        apart = (attention(x, x, x)[0] - attention(y, y, y)[0]).flatten(1).norm(dim=1)
    assert float((apart / (x - y).flatten(1).norm(dim=1)).max()) <= bound


@pytest.mark.parametrize("residual", [True, False])
def test_the_bound_holds_for_convolutional_networks(residual: bool) -> None:
    model = build_network("small-cnn", image_size=6, widths=(6, 8), residual=residual).double().eval()
    x = torch.randn(30, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    arms = Arms(model, x)
    for compensation in ("none", "scalar"):
        made = arms.masked(0.5, "rowsum", compensation=compensation, statistics=False, restore_mean=False)
        found = error_bound(model, made, x)
        assert 0 < found.output <= found.bound
        assert found.measured_ratio <= max(found.constants.values())
    first, second = (tail_constant(model, f"blocks.0.conv{k}") for k in (1, 2))
    block = model.get_submodule("blocks.0")
    inside = stretch_of(block.norm1) * spectral_bound(block.conv2)  # type: ignore[arg-type]
    assert first == pytest.approx(second * inside)


def test_a_residual_connection_adds_its_own_stretch() -> None:
    def constant(residual: bool) -> float:
        model = build_network("small-cnn", image_size=6, widths=(4, 4), blocks=2, residual=residual, seed=2)
        return tail_constant(model.eval(), "blocks.0.conv2")

    assert constant(True) > constant(False) > 0


def test_arms_of_a_study_are_what_the_pruner_makes() -> None:
    model = build_network("small-cnn", image_size=6, widths=(6, 8), seed=3).eval()
    x = torch.rand(40, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    made = Arms(model, x).masked(0.5, "energy")
    one = ModHiFiPruner(0.5, "channels", scope="group", score="energy").fit(model, x)
    torch.testing.assert_close(made(x), one.model_(x), rtol=1e-4, atol=1e-4)


def test_the_bound_holds_for_a_transformer() -> None:
    from transformers import BertConfig, BertModel

    torch.manual_seed(1)
    config = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
    dense = BertModel(config, add_pooling_layer=False).double().eval()
    made = BertModel(config, add_pooling_layer=False).double().eval()
    made.load_state_dict(dense.state_dict())
    path = "encoder.layer.0.output.dense"
    with torch.no_grad():
        made.get_submodule(path).weight[:, :12] = 0  # type: ignore[index]
    ids = torch.randint(0, 30, (6, 5), generator=torch.Generator().manual_seed(2))
    least: dict[str, float] = {}
    local = []

    def note(name: str):  # type: ignore[no-untyped-def]
        def hook(_module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            least[name] = min(least.get(name, 1e9), least_deviation(args[0]))

        return hook

    def apart(_module: nn.Module, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        local.append(float((out - made.get_submodule(path)(args[0])).square().sum()))

    for model in (dense, made):
        for name, module in model.named_modules():
            if name.endswith("LayerNorm"):
                module.register_forward_pre_hook(note(name))
    dense.get_submodule(path).register_forward_hook(apart)  # type: ignore[arg-type]
    with torch.no_grad():
        error = (dense(ids).last_hidden_state - made(ids).last_hidden_state).square().sum()
    constant = bert_tail_constant(made, 0, least, 5)
    assert 0 < float(error) <= constant**2 * local[0]


def test_bad_questions() -> None:
    model = build_network("tiny-vit", image_size=6, patch_size=3, width=8, layers=1, heads=2)
    with pytest.raises(InputError, match=r"fx|known"):
        tail_constant(model, "blocks.0.linear2")
    plain = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(InputError, match="edited"):
        error_bound(plain, plain, torch.randn(2, 3))
    with pytest.raises(InputError, match="zero padding"):
        stretch_of(nn.Softmax())
