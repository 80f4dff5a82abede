"""What a killed fit leaves behind: finished modules, the stream, and the basis it was in after the last whole layer."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from paperworks.errors import InputError
from paperworks.papers.slicegpt.report import Cut
from paperworks.runs.files import write_text
from paperworks.structure.calibration import TokenBatches
from paperworks.structure.residual_stream import NormWeights


class FitState:
    """The checkpoint folder of a fit. A commit is one file replaced in one step, after all that it refers to.

    ``layers_done`` is None until there is something to go on from. The folder survives the death of the process; it
    is not synchronised to the disk against loss of power.

    Raises InputError if the folder holds the state of a fit with other settings, model or calibration.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self._file = folder / "state.json"
        self._fingerprint = fingerprint
        self.layers_done: int | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if self._file.is_file():
            state = json.loads(self._file.read_text(encoding="utf-8"))
            if state.get("fingerprint") != fingerprint:
                raise InputError(
                    "checkpoint_dir",
                    f"{folder}, with the state of another fit",
                    "the same model, calibration and settings, or an empty folder",
                )
            self.layers_done = int(state["layers_done"])

    def commit(
        self, done: int, live: int, cuts: list[Cut], basis: torch.Tensor | None, incoming: NormWeights | None
    ) -> None:
        """``done`` layers are finished; ``live`` names the file of the stream; ``basis`` is what it is cut with."""
        tensors = {} if basis is None else {"basis": basis.cpu()}
        if incoming is not None:
            tensors["gain"] = incoming.gain
            if incoming.bias is not None:
                tensors["bias"] = incoming.bias
        name = f"basis-{done}.safetensors"
        save_file(tensors, self.folder / name)
        state = {
            "fingerprint": self._fingerprint,
            "layers_done": done,
            "live": live,
            "tensors": name,
            "eps": None if incoming is None else incoming.eps,
            "cuts": [asdict(cut) for cut in cuts],
        }
        write_text(self._file, json.dumps(state))
        for old in self.folder.glob("basis-*.safetensors"):
            if old.name != name:
                old.unlink()

    def load(self) -> tuple[int, int, list[Cut], torch.Tensor | None, NormWeights | None]:
        """What ``commit`` was last given."""
        state = json.loads(self._file.read_text(encoding="utf-8"))
        tensors = load_file(self.folder / state["tensors"])
        cuts = [Cut(c["name"], c["width"], c["kept"], tuple(c["spectrum"])) for c in state["cuts"]]
        incoming = None
        if "gain" in tensors:
            incoming = NormWeights(tensors["gain"], tensors.get("bias"), state["eps"])
        return state["layers_done"], state["live"], cuts, tensors.get("basis"), incoming

    def clear(self) -> None:
        """Remove what the fit left, and the folder if nothing else is in it."""
        shutil.rmtree(self.folder / "parts", ignore_errors=True)
        for file in [self._file, *self.folder.glob("basis-*.safetensors"), *self.folder.glob("stream-*.bin")]:
            file.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(os.scandir(self.folder)):
            self.folder.rmdir()


def fingerprint_of(settings: dict[str, Any], tokens: TokenBatches, model: torch.nn.Module | Path) -> str:
    """Tells one fit from another: settings, calibration, and a sample of every weight (of a folder: its files)."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    digest.update(tokens.ids.numpy().tobytes())
    digest.update(b"" if tokens.mask is None else tokens.mask.numpy().tobytes())
    digest.update(str(tokens.batch_size).encode())
    if isinstance(model, Path):
        for file in sorted(model.glob("*.safetensors")):
            found = file.stat()
            digest.update(f"{file.name} {found.st_size} {found.st_mtime_ns}".encode())
        digest.update((model / "config.json").read_bytes())
    else:
        for name, parameter in model.named_parameters():
            sample = parameter.detach().flatten()[:1024].double().cpu().numpy()
            digest.update(name.encode() + str(tuple(parameter.shape)).encode() + sample.tobytes())
    return digest.hexdigest()
