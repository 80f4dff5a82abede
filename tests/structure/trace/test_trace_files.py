"""Cut models in folders and as ONNX; latency."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_families import family
from tiny_networks import Grouped, Residual, Vit, network

from paperworks.errors import InputError
from paperworks.nn import MLP
from paperworks.structure.trace import analyze, cut, export_onnx, load_cut, measure_latency, save_cut
from paperworks.structure.trace.capture import call
from paperworks.structure.trace.saving import positions_of, runs_of


def test_runs() -> None:
    assert runs_of([0, 1, 2, 5, 7, 8]) == [[0, 3], [5, 1], [7, 2]]
    assert positions_of(runs_of([0, 1, 2, 5, 7, 8])) == [0, 1, 2, 5, 7, 8]
    assert runs_of([]) == positions_of([]) == []


@pytest.mark.parametrize(("name", "build"), [("residual", Residual), ("vit", Vit), ("grouped", Grouped)])
def test_a_folder_loads_into_the_original_code(tmp_path: Path, name: str, build: type) -> None:
    groups = analyze(*network(name))
    kept = {g.name: range(0, g.n_units, 2) for g in groups.values() if g.by_default}
    smaller = cut(groups, groups.keep(kept))
    loaded = load_cut(save_cut(smaller, tmp_path / "cut"), build)
    assert all(
        torch.equal(a, b) for a, b in zip(call(smaller, groups.inputs), call(loaded, groups.inputs), strict=True)
    )
    assert sorted(p.name for p in (tmp_path / "cut").iterdir()) == ["model.safetensors", "pruning.json"]
    again = analyze(loaded, groups.inputs)
    first = next(iter(again))
    twice = cut(again, again.keep({first: [0]}))
    reloaded = load_cut(save_cut(twice, tmp_path / "twice"), build)
    assert torch.equal(call(twice, groups.inputs)[0], call(reloaded, groups.inputs)[0])


def test_a_model_of_transformers_is_built_from_its_configuration(tmp_path: Path) -> None:
    model, inputs = family("bert")
    groups = analyze(model, inputs)
    kept = {g.name: range(0, g.n_units, 2) for g in groups.values() if g.by_default}
    smaller = cut(groups, groups.keep(kept))
    loaded = load_cut(save_cut(smaller, tmp_path / "cut"))
    assert type(loaded) is type(model)
    assert loaded.config.intermediate_size == 24  # the original code path at its dense sizes
    assert loaded.bert.encoder.layer[0].intermediate.dense.out_features == 12
    assert torch.equal(call(smaller, inputs)[0], call(loaded, inputs)[0])


def test_a_network_of_ours_is_built_from_its_options(tmp_path: Path) -> None:
    model = MLP(inputs=6, hidden=(5, 4), outputs=2).eval()
    groups = analyze(model, torch.rand(2, 6))
    smaller = cut(groups, groups.keep({next(iter(groups)): [0, 3]}))
    loaded = load_cut(save_cut(smaller, tmp_path / "cut"))
    assert loaded.layers[0].out_features == 2
    assert torch.equal(loaded(groups.inputs), smaller(groups.inputs))
    (tmp_path / "cut/config.json").write_text('{"inputs": 6, "depth": 3}', encoding="utf-8")
    with pytest.raises(InputError, match="options of MLP"):
        load_cut(tmp_path / "cut")
    plan = json.loads((tmp_path / "cut/pruning.json").read_text())
    (tmp_path / "cut/pruning.json").write_text(json.dumps({**plan, "class": "build_network"}))
    with pytest.raises(InputError, match="a network of"):
        load_cut(tmp_path / "cut")


def test_folders_that_do_not_load(tmp_path: Path) -> None:
    groups = analyze(*network("residual"))
    with pytest.raises(InputError, match="a model that cut"):
        save_cut(groups.model, tmp_path / "dense")
    folder = save_cut(cut(groups, groups.keep({"a/channel": [0, 1]})), tmp_path / "cut")
    with pytest.raises(InputError) as caught:
        save_cut(cut(groups, groups.keep({"a/channel": [0]})), folder)
    assert caught.value.field == "folder"
    for build, field in ((None, "build"), (Vit, "plan"), (lambda: "text", "build")):
        with pytest.raises(InputError) as caught:
            load_cut(folder, build)
        assert caught.value.field == field
    with pytest.raises(InputError, match=r"a folder with pruning\.json"):
        load_cut(tmp_path / "nowhere", Residual)
    plan = json.loads((folder / "pruning.json").read_text())
    for change in (
        {"format": "other"},
        {"steps": 3},
        {"steps": [{"tensors": {"a.weight": {"0": [[0, 99]]}}, "attributes": []}]},
        {"steps": [{"tensors": {}, "attributes": [["a", "forward", 3]]}]},
        {"steps": [{"tensors": {}, "attributes": [["a", "in_channels", "rm"]]}]},
    ):
        (folder / "pruning.json").write_text(json.dumps({**plan, **change}))
        with pytest.raises(InputError):
            load_cut(folder, Residual)


def test_onnx_gives_the_same_outputs(tmp_path: Path) -> None:
    model, inputs = network("residual", torch.float32)
    groups = analyze(model, inputs)
    smaller = cut(groups, groups.keep({"stem/channel": [0, 3], "b/channel": range(8)}))
    assert export_onnx(smaller, inputs, tmp_path / "cut.onnx", any_batch=True) < 1e-5
    with pytest.raises(InputError) as caught:
        export_onnx(smaller, inputs, tmp_path / "cut.onnx")
    assert caught.value.field == "path"


def test_latency_is_measured_in_turns() -> None:
    small, large = torch.nn.Linear(8, 8), torch.nn.Linear(900, 900)
    pair = {"small": torch.nn.Sequential(small), "large": torch.nn.Sequential(torch.nn.Linear(8, 900), large)}
    found = measure_latency(pair, torch.randn(64, 8), rounds=3, seconds=0.01)
    assert found["small"].median < found["large"].median <= found["large"].p95
    with pytest.raises(InputError):
        measure_latency({}, torch.randn(1))
