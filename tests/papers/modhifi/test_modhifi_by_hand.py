"""A tiny network by hand: every subset tried on contributions that the layer itself makes, and ModHiFi-P in numpy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from paperworks.papers.modhifi import FidelityAnalyzer, ModHiFiPruner
from paperworks.papers.modhifi.fidelity import Method

INPUTS, OUTPUTS = 6, 3


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    """A convolution, a ReLU, a convolution; the third channel nearly repeats the first."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Conv2d(2, INPUTS, 3, padding=1), nn.ReLU(), nn.Conv2d(INPUTS, OUTPUTS, 3)).double()
    with torch.no_grad():
        model[0].weight[2] = model[0].weight[0] + 0.05 * model[0].weight[2]
    return model.eval()


@pytest.fixture(scope="module")
def samples() -> torch.Tensor:
    return torch.randn(40, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def alone(network: nn.Sequential, samples: torch.Tensor) -> np.ndarray:
    """What each channel gives each output: the second convolution on one channel of its input at a time, bias aside."""
    with torch.no_grad():
        read = network[1](network[0](samples))
        zero = network[2](torch.zeros_like(read))
        found = []
        for channel in range(INPUTS):
            one = torch.zeros_like(read)
            one[:, channel] = read[:, channel]
            found.append((network[2](one) - zero).transpose(0, 1).flatten(1))
    return torch.stack(found, 1).numpy()  # [outputs, inputs, samples and places]


def fitted(a: np.ndarray, chosen: tuple[int, ...]) -> tuple[np.ndarray, float]:
    """Least squares of an output from some contributions: the scales, and the share of the energy that is rebuilt."""
    y = a.sum(0)
    scales, *_ = np.linalg.lstsq(a[list(chosen)].T, y, rcond=None)
    return scales, 1 - float(np.square(scales @ a[list(chosen)] - y).sum() / np.square(y).sum())


@pytest.mark.parametrize("output", range(OUTPUTS))
def test_every_subset_of_a_layer_s_inputs(network: nn.Sequential, samples: torch.Tensor, output: int) -> None:
    report = FidelityAnalyzer(center="none").fit(network, samples).report_
    a = alone(network, samples)[output]
    for size in range(1, INPUTS + 1):
        tried = {chosen: fitted(a, chosen)[1] for chosen in itertools.combinations(range(INPUTS), size)}
        for chosen, fidelity in tried.items():
            assert report.fidelity("2", output, chosen) == pytest.approx(fidelity, abs=1e-9)
        best = max(tried, key=lambda chosen: tried[chosen])
        found, fidelity = report.hifi_set("2", output, size, method="exact")
        assert (tuple(found), fidelity) == (best, pytest.approx(tried[best], abs=1e-9))
        methods: tuple[Method, ...] = ("naive", "greedy", "mc")
        for method in methods:
            assert report.hifi_set("2", output, size, method=method, tries=5)[1] <= tried[best] + 1e-9
        if size == 1:
            naive, _ = report.hifi_set("2", output, 1)
            assert tuple(naive) == best


@pytest.mark.parametrize("score", ["energy", "singleton", "rowsum"])
def test_the_pruned_network_is_the_one_made_by_hand(network: nn.Sequential, samples: torch.Tensor, score: str) -> None:
    a = alone(network, samples)
    q = np.einsum("cin,cjn->cij", a, a) / len(samples)
    rows, energy = q.sum(2), np.einsum("cii->ci", q)
    by_output = {"energy": energy, "rowsum": rows, "singleton": rows**2 / (energy * rows.sum(1, keepdims=True))}[score]
    kept = tuple(sorted(np.argsort(-by_output.sum(0))[: INPUTS // 2].tolist()))
    options = {"score": score, "center": "none", "held_out": 0, "ridge": 0, "restore_mean": False, "batch_size": 16}
    pruner = ModHiFiPruner(0.5, "channels", **options).fit(network, samples)  # type: ignore[arg-type]
    (found,) = pruner.report_.kept.values()
    assert found == kept
    weight = network[2].weight.detach().numpy()
    expected = np.stack([weight[c, list(kept)] * fitted(a[c], kept)[0][:, None, None] for c in range(OUTPUTS)])
    np.testing.assert_allclose(pruner.model_[2].weight.detach().numpy(), expected, rtol=1e-6, atol=1e-9)  # type: ignore
    rebuilt = np.mean([fitted(a[c], kept)[1] * np.square(a[c].sum(0)).sum() for c in range(OUTPUTS)])
    whole = np.mean([np.square(a[c].sum(0)).sum() for c in range(OUTPUTS)])
    assert pruner.report_.layers[0].fidelity == pytest.approx(rebuilt / whole, abs=1e-9)
