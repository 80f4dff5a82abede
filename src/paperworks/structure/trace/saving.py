"""Cut models in folders: safetensors and a plan. Loading builds the model from its own code and configuration, at its
dense sizes, repeats the cuts, and fills in the weights. Nothing is pickled. Models of transformers and of
``paperworks.nn`` are built from the configuration that is saved with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.parameter import UninitializedParameter

from paperworks import nn as own_networks
from paperworks.errors import InputError
from paperworks.nn.saving import CONFIG, SavedNetwork, read_network_config
from paperworks.runs.files import new_folder, write_text
from paperworks.structure.trace.attention import dense_attention, prunable_attention, replaced_attention
from paperworks.structure.trace.capture import canonical_names
from paperworks.structure.trace.cutting import HISTORY, CutStep, Cutter
from paperworks.structure.trace.positions import tensor_at

WEIGHTS_FILE = "model.safetensors"
PLAN_FILE = "pruning.json"
FORMAT = "paperworks.traced"
OWN = "paperworks.nn"


def runs_of(positions: Sequence[int]) -> list[list[int]]:
    """Ascending positions as [start, length] of their runs."""
    runs: list[list[int]] = []
    for position in positions:
        if runs and runs[-1][0] + runs[-1][1] == position:
            runs[-1][1] += 1
        else:
            runs.append([position, 1])
    return runs


def positions_of(runs: Sequence[Sequence[int]]) -> list[int]:
    """The positions of [start, length] runs."""
    return [position for start, length in runs for position in range(start, start + length)]


def save_cut(model: nn.Module, folder: str | Path) -> Path:
    """Write a cut model to a new folder: weights, the cuts, and the configuration of a model of transformers or ours.

    Raises InputError where the folder has files in it, or the model was not cut by ``cut``.
    """
    steps: list[CutStep] | None = getattr(model, HISTORY, None)
    if steps is None:
        raise InputError("model", type(model).__name__, "a model that cut() has returned")
    target = Path(folder)
    names, _ = canonical_names(model)
    weights = {}
    for name, tensor in model.state_dict().items():
        if names.get(name, name) == name:
            weights[name] = tensor.detach().cpu().contiguous()
    config = getattr(model, "config", None)
    known = config is not None and type(model).__module__.startswith("transformers.")
    plan = {
        "format": FORMAT,
        "version": 1,
        "class": type(model).__name__,
        "library": "transformers" if known else OWN if builds_itself(model) else type(model).__module__,
        "dtype": str(next(iter(weights.values())).dtype).removeprefix("torch.") if weights else "float32",
        "parameters": sum(p.numel() for p in model.parameters()),
        "attention": replaced_attention(model),
        "steps": [
            {
                "tensors": {name: {str(a): runs_of(p) for a, p in axes.items()} for name, axes in step.tensors.items()},
                "attributes": [[path, name, value] for path, name, value in step.attributes],
            }
            for step in steps
        ],
    }
    with new_folder(target, "folder") as aside:
        save_file(weights, aside / WEIGHTS_FILE, metadata={"format": "pt"})
        write_text(aside / PLAN_FILE, json.dumps(plan))
        if known and config is not None:
            write_text(aside / CONFIG, config.to_json_string())
        elif builds_itself(model):
            write_text(aside / CONFIG, json.dumps(config, indent=2) + "\n")
    return target


def load_cut(folder: str | Path, build: Callable[[], nn.Module] | None = None) -> Any:
    """The cut model in ``folder``, in evaluation mode.

    Parameters
    ----------
    build : makes the model at its dense sizes, as it was before any cut; its weights do not matter. Torch's attention
        in it is replaced where ``prunable_attention`` did so before the cut. None for models of transformers and of
        ``paperworks.nn``, which are built from the saved configuration.

    Raises
    ------
    InputError : no such folder, a file that is not what ``save_cut`` wrote, or a model of other sizes.
    """
    source = Path(folder)
    plan = _read_plan(source / PLAN_FILE)
    model = build() if build is not None else _stock(source, plan)
    if not isinstance(model, nn.Module):
        raise InputError("build", type(model).__name__, "a function that returns a torch.nn.Module")
    lazy = [name for name, p in model.named_parameters() if isinstance(p, UninitializedParameter)]
    if lazy:
        raise InputError("build", f"a model whose {lazy[0]} has no size yet", "one that has seen a batch of the inputs")
    model.to(getattr(torch, plan["dtype"], torch.float32))
    model = _with_attention(model, plan.get("attention", []))
    steps = []
    for step in plan["steps"]:
        kept = {name: {int(a): positions_of(r) for a, r in axes.items()} for name, axes in step["tensors"].items()}
        attributes = [(str(path), str(name), _size(value)) for path, name, value in step["attributes"]]
        steps.append(CutStep(kept, attributes))
        repeat(model, steps[-1])
    _fill(model, source / WEIGHTS_FILE)
    object.__setattr__(model, HISTORY, steps)
    return model.eval()


def _with_attention(model: nn.Module, names: Sequence[str]) -> nn.Module:
    """Torch's attention is replaced where it was in the model that was cut, if ``build`` has not done so."""
    dense = dense_attention(model)
    replaced: nn.Module = prunable_attention(model, [name for name in names if name in dense])
    return replaced


