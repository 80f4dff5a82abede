"""A training that is killed with no chance to say goodbye goes on from its last checkpoint with the same losses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, os, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_loop import tiny, tokens
from paperworks.training import TrainSettings, train
die = int(sys.argv[3])
def on_step(steps, loss, rate):
    if steps == die:
        os.kill(os.getpid(), 9)
settings = TrainSettings(steps=9, batch_size=2, learning_rate=1e-2, schedule="cosine", checkpoint_every=2, seed=3)
found = train(tiny(0.2), tokens(), settings, checkpoint_dir=Path(sys.argv[1]), on_step=on_step)
print(json.dumps(found.losses))
"""


def _run(folder: Path, die: int) -> subprocess.CompletedProcess[str]:
    here = str(Path(__file__).parent)
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), here, str(die)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_training_resumes_to_the_same_losses(tmp_path: Path) -> None:
    expected = _run(tmp_path / "whole", 0)
    assert expected.returncode == 0, expected.stderr[-2000:]
    killed = _run(tmp_path / "parts", 7)
    assert killed.returncode == -signal.SIGKILL
    assert not killed.stdout
    assert {f.name for f in (tmp_path / "parts").iterdir()} == {"training.pt"}
    resumed = _run(tmp_path / "parts", 0)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert json.loads(resumed.stdout) == json.loads(expected.stdout)
