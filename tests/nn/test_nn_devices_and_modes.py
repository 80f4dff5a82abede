"""Devices and number formats by name; the modes of submodules after evaluation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import forked
from paperworks.errors import InputError
from paperworks.nn import evaluation_mode, preserved_modes, resolve_device, resolve_dtype


def test_devices_and_formats() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    for wrong in ("gpu", "cuda:99", None):
        with pytest.raises(InputError, match="device"):
            resolve_device(wrong)  # type: ignore[arg-type]
    assert resolve_dtype("bf16") == resolve_dtype(torch.bfloat16) == torch.bfloat16
    assert resolve_dtype(None, torch.float64) == torch.float64
    for wrong_dtype in ("int8", torch.int64):
        with pytest.raises(InputError, match="dtype"):
            resolve_dtype(wrong_dtype)  # type: ignore[arg-type]


def test_auto_takes_cuda_then_mps_then_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, mps, expected in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=cuda: found)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda found=mps: found)
        assert resolve_device("auto").type == expected


def test_evaluation_restores_the_mode_of_every_submodule() -> None:
    frozen, head = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()), nn.Linear(2, 2)
    model = nn.Sequential(frozen, head)
    frozen.eval()
    with pytest.raises(ZeroDivisionError), evaluation_mode(model, head):
        assert not any(module.training for module in model.modules())
        raise ZeroDivisionError
    assert [module.training for module in model.modules()] == [True, False, False, False, True]


def test_a_new_submodule_gets_the_mode_of_its_model() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).eval()
    model[0].train()
    with preserved_modes(model):
        model.train()
        model[1] = nn.Dropout()
    assert [module.training for module in model.modules()] == [False, True, False]


def test_importing_training_loads_no_transformers() -> None:
    code = "import sys, paperworks.training; print('transformers' in sys.modules)"
    done = forked.run(forked.code, code, imported=forked.BARE)
    assert done.output.strip() == "False", done.errors[-2000:]
