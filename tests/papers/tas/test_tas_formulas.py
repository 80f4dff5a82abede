"""The formulas of the paper written out in NumPy: draws, mixed widths, mixed depths, the cost's loss, the teacher's."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from paperworks.papers.tas import ChoiceLogits, SearchNetwork, TransferSettings, cifar_resnet, cost_penalty
from paperworks.papers.tas.transfer import train_network


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_weights_of_a_draw_are_the_softmax_of_noisy_logits_over_the_picks() -> None:
    choices, temperature = ChoiceLogits((5, 3), torch.Generator().manual_seed(3)), 0.7
    with torch.no_grad():
        choices.logits.mul_(100)
    draws = choices.draw(2, temperature, torch.Generator().manual_seed(4))
    uniform = torch.rand(2, 5, generator=torch.Generator().manual_seed(4)).double().numpy()
    logits = choices.logits.detach().double().numpy()
    for number, (draw, size) in enumerate(zip(draws, (5, 3), strict=True)):
        log = np.log(softmax(logits[number, :size]))
        noisy = (log - np.log(-np.log(uniform[number, :size]))) / temperature
        assert np.allclose(draw.weights.detach().numpy(), softmax(noisy[list(draw.picks)]), atol=1e-5)


def test_pairs_are_drawn_without_replacement_by_the_noisy_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    choices = ChoiceLogits((3,))
    chances = np.array([0.6, 0.3, 0.1])
    monkeypatch.setattr(choices, "noisy", lambda *_: torch.from_numpy(chances).float().log()[None])
    generator, times = torch.Generator().manual_seed(0), 3000
    seen = Counter(choices.draw(2, 1.0, generator)[0].picks for _ in range(times))
    for i, j in itertools.permutations(range(3), 2):
        expected = chances[i] * chances[j] / (1 - chances[i])
        assert seen[i, j] / times == pytest.approx(expected, abs=4 * (expected * (1 - expected) / times) ** 0.5)


def convolution(x: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """Cross-correlation with half padding, float64 ``[n, out, H, W]``."""
    side = weight.shape[2]
    padded = np.pad(x, ((0, 0), (0, 0), (side // 2, side // 2), (side // 2, side // 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), (2, 3))[:, :, ::stride, ::stride]
    return np.einsum("nchwij,ocij->nohw", windows, weight)


def interpolated(x: np.ndarray, width: int) -> np.ndarray:
    c = x.shape[1]
    return np.stack([x[:, t * c // width : -(-(t + 1) * c // width)].mean(1) for t in range(width)], 1)


class WrittenOut:
    """The forward pass of a search network of residual blocks, from its state and what was drawn."""

    def __init__(self, space: SearchNetwork, draws: Any, depths: Any) -> None:
        self.space, self.draws, self.depths = space, draws, depths
        self.state = {name: value.double().numpy() for name, value in space.state_dict().items()}

    def widths(self, name: str, number: int, x: np.ndarray, stride: int, norm: bool = True) -> np.ndarray:
        candidates, draw = self.space.width_candidates[number], self.draws[number]
        widest = max(candidates[pick] for pick in draw.picks)
        total = 0.0
        for pick, share in zip(draw.picks, draw.weights.detach().double().numpy(), strict=True):
            weight = self.state[f"{name}.conv.weight"][: candidates[pick], : x.shape[1]]  # the first filters
            y = convolution(x, weight, stride)
            if norm:
                own = {leaf: self.state[f"{name}.norms.{pick}.{leaf}"][None, :, None, None] for leaf in LEAVES}
                y = (y - own["running_mean"]) / np.sqrt(own["running_var"] + 1e-5) * own["weight"] + own["bias"]
            total = total + share * interpolated(y, widest)
        return np.asarray(total)

    def block(self, name: str, numbers: tuple[int, int], x: np.ndarray, stride: int, projected: bool) -> np.ndarray:
        y = self.widths(f"{name}.convs.0", numbers[0], x, stride)
        y = self.widths(f"{name}.convs.1", numbers[1], np.maximum(y, 0), 1)  # no ReLU on the last convolution
        if projected:
            n, c, h, w = x.shape
            pooled = x.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5)) if stride == 2 else x
            other = self.widths(f"{name}.shortcut", numbers[1], pooled, 1, norm=stride == 1)
        else:
            other = x
        wide, narrow = (y, other) if y.shape[1] >= other.shape[1] else (other, y)
        out = wide.copy()
        out[:, : narrow.shape[1]] += narrow
        return np.maximum(out, 0)

    def logits(self, images: np.ndarray) -> np.ndarray:
        x = np.maximum(self.widths("stem", 0, images, 1), 0)
        number = 1
        for stage, candidates in enumerate(self.space.depth_candidates):
            ends = {}
            for place in range(self.space.shape.depths[stage]):
                stride = 2 if stage and not place else 1
                projected = bool(stage) and not place
                x = self.block(f"stages.{stage}.{place}", (number, number + 1), x, stride, projected)
                number, ends[place + 1] = number + 2, x
            shares = self.depths[stage].weights.detach().double().numpy()
            wanted = [candidates[pick] for pick in self.depths[stage].picks]
            widest = max(ends[depth].shape[1] for depth in wanted)
            mixed = [share * interpolated(ends[depth], widest) for depth, share in zip(wanted, shares, strict=True)]
            x = np.sum(mixed, 0)
        features = x.mean((2, 3))
        return features @ self.state["head.weight"][:, : features.shape[1]].T + self.state["head.bias"]


LEAVES = ("weight", "bias", "running_mean", "running_var")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_forward_pass_is_that_of_the_formulas(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    space = SearchNetwork(cifar_resnet(14, outputs=3, channels=1, width=4), (8, 8), seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, value in space.state_dict().items():
        if "norms" in name and value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    draws = space.widths.draw(2, 1.0, generator)
    assert space.depths is not None
    depths = space.depths.draw(99, 1.0, generator)  # all depths: their Gumbel-softmax
    assert all(len(draw.picks) == 2 for draw in depths)
    monkeypatch.setattr(space, "draw", lambda: (draws, depths))
    images = torch.randn(2, 1, 8, 8, generator=generator)
    expected = WrittenOut(space, draws, depths).logits(images.double().numpy())
    assert np.allclose(space(images).detach().numpy(), expected, atol=1e-4 * np.abs(expected).max())


def test_the_loss_of_the_cost_is_the_logarithm_on_either_side_of_the_band() -> None:
    expected = torch.tensor(37.0)
    for actual, found in ((105.1, np.log(37)), (104.9, 0.0), (95.1, 0.0), (94.9, -np.log(37))):
        assert float(cost_penalty(expected, actual, 100.0)) == pytest.approx(found)


@pytest.mark.parametrize("taught", [True, False])
def test_a_step_of_the_transfer_follows_its_loss(taught: bool) -> None:
    """0.1 cross-entropy + 0.9 x 16 KL(teacher || network), both at temperature 4; without a teacher cross-entropy."""
    torch.manual_seed(0)
    network, teacher = nn.Linear(5, 3), nn.Linear(5, 3)
    with torch.no_grad():
        teacher.weight.mul_(6)
    x, labels = torch.randn(8, 5), torch.arange(8) % 3
    settings = TransferSettings(
        epochs=1, batch_size=8, learning_rate=0.1, momentum=0.0, weight_decay=0.0, temperature=4.0, device="cpu"
    )
    before = copy.deepcopy(network)
    train_network(network, {"input": x}, labels.numpy(), teacher=teacher if taught else None, settings=settings)
    inputs, codes = x.double().numpy(), np.eye(3)[labels.numpy()]
    out = inputs @ before.weight.detach().double().numpy().T + before.bias.detach().double().numpy()
    wanted = inputs @ teacher.weight.detach().double().numpy().T + teacher.bias.detach().double().numpy()
    # d CE / d out = p - y;   d (T^2 KL(q || p_T)) / d out = T (p_T - q)
    slope = softmax(out) - codes
    if taught:
        slope = 0.1 * slope + 0.9 * 4 * (softmax(out / 4) - softmax(wanted / 4))
    moved = (before.weight - network.weight).detach().double().numpy() / 0.1
    assert np.allclose(moved, slope.T @ inputs / 8, atol=1e-5)
