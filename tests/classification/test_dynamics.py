"""What a training does to each example, against loops written out one example at a time."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from paperworks.classification import (
    CallAtSteps,
    TrainingDynamics,
    entropy,
    error_norm,
    features,
    fit,
    gradient_norms,
    largest_probability,
    last_layer_gradient_norms,
    last_linear_layer,
    margin_error,
    predict_logits,
    probability_margin,
    summed_margin_error,
)
from paperworks.errors import InputError
from paperworks.runs import Cancelled
from paperworks.training import TrainSettings


def data(n: int = 21, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n)
    return (rng.normal(size=(n, 4)) + y[:, None]).astype(np.float32), y


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


SETTINGS = TrainSettings(steps=40, batch_size=7, optimizer="sgd", learning_rate=0.1, device="cpu", seed=3)


def test_a_training_is_recorded_at_its_mini_batches() -> None:
    x, y = data()
    dynamics, seen, model = TrainingDynamics(21), [], network()

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        rows = [int(np.flatnonzero((x == row.numpy()).all(1))[0]) for row in inputs[0]]
        seen.append((module.training, rows, output.detach().double().numpy()))

    model.register_forward_hook(note)
    fit(model, x, y, settings=SETTINGS, dynamics=dynamics)
    histories: dict[int, list[np.ndarray]] = {i: [] for i in range(21)}
    for training, rows, logits in seen:
        assert training
        for row, z in zip(rows, logits, strict=True):
            histories[row].append(z)
    assert dynamics.presentations.tolist() == [len(histories[i]) for i in range(21)]
    assert set(dynamics.presentations.tolist()) == {13, 14}  # 40 steps of 7 out of 21
    for i, zs in histories.items():
        forgotten, before, right, margin, error = 0, False, 0, [], []
        for z in zs:
            now = int(z.argmax()) == y[i]
            forgotten += before and not now
            right += now
            before = now
            others = [v for c, v in enumerate(z) if c != y[i]]
            margin.append(z[y[i]] - max(others))
            p = np.exp(z) / np.exp(z).sum()
            error.append(math.sqrt(sum((p[c] - (c == y[i])) ** 2 for c in range(3))))
        assert dynamics.forgetting()[i] == (forgotten if right else math.inf)
        assert dynamics.correctness()[i] == right
        assert dynamics.aum()[i] == pytest.approx(np.mean(margin), abs=1e-5)
        assert dynamics.el2n()[i] == pytest.approx(np.mean(error), abs=1e-5)
        assert dynamics.el2n(5)[i] == pytest.approx(np.mean(error[:5]), abs=1e-5)
        assert dynamics.final_loss()[i] == pytest.approx(-math.log(p[y[i]]), abs=1e-5)
        assert dynamics.forgetting()[i] <= len(zs) / 2 or math.isinf(dynamics.forgetting()[i])


def test_recording_changes_nothing_and_survives_a_stop(tmp_path: Path) -> None:
    x, y = data()
    plain, recorded, resumed = network(), network(), network()
    fit(plain, x, y, settings=SETTINGS)
    whole = TrainingDynamics(21)
    fit(recorded, x, y, settings=SETTINGS, dynamics=whole)
    for a, b in zip(plain.state_dict().values(), recorded.state_dict().values(), strict=True):
        assert torch.equal(a, b)

    def stop(items, description, total=None):
        for number, item in enumerate(items):
            if number == 17:
                raise Cancelled()
            yield item

    with pytest.raises(Cancelled):
        fit(resumed, x, y, settings=SETTINGS, dynamics=TrainingDynamics(21), checkpoint_dir=tmp_path, progress=stop)
    again = TrainingDynamics(21)
    fit(resumed, x, y, settings=SETTINGS, dynamics=again, checkpoint_dir=tmp_path)
    assert np.array_equal(again.values("margin"), whole.values("margin"), equal_nan=True)
    whole.save(tmp_path / "dynamics.npz")
    back = TrainingDynamics.load(str(tmp_path / "dynamics.npz"))
    assert np.array_equal(back.forgetting(), whole.forgetting())
    with pytest.raises(FileExistsError):
        whole.save(tmp_path / "dynamics.npz")


def test_a_row_twice_in_a_batch_is_presented_twice() -> None:
    dynamics = TrainingDynamics(2)
    dynamics.record(torch.tensor([1, 1]), torch.tensor([0, 0]), torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
    assert dynamics.presentations.tolist() == [0, 2]
    assert dynamics.aum()[1] == pytest.approx((2 - 1) / 2)
    assert dynamics.forgetting()[1] == 1
    assert all(math.isnan(v[0]) for v in (dynamics.aum(), dynamics.forgetting(), dynamics.correctness()))
    shifted = TrainingDynamics(2)
    shifted.record(torch.tensor([1, 1]), torch.tensor([0, 0]), torch.tensor([[7.0, 5.0], [5.0, 6.0]]))
    assert shifted.aum()[1] == dynamics.aum()[1]  # margins of logits do not move with a constant


def test_calls_at_steps_see_the_model_of_that_step() -> None:
    x, y = data()
    model, short = network(), network()
    calls = CallAtSteps(lambda: predict_logits(model, x, device="cpu"), (0, 10))
    fit(model, x, y, settings=SETTINGS, callbacks=[calls])
    assert np.array_equal(calls.results[0], predict_logits(network(), x, device="cpu"))
    ten = TrainSettings(**{**SETTINGS.__dict__, "steps": 10, "schedule_steps": 40})
    fit(short, x, y, settings=ten)
    assert np.allclose(calls.results[10], predict_logits(short, x, device="cpu"), atol=1e-6)


def by_hand(model: nn.Module, x: np.ndarray, y: np.ndarray, parameters: list[nn.Parameter]) -> list[float]:
    model.eval()
    norms = []
    for row, label in zip(torch.from_numpy(x), torch.from_numpy(y), strict=True):
        loss = nn.functional.cross_entropy(model(row[None]), label[None])
        gradients = torch.autograd.grad(loss, parameters)
        norms.append(math.sqrt(sum(float(g.double().square().sum()) for g in gradients)))
    return norms


def test_gradient_norms_are_those_of_one_example_at_a_time() -> None:
    x, y = data()
    model = network()
    expected = by_hand(model, x, y, list(model.parameters()))
    model.train()
    for size in (1, 8, 64):
        assert gradient_norms(model, x, y, batch_size=size, device="cpu") == pytest.approx(expected, rel=1e-4)
    assert model.training
    head = by_hand(model, x, y, list(model[4].parameters()))
    h = features(model, x, last_linear_layer(model), of="input", device="cpu")
    assert last_layer_gradient_norms(predict_logits(model, x, device="cpu"), y, h) == pytest.approx(head, rel=1e-5)


def test_scores_follow_their_definitions_and_the_order_of_the_rows() -> None:
    rng = np.random.default_rng(1)
    z, y = rng.normal(size=(9, 4)), rng.integers(4, size=9)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    for i in range(9):
        rest = [p[i, c] for c in range(4) if c != y[i]]
        assert error_norm(z, y)[i] == pytest.approx(math.sqrt(sum(v**2 for v in rest) + (1 - p[i, y[i]]) ** 2))
        assert error_norm(z, y, order=1)[i] == pytest.approx(sum(rest) + 1 - p[i, y[i]])
        assert margin_error(z, y)[i] == pytest.approx(max(rest) - p[i, y[i]])
        assert summed_margin_error(z, y)[i] == pytest.approx(sum(other - p[i, y[i]] for other in rest))
        assert entropy(z)[i] == pytest.approx(-sum(v * math.log(v) for v in p[i]))
        assert probability_margin(z)[i] == pytest.approx(sorted(p[i])[-1] - sorted(p[i])[-2])
    assert np.array_equal(largest_probability(z), p.max(1)) or np.allclose(largest_probability(z), p.max(1))
    order = rng.permutation(9)
    assert np.array_equal(error_norm(z[order], y[order]), error_norm(z, y)[order])
    extreme = np.array([[800.0, 0, 0, 0], [-800.0, 0, 0, 0]])
    assert error_norm(extreme, np.array([1, 0])).max() <= math.sqrt(2)
    assert entropy(extreme)[0] == 0


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: TrainingDynamics(0), "n"),
        (lambda: TrainingDynamics(2).values("loss_"), "name"),
        (lambda: TrainingDynamics(2).aum("z"), "kind"),
        (lambda: TrainingDynamics(2).el2n(0), "first"),
        (lambda: TrainingDynamics(2).check_size(3), "dynamics"),
        (lambda: CallAtSteps(lambda: np.zeros(1), []), "steps"),
        (lambda: error_norm([[1.0, math.nan]], [0]), "logits[0]"),
        (lambda: error_norm([[1.0, 2.0]], [2]), "labels"),
        (lambda: error_norm([1.0, 2.0], [0]), "logits"),
        (lambda: last_layer_gradient_norms([[1.0, 2.0]], [0], [1.0]), "features"),
        (lambda: gradient_norms(network(), data()[0]), "labels"),
        (lambda: gradient_norms(network().requires_grad_(False), *data()), "model"),
    ],
)
def test_bad_input_names_the_field(call, field: str) -> None:
    with pytest.raises(InputError) as error:
        call()
    assert error.value.field == field
