"""The notebooks of the documentation run from their first cell to the last, and stand there with what they showed.

One of them runs in a kernel that Jupyter starts, as a reader's does. The kernels of the others are forked from a
process that has imported torch and transformers.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import forked

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
IDS = [path.stem for path in NOTEBOOKS]


def kernel(words: Sequence[str], environment: Mapping[str, str], folder: str) -> None:
    """Jupyter's kernel for Python, as a function to run in a process of its own."""
    from ipykernel.kernelapp import launch_new_instance

    os.setsid()
    os.environ.update(environment)
    os.chdir(folder)
    launch_new_instance(list(words))


class ForkedKernel:
    """What Jupyter takes for the process that it started (a ``subprocess.Popen``)."""

    stdin = stdout = stderr = None

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], cwd: str | Path, **_: object) -> None:
        self._told = tempfile.TemporaryDirectory()
        words = command[list(command).index("ipykernel_launcher") + 1 :]
        self._process = forked.start(kernel, words, dict(env), str(cwd), folder=Path(self._told.name))
        assert self._process.pid is not None
        self.pid = self._process.pid
        while self.poll() is None and os.getpgid(self.pid) != self.pid:  # Jupyter sends signals to the group
            time.sleep(0.01)

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        self._told.cleanup()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@pytest.mark.over_budget("starts a kernel, which imports torch")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_a_notebook_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if path != NOTEBOOKS[-1]:
        monkeypatch.setattr("jupyter_client.provisioning.local_provisioner.launch_kernel", ForkedKernel)
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import execute_notebooks
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    fresh = execute_notebooks.execute(path)
    stored = nbformat.read(path, as_version=4)
    for now, before in zip(fresh.cells, stored.cells, strict=True):
        assert [output.output_type for output in now.get("outputs", [])] == [
            output.output_type for output in before.get("outputs", [])
        ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_it_stands_there_executed(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell.outputs for cell in cells)
    assert "text/html" in str([output for cell in cells for output in cell.outputs])
    text = path.read_text(encoding="utf-8")
    assert "/tmp/" not in text
    assert path.stat().st_size < 500_000
