"""Meta-training, resuming, the choice of the epoch, and pruning with a metanetwork."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks_of_tests import build
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.meta_pruning import (
    GraphMetaNetwork,
    MetaPruner,
    MetaSettings,
    NetGraph,
    Target,
    fine_tune,
    make_layout,
    meta_train,
    random_edit,
    sparse_fine_tune,
    sparsity_gradient,
)
from paperworks.papers.meta_pruning.graph import tensors_of_model
from paperworks.papers.meta_pruning.method import TAXONOMY, prune_module
from paperworks.papers.meta_pruning.targets import Examples, as_pair, logits_with
from paperworks.papers.meta_pruning.workbench import BUNDLE, bundled_for
from paperworks.pruning import ModuleJob
from paperworks.pruning.taxonomy import declaration_in
from paperworks.structure.trace import analyze, load_cut, save_cut


@pytest.fixture(scope="module")
def data() -> Examples:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    images = torch.rand(60, 1, 8, 8, generator=generator) * 0.3
    for label in range(3):
        images[labels == label, 0, label * 2] += 0.7
    return images, labels


@pytest.fixture(scope="module")
def target(data: Examples) -> Target:
    model, _ = build("mlp")
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    fine_tune(model, data, epochs=3, learning_rate=0.1, batch_size=20)
    return Target(model, make_layout(model, data[0][:2]), analyze(model, data[0][:2]))


def network(target: Target, rho: float = 0.05) -> GraphMetaNetwork:
    return GraphMetaNetwork.for_layouts(target.layout, seed=3, hidden=4, layers=1, rho=rho)


def test_a_step_follows_the_gradient_of_both_losses(target: Target, data: Examples) -> None:
    """One plain step on the written-out objective gives the weights that the two-stage chain rule gives."""
    ours, plain = network(target), network(target)
    settings = MetaSettings(
        epochs=1, batches=1, batch_size=60, reg=0.3, learning_rate=0.01, weight_decay=0.0, norms="stored"
    )
    meta_train(ours, [target], data, settings)
    own = tensors_of_model(target.model)
    edited = plain.edited_tensors(target.layout, own)
    loss = nn.functional.cross_entropy(logits_with(target.model, edited, data[0]), data[1])
    pulls = sparsity_gradient({**own, **{n: v.detach() for n, v in edited.items()}}, target.groups, 0.3)
    loss = loss + sum((pulls[name] * edited[name]).sum() for name in pulls if name in edited)  # type: ignore[assignment]
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.01, weight_decay=0.0)
    loss.backward()
    optimizer.step()
    compared = 0
    for name, value in plain.named_parameters():
        if value.grad is not None:
            sure = value.grad.abs() > 1e-4  # the first step of Adam is the sign of the gradient
            compared += int(sure.sum())
            assert torch.allclose(ours.state_dict()[name][sure], value.detach()[sure], atol=1e-5), name
    assert compared > 100


def test_the_statistics_of_a_batch_leave_the_network_as_it_is(target: Target, data: Examples) -> None:
    before = copy.deepcopy(target.model.state_dict())
    stored, batch = network(target), network(target)
    for made, norms in ((stored, "stored"), (batch, "batch")):
        meta_train(made, [target], data, MetaSettings(epochs=1, norms=norms))  # type: ignore[arg-type]
    for name, value in target.model.state_dict().items():
        assert torch.equal(value, before[name])
    assert not target.model.training
    assert any(not torch.equal(a, b) for a, b in zip(stored.parameters(), batch.parameters(), strict=True))


def test_networks_of_one_architecture_are_traced_once(
    target: Target, data: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[torch.nn.Module] = []
    original = torch.export.export

    def counted(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        calls.append(model)
        return original(model, *args, **kwargs)

    monkeypatch.setattr(torch.export, "export", counted)
    models = [copy.deepcopy(target.model) for _ in range(3)]
    with torch.no_grad():
        for parameter in models[0].parameters():
            parameter.add_(0.1)
    settings = MetaSettings(epochs=1, batches=1, select_every=1)
    pruner = MetaPruner(hidden=4, layers=1, settings=settings, finetune_epochs=0, speeds=(1.5,), steps=10)
    pruner.fit(models[:2], data, models[2], data)
    pruned = pruner.prune(models[0], data, speedup=2.0, final_epochs=0)
    assert len(calls) == 1
    small = analyze(pruned.model, data[0][:2]).cost()
    assert (pruned.report["macs"], pruned.report["parameters"]) == (small.macs, small.parameters)
    assert pruned.speedup == target.groups.cost().macs / small.macs
    again, own = pruner.target(models[0], data[0][:2]), analyze(models[0], data[0][:2])
    assert again.model is models[0]
    assert str(again.groups) == str(own)


def test_the_epoch_with_the_best_score_is_kept(target: Target, data: Examples) -> None:
    scores = iter([0.2, 0.9, 0.5])
    seen: list[dict[str, torch.Tensor]] = []

    def score(made: GraphMetaNetwork) -> float:
        seen.append({name: value.clone() for name, value in made.state_dict().items()})
        return next(scores)

    made = network(target)
    history = meta_train(made, [target], data, MetaSettings(epochs=3, select_every=1), score=score)
    assert (history.best_epoch, history.best_score) == (2, 0.9)
    assert all(torch.equal(value, seen[1][name]) for name, value in made.state_dict().items())
    assert any(not torch.equal(value, seen[2][name]) for name, value in made.state_dict().items())


def test_a_training_that_was_stopped_goes_on_as_if_it_was_not(target: Target, data: Examples, tmp_path: Path) -> None:
    whole, parts = network(target), network(target)
    meta_train(whole, [target, target], data, MetaSettings(epochs=4, batch_size=20))
    meta_train(parts, [target, target], data, MetaSettings(epochs=2, batch_size=20), checkpoint=tmp_path / "meta.pt")
    again = network(target)
    history = meta_train(
        again, [target, target], data, MetaSettings(epochs=4, batch_size=20), checkpoint=tmp_path / "meta.pt"
    )
    assert len(history.rows) == 4
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_networks_are_edited_pruned_and_saved(target: Target, data: Examples, tmp_path: Path) -> None:
    other = copy.deepcopy(target.model)
    settings = MetaSettings(epochs=2, select_every=1)
    pruner = MetaPruner(hidden=4, layers=1, settings=settings, finetune_epochs=1, speeds=(1.5, 2.0))
    pruner.fit([target.model], data, other, data)
    assert pruner.history_.best_score == max(row["score"] for row in pruner.history_.rows)
    before = copy.deepcopy(target.model.state_dict())
    edited = pruner.transform(target.model, data[0])
    assert not torch.equal(edited.head.weight, target.model.head.weight)
    assert pruner.curve(edited, data).shape == (2,)
    pruned = pruner.prune(target.model, data, speedup=2.0, final_epochs=1, test_data=data)
    dense = target.groups.cost()
    assert pruned.speedup >= 2
    assert pruned.report["macs"] <= dense.macs / 2
    assert {name for name in pruned.report if name.startswith("accuracy")} == {
        "accuracy of the dense network",
        "accuracy after the edit",
        "accuracy after fine-tuning",
        "accuracy after pruning",
        "accuracy after the last fine-tuning",
    }
    assert pruner.prune(target.model, data, parameters=0.5, final_epochs=0).share <= 0.5
    plain = pruner.prune(target.model, data, speedup=1.0, final_epochs=0, edit=False)
    tuned = fine_tune(copy.deepcopy(target.model), data, epochs=1)
    assert torch.equal(plain.model.head.weight, tuned.head.weight)
    for name, value in target.model.state_dict().items():
        assert torch.equal(value, before[name])  # the network that was passed stays as it was
    save_cut(pruned.model, tmp_path / "cut")
    loaded = load_cut(tmp_path / "cut", lambda: build("mlp")[0])
    assert torch.equal(loaded(data[0]), pruned.model(data[0]))


def test_a_metanetwork_is_trained_as_a_copy_and_each_time_anew(target: Target, data: Examples) -> None:
    given = network(target)
    before = copy.deepcopy(given.state_dict())
    pruner = MetaPruner(given, settings=MetaSettings(epochs=1, batches=1, batch_size=20), finetune_epochs=1)
    found = [copy.deepcopy(pruner.fit([target.model], data).metanetwork_.state_dict()) for _ in range(2)]
    for name, value in given.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(found[0][name], found[1][name])
    assert any(not torch.equal(value, before[name]) for name, value in found[0].items())


def test_zeros_stay_zeros_through_the_last_fine_tuning(target: Target, data: Examples) -> None:
    graph = NetGraph.from_module(target.model, data[0][:2])
    made = GraphMetaNetwork.for_layouts(graph.layout, hidden=4, layers=1)
    found = MetaPruner(made, criterion="unstructured", finetune_epochs=0).prune(
        target.model, data, speedup=4.0, final_epochs=2
    )
    weights = torch.cat([found.model.layers[0].weight.flatten(), found.model.layers[3].weight.flatten()])
    assert int((weights != 0).sum()) == len(weights) - round(0.75 * len(weights))
    pattern = MetaPruner(made, criterion="2:4", finetune_epochs=0).prune(
        target.model, data, speedup=2.0, final_epochs=2
    )
    blocks = pattern.model.layers[0].weight.reshape(-1, 4)
    assert bool(((blocks != 0).sum(1) == 2).all())


def test_bad_input_is_named(target: Target, data: Examples) -> None:
    pruner = MetaPruner()
    with pytest.raises(InputError, match="metanetwork"):
        pruner.transform(target.model, data[0])
    with pytest.raises(InputError, match="models"):
        pruner.fit([], data)
    with pytest.raises(InputError, match="selection"):
        pruner.fit([target.model], data, target.model, data)
    with pytest.raises(InputError, match="selection_data"):
        pruner.fit([target.model], data, copy.deepcopy(target.model))
    with pytest.raises(InputError, match="data"):
        pruner.fit([target.model], (data[0], data[1][:5]))
    with pytest.raises(InputError, match="data"):
        pruner.fit([target.model], (data[0], data[1].float()))
    with pytest.raises(InputError, match="data"):
        as_pair((np.full((2, 4), np.nan), [0, 1]), "data")
    with pytest.raises(InputError, match="speedup"):
        pruner.prune(target.model, data)
    with pytest.raises(InputError, match="parameters"):
        pruner.prune(target.model, data, parameters=1.5)
    for option in ({"criterion": "l3"}, {"speeds": (0.5,)}, {"finetune_epochs": -1}, {"random_state": -1}):
        with pytest.raises(InputError, match=next(iter(option))):
            MetaPruner(**option)  # type: ignore[arg-type]
    for bad in ({"epochs": 0}, {"reg": -1.0}, {"alpha": 0.5}, {"norms": "x"}, {"learning_rate": 0.0}):
        with pytest.raises(InputError, match=next(iter(bad))):
            MetaSettings(**bad)  # type: ignore[arg-type]


def test_a_job_of_the_comparison_is_done_at_its_cost(target: Target, data: Examples) -> None:
    job = ModuleJob(
        target.model,
        data[0][:2],
        macs=0.5,
        data=torch.utils.data.TensorDataset(*data),
        train_steps=8,
        batch_size=20,
        device="cpu",
    )
    before = copy.deepcopy(target.model.state_dict())
    found = prune_module(job)
    dense, left = job.dense_cost().macs, job.analyze(found.module).cost().macs
    assert left <= 0.5 * dense
    assert found.steps <= 8
    assert found.notes
    for name, value in target.model.state_dict().items():
        assert torch.equal(value, before[name])
    assert declaration_in(Path(inspect.getfile(prune_module))).taxonomy == TAXONOMY
    with pytest.raises(InputError, match="data"):
        prune_module(ModuleJob(target.model, data[0][:2], macs=0.5))


def test_a_job_trains_as_the_comparison_does_and_does_not_die(data: Examples) -> None:
    """At a rate at which gradients of any length leave units that are 0 for every image; it cuts them to norm 1."""
    classes = int(data[1].max()) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inner = [torch.nn.Linear(data[0][0].numel(), 12), torch.nn.ReLU(), torch.nn.Linear(12, 12), torch.nn.ReLU()]
        network = torch.nn.Sequential(torch.nn.Flatten(), *inner, torch.nn.Linear(12, classes))
    whole = torch.utils.data.TensorDataset(*data)
    job = ModuleJob(network, data[0][:2], macs=0.5, data=whole, train_steps=120, learning_rate=3.0, device="cpu")
    logits = prune_module(job).module(data[0]).detach()
    assert float(logits.std(0).max()) > 0.1


def test_controls_are_as_large_as_the_edit_and_take_as_many_steps(target: Target, data: Examples) -> None:
    made = network(target, rho=0.5)
    pruner = MetaPruner(made, finetune_epochs=0)
    edited = pruner.edited(target)
    control = random_edit(target.model, edited, target.layout, seed=1)
    own, ours, other = (tensors_of_model(model) for model in (target.model, edited, control))
    for name in own:
        assert torch.allclose((other[name] - own[name]).norm(), (ours[name] - own[name]).norm(), rtol=1e-4, atol=1e-6)
    assert not torch.equal(other["head.weight"], ours["head.weight"])
    tuned = [sparse_fine_tune(copy.deepcopy(target.model), target.groups, data, epochs=2, reg=r) for r in (0.0, 0.3)]
    norms = [float(tensors_of_model(model)["layers.0.weight"].norm()) for model in tuned]
    assert norms[1] < norms[0]


def test_the_bundled_metanetwork_is_for_perceptrons_with_batch_norms(target: Target) -> None:
    name, made = bundled_for(target.layout) or ("", None)
    assert name == "perceptrons"
    assert made is not None
    model, inputs = build("residual")
    assert bundled_for(make_layout(model, inputs)) is None
    assert sum(path.stat().st_size for path in BUNDLE.rglob("*") if path.is_file()) <= 4 * 2**20


def test_a_measured_ratio_of_times_that_cannot_be_reached_is_refused(target: Target, data: Examples) -> None:
    pruner = MetaPruner(network(target), finetune_epochs=0)
    with pytest.raises(InputError, match="latency"):
        pruner.prune(target.model, data, latency=1e6)
