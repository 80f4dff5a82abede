"""Every tiny network: a cut equals the masked model, costs equal counts, and what cannot be proven is refused."""

from __future__ import annotations

import pytest
import torch
from tiny_networks import NETWORKS, network
from torch.utils.flop_counter import FlopCounterMode

from paperworks.errors import InputError
from paperworks.structure import magnitude_scores
from paperworks.structure.trace import TracedGroups, analyze, cut, masked_outputs, ranked_plan, verify
from paperworks.structure.trace.capture import call
from paperworks.structure.trace.positions import largest_difference

UNITS = {
    "mlp": {"0/ffn": 12, "3/ffn": 8},
    "residual": {"stem/channel": 8, "a/channel": 12, "b/channel": 16},
    "dense": {"a/channel": 6, "b/channel": 5, "c/channel": 7, "d/channel": 4},
    "chunked": {"a/channel": 6, "b/channel": 6},
    "separable": {"a/channel": 8, "b/conv_group": 4, "back/channel": 6},
    "unet": {"a/conv_group": 4, "down/norm_group": 3, "b/channel": 2},
    "gated": {"a/channel": 8, "squeeze/ffn": 4, "wide/ffn": 10},
    "vit": {"attention.qkv/head": 4, "up/ffn": 28},
    "grouped": {"q/head": 2, "gate/ffn": 18},
    "shared": {"weight/ffn": 7},
    "stacked": {"q/head": 3, "q/channel": 4, "v/channel": 5, "up/channel": 7, "down/channel": 6},
    "mixer": {"tokens1/ffn": 9, "channels1/ffn": 12},
    "two ends": {"a/ffn": 9, "d/ffn": 7},
    "shuffled": {"a/channel": 4, "c/channel": 4},
    "fixed": {"b/ffn": 6, "free/ffn": 10},
    "recurrent": {"out/ffn": 5},
}
"""The groups that a plan includes by default, counted by hand."""


