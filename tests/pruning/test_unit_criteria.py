"""Every criterion for units beside its formula, written out with loops on a small network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from paperworks.errors import InputError
from paperworks.pruning.evidence import Evidence
from paperworks.pruning.unit_activations import block_influence, reconstruction_order
from paperworks.pruning.unit_criteria import UNIT_CRITERIA, score_units, taylor_scores
from paperworks.structure.trace import TracedGroups, analyze

N = 10


class Small(nn.Module):
    """conv 2 -> 4, norm, conv 4 -> 3, flatten of 2 x 2, linear 12 -> 5, linear 5 -> 3."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 3, 3, stride=2, padding=1)
        self.hidden = nn.Linear(12, 5)
        self.head = nn.Linear(5, 3)

    def maps(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        one = self.norm(self.first(x)).relu()
        two = self.second(one).relu()
        return one, two, self.hidden(two.flatten(1)).relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.maps(x)[2])


@pytest.fixture(scope="module")
def case() -> tuple[Small, TracedGroups, Evidence]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Small().eval()
        with torch.no_grad():
            model.norm.weight.copy_(torch.tensor([0.5, -2.0, 1.0, 0.1]))
        data = TensorDataset(torch.randn(N, 2, 4, 4), torch.arange(N) % 3)
    return model, analyze(model, data.tensors[0][:2]), Evidence(data, batch_size=4)


NAMES = ("first/channel", "second/channel", "hidden/ffn")


def _scores(case: Any, name: str) -> list[torch.Tensor]:
    model, groups, evidence = case
    found = score_units(name, model, groups, evidence)
    assert all(v.dtype == torch.float64 for v in found.values())
    return [found[None, n] for n in NAMES if (None, n) in found]


def _members(model: Small) -> list[list[torch.Tensor]]:
    """For each group, each member as [units, rest]."""
    w = dict(model.named_parameters())
    flat = w["hidden.weight"].view(5, 3, 4).movedim(1, 0).reshape(3, -1)
    return [
        [
            w["first.weight"].flatten(1),
            *(w[name][:, None] for name in ("first.bias", "norm.weight", "norm.bias")),
            w["second.weight"].movedim(1, 0).flatten(1),
        ],
        [w["second.weight"].flatten(1), w["second.bias"][:, None], flat],
        [w["hidden.weight"], w["hidden.bias"][:, None], w["head.weight"].T],
    ]


def test_the_groups_are_those_of_the_loops(case: Any) -> None:
    assert list(case[1]) == list(NAMES)


@pytest.mark.parametrize(("name", "order"), [("l1", 1), ("l2", 2)])
def test_filter_norms(case: Any, name: str, order: int) -> None:
    for found, members in zip(_scores(case, name), _members(case[0]), strict=True):
        expected = [np.linalg.norm(row.detach().double().numpy(), order) for row in members[0]]
        assert np.allclose(found, expected, rtol=1e-6)


def test_group_norms(case: Any) -> None:
    for found, members in zip(_scores(case, "group-norm"), _members(case[0]), strict=True):
        expected = torch.stack([m.detach().double().square().sum(1) for m in members]).mean(0)
        assert torch.allclose(found, expected, rtol=1e-5)


def test_median_distances(case: Any) -> None:
    for found, members in zip(_scores(case, "fpgm"), _members(case[0]), strict=True):
        rows = members[0].detach().double().numpy()
        expected = [sum(np.linalg.norm(a - b) for b in rows) for a in rows]
        assert np.allclose(found, expected, rtol=1e-9)


def test_gains_of_norms(case: Any) -> None:
    found = _scores(case, "bn-scale")
    assert len(found) == 1  # one group has a norm; the others keep everything
    assert torch.allclose(found[0], torch.tensor([0.5, 2.0, 1.0, 0.1], dtype=torch.float64))


def _products(case: Any, rows: torch.Tensor) -> list[torch.Tensor]:
    """g * theta of the mean loss of some examples, by group [units], summed over members."""
    model, _, evidence = case
    inputs, labels = evidence.labelled.tensors
    loss = nn.functional.cross_entropy(model(inputs[rows]), labels[rows])
    grads = dict(zip(dict(model.named_parameters()), torch.autograd.grad(loss, model.parameters()), strict=True))
    values = Small().eval()
    products = {n: (grads[n] * p).detach() for n, p in model.named_parameters()}
    for n, p in values.named_parameters():
        p.data = products[n]
    return [torch.stack([m.detach().double().sum(1) for m in members]) for members in _members(values)]


