"""A trained ensemble as one .safetensors file: training rows, sums on probe rows, and weights where they are kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from sklearn.utils.validation import check_is_fitted

from paperworks.errors import InputError
from paperworks.papers.permutations_ntk.ensemble import PermutationEnsemble
from paperworks.papers.permutations_ntk.networks import Members
from paperworks.runs.files import new_file, require_free

FORMAT = "paperworks permutation ensemble 1"


def save_ensemble(ensemble: PermutationEnsemble, path: Path) -> Path:
    """Write a fitted ensemble to a file that does not exist yet; it appears under its name when it is whole."""
    check_is_fitted(ensemble, "spec_")
    require_free(path, "path")
    arrays = {
        "train_inputs": ensemble.X_fit_,
        "train_outputs": ensemble.Y_fit_,
        "probe": ensemble.probe_,
        "probe_sum": ensemble._sum,
        "probe_squares": ensemble._squares,
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}
    for name in ensemble._stacks[0].tensors() if ensemble._stacks else ():
        tensors[f"members.{name}"] = torch.cat([stack.tensors()[name].cpu() for stack in ensemble._stacks])
    about = {
        "format": FORMAT,
        "parameters": json.dumps(ensemble.get_params(), default=lambda value: value.item()),  # numbers of numpy
        "members": json.dumps(ensemble.members_),
    }
    with new_file(path) as aside:
        save_file(tensors, aside, metadata=about)
    return path


def load_ensemble(path: Path, device: str = "cpu") -> PermutationEnsemble:
    """Read what ``save_ensemble`` wrote. Raises InputError for any other file, and one that is cut short."""
    if not path.is_file():
        raise InputError("path", f"{path}, which is no file", "a file that PermutationEnsemble.save wrote")
    try:
        with safe_open(path, framework="pt") as stored:
            about = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise InputError("path", f"{path}: {error}", "a file that PermutationEnsemble.save wrote") from None
    if about.get("format") != FORMAT:
        raise InputError("path", f"{path} of format {about.get('format')!r}", FORMAT)
    try:
        return _restored(about, tensors, device)
    except (KeyError, TypeError, ValueError) as error:
        # InputError says itself what is wrong; the others only that the parts do not fit together.
        if isinstance(error, InputError):
            raise
        raise InputError("path", f"{path}: {error!r}", "a file that PermutationEnsemble.save wrote") from None


def _restored(about: dict[str, str], tensors: dict[str, torch.Tensor], device: str) -> PermutationEnsemble:
    ensemble = PermutationEnsemble(**{**json.loads(about["parameters"]), "device": device})
    ensemble._prepare(*(tensors[name].numpy() for name in ("train_inputs", "train_outputs", "probe")))
    shape = ensemble._sum.shape
    ensemble._sum, ensemble._squares = (tensors[name].numpy() for name in ("probe_sum", "probe_squares"))
    if not shape == ensemble._sum.shape == ensemble._squares.shape:
        raise ValueError("sums of another shape than the probe rows")
    ensemble.members_ = [(int(a), int(b)) for a, b in json.loads(about["members"])]
    ensemble.n_members_ = sum(stop - start for start, stop in ensemble.members_)
    weights = {n.removeprefix("members."): t.to(device) for n, t in tensors.items() if n.startswith("members.")}
    if weights:
        members, spec = Members(ensemble.spec_, **weights), ensemble.spec_
        if members.hidden.shape != (ensemble.n_members_, spec.inputs, spec.width):
            raise ValueError(f"weights of shape {tuple(members.hidden.shape)}")
        ensemble._stacks = [members]
    return ensemble
