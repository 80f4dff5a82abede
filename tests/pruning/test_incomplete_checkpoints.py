"""Every method that prunes refuses a checkpoint with a tensor gone, before any work, and names the tensor."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from paperworks.comparison.methods import load_method, method_names
from paperworks.errors import InputError
from paperworks.pruning import PruningJob, architecture_of
from paperworks.structure.layerwise import LayerwiseRunner

LOST = "model.layers.1.self_attn.o_proj.weight"


@pytest.fixture
def incomplete(checkpoint: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(checkpoint, tmp_path / "incomplete")
    tensors = load_file(folder / "model.safetensors")
    del tensors[LOST]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("method", method_names())
def test_a_method_names_the_missing_tensor(method: str, incomplete: Path, tmp_path: Path) -> None:
    job = PruningJob(incomplete, 1000, ("text " * 500,), tmp_path, sequences=2, length=8, device="cpu")
    with pytest.raises(InputError) as caught:
        load_method(method)(job)
    assert caught.value.field == LOST


def test_a_checkpoint_that_is_read_layerwise_is_checked_before_it_runs(incomplete: Path) -> None:
    with pytest.raises(InputError) as caught, LayerwiseRunner(incomplete, torch.ones(1, 4, dtype=torch.int64)):
        pass
    assert caught.value.field == LOST


def test_an_architecture_that_is_not_known_is_refused_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    save_file({"weight": torch.ones(1)}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"whose model_type is resnet; expected one of .*llama") as caught:
        architecture_of(tmp_path)
    assert caught.value.field == "model"
    assert str(tmp_path) in str(caught.value.found)