def test_taylor_is_the_square_of_the_sum_averaged_over_batches(case: Any) -> None:
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    parts = [_products(case, rows) for rows in order.split(4)]
    for i, (squared, absolute) in enumerate(
        zip(_scores(case, "taylor"), _scores(case, "taylor-absolute"), strict=True)
    ):
        sums = torch.stack([p[i].sum(0) for p in parts])
        assert torch.allclose(squared, sums.square().mean(0), rtol=1e-4, atol=1e-12)
        assert torch.allclose(absolute, sums.abs().mean(0), rtol=1e-4, atol=1e-9)
    for bigger, smaller in zip(_scores(case, "taylor-elementwise"), _scores(case, "taylor-absolute"), strict=True):
        assert bool((bigger >= smaller - 1e-12).all())
    with pytest.raises(InputError, match="form"):
        taylor_scores(case[0], case[1], case[2], "cubed")  # type: ignore[arg-type]


def test_fisher_sums_squares_of_single_examples(case: Any) -> None:
    parts = [_products(case, torch.tensor([row])) for row in range(N)]
    for i, found in enumerate(_scores(case, "fisher")):
        assert torch.allclose(found, torch.stack([p[i].sum(0) for p in parts]).square().sum(0), rtol=1e-4, atol=1e-12)


def test_gates_are_derivatives_by_a_factor_on_the_unit(case: Any) -> None:
    model, _, evidence = case
    inputs, labels = evidence.labelled.tensors
    expected = torch.zeros(5, dtype=torch.float64)
    for x, y in zip(inputs, labels, strict=True):
        gate = torch.ones(5, requires_grad=True)
        loss = nn.functional.cross_entropy(model.head(model.maps(x[None])[2] * gate), y[None])
        expected += torch.autograd.grad(loss, gate)[0].abs().double()
    assert torch.allclose(_scores(case, "gates")[2], expected / N, rtol=1e-4, atol=1e-9)


