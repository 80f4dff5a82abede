"""Checkpoints: read with any spelling, written in one piece, loaded by other processes with and without paperworks."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_transformers import D, outputs, random_basis, tiny, token_ids

import forked
from paperworks.errors import InputError
from paperworks.structure import CheckpointReader, FolderWeights, cuts_of, fold_norms, rotate, save_model

LOADER = """
import sys, pathlib, torch
import {first}
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
root = pathlib.Path(sys.argv[1])
for folder in sorted(root.iterdir()):
    auto = AutoModel if folder.name == "bert" else AutoModelForCausalLM
    model = auto.from_pretrained(folder, **{options})
    expected = torch.load(folder / "expected.pt")
    with torch.no_grad():
        found = model(input_ids=expected["ids"])[0]
    assert torch.equal(found, expected["out"]), folder.name
    assert not model.training
    if folder.name != "bert":
        made = [model.generate(expected["ids"][:, :5], max_new_tokens=6, do_sample=False, use_cache=use)
                for use in (True, False)]
        assert torch.equal(*made), folder.name
    assert model.config.tie_word_embeddings is False or folder.name == "bert"
print("paperworks" in sys.modules, type(model).__module__)
"""


def _sliced(kind: str, **changes):
    folded = fold_norms(tiny(kind, **changes), slice_head=kind == "bert")
    generator = torch.Generator().manual_seed(7)
    return rotate(folded, [random_basis(D, generator)[:, :24] for _ in range(cuts_of(folded))])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sliced checkpoints: tied and untied heads, half precision, a parallel layer, an encoder."""
    root = tmp_path_factory.mktemp("saved")
    ids = token_ids(2, 12)
    for kind in ("llama", "gpt2", "phi", "bert"):
        model = _sliced(kind)
        if kind == "llama":
            # Not model.to(): that would round the rotary frequencies too, which from_pretrained keeps in float32.
            for parameter in model.parameters():
                parameter.data = parameter.data.to(torch.bfloat16)
        save_model(model, root / kind, report={"method": "test"})
        torch.save({"ids": ids, "out": outputs(model, ids)}, root / kind / "expected.pt")
    return root


def test_a_process_with_transformers_alone_loads_it(saved, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    monkeypatch.chdir(tmp_path)
    code = LOADER.format(first="torch", options={"trust_remote_code": True})
    done = forked.run(forked.code, code, str(saved), imported=forked.BARE)
    assert done.code == 0, done.errors[-3000:]
    assert done.output.strip().splitlines()[-1].startswith("False transformers_modules")


def test_a_process_that_imported_paperworks_loads_it_without_remote_code(saved):
    done = forked.run(forked.code, LOADER.format(first="paperworks", options={}), str(saved))
    assert done.output.strip().splitlines()[-1] == "True paperworks.structure.modeling_sliced", done.errors[-3000:]


def test_a_checkpoint_carries_the_code_that_runs_here(saved):
    import paperworks.structure as structure

    source = Path(structure.__file__).parent
    code = {f.name for f in (saved / "llama").glob("*.py")}
    assert code == {"families.py", "family.py", "configuration_sliced.py", "layers_sliced.py", "modeling_sliced.py"}
    for name in code:
        assert (saved / "llama" / name).read_text() == (source / name).read_text()
        assert not re.search(r"^\s*(import|from) paperworks", (source / name).read_text(), re.MULTILINE)
    config = json.loads((saved / "llama" / "config.json").read_text())
    assert config["model_type"] == "sliced_llama"
    assert config["hidden_size"] == D
    assert config["layer_widths"] == [{"stream": [24, 24, 24]}] * 3
    assert set(config["auto_map"]) == {"AutoConfig", "AutoModelForCausalLM"}
    assert json.loads((saved / "llama" / "pruning_report.json").read_text()) == {"method": "test"}


def test_nothing_is_overwritten_and_only_sliced_models_are_saved(saved, tmp_path):
    before = {f.name: f.read_bytes() for f in (saved / "phi").iterdir() if f.is_file()}
    with pytest.raises(InputError, match="new or an empty folder"):
        save_model(_sliced("phi"), saved / "phi")
    assert before == {f.name: f.read_bytes() for f in (saved / "phi").iterdir() if f.is_file()}
    with pytest.raises(InputError, match="a sliced model"):
        save_model(tiny("phi"), tmp_path / "dense")
    assert not (tmp_path / "dense").exists()


def _rename(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({change(name): tensor for name, tensor in tensors.items()}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("gpt2", lambda name: name.removeprefix("transformer.")),
        ("opt", lambda name: name.removeprefix("model.")),
        ("bert", lambda name: f"bert.{name}"),
        (
            "bert",
            lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ),
        ),
        ("llama", lambda name: name),
    ],
)
def test_every_spelling_of_a_checkpoint_is_read(tmp_path, kind, change):
    model = tiny(kind)
    model.save_pretrained(tmp_path / "a")
    _rename(tmp_path / "a", change)
    weights = FolderWeights(tmp_path / "a", tmp_path)
    assert all(p.is_meta for p in weights.model.parameters())
    for path in (
        "lm_head",
        "model.layers.1",
        "transformer.h.1",
        "model.decoder.layers.1",
        "encoder.layer.1",
        "embeddings.LayerNorm",
    ):
        try:
            expected = model.get_submodule(path)
        except AttributeError:
            continue
        for name, parameter in weights.fetch(path).named_parameters():
            assert torch.equal(parameter, expected.get_parameter(name)), name


def test_shards_and_their_absence(tmp_path):
    model = tiny("llama")
    model.save_pretrained(tmp_path / "a", max_shard_size="20KB")
    assert len(list((tmp_path / "a").glob("*.safetensors"))) > 2
    reader = CheckpointReader(tmp_path / "a", "model")
    assert torch.equal(reader.read("model.norm.weight"), model.model.norm.weight)
    assert reader.dtype == torch.float32
    with pytest.raises(InputError, match="no such tensor"):
        reader.read("model.nothing")
    next((tmp_path / "a").glob("model-00002*")).unlink()
    with pytest.raises(InputError, match="all shards that the index names"):
        CheckpointReader(tmp_path / "a", "model")
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match="save_pretrained once"):
        CheckpointReader(tmp_path / "a", "model")


def test_weights_that_do_not_fit_the_configuration_are_named(tmp_path):
    tiny("llama").save_pretrained(tmp_path / "a")
    tensors = load_file(tmp_path / "a" / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(47, D)
    save_file(tensors, tmp_path / "a" / "model.safetensors")
    with pytest.raises(InputError, match=r"up_proj.weight: found shape \(47, 32\)"):
        FolderWeights(tmp_path / "a", tmp_path).fetch("model.layers.0")