def analysed(name: str) -> TracedGroups:
    model, inputs = network(name)
    return analyze(model, inputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_half_of_every_network_can_go(name: str) -> None:
    groups = analysed(name)
    assert {group.name: group.n_units for group in groups.values() if group.by_default} == UNITS[name]
    plan = ranked_plan(groups, magnitude_scores(groups.model, groups.units), keep=0.5)
    smaller = cut(groups, plan)
    assert largest_difference(masked_outputs(groups, plan), call(smaller, groups.inputs)) < 1e-12
    assert largest_difference(call(groups.model, groups.inputs), call(smaller, groups.inputs)) > 1e-6
    assert groups.cost(plan).parameters == sum(p.numel() for p in smaller.parameters())
    assert groups.cost().parameters == sum(p.numel() for p in groups.model.parameters())
    if name not in (
        "recurrent",
        "grouped",
    ):  # torch's counter leaves out sdpa on the CPU, and adds the LSTM
        for cost, model in ((groups.cost(), groups.model), (groups.cost(plan), smaller)):
            with FlopCounterMode(display=False) as counter:
                call(model, groups.inputs)
            assert cost.macs == counter.get_total_flops() / 2


@pytest.mark.parametrize("name", ["separable", "unet", "vit", "grouped"])
def test_each_group_is_exact_coupled_or_refused(name: str) -> None:
    groups = analysed(name)
    before = {key: value.clone() for key, value in groups.model.state_dict().items()}
    for verdict in verify(groups):
        group = groups[verdict.name]
        if group.by_default:
            assert verdict.result == "exact", verdict
            assert verdict.difference < 1e-12
        elif group.norm_coupled:
            assert verdict.result == "coupled", verdict
    assert all(torch.equal(value, groups.model.state_dict()[key]) for key, value in before.items())


def test_what_stays_has_a_reason_and_a_place() -> None:
    groups = analysed("recurrent")
    text = str(groups)
    assert "into.weight (6 positions): goes through operator aten.lstm" in text
    assert "lstm.weight_hh_l0 (32 positions): goes through operator aten.lstm" in text
    assert "tiny_networks.py:" in text
    assert "head.weight (2 positions): reaches the output of the model" in text
    assert "out/ffn: 5 units\n    out.weight   axis 0\n    out.bias     axis 0\n    head.weight  axis 1" in text


def test_members_of_a_group_by_hand() -> None:
    groups = analysed("grouped")
    members = {(s.param, s.axis): s.index.table.shape[1] for s in groups["q/head"].slices}
    assert members == {
        ("q.weight", 0): 12,
        ("q.bias", 0): 12,
        ("k.weight", 0): 6,
        ("k.bias", 0): 6,
        ("v.weight", 0): 6,
        ("v.bias", 0): 6,
        ("o.weight", 1): 12,
    }
    turned = groups["q/head_dim"]
    assert [s.param for s in turned.buffers] == ["frequency"]  # positions turn pairs of channels: they leave together
    assert turned.slices[0].index.table[0].tolist() == [0, 3, 6, 9, 12, 15, 18, 21]
    assert {s.param for s in groups["table/hidden"].slices} >= {
        "table.weight",
        "norm.weight",
        "o.weight",
        "down.weight",
    }


class Heads(torch.nn.Module):
    """Code that names the number of heads, so that a head less gives other heads instead of an error."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.into, self.out, self.heads = torch.nn.Linear(6, 12), torch.nn.Linear(12, 2), 4
        self.fixed = fixed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.into(x).view(len(x), 4 if self.fixed else self.heads, -1)
        return self.out((x * x.sum(-1, keepdim=True)).flatten(1))


def test_sizes_that_fit_by_chance_are_refused() -> None:
    """4 heads of 3 channels less one are 9 channels; less two are 6: view(n, 4, -1) of 8 would not even fail."""
    torch.manual_seed(0)
    groups = analyze(Heads(fixed=True), torch.randn(3, 6))
    assert not groups["into/block"].by_default
    with pytest.raises(InputError, match="Nothing was changed"):
        cut(groups, groups.keep({"into/block": [0, 2]}))
    own = analyze(Heads(fixed=False), torch.randn(3, 6))
    smaller = cut(own, own.keep({"into/block": [0, 2]}))
    assert smaller.heads == 2
    assert smaller.into.out_features == 6


class Branch(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.choice, self.out = torch.nn.Linear(4, 8), Choice(), torch.nn.Linear(8, 3)
        self.head = torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.out(self.choice(self.into(x)))))


class Choice(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x * 2
        return x


def test_control_flow_on_data_says_where_and_what_to_do(capfd: pytest.CaptureFixture[str]) -> None:
    model = Branch()
    with pytest.raises(InputError) as caught:
        analyze(model, torch.randn(2, 4))
    assert capfd.readouterr() == ("", "")
    assert caught.value.field == "model.choice"
    assert "if x.sum() > 0:" in caught.value.found
    assert "opaque=['choice']" in caught.value.expected
    groups = analyze(model, torch.randn(2, 4), opaque=["choice"])
    assert list(groups) == ["out/ffn"]
    assert "a module left out of the analysis" in str(groups)
    cut(groups, groups.keep({"out/ffn": [1]}))
    assert "forward" not in vars(model.choice)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"example_inputs": "text"}, "example_inputs"),
        ({"ignore": ["nowhere.*"]}, "ignore"),
        ({"opaque": ["nowhere"]}, "opaque"),
        ({"ties": [(("0.weight", 0), ("nowhere", 0))]}, "ties"),
        ({"model": "text"}, "model"),
    ],
)
def test_bad_arguments(change: dict, field: str) -> None:
    model, inputs = network("mlp")
    with pytest.raises(InputError) as caught:
        analyze(**{"model": model, "example_inputs": inputs, **change})
    assert caught.value.field == field


def test_ignored_and_tied_channels() -> None:
    model, inputs = network("mlp")
    assert list(analyze(model, inputs, ignore=["0.*"])) == ["3/ffn"]
    assert list(analyze(model, inputs, ties=[(("3.weight", 0), ("5.weight", 1))])) == ["0/ffn", "3/ffn"]


def test_torchs_own_attention_keeps_its_heads_and_its_feed_forward_can_be_cut() -> None:
    """nn.MultiheadAttention computes its inner width from the embedding's: a head less fails, and is refused."""
    layer = torch.nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
    model = torch.nn.Sequential(torch.nn.Linear(5, 16), layer, torch.nn.Linear(16, 3)).eval()
    groups = analyze(model, torch.randn(2, 6, 5))
    assert [group.name for group in groups.values() if group.by_default] == ["1.linear1/ffn"]
    with pytest.raises(InputError, match="Nothing was changed"):
        cut(groups, groups.keep({"1.self_attn/head": [0, 1]}))
    assert cut(groups, groups.keep({"1.linear1/ffn": range(7)}))[1].linear2.in_features == 7
