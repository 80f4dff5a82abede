"""A training that is killed with no chance to say goodbye goes on from its last checkpoint with the same losses."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

import forked
from paperworks.training import TrainSettings, train
from training.test_loop import tiny, tokens

SETTINGS = TrainSettings(steps=9, batch_size=2, learning_rate=1e-2, schedule="cosine", checkpoint_every=2, seed=3)


def train_and_die(folder: Path, at: int) -> None:
    """Print the losses of a training; kill this process after step ``at``."""

    def on_step(steps: int, loss: float, rate: float) -> None:
        if steps == at:
            os.kill(os.getpid(), signal.SIGKILL)

    print(json.dumps(train(tiny(0.2), tokens(), SETTINGS, checkpoint_dir=folder, on_step=on_step).losses))


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_training_resumes_to_the_same_losses(tmp_path: Path) -> None:
    expected = forked.run(train_and_die, tmp_path / "whole", 0)
    assert expected.code == 0, expected.errors[-2000:]
    killed = forked.run(train_and_die, tmp_path / "parts", 7)
    assert killed.code == -signal.SIGKILL
    assert not killed.output
    assert {f.name for f in (tmp_path / "parts").iterdir()} == {"training.pt"}
    resumed = forked.run(train_and_die, tmp_path / "parts", 0)
    assert resumed.code == 0, resumed.errors[-2000:]
    assert json.loads(resumed.output) == json.loads(expected.output)
