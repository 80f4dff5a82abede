"""Subset fidelity against least squares on the contributions themselves, exhaustive search, and its own laws."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.modhifi import (
    FidelityAnalyzer,
    hifi_set,
    optimal_scales,
    reconstruction_error,
    singleton_fidelity,
    subset_fidelity,
)
from paperworks.papers.modhifi.layers import ReadLayer, layer_at, readable_layers
from paperworks.papers.modhifi.moments import MomentsOf, batches_of, collect, count_samples, split_batches
from paperworks.papers.modhifi.scores import SCORES, contribution_scores, similarity_matrix, sums


def contributions(layer: nn.Module, x: torch.Tensor, output: int) -> torch.Tensor:
    """A_ci of one output by running the layer on one input channel at a time: [n, samples * places]."""
    groups = int(getattr(layer, "groups", 1))
    linear = isinstance(layer, nn.Linear)
    channels = x.shape[-1] if linear else x.shape[1]
    outputs = layer.weight.shape[0]  # type: ignore[union-attr]
    n = channels // groups
    first = output * groups // outputs * n
    zero = layer(torch.zeros_like(x)).detach()
    rows = []
    for channel in range(first, first + n):
        alone = torch.zeros_like(x)
        index = (..., channel) if linear else (slice(None), channel)
        alone[index] = x[index]
        made = layer(alone).detach() - zero
        rows.append((made[..., output] if linear else made[:, output]).flatten())
    return torch.stack(rows)


LAYERS = {
    "linear": (nn.Linear(5, 4), (6, 3, 5)),
    "stride and padding": (nn.Conv2d(5, 4, 3, stride=2, padding=1), (6, 5, 7, 6)),
    "grouped": (nn.Conv2d(6, 4, (3, 1), groups=2, padding=(1, 0), bias=False), (5, 6, 5, 4)),
    "dilated, reflected": (nn.Conv2d(4, 3, 3, dilation=2, padding=2, padding_mode="reflect"), (5, 4, 6, 6)),
    "same, one axis": (nn.Conv1d(4, 3, 3, padding="same"), (5, 4, 8)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_similarities_by_grams_are_those_of_the_contributions(name: str) -> None:
    layer, shape = LAYERS[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = nn.Sequential(layer).double()
    report = FidelityAnalyzer(center="none").fit(model, x).report_
    samples = shape[0] * shape[1] if isinstance(layer, nn.Linear) else shape[0]
    for output in range(layer.weight.shape[0]):
        a = contributions(layer, x, output)
        q = report.similarity("0", output)
        torch.testing.assert_close(q, a @ a.T / samples, rtol=1e-10, atol=1e-12)
        y = a.sum(0)
        for subset in ([0], [1, 2], [0, 1, 2]):
            part = a[subset].numpy().T
            solution, *_ = np.linalg.lstsq(part, y.numpy(), rcond=None)
            expected = 1 - float(((part @ solution - y.numpy()) ** 2).sum() / (y**2).sum())
            assert subset_fidelity(q, subset) == pytest.approx(expected, abs=1e-8)
            scales = optimal_scales(q, subset)
            np.testing.assert_allclose(scales[subset].numpy(), solution, rtol=1e-6, atol=1e-8)
            assert reconstruction_error(q, scales) == pytest.approx(1 - expected, abs=1e-8)


def test_centred_similarities_by_channel_and_by_map() -> None:
    layer = nn.Conv2d(4, 3, 3, padding=1).double()
    x = torch.randn(8, 4, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 1.5
    model = nn.Sequential(layer)
    found = {c: FidelityAnalyzer(center=c).fit(model, x).report_ for c in ("channel", "map")}
    maps = contributions(layer, x, 1).view(4, 8, 25)
    by_map = (maps - maps.mean(1, keepdim=True)).flatten(1)
    by_channel = (maps - maps.mean((1, 2), keepdim=True)).flatten(1)
    torch.testing.assert_close(found["map"].similarity("0", 1), by_map @ by_map.T / 8)
    torch.testing.assert_close(found["channel"].similarity("0", 1), by_channel @ by_channel.T / 8)


def test_moments_centre_themselves_in_front_of_a_batch_norm() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).eval()
    report = FidelityAnalyzer().fit(model, torch.randn(6, 2, 4, 4)).report_
    assert {path: (layer.center, layer.score) for path, layer in report.layers.items()} == {
        "0": ("channel", "rowsum"),
        "4": ("none", "energy"),
    }


def test_all_scores_are_what_they_say() -> None:
    layer = nn.Conv2d(4, 3, 3, padding=1, bias=False).double()
    x = torch.randn(6, 4, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    one = layer_at(nn.Sequential(layer), "0")
    gram = collect(nn.Sequential(layer), [x], ["0"])["0"].matrix()
    got = {s: contribution_scores(one.matrix(), gram, one.blocks(), s, ridge=0.5) for s in SCORES}
    for c in range(3):
        q = similarity_matrix(one.matrix()[c], gram[0], one.blocks())
        torch.testing.assert_close(got["rowsum"][c], q.sum(1))
        torch.testing.assert_close(got["energy"][c], q.diagonal())
        torch.testing.assert_close(got["alpha"][c], q.sum(1) / q.diagonal())
        torch.testing.assert_close(got["singleton"][c], singleton_fidelity(q))
        assert got["singleton"][c].tolist() == pytest.approx([subset_fidelity(q, [i]) for i in range(4)])
        factor = torch.linalg.cholesky(q + 0.5 * torch.eye(4))
        torch.testing.assert_close(got["cholesky"][c], factor.square().sum(1))
    assert sums(one.matrix(), gram, one.blocks())[2].tolist() == pytest.approx(
        layer(x).square().sum((0, 2, 3)).div(6).tolist()
    )


def test_energy_of_a_linear_layer_is_gram_times_column_norm() -> None:
    layer = nn.Linear(5, 4).double()
    x = torch.randn(30, 5, dtype=torch.float64)
    gram = collect(nn.Sequential(layer), [x], ["0"])["0"].matrix()
    one = ReadLayer("0", layer)
    energy = contribution_scores(one.matrix(), gram, one.blocks(), "energy").sum(0)
    torch.testing.assert_close(energy, gram[0].diagonal() * layer.weight.detach().square().sum(0))


def test_dead_inputs_score_nothing() -> None:
    layer = nn.Linear(3, 2, bias=False).double()
    x = torch.randn(20, 3, dtype=torch.float64)
    x[:, 1] *= 1e-9
    gram = collect(nn.Sequential(layer), [x], ["0"])["0"].matrix()
    one = ReadLayer("0", layer)
    for score in ("alpha", "singleton"):
        assert bool((contribution_scores(one.matrix(), gram, one.blocks(), score)[:, 1] == 0).all())
    assert subset_fidelity(torch.zeros(3, 3), [0]) == 0
    assert singleton_fidelity(torch.zeros(3, 3)).tolist() == [0, 0, 0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 6), rank=st.integers(1, 6))
def test_fidelity_lies_between_0_and_1_and_never_falls(seed: int, n: int, rank: int) -> None:
    a = torch.randn(n, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    q = a @ a.T
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    chain = [subset_fidelity(q, order[:k]) for k in range(n + 1)]
    assert chain[0] == 0
    assert chain[-1] == pytest.approx(1, abs=1e-9)
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(chain))
    scales = optimal_scales(q, order[:1])
    assert reconstruction_error(q, scales) <= reconstruction_error(q, (scales != 0).double()) + 1e-9


def test_naive_is_exhaustive_where_contributions_are_uncorrelated() -> None:
    energy = torch.tensor([3.0, 0.5, 2.0, 1.0, 4.0], dtype=torch.float64)
    q = torch.diag(energy)
    for k in range(1, 6):
        naive, fidelity = hifi_set(q, k)
        exact, best = hifi_set(q, k, method="exact")
        assert sorted(naive) == exact
        assert fidelity == pytest.approx(best)
        assert best == pytest.approx(float(energy.sort(descending=True).values[:k].sum() / energy.sum()))


def test_greedy_takes_a_copy_once_and_naive_takes_it_twice() -> None:
    a = torch.randn(3, 50, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    a = torch.stack([3 * a[0], 3 * a[0], a[1], a[2]])
    q = a @ a.T
    naive, low = hifi_set(q, 2)
    greedy, high = hifi_set(q, 2, method="greedy")
    exact, best = hifi_set(q, 2, method="exact")
    assert sorted(naive) == [0, 1]
    assert high > low + 0.01
    assert high == pytest.approx(best)
    assert set(greedy) & {2, 3}
    assert len(exact) == 2


def test_each_greedy_step_is_the_best_single_addition() -> None:
    a = torch.randn(7, 9, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    q = a @ a.T
    taken: list[int] = []
    for index in hifi_set(q, 7, method="greedy")[0]:
        gains = {i: subset_fidelity(q, [*taken, i]) for i in range(7) if i not in taken}
        assert gains[index] == pytest.approx(max(gains.values()), abs=1e-9)
        taken.append(index)


def test_the_smallest_set_that_reaches_a_fidelity() -> None:
    a = torch.randn(8, 30, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    q = a @ a.T
    for method in ("naive", "greedy", "mc", "exact"):
        chosen, fidelity = hifi_set(q, eta=0.7, method=method, tries=50)
        assert fidelity >= 0.7 - 1e-9
        if method in ("naive", "greedy"):
            assert subset_fidelity(q, chosen[:-1]) < 0.7
    assert len(hifi_set(q, eta=0.7, method="exact")[0]) <= len(hifi_set(q, eta=0.7, method="greedy")[0])
    random, low = hifi_set(q, 3, method="mc", tries=20, seed=3)
    assert (random, low) == hifi_set(q, 3, method="mc", tries=20, seed=3)
    assert low <= hifi_set(q, 3, method="exact")[1] + 1e-12


def test_padding_does_not_count_and_batches_add_up() -> None:
    model = nn.Sequential(nn.Linear(4, 3, bias=False)).double()
    x = torch.randn(6, 5, 4, dtype=torch.float64)
    mask = torch.ones(6, 5, dtype=torch.int64)
    mask[2, 3:] = 0
    with MomentsOf(model, ["0"]) as seen:
        for rows in (slice(0, 4), slice(4, 6)):
            seen.set_mask(mask[rows])
            model(x[rows])
    found = seen.moments()["0"]
    real = x[mask.bool()]
    assert found.rows == len(real) == 28
    torch.testing.assert_close(found.matrix()[0], real.T @ real / 28)
    assert not model[0]._forward_pre_hooks


def test_report_has_a_table_and_shares(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    report = FidelityAnalyzer("singleton").fit(model, torch.randn(40, 4, dtype=torch.float64)).report_
    table = pd.read_parquet(report.to_parquet(tmp_path / "scores.parquet"))
    assert len(table) == 3 * 4 + 2 * 3
    assert table["singleton"].between(0, 1).all()
    assert 0 < report.share_needed("0") <= 1
    assert report.fidelity("2", 1, [0, 1, 2]) == pytest.approx(1)
    assert report.hifi_set("2", 0, k=2)[1] <= 1
    with pytest.raises(InputError, match="path"):
        report.to_parquet(tmp_path / "scores.parquet")
    with pytest.raises(InputError, match="one of 0, 2"):
        report.fidelity("1", 0, [0])
    with pytest.raises(InputError, match="0 to 1"):
        report.similarity("2", 5)


def test_calibration_in_every_form() -> None:
    x = torch.arange(12.0).view(6, 2)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, torch.zeros(6)), batch_size=4)
    assert [len(b) for b in batches_of(loader, 3)] == [3, 1, 2]
    assert [len(b) for b in batches_of(x, 4)] == [4, 2]
    named = batches_of({"input_ids": x, "labels": torch.zeros(6)}, 4)
    assert [list(b) for b in named] == [["input_ids"], ["input_ids"]]
    first, second = split_batches(named, 0.25)
    assert (count_samples(first), count_samples(second)) == (4, 2)
    assert count_samples(split_batches([x[:1]])[1]) == 0


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ([], "at least one"),
        (torch.empty(0, 4), "at least one"),
        (torch.full((2, 4), float("nan")), "finite"),
        (["text"], "tensors"),
    ],
)
def test_bad_calibration(calibration: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        batches_of(calibration)


def test_bad_questions() -> None:
    q = torch.eye(3)
    for call, message in (
        (lambda: hifi_set(q, 4), "1 to 3"),
        (lambda: hifi_set(q), "one of k and eta"),
        (lambda: hifi_set(q, 1, 0.5), "one of k and eta"),
        (lambda: hifi_set(q, eta=1.5), "at most 1"),
        (lambda: hifi_set(q, 1, method="best"), "naive, greedy"),
        (lambda: hifi_set(q, 1, method="mc", tries=0), "1 or more"),
        (lambda: hifi_set(torch.eye(60), 20, method="exact"), "greedy, mc"),
        (lambda: subset_fidelity(q, [3]), "0 to 2"),
        (lambda: subset_fidelity(q, [1, 1]), "each index once"),
        (lambda: subset_fidelity(q[:2], [0]), "square"),
        (lambda: subset_fidelity(q * float("nan"), [0]), "finite"),
        (lambda: FidelityAnalyzer("best"), "rowsum"),
        (lambda: FidelityAnalyzer(center="mean"), "channel"),
        (lambda: FidelityAnalyzer().fit(nn.ReLU(), torch.zeros(2, 2)), "linear layers or convolutions"),
        (lambda: FidelityAnalyzer(layers=["9"]).fit(nn.Sequential(nn.Linear(2, 2)), torch.zeros(2, 2)), "one of 0"),
        (lambda: ReadLayer("x", nn.BatchNorm1d(2)), "Linear"),
    ):
        with pytest.raises(InputError, match=message):
            call()


def test_activations_that_are_not_finite_name_their_layer() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.fill_(float("inf"))
    with pytest.raises(InputError, match="in front of 1"):
        FidelityAnalyzer().fit(model, torch.ones(3, 2))


def test_depthwise_convolutions_are_not_scored() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 2, 1))
    assert readable_layers(model) == ["1"]


@pytest.mark.parametrize("x", [torch.zeros(4, 3, 5, 5, dtype=torch.int64), torch.zeros(4, 1, 5, 5), torch.zeros(4, 3)])
def test_samples_that_the_model_does_not_take_are_refused(x: torch.Tensor) -> None:
    with pytest.raises(InputError, match="inputs that the model takes") as caught:
        FidelityAnalyzer().fit(nn.Sequential(nn.Conv2d(3, 4, 3)), x)
    assert caught.value.field == "calibration"
    assert str(tuple(x.shape)) in caught.value.found
