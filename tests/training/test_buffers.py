"""Buffers (the statistics of BatchNorm) in checkpoints, and old checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.runs import Cancelled
from paperworks.training import TrainSettings, cross_entropy_loss, train
from training.test_loop import StopAfter

SETTINGS = TrainSettings(steps=40, batch_size=8, learning_rate=1e-2, seed=2, eval_every=5)


def classifier(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)
        )


def examples(n: int = 60) -> dict[str, torch.Tensor]:
    inputs = 3 + torch.randn(n, 6, generator=torch.Generator().manual_seed(1))
    return {"inputs": inputs, "labels": inputs[:, :3].argmax(1)}


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(examples()["inputs"])


def test_a_stopped_training_goes_on_with_its_statistics(tmp_path: Path) -> None:
    whole, stopped, resumed = classifier(), classifier(), classifier(seed=9)
    options: dict[str, Any] = {"loss": cross_entropy_loss()}
    train(whole, examples(), SETTINGS, **options)
    with pytest.raises(Cancelled):
        train(stopped, examples(), SETTINGS, checkpoint_dir=tmp_path, progress=StopAfter(20), **options)
    train(resumed, examples(), SETTINGS, checkpoint_dir=tmp_path, **options)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert int(whole.state_dict()["1.num_batches_tracked"]) == 40
    assert torch.equal(logits(whole), logits(resumed))


def test_the_best_weights_come_with_their_statistics() -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def evaluate(model: nn.Module) -> float:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return 1.0 if len(seen) == 3 else 2.0

    model = classifier()
    found = train(model, examples(), SETTINGS, loss=cross_entropy_loss(), evaluate=evaluate)
    assert found.best_step == 15
    assert all(torch.equal(value, seen[2][name]) for name, value in model.state_dict().items())


def test_buffers_that_are_not_saved_are_not_in_the_checkpoint(tmp_path: Path) -> None:
    model = classifier()
    model.register_buffer("scratch", torch.zeros(3), persistent=False)
    train(model, examples(), SETTINGS, loss=cross_entropy_loss(), checkpoint_dir=tmp_path)
    saved = torch.load(tmp_path / "training.pt", weights_only=True)
    assert saved["model"].keys() == model.state_dict().keys()


def test_checkpoints_of_an_older_version_are_refused(tmp_path: Path) -> None:
    torch.save({"identity": {}, "model": {}}, tmp_path / "training.pt")
    with pytest.raises(InputError, match=r"checkpoint_dir: .*training.pt, of version 1; expected version 2"):
        train(classifier(), examples(), SETTINGS, loss=cross_entropy_loss(), checkpoint_dir=tmp_path)
