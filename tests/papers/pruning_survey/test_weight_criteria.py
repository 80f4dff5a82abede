"""Every criterion for weights beside its formula with loops, on a network of three layers (study E1 of the paper)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from paperworks import catalog
from paperworks.errors import InputError
from paperworks.papers.pruning_survey.config import Config
from paperworks.papers.pruning_survey.masks import keep_best, prunable_weights, top
from paperworks.papers.pruning_survey.recipe import run
from paperworks.papers.pruning_survey.spec import FOR_UNITS, FOR_WEIGHTS, NEEDS_LABELS
from paperworks.papers.pruning_survey.weight_criteria import WEIGHT_CRITERIA, MovementScores, score_weights, synflow
from paperworks.pruning.evidence import Evidence
from paperworks.pruning.taxonomy import declared_beside
from paperworks.runs import Run

N = 6


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)).eval()


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    inputs = torch.randn(N, 5, generator=torch.Generator().manual_seed(1))
    return Evidence(TensorDataset(inputs, torch.arange(N) % 3), batch_size=4)


Scored = Callable[[str], dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def scored(model: nn.Sequential, evidence: Evidence) -> Scored:
    return lambda name: score_weights(name, model, prunable_weights(model), evidence)


def _order(evidence: Evidence) -> tuple[torch.Tensor, torch.Tensor]:
    return evidence.examples_of("x")


def _gradients(model: nn.Module, x: torch.Tensor, y: torch.Tensor, scale: float = 1.0) -> list[torch.Tensor]:
    loss = nn.functional.cross_entropy(model(x) / scale, y)
    return list(torch.autograd.grad(loss, list(prunable_weights(model).values())))


def _check(found: dict[str, torch.Tensor], expected: list[torch.Tensor], tolerance: float = 1e-4) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found.values(), expected, strict=True):
        assert torch.allclose(a.double(), b.detach().double(), rtol=tolerance, atol=1e-12)


def test_magnitude_and_lamp(model: nn.Sequential, scored: Scored) -> None:
    weights = list(prunable_weights(model).values())
    _check(scored("magnitude"), [w.abs() for w in weights])
    for found, weight in zip(scored("lamp").values(), weights, strict=True):
        squares = weight.detach().double().square().flatten().tolist()
        expected = [s / sum(t for t in squares if t >= s) for s in squares]
        assert np.allclose(found.flatten(), expected)
        assert float(found.flatten()[weight.detach().abs().argmax()]) == 1.0  # the largest of a tensor


def test_lamp_counts_equal_weights() -> None:
    model = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, -1.0, 1.0, 2.0]]))
    found = score_weights("lamp", model, prunable_weights(model), Evidence())["weight"]
    assert np.allclose(found, [[4 / 8, 1 / 10, 1 / 10, 4 / 8]])


def test_snip_is_of_the_mean_loss_whatever_the_batches(
    model: nn.Sequential, evidence: Evidence, scored: Scored
) -> None:
    x, y = _order(evidence)
    gradients = zip(_gradients(model, x, y), prunable_weights(model).values(), strict=True)
    products = [(g * w).abs().double() for g, w in gradients]
    total = sum(float(p.detach().sum()) for p in products)
    _check(scored("snip"), [p / total for p in products])
    assert sum(float(v.sum()) for v in scored("snip").values()) == pytest.approx(1)


def test_grasp_is_the_derivative_of_the_gradient_norm(model: nn.Sequential, evidence: Evidence, scored: Scored) -> None:
    x, y = _order(evidence)
    found = scored("grasp")
    weights = prunable_weights(model)

    def norm() -> torch.Tensor:
        loss = nn.functional.cross_entropy(model(x) / 200, y)
        return sum(g.square().sum() for g in torch.autograd.grad(loss, list(weights.values()), create_graph=True)) / 2

    for name, gradient in zip(weights, torch.autograd.grad(norm(), list(weights.values())), strict=True):
        # theta H g: the derivative of |g|^2 / 2 along each weight; what is kept is the largest
        assert torch.allclose(found[name], (weights[name] * gradient).double(), rtol=1e-3, atol=1e-14)


def test_taylor_fisher_and_optimal_brain_damage(model: nn.Sequential, evidence: Evidence, scored: Scored) -> None:
    x, y = _order(evidence)
    weights = list(prunable_weights(model).values())
    batches = [_gradients(model, a, b) for a, b in zip(x.split(4), y.split(4), strict=True)]
    single = [_gradients(model, x[i : i + 1], y[i : i + 1]) for i in range(N)]
    for i, weight in enumerate(weights):
        name = list(prunable_weights(model))[i]
        taylor = torch.stack([(b[i] * weight).square() for b in batches]).mean(0)
        fisher = torch.stack([(s[i] * weight).square() for s in single]).sum(0)
        assert torch.allclose(scored("taylor")[name], taylor.double(), rtol=1e-4, atol=1e-14)
        assert torch.allclose(scored("fisher")[name], fisher.double(), rtol=1e-4, atol=1e-14)
        assert torch.allclose(scored("obd")[name], fisher.double() / N / 2, rtol=1e-4, atol=1e-14)


def test_wanda_and_obs_read_the_inputs(model: nn.Sequential, evidence: Evidence, scored: Scored) -> None:
    x = _order(evidence)[0]
    with torch.no_grad():
        read = [x, model[:2](x), model[:4](x)]
    for i, (name, weight) in enumerate(prunable_weights(model).items()):
        columns = read[i].double().norm(dim=0)
        assert torch.allclose(scored("wanda")[name], weight.detach().abs().double() * columns, rtol=1e-5)
        gram = read[i].double().T @ read[i].double()
        dead = (gram.diagonal() == 0).double()
        inverse = np.linalg.inv(gram + torch.diag(dead) + 0.01 * gram.diagonal().mean() * torch.eye(len(gram)))
        expected = weight.detach().double().square() / (2 * torch.from_numpy(np.diag(inverse).copy()))
        assert torch.allclose(scored("obs")[name], expected, rtol=1e-4)


def test_wanda_with_equal_columns_is_magnitude_in_rows() -> None:
    model = nn.Linear(8, 5, bias=False)
    inputs = torch.eye(8).repeat(3, 1) * 0.7
    weights = prunable_weights(model)
    by_wanda = keep_best(score_weights("wanda", model, weights, Evidence(unlabelled=inputs)), 0.5, "row")
    by_size = keep_best(score_weights("magnitude", model, weights, Evidence()), 0.5, "row")
    assert torch.equal(by_wanda["weight"], by_size["weight"])


def test_synflow_is_conserved_from_layer_to_layer() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5))
    evidence = Evidence(unlabelled=torch.randn(3, 2, 6, 6))
    found = synflow(model, prunable_weights(model), evidence)
    sums = [float(v.sum()) for v in found.values()]
    assert max(sums) / min(sums) - 1 < 1e-9
    # R by hand: absolute weights, no biases, an input of ones
    with torch.no_grad():
        x = torch.ones(1, 2, 6, 6, dtype=torch.float64)
        for i in (0, 2):
            x = nn.functional.conv2d(x, model[i].weight.abs().double())
        total = float((x.flatten(1) @ model[5].weight.abs().double().T).sum())
    assert sums[0] == pytest.approx(total, rel=1e-9)


def test_synflow_takes_norms_out() -> None:
    plain = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    normed = nn.Sequential(plain[0], nn.BatchNorm2d(3), *plain[1:])
    evidence = Evidence(unlabelled=torch.randn(2, 1, 4, 4))
    with torch.no_grad():
        normed[1].running_mean.fill_(3)
        normed[1].weight.fill_(0.2)
    for a, b in zip(
        synflow(plain, prunable_weights(plain), evidence).values(),
        synflow(normed, prunable_weights(normed), evidence).values(),
        strict=True,
    ):
        assert torch.allclose(a, b)


def test_movement_is_summed_over_steps(model: nn.Sequential, evidence: Evidence) -> None:
    x, y = _order(evidence)
    weights = prunable_weights(model)
    expected = [torch.zeros_like(w) for w in weights.values()]
    with MovementScores(weights) as movement:
        for _ in range(3):
            model.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(x), y).backward()
            expected = [e - w.detach() * w.grad for e, w in zip(expected, weights.values(), strict=True)]
    model.zero_grad(set_to_none=True)
    _check(movement.scores(), expected)
    again = MovementScores(weights)
    again.load_state_dict(movement.state_dict())
    _check(again.scores(), expected)


def test_what_is_missing_is_said(model: nn.Sequential, evidence: Evidence) -> None:
    weights = prunable_weights(model)
    for name, criterion in WEIGHT_CRITERIA.items():
        if criterion.data != "none":
            with pytest.raises(InputError, match="needs"):
                score_weights(name, model, weights, Evidence())
    with pytest.raises(InputError, match="did you mean 'magnitude'"):
        score_weights("magnitud", model, weights, evidence)
    with pytest.raises(InputError, match="no gradient"):
        spare = nn.Sequential(nn.Linear(5, 3))
        spare.other = nn.Linear(2, 2)
        spare.forward = lambda x: spare[0](x)  # type: ignore[method-assign]
        score_weights("snip", spare, prunable_weights(spare), evidence)
    with pytest.raises(InputError, match="no convolution or linear"):
        prunable_weights(nn.BatchNorm1d(3))


def test_frozen_weights_are_scored_and_stay_frozen(model: nn.Sequential, evidence: Evidence, scored: Scored) -> None:
    before = {n: p.clone() for n, p in model.state_dict().items()}
    free = scored("snip")
    model.requires_grad_(False)
    try:
        assert all(torch.equal(a, b) for a, b in zip(scored("snip").values(), free.values(), strict=True))
        assert not any(p.requires_grad for p in model.parameters())
    finally:
        model.requires_grad_(True)
    assert all(torch.equal(before[n], p) for n, p in model.state_dict().items())


def test_all_methods_are_listed_in_the_taxonomy_without_reading_anything(tmp_path: Path) -> None:
    papers, own = run(Config(contrast="taxonomy", data="nowhere"), Run(tmp_path / "run")).tables
    assert {row[0] for row in papers.rows} == set(declared_beside(catalog.OURS))
    chosen_by = {str(row[0]): str(row[4]) for row in own.rows}
    assert {chosen_by[f"random, of {what}"] for what in ("weights", "units")} == {"criterion: chance"}
    place = {row[0]: row[1:] for row in own.rows}
    assert {f"{name}, of weights" for name in FOR_WEIGHTS} | {f"{name}, of units" for name in FOR_UNITS} <= set(place)
    assert all((place[f"{n}, of weights"][4] == "labelled") == (n in NEEDS_LABELS) for n in FOR_WEIGHTS)
    assert [place[name][2] for name in ("snip, of weights", "RigL", "FBS gates")] == ["before", "during", "run-time"]


def test_the_largest_are_those_of_a_stable_sort() -> None:
    generator = torch.Generator().manual_seed(0)
    for number in range(200):
        scores = torch.randint(-2, 3, (number % 23 + 1,), generator=generator).double()
        scores[number % len(scores)] = torch.inf
        count = number % (len(scores) + 1)
        expected = torch.zeros(len(scores), dtype=torch.bool)
        expected[scores.argsort(descending=True, stable=True)[:count]] = True
        assert torch.equal(top(scores, count), expected)
