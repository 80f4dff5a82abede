"""ModHiFi-P: compensation against least squares, the rule of unions, cuts equal to masks, and every option."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.nn import build_network
from paperworks.papers.modhifi import ModHiFiPruner
from paperworks.papers.modhifi.compensation import Target, compensated, ridge_of, without_dropped
from paperworks.papers.modhifi.fidelity import optimal_scales
from paperworks.papers.modhifi.layers import layer_at
from paperworks.papers.modhifi.method import TAXONOMY, prune_module
from paperworks.papers.modhifi.moments import collect
from paperworks.papers.modhifi.scores import similarity_matrix
from paperworks.papers.modhifi.selection import prunable_groups, union_of_best, unit_scores
from paperworks.pruning import reestimate_norms
from paperworks.pruning.module_job import ModuleJob
from paperworks.structure.trace import analyze, save_cut


@pytest.fixture(scope="module")
def cnn() -> nn.Module:
    """A residual network with statistics of its own inputs."""
    model = build_network("small-cnn", image_size=8, outputs=4, widths=(6, 8))
    reestimate_norms(model, images(96))
    return model.eval()


def images(n: int = 48, seed: int = 0) -> torch.Tensor:
    made = torch.rand(n, 1, 2, 2, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(made, (8, 8), mode="bilinear")


def conv_target(samples: int = 12) -> tuple[nn.Conv2d, torch.Tensor, Any, Target]:
    layer = nn.Conv2d(5, 3, 3, padding=1, bias=False).double()
    x = torch.randn(samples, 5, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    x[:, 3] = x[:, 0] + 0.3 * x[:, 3]
    model = nn.Sequential(layer)
    return layer, x, layer_at(model, "0"), Target.of(collect(model, [x], ["0"])["0"].matrix())


def test_scalar_compensation_is_least_squares_on_contributions_of_each_output() -> None:
    layer, x, one, target = conv_target()
    dropped = torch.tensor([False, True, False, True, False])
    kept = [0, 2, 4]
    matrix = compensated(one.matrix(), target, one.blocks(), dropped, ridge=0)
    for c in range(3):
        y = layer(x)[:, c].detach().flatten().numpy()
        alone = [nn.functional.conv2d(x[:, [i]], layer.weight[[c]][:, [i]], padding=1).detach().flatten() for i in kept]
        solution, *_ = np.linalg.lstsq(torch.stack(alone).numpy().T, y, rcond=None)
        expected = one.matrix()[c].view(5, 9)[kept] * torch.from_numpy(solution)[:, None]
        torch.testing.assert_close(matrix[c].view(5, 9)[kept], expected)
        q = similarity_matrix(one.matrix()[c], target.gram[0], one.blocks())
        np.testing.assert_allclose(optimal_scales(q, kept)[kept].numpy(), solution, rtol=1e-6)
    assert bool((matrix.view(3, 5, 9)[:, dropped] == 0).all())


def test_errors_of_the_modes_are_ordered() -> None:
    layer, x, one, target = conv_target()
    dropped = torch.tensor([False, True, False, True, False])
    matrix = one.matrix()
    errors = {
        mode: target.error(matrix, compensated(matrix, target, one.blocks(), dropped, mode=mode, ridge=0))
        for mode in ("none", "scalar", "kernel")
    }
    assert errors["kernel"] <= errors["scalar"] + 1e-9 <= errors["none"] + 2e-9
    assert errors["kernel"] < 0.8 * errors["none"]
    edited = copy.deepcopy(layer)
    layer_at(nn.Sequential(edited), "0").write(compensated(matrix, target, one.blocks(), dropped, ridge=0))
    direct = float((layer(x) - edited(x)).detach().square().sum() / len(x))
    assert errors["scalar"] == pytest.approx(direct)
    assert target.energy(matrix) == pytest.approx(float(layer(x).detach().square().sum() / len(x)))


def test_one_solve_for_a_linear_layer_equals_the_scales_of_every_output() -> None:
    layer = nn.Linear(6, 4, bias=False).double()
    x = torch.randn(50, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(8)) @ torch.randn(
        6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(9)
    )
    one = layer_at(nn.Sequential(layer), "0")
    target = Target.of(collect(nn.Sequential(layer), [x], ["0"])["0"].matrix())
    dropped = torch.tensor([True, False, False, True, False, False])
    found = compensated(one.matrix(), target, one.blocks(), dropped, ridge=0)
    kept = (~dropped).nonzero().flatten()
    for c in range(4):
        q = similarity_matrix(one.matrix()[c], target.gram[0], one.blocks())
        torch.testing.assert_close(found[c], one.matrix()[c] * optimal_scales(q, kept))


def test_a_large_ridge_leaves_the_weights() -> None:
    _, _, one, target = conv_target()
    dropped = torch.tensor([False, True, False, False, False])
    zeroed = without_dropped(one.matrix(), one.blocks(), dropped)
    for mode in ("scalar", "kernel"):
        far = compensated(one.matrix(), target, one.blocks(), dropped, mode=mode, ridge=1e9)
        torch.testing.assert_close(far, zeroed, rtol=1e-6, atol=1e-6)
    assert ridge_of(torch.tensor([2.0, 4.0]), 0.5, "relative") == 1.5
    assert ridge_of(torch.tensor([2.0, 4.0]), 0.5, "absolute") == 0.5


def test_grouped_convolutions_are_compensated_group_by_group() -> None:
    layer = nn.Conv2d(6, 4, 3, groups=2, bias=False).double()
    x = torch.randn(20, 6, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(10))
    x[:, 5] = x[:, 3]
    one = layer_at(nn.Sequential(layer), "0")
    target = Target.of(collect(nn.Sequential(layer), [x], ["0"])["0"].matrix())
    dropped = torch.tensor([False, False, True])
    before = target.error(one.matrix(), without_dropped(one.matrix(), one.blocks(), dropped))
    found = compensated(one.matrix(), target, one.blocks(), dropped, mode="kernel", ridge=0)
    assert target.error(one.matrix(), found) < 0.75 * before
    second = found.view(4, 3, 9)[2:]
    torch.testing.assert_close(
        second[:, 0], layer.weight.detach().flatten(2)[2:, 0] + layer.weight.detach().flatten(2)[2:, 2]
    )


def test_unions_and_entry_ranks_agree() -> None:
    scores = [torch.tensor([[5.0, 1, 2, 3], [1, 9, 2, 3]]), torch.tensor([[0.0, 1, 2, 9]])]
    assert union_of_best(scores, 0.25).tolist() == [True, True, False, True]
    assert union_of_best(scores, 0.75).tolist() == [True, True, True, True]
    entry = unit_scores(scores, "entry")
    for count in (3, 4):
        best = set(entry.argsort(descending=True)[:count].tolist())
        assert best == set(range(4)) - ({2} if count == 3 else set())
    assert unit_scores(scores, "share").argmax() == 3
    torch.testing.assert_close(
        unit_scores(scores, "sum"), torch.tensor([6.0, 10, 4, 6]) / 26 + torch.tensor([0.0, 1, 2, 9]) / 12
    )
    with pytest.raises(InputError, match="above 0"):
        union_of_best(scores, 0)
    with pytest.raises(InputError, match="entry"):
        unit_scores(scores, "best")


@pytest.mark.parametrize(
    "options", [{}, {"sequential": True, "compensation": "kernel"}, {"p": 0.1}, {"rounds": 2, "score": "rowsum"}]
)
def test_the_cut_network_is_the_masked_one(cnn: nn.Module, options: dict[str, Any]) -> None:
    state = copy.deepcopy(cnn.state_dict())
    smaller = ModHiFiPruner(0.6, **options).fit(cnn, images())
    masked = ModHiFiPruner(0.6, mode="mask", **options).fit(cnn, images())
    assert smaller.report_.kept == masked.report_.kept
    torch.testing.assert_close(smaller.model_(images(9, 1)), masked.model_(images(9, 1)), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, cnn.state_dict()[name]) for name, value in state.items())
    before, after = smaller.report_.macs
    assert after < before
    if "p" not in options:
        assert 0.5 < after / before <= 0.6
    assert sum(p.numel() for p in smaller.model_.parameters()) == smaller.report_.parameters[1]


def test_a_transposed_convolution_is_named_where_it_reads_and_not_where_it_makes() -> None:
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 3, 2), nn.ReLU(), head).eval()
    found, notes = prunable_groups(analyze(model, torch.randn(2, 1, 6, 6)), model)
    assert list(found) == ["2/channel"]
    assert notes == ["0/channel stays: no linear layer or convolution reads it"]


def test_kept_units_of_several_rounds_are_numbered_as_in_the_dense_network(cnn: nn.Module) -> None:
    one = ModHiFiPruner(0.5, "channels", rounds=3, score="magnitude", compensation="none", statistics=False)
    report = one.fit(cnn, images()).report_
    sizes = {name: len(ids) for name, ids in report.kept.items()}
    assert sum(sizes.values()) == pytest.approx(0.5 * sum(report.sizes.values()), abs=len(sizes))
    weight = one.model_.get_submodule("blocks.0.conv1").weight
    rows = list(report.kept["blocks.0.conv1/channel"])
    columns = list(report.kept["stem.0/channel"])
    torch.testing.assert_close(weight, cnn.get_submodule("blocks.0.conv1").weight[rows][:, columns])
    assert {change.round for change in report.layers} == {1, 2, 3}


def test_a_target_of_one_changes_nothing(cnn: nn.Module) -> None:
    one = ModHiFiPruner(1.0, statistics=False).fit(cnn, images())
    torch.testing.assert_close(one.model_(images()), cnn(images()))
    assert one.report_.macs[0] == one.report_.macs[1]


def test_compensation_and_statistics_bring_outputs_nearer(cnn: nn.Module) -> None:
    x, new = images(96), images(40, 5)
    wanted = cnn(new).detach()

    def error(**options: Any) -> float:
        one = ModHiFiPruner(0.5, "channels", scope="group", score="energy", **options).fit(cnn, x)
        return float((one.model_(new) - wanted).detach().square().mean())

    none = error(compensation="none", statistics=False, restore_mean=False)
    both = error()
    assert both < 0.5 * none


def test_the_mean_of_a_layer_without_norm_goes_to_its_bias() -> None:
    model = build_network("mlp", image_size=4, outputs=3, hidden=(12,), seed=3)
    x = torch.rand(64, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    for options in ({"compensation": "none"}, {}, {"sequential": True}):
        one = ModHiFiPruner(0.5, "channels", **options).fit(model, x)
        torch.testing.assert_close(one.model_(x).mean(0), model(x).mean(0), rtol=1e-4, atol=1e-4)
    shifted = ModHiFiPruner(0.5, "channels", compensation="none", restore_mean=False).fit(model, x)
    assert float((shifted.model_(x).mean(0) - model(x).mean(0)).detach().abs().max()) > 1e-3


def test_sequential_compensation_sees_the_edited_layers() -> None:
    model = build_network("mlp", image_size=4, outputs=3, hidden=(16, 16), seed=4).double()
    x = torch.rand(200, 1, 4, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    options: dict[str, Any] = {"of": "channels", "scope": "group", "held_out": 0.0, "ridge": 1e-9}
    errors = [
        float((ModHiFiPruner(0.5, sequential=s, **options).fit(model, x).model_(x) - model(x)).detach().square().mean())
        for s in (False, True)
    ]
    assert errors[1] < errors[0]


def test_a_compensation_that_does_not_generalise_is_not_made() -> None:
    model = build_network("mlp", image_size=8, outputs=4, hidden=(64,), seed=5)
    x = torch.randn(24, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    options: dict[str, Any] = {"of": "channels", "ridge": 0.0, "restore_mean": False}
    report = ModHiFiPruner(0.5, **options).fit(model, x).report_
    assert [change.compensated for change in report.layers] == [False]
    assert report.layers[0].fidelity == report.layers[0].fidelity_zeroed
    assert any("more samples" in note for note in report.notes)
    trusting = ModHiFiPruner(0.5, held_out=0.0, **options).fit(model, x).report_
    assert trusting.layers[0].compensated


@pytest.mark.parametrize("name", ["tiny-vit", "mlp"])
def test_transformers_and_perceptrons_lose_inner_features(name: str) -> None:
    small = {"width": 16, "layers": 2, "heads": 2} if name == "tiny-vit" else {"hidden": (20, 12)}
    model = build_network(name, image_size=8, outputs=4, **small)
    one = ModHiFiPruner(0.7, "params").fit(model, images(96))
    assert all(kind.endswith("/ffn") for kind in one.report_.kept)
    assert one.report_.parameters[1] <= 0.7 * one.report_.parameters[0]
    assert all(change.fidelity >= change.fidelity_zeroed - 1e-6 for change in one.report_.layers)


def test_mappings_with_masks_are_calibrated_without_padding() -> None:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    model = BertModel(config, add_pooling_layer=False).eval()
    ids = torch.randint(0, 40, (20, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[:, 4:] = 0
    padded = {"input_ids": ids, "attention_mask": mask}
    other = {"input_ids": torch.where(mask.bool(), ids, 3), "attention_mask": mask}
    kept = [ModHiFiPruner(0.5, "channels", batch_size=20).fit(model, x).report_ for x in (padded, other)]
    assert kept[0].kept == kept[1].kept
    assert kept[0].layers[0].fidelity == pytest.approx(kept[1].layers[0].fidelity, abs=1e-6)


def test_method_for_comparisons_meets_its_cost(cnn: nn.Module) -> None:
    made = prune_module(ModuleJob(cnn, images(2), 0.5, unlabelled=images(), device="cpu"))
    before = ModuleJob(cnn, images(2), 0.5).dense_cost().macs
    after = ModuleJob(made.module, images(2), 0.5).dense_cost().macs
    assert after <= 0.5 * before
    assert made.steps == 0
    assert TAXONOMY.data == "unlabelled"
    with pytest.raises(InputError, match="fidelity"):
        prune_module(ModuleJob(cnn, images(2), 0.5, device="cpu"))


def test_cut_networks_are_saved_and_groups_can_be_named(cnn: nn.Module, tmp_path: Any) -> None:
    one = ModHiFiPruner(0.5, "channels", groups=["blocks.0.conv1/channel"], ignore=["head.*"]).fit(cnn, images())
    assert list(one.report_.kept) == ["blocks.0.conv1/channel"]
    assert len(one.report_.kept["blocks.0.conv1/channel"]) == 3
    assert (save_cut(one.model_, tmp_path / "cut") / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 0}, "target"),
        ({"target": 1.5}, "target"),
        ({"p": 0}, "p"),
        ({"p": 0.1, "score": "random"}, "contributions"),
        ({"rounds": 0}, "rounds"),
        ({"score": "rowsun"}, "rowsum"),
        ({"rank": "best"}, "rank"),
        ({"of": "flops"}, "macs"),
        ({"compensation": "all"}, "scalar"),
        ({"ridge": -1.0}, "ridge"),
        ({"ridge_mode": "mean"}, "relative"),
        ({"center": "mean"}, "center"),
        ({"held_out": 1.0}, "held_out"),
        ({"mode": "hide"}, "cut"),
        ({"seed": -1}, "seed"),
        ({"batch_size": 1}, "batch_size"),
        ({"multiple_of": 0}, "multiple_of"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ModHiFiPruner(**options)


def test_bad_input(cnn: nn.Module) -> None:
    for options, x, message in (
        ({}, images(1), "2 or more"),
        ({}, torch.empty(0, 1, 8, 8), "at least one"),
        ({"target": 0.001}, images(), "at least"),
        ({"kinds": ("head",)}, images(), "no group of kind head"),
        ({"groups": ["nothing"]}, images(), "a group of this model"),
    ):
        with pytest.raises(InputError, match=message):
            ModHiFiPruner(**options).fit(cnn, x)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="reads"):
        ModHiFiPruner().fit(nn.Sequential(nn.Linear(3, 2)), torch.zeros(4, 3))
