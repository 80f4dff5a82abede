"""Declared runs: specs that are no method, results that are saved and loaded, schedules, masks that move, gates."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning
from torch import nn
from torch.utils.data import TensorDataset

from paperworks.errors import InputError
from paperworks.nn import SmallCNN
from paperworks.papers.pruning_survey import (
    Bench,
    DynamicSparseTraining,
    Limits,
    Protocol,
    PrunedClassifier,
    PruneSpec,
    SoftFilters,
    densities,
    gain_l1,
    group_lasso,
    growing_weights,
    load_pruned,
    macs_by_input,
    prunable_weights,
    prune,
    read_spec,
    recommend,
    rounds_of_magnitude_pruning,
    weighted_decay,
    with_gates,
)
from paperworks.papers.pruning_survey.masks import density_of, keep_best, least_kept
from paperworks.papers.pruning_survey.regularisers import penalised
from paperworks.papers.pruning_survey.runtime import gates_of, saliency_penalty
from paperworks.papers.pruning_survey.spec import FOR_UNITS, FOR_WEIGHTS, NEEDS_EXAMPLES, NEEDS_LABELS
from paperworks.papers.pruning_survey.weight_criteria import WEIGHT_CRITERIA
from paperworks.pruning import ImageTask
from paperworks.pruning.unit_criteria import UNIT_CRITERIA
from paperworks.structure.trace import analyze
from paperworks.training import TrainSettings, cross_entropy_loss, train


def _network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 3),
        ).eval()


@pytest.fixture(scope="module")
def data() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.rand(24, 1, 6, 6, generator=generator), torch.arange(24) % 3)


def test_the_lists_of_the_specs_are_those_of_the_criteria() -> None:
    assert set(WEIGHT_CRITERIA) == FOR_WEIGHTS
    assert set(UNIT_CRITERIA) == FOR_UNITS
    every = [*WEIGHT_CRITERIA.values(), *UNIT_CRITERIA.values()]
    assert {c.name for c in every if c.data != "none"} == NEEDS_EXAMPLES
    assert {c.name for c in every if c.data == "labelled"} == NEEDS_LABELS


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"when": "before"}, "weights"),
        ({"when": "run-time"}, "when"),
        ({"criterion": "hrank"}, "criterion"),
        ({"speedup": "structured", "criterion": "wanda"}, "criterion"),
        ({"speedup": "structured", "criterion": "l1", "scope": "erk"}, "scope"),
        ({"speedup": "structured", "criterion": "l1", "recovery": "rewind"}, "recovery"),
        ({"scope": "isomorphic"}, "scope"),
        ({"speedup": "semi-structured"}, "pattern"),
        ({"pattern": "2:4"}, "pattern"),
        ({"target": "macs"}, "target"),
        ({"criterion": "wanda"}, "scope"),
        ({"recovery": "update"}, "recovery"),
        ({"rounds": 5}, "rounds"),
        ({"when": "before", "weights": "initialised", "schedule": "gradual"}, "schedule"),
        ({"ratio": 1.0}, "ratio"),
        ({"ratio": -0.1}, "ratio"),
        ({"examples": 0}, "examples"),
        ({"ratoi": 0.3}, "ratoi"),
    ],
)
def test_what_is_no_method_is_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as refused:
        read_spec(options)
    assert refused.value.field == field


def test_a_spec_in_yaml(tmp_path: Path) -> None:
    spec = read_spec("criterion: snip\nratio: 0.9\nschedule: iterative\nrounds: 3\n")
    assert (spec.criterion, spec.rounds) == ("snip", 3)
    path = tmp_path / "run.yaml"
    path.write_text(spec.to_yaml(), encoding="utf-8")
    assert read_spec(path) == read_spec(str(path)) == spec
    assert read_spec(spec, ratio=0.5).hash != spec.hash
    assert spec.taxonomy().data == "labelled"
    for text in ("- a\n- b: 1", "a: [1", "1: 2\n"):
        with pytest.raises(InputError, match="spec"):
            read_spec(text)
    with pytest.raises(InputError, match="spec"):
        read_spec(tmp_path / "none.yaml")


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet="abc: \n-[]{}'0.5#", max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    with contextlib.suppress(InputError):
        read_spec(text)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.001, 1.0), st.integers(1, 30), st.sampled_from(["linear", "geometric", "cubic"]))
def test_schedules_fall_to_what_was_asked_for(final: float, steps: int, curve: Any) -> None:
    found = densities(final, steps, curve)
    assert len(found) == steps
    assert found[-1] == final
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise([1.0, *found]))
    k = steps // 2
    if k:
        s = 1 - final
        place = k / steps
        expected = {"linear": 1 - s * place, "geometric": final**place, "cubic": 1 - (s - s * (1 - place) ** 3)}
        assert found[k - 1] == pytest.approx(expected[curve])


def test_rounds_of_magnitude_pruning() -> None:
    assert rounds_of_magnitude_pruning(0.8) == 1
    assert rounds_of_magnitude_pruning(0.64) == 2
    assert rounds_of_magnitude_pruning(0.63) == 3
    with pytest.raises(InputError):
        densities(0.5, 3, initial=0.4)


@pytest.mark.parametrize("criterion", ["magnitude", "lamp", "synflow", "snip", "grasp", "fisher", "random"])
def test_weights_leave_in_steps(criterion: str, data: TensorDataset) -> None:
    model = _network()
    options = {"criterion": criterion, "ratio": 0.6, "schedule": "iterative", "rounds": 4, "allow_collapse": True}
    result = prune(model, options, data.tensors[0][:2], data)
    assert result.report["density"] == pytest.approx(0.4, abs=1e-3)
    for name, mask in result.masks.items():
        weight = dict(result.model.named_parameters())[name]
        assert not weight[~mask].any()
    assert all(p.all() for p in (w != 0 for w in model.parameters()) if p.ndim > 1)  # a copy was pruned
    sparse = result.to_sparse("csr")
    assert torch.equal(sparse["2.weight"].to_dense(), dict(result.model.named_parameters())["2.weight"].flatten(1))


@pytest.mark.parametrize("target", ["parameters", "macs", "units"])
def test_units_leave_in_rounds(target: str, data: TensorDataset) -> None:
    calls: list[int] = []
    spec = {
        "speedup": "structured",
        "criterion": "taylor",
        "target": target,
        "ratio": 0.5,
        "schedule": "gradual",
        "rounds": 2,
    }
    result = prune(_network(), spec, data.tensors[0][:2], data, train=lambda model, held, number: calls.append(number))
    assert calls == [0, 1]
    dense, now = (analyze(m, data.tensors[0][:2]).cost() for m in (_network(), result.model))
    if target != "units":
        assert getattr(now, target) <= 0.5 * getattr(dense, target)
    else:
        assert sum(g.n_units for g in analyze(result.model, data.tensors[0][:2]).values()) == 8


@pytest.mark.parametrize("pattern", ["2:4", "block:2x2", "kernel:4"])
def test_patterns(pattern: str, data: TensorDataset) -> None:
    result = prune(_network(), {"speedup": "semi-structured", "pattern": pattern, "ratio": 0.5})
    assert density_of(result.masks) < 0.7


@pytest.mark.parametrize("structured", [False, True])
def test_what_was_saved_computes_the_same(structured: bool, data: TensorDataset, tmp_path: Path) -> None:
    units = {"speedup": "structured", "criterion": "group-norm", "target": "macs"} if structured else {}
    result = prune(_network(), {"ratio": 0.5, **units}, data.tensors[0][:2], data)
    result.save(tmp_path / "pruned")
    again = load_pruned(tmp_path / "pruned", _network)
    assert torch.equal(again.model(data.tensors[0]), result.model(data.tensors[0]))
    assert again.spec == result.spec
    assert again.masks.keys() == result.masks.keys()
    with pytest.raises(InputError, match="folder"):
        load_pruned(tmp_path / "nothing", _network)
    with pytest.raises(InputError):
        result.save(tmp_path / "pruned")
    if structured:
        with pytest.raises(InputError, match="masks"):
            result.to_sparse()


def test_sparsegpt_moves_what_stays(data: TensorDataset) -> None:
    spec = {"criterion": "sparsegpt", "recovery": "update", "ratio": 0.5}
    dense, inputs = _network(), data.tensors[0]
    moved = prune(dense, spec, data=inputs).model
    plain = prune(dense, {"ratio": 0.5, "scope": "local"}).model
    with torch.no_grad():
        error, other = ((m(inputs) - dense(inputs)).square().mean() for m in (moved, plain))
    assert float(error) < float(other)


def test_bad_input_of_a_run(data: TensorDataset) -> None:
    model = _network()
    with pytest.raises(InputError, match="labelled examples, which snip needs"):
        prune(model, {"criterion": "snip"}, data=data.tensors[0])
    with pytest.raises(InputError, match="example_inputs"):
        prune(model, {"speedup": "structured", "criterion": "l1"})
    with pytest.raises(InputError, match="train"):
        prune(model, {"schedule": "gradual", "rounds": 2})
    with pytest.raises(InputError, match="empties"):
        prune(model, {"ratio": 0.999})
    with pytest.raises(InputError, match="at least"):
        spec = {"speedup": "structured", "criterion": "l1", "target": "macs", "ratio": 0.99, "floor": 0.5}
        prune(model, spec, data.tensors[0][:2])

    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) if float(x.sum()) > 0 else x

    with pytest.raises(InputError, match="model"):
        prune(Chooses(), {"speedup": "structured", "criterion": "l1"}, torch.rand(2, 4))


def _settings(steps: int) -> TrainSettings:
    return TrainSettings(steps=steps, batch_size=8, optimizer="sgd", learning_rate=0.05, device="cpu", clip_norm=1.0)


@pytest.mark.parametrize("grow", ["random", "gradient"])
def test_masks_that_move_keep_their_number(grow: Any, data: TensorDataset) -> None:
    model = _network()
    weights = prunable_weights(model)
    masks = keep_best({n: torch.rand(w.shape) for n, w in weights.items()}, 0.3, "erk")
    before = {name: mask.clone() for name, mask in masks.items()}
    with DynamicSparseTraining(model, masks, until=15, every=5, grow=grow) as moving:
        assert moving.share(0) == 0.3
        assert moving.share(15) == pytest.approx(0, abs=1e-12)
        inputs, labels = data.tensors
        train(model, {"inputs": inputs, "labels": labels}, _settings(20), loss=cross_entropy_loss(), callbacks=[moving])
    assert any(not torch.equal(before[n], m) for n, m in moving.masks.items())
    for name, mask in moving.masks.items():
        assert int(mask.sum()) == int(before[name].sum())
        assert not weights[name][~mask].any()
    with pytest.raises(InputError, match="grow"):
        DynamicSparseTraining(model, masks, until=5, grow="always")  # type: ignore[arg-type]


@pytest.mark.parametrize("growing", [False, True])
def test_soft_filters_are_zero_after_each_epoch(growing: bool, data: TensorDataset) -> None:
    model = _network()
    soft = SoftFilters(model, ["0.weight", "2.weight"], 0.5, steps_per_epoch=3, epochs=4, growing=growing)
    inputs, labels = data.tensors
    with soft:
        train(model, {"inputs": inputs, "labels": labels}, _settings(12), loss=cross_entropy_loss(), callbacks=[soft])
    kept = [int(soft.masks[n].flatten(1).any(1).sum()) for n in soft.masks]
    assert kept == [4, 4]
    assert int((model[0].weight.flatten(1).norm(dim=1) == 0).sum()) == 4


def test_penalties_are_their_formulas(data: TensorDataset) -> None:
    model = SmallCNN(widths=(4, 4), outputs=3, residual=False)
    groups = analyze(model.eval(), data.tensors[0][:2])
    expected = 0.0
    for group in groups.values():
        squares, size = np.zeros(group.n_units), 0
        for piece in group.units.slices:
            weight = dict(model.named_parameters())[piece.param].detach().double().movedim(piece.axis, 0)
            weight = weight.reshape(len(weight), -1)
            squares += weight.square().sum(1).numpy()
            size += weight.shape[1]
        expected += np.sqrt(size) * np.sqrt(squares).sum()
    assert float(group_lasso(model, groups)) == pytest.approx(expected, rel=1e-4)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert float(gain_l1(model)) == pytest.approx(sum(float(m.weight.abs().sum()) for m in norms))
    with pytest.raises(InputError, match="batch norm"):
        gain_l1(nn.Linear(2, 2))
    first = next(iter(groups.units))
    weights = growing_weights({first: torch.tensor([0.0, 1.0, 2.0, 4.0])})
    assert weights[first].tolist() == pytest.approx([16, 8, 4, 1])
    assert float(weighted_decay(model, groups, weights)) > 0
    loss = penalised(cross_entropy_loss(), [(0.5, gain_l1)])
    batch = {"inputs": data.tensors[0], "labels": data.tensors[1]}
    total, count = loss(model, batch)
    plain, _ = cross_entropy_loss()(model, batch)
    assert float(total / count) == pytest.approx(float(plain / count + 0.5 * gain_l1(model)), rel=1e-5)
    with pytest.raises(InputError, match="strength"):
        penalised(cross_entropy_loss(), [(-1.0, gain_l1)])


def test_gates_keep_as_many_channels_as_the_density_says(data: TensorDataset) -> None:
    model = with_gates(nn.Sequential(*_network()[:2], nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()), 0.5)
    assert len(gates_of(model)) == 2
    counts = macs_by_input(model, data.tensors[0])
    for gate in gates_of(model):
        assert int(gate.active.sum(1).max()) <= 4
    most = 4 * 9 * 36 + 4 * 4 * 9 * 36
    assert counts.shape == (24,)
    assert int(counts.max()) <= most
    assert float(saliency_penalty(model)) > 0
    with pytest.raises(InputError, match="Sequential"):
        with_gates(nn.Linear(2, 2), 0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("hardware", ["any", "sparse-gpu", "sparse-cpu"])
@pytest.mark.parametrize("training", ["none", "short", "ample"])
def test_every_recommendation_is_a_method_with_reasons(hardware: Any, training: Any) -> None:
    for examples, start, ratio, language in itertools.product(
        ("none", "unlabelled", "labelled"), ("pretrained", "untrained"), (0.5, 0.95), (False, True)
    ):
        limits = Limits(hardware, training, examples, start, ratio, language)  # type: ignore[arg-type]
        found = recommend(limits)
        assert [one.name for one in found[-2:]] == ["control: size", "control: random"]
        for one in found:
            one.spec.check()
            one.spec.check_evidence(examples == "labelled", examples != "none")
            assert one.reasons
            if hardware == "any" and start == "pretrained":
                assert one.spec.speedup == "structured"
            if training == "none" and start == "pretrained":
                assert one.spec.recovery in ("none", "update")


def test_a_recommendation_cites_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(
        '{"findings": [{"claim": "iterative-beats-one-shot", "statement": "gradual less one-shot", "measured": 0.4,'
        ' "interval": [0.3, 0.5], "holds": false}, {"claim": "iterative-beats-one-shot", "statement": "more",'
        ' "measured": 0.5, "holds": true}]}'
    )
    found = recommend(Limits("sparse-cpu", ratio=0.9), results=path)
    cited = "gradual less one-shot: 0.4 [0.3, 0.5] (does not hold here) (of the claim's 2 findings 1 hold)"
    assert cited in found[0].cited
    assert recommend(results=tmp_path / "none.json")[0].cited == "not measured here"
    for bad in ({"hardware": "tpu"}, {"training": "long"}, {"ratio": 1.0}, {"start": "x"}, {"examples": "some"}):
        with pytest.raises(InputError):
            Limits(**bad)  # type: ignore[arg-type]


def test_masks_are_not_emptied_by_a_floor() -> None:
    model = _network()
    result = prune(model, {"ratio": 0.95, "floor": 0.04})
    assert least_kept(result.masks) >= 1
    assert isinstance(result.spec, PruneSpec)


@pytest.mark.parametrize(
    "spec",
    [
        {"ratio": 0.8},
        {"ratio": 0.8, "schedule": "gradual", "rounds": 2},
        {"speedup": "structured", "criterion": "group-norm", "target": "macs", "ratio": 0.5},
    ],
)
def test_an_estimator_that_prunes(spec: dict[str, Any]) -> None:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(120, 6)).astype(np.float32)
    y = np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")
    found = PrunedClassifier(spec=spec, hidden=(32,), steps=60, recovery_steps=40, random_state=1).fit(X, y)
    assert found.score(X, y) > 0.85
    assert found.predict_proba(X).shape == (120, 2)
    if found.result_.masks:
        assert density_of({n: w != 0 for n, w in prunable_weights(found.module_).items()}) <= 0.21
    else:
        assert next(found.module_.parameters()).shape[0] < 32
    assert clone(found).get_params()["spec"] == spec
    with pytest.warns(DataConversionWarning):
        column = clone(found).fit(X, y[:, None])
    assert np.array_equal(column.predict_proba(X), found.predict_proba(X))
    with pytest.raises(InputError, match="recovery_steps"):
        PrunedClassifier(recovery_steps=-1).fit(X, y)


@pytest.mark.parametrize(
    ("recovery", "epochs"), [("finetune", 2 + 1), ("distil", 2 + 1 + 1), ("rewind", 2), ("scratch", 2)]
)
def test_a_row_has_the_epochs_of_its_network(data: TensorDataset, recovery: Any, epochs: float) -> None:
    task = ImageTask(data, data, ("a", "b", "c"), ["examples"])
    bench = Bench(task, lambda seed: _network(), Protocol(epochs=2, recovery_epochs=1, batch_size=8))
    spec = read_spec({"schedule": "gradual", "rounds": 2, "recovery": recovery})
    assert bench.trial("one", spec, 0).epochs == epochs