def repeat(model: nn.Module, step: CutStep) -> None:
    """Apply a step to a model of the sizes that it was made for. Raises InputError where it does not fit."""
    kept = {}
    for name, axes in step.tensors.items():
        shape = tensor_at(model, name).shape
        for axis, positions in axes.items():
            if not 0 <= axis < len(shape) or (positions and positions[-1] >= shape[axis]):
                expected = f"a model whose {name} has at least {max(positions, default=0) + 1} positions on axis {axis}"
                raise InputError("build", f"{name} of shape {tuple(shape)}", expected)
        kept[name] = {axis: torch.tensor(positions, dtype=torch.int64) for axis, positions in axes.items()}
    cutter = Cutter(model)
    cutter.cut(kept)
    for path, name, value in step.attributes:
        try:
            old = getattr(model.get_submodule(path), name)
        except AttributeError:
            raise InputError(
                "build", f"no {name} in module {path!r}", "the model that was cut, at its dense sizes"
            ) from None
        if not isinstance(old, int | tuple | list):
            raise InputError(PLAN_FILE, f"{path}.{name}, which is no size", "sizes of modules")
        cutter.set(path, name, value)


def _size(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, list) and all(isinstance(v, int) for v in value):
        return tuple(value)
    raise InputError(PLAN_FILE, f"the size {value!r}", "whole numbers")


def _read_plan(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError("folder", path.parent, f"a folder with {PLAN_FILE}, as save_cut writes it")
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        if plan["format"] != FORMAT or plan["version"] != 1:
            raise InputError(PLAN_FILE, f"format {plan['format']}, version {plan['version']}", f"{FORMAT}, version 1")
        for step in plan["steps"]:
            step["tensors"].items(), list(step["attributes"])
        attention = plan.get("attention", [])
        if not isinstance(attention, list) or not all(isinstance(name, str) for name in attention):
            raise TypeError("attention has to be a list of names")
        return plan
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(PLAN_FILE, f"no plan ({error})", "the file that save_cut writes") from error


def builds_itself(model: nn.Module) -> bool:
    """Whether a model is a network of ``paperworks.nn``, which the saved options make again."""
    return isinstance(model, SavedNetwork) and getattr(own_networks, type(model).__name__, None) is type(model)


def _own(folder: Path, plan: dict[str, Any]) -> nn.Module:
    """The dense network of ``paperworks.nn`` that the saved options describe."""
    found = getattr(own_networks, plan["class"], None)
    if not (isinstance(found, type) and issubclass(found, SavedNetwork)):
        raise InputError(PLAN_FILE, f"class {plan['class']}", f"a network of {OWN}")
    try:
        return found(**read_network_config(folder))
    except TypeError as error:
        raise InputError("folder", f"{folder / CONFIG} ({error})", f"options of {plan['class']}") from error


def _stock(folder: Path, plan: dict[str, Any]) -> nn.Module:
    """The dense model that the saved configuration describes."""
    if plan["library"] == OWN:
        return _own(folder, plan)
    if plan["library"] != "transformers":
        raise InputError("build", None, f"a function that returns {plan['library']}.{plan['class']} at its dense sizes")
    import transformers

    found = getattr(transformers, plan["class"], None)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise InputError(PLAN_FILE, f"class {plan['class']}", "a model class of transformers")
    made: Any = found
    return made(made.config_class.from_json_file(str(folder / CONFIG)))


def _fill(model: nn.Module, path: Path) -> None:
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError("folder", f"{path.name}: {error}", "the weights that save_cut writes") from error
    names, _ = canonical_names(model)
    state = model.state_dict()
    wanted = {name for name in state if names.get(name, name) == name}
    if wanted != set(weights):
        odd = sorted(wanted ^ set(weights))
        raise InputError("build", f"{odd[0]} on one side only", "the model that was cut, at its dense sizes")
    for name, tensor in weights.items():
        if state[name].shape != tensor.shape:
            raise InputError("build", f"{name} of shape {tuple(state[name].shape)}", f"{tuple(tensor.shape)}, as saved")
    with torch.no_grad():
        for name, tensor in weights.items():
            tensor_at(model, name).copy_(tensor)