class Twice(nn.Module):
    """Channels that three convolutions read: two of the same tensor, one of the sum behind the first."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.left, self.right = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: torch.Tensor, gate: torch.Tensor | float = 1.0) -> torch.Tensor:
        stream = self.first(x).relu()
        stream = stream + self.inner(stream * gate).relu()
        return (self.left(stream * gate) + self.right(stream * gate)).mean((2, 3))


@pytest.mark.parametrize("frozen", [False, True])
def test_a_unit_that_several_layers_read_has_a_gate_in_front_of_each(frozen: bool) -> None:
    torch.manual_seed(0)
    model = Twice().requires_grad_(not frozen)
    x, y = torch.randn(6, 1, 6, 6), torch.arange(6) % 3
    (found,) = score_units("gates", model, analyze(model, x[:2]), Evidence(TensorDataset(x, y), batch_size=4)).values()
    expected = torch.zeros(4, dtype=torch.float64)
    for image, label in zip(x, y, strict=True):
        gate = torch.ones(4, 1, 1, requires_grad=True)
        loss = nn.functional.cross_entropy(model(image[None], gate), label[None])
        expected += torch.autograd.grad(loss, gate)[0].flatten().abs().double()
    assert torch.allclose(found, expected / 6, rtol=1e-4, atol=1e-8)


def test_statistics_of_activations(case: Any) -> None:
    model, _, evidence = case
    with torch.no_grad():
        one, two, three = model.maps(evidence.labelled.tensors[0])
    maps = [one.flatten(2), two.flatten(2), three[..., None]]
    for i, x in enumerate(maps):
        x = x.double()
        assert torch.allclose(_scores(case, "apoz")[i], (x != 0).double().mean((0, 2)))
        assert torch.allclose(_scores(case, "mean-activation")[i], x.mean((0, 2)))
        assert torch.allclose(_scores(case, "activation-std")[i], x.transpose(0, 1).flatten(1).std(1, correction=0))
    ranks = np.array([[np.linalg.matrix_rank(m.numpy()) for m in image] for image in one])
    assert np.allclose(_scores(case, "hrank")[0], ranks.mean(0))


def test_chip_is_the_fall_of_the_nuclear_norm(case: Any) -> None:
    with torch.no_grad():
        one = case[0].maps(case[2].labelled.tensors[0])[0].flatten(2).double().numpy()
    expected = np.zeros(4)
    for image in one:
        for unit in range(4):
            without = image.copy()
            without[unit] = 0
            expected[unit] += np.linalg.norm(image, "nuc") - np.linalg.norm(without, "nuc")
    assert np.allclose(_scores(case, "chip")[0], expected / N)


def test_thinet_reads_convolutions_in_one_dimension() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(1, 5, 3), nn.ReLU(), nn.Conv1d(5, 4, 5, stride=2, padding="valid"))
    with torch.no_grad():
        model[2].weight[:, 3] = 0
    x = torch.randn(6, 1, 16)
    (found,) = score_units("thinet", model, analyze(model, x[:2]), Evidence(unlabelled=x)).values()
    assert int(found.argmin()) == 3
    assert sorted(found.tolist()) == [0, 0.2, 0.4, pytest.approx(0.6), 0.8]


def test_thinet_removes_first_what_adds_nothing(case: Any) -> None:
    found = _scores(case, "thinet")
    assert [sorted(v.tolist()) for v in found] == [[u / n for u in range(n)] for n in (4, 3, 5)]
    model = Small().eval()
    with torch.no_grad():
        model.second.weight[:, 2] = 0  # the next layer does not read channel 2
    groups = analyze(model, case[2].labelled.tensors[0][:2])
    assert int(reconstruction_order(model, groups, case[2])[None, NAMES[0]].argmin()) == 2


def test_random_scores_follow_the_seed(case: Any) -> None:
    again = score_units("random", case[0], case[1], Evidence(seed=1))
    assert not torch.equal(again[None, NAMES[0]], _scores(case, "random")[0])
    assert torch.equal(again[None, NAMES[0]], score_units("random", case[0], case[1], Evidence(seed=1))[None, NAMES[0]])


def test_what_a_criterion_needs_is_said(case: Any) -> None:
    model, groups, evidence = case
    inputs = evidence.labelled.tensors[0]
    for name, criterion in UNIT_CRITERIA.items():
        if criterion.data != "none":
            with pytest.raises(InputError, match=f"which {name} needs"):
                score_units(name, model, groups, Evidence())
        if criterion.data == "labelled":
            with pytest.raises(InputError, match="no labels"):
                score_units(name, model, groups, Evidence(unlabelled=inputs))
        else:
            score_units(name, model, groups, Evidence(unlabelled=inputs))
    with pytest.raises(InputError, match="did you mean 'taylor'"):
        score_units("tailor", model, groups, evidence)
    with pytest.raises(InputError, match="no group has what it needs"):
        plain = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        score_units("bn-scale", plain, analyze(plain, torch.randn(2, 3)))
    bad = TensorDataset(torch.full((4, 2, 4, 4), float("nan")), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(InputError, match="finite losses"):
        score_units("taylor", model, groups, Evidence(bad))
    for label in (-1, 7):
        odd = TensorDataset(inputs[:2], torch.tensor([0, label]))
        with pytest.raises(InputError, match=f"labels: found {label}; expected 0 to "):
            score_units("taylor", model, groups, Evidence(odd))


def test_scores_leave_the_model_alone(case: Any) -> None:
    model, groups, evidence = case
    before = {n: p.clone() for n, p in model.state_dict().items()}
    model.first.weight.requires_grad_(False)
    for name in UNIT_CRITERIA:
        score_units(name, model, groups, evidence)
    assert all(torch.equal(before[n], p) for n, p in model.state_dict().items())
    assert not model.first.weight.requires_grad
    model.first.weight.requires_grad_(True)
    assert not model.training
    assert not model.first._forward_pre_hooks


def test_the_influence_of_a_block_that_does_nothing_is_zero() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Identity(), nn.Linear(4, 4), nn.Linear(4, 2))
    x = torch.randn(7, 4)
    found = block_influence(model, ["1", "2"], x, batch_size=3)
    a = model[0](x)
    expected = 1 - nn.functional.cosine_similarity(a.double(), model[2](a).double()).mean()
    assert float(found[0]) == pytest.approx(0, abs=1e-7)
    assert float(found[1]) == pytest.approx(float(expected.detach()), abs=1e-6)
    with pytest.raises(InputError, match="keep the shape"):
        block_influence(model, ["3"], x)
