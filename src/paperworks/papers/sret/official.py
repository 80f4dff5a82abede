"""Checkpoints of the official code, read and written.

A released file is a dictionary whose ``model`` has a name for every pass, so that the tensors of a shared block stand
there once for each pass. They are compared, and each is taken once.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.errors import InputError
from paperworks.nn.loading import first_line, refuse_tensors
from paperworks.papers.sret.configuration import VARIANTS, SReTConfig, variant_config
from paperworks.papers.sret.layers import Block, NonlinearProjection
from paperworks.papers.sret.modeling import SReTForImageClassification

STRIDE = 8
"""Pixels between neighbouring tokens of the first stage, in the official stem."""
_BLOCK = {"attention_norm": "norm1", "attention.qkv": "attn.qkv", "attention.output": "attn.proj", "mlp_norm": "norm2"}
_PROJECTION = {"norm": "norm1"}
_MLP = {"mlp.expand": "mlp.fc1", "mlp.contract": "mlp.fc2"}


def load_official(
    path: str | Path, config: SReTConfig | None = None, *, sliced: bool = True, **options: Any
) -> SReTForImageClassification:
    """A released checkpoint (``SReT_T.pth``, ...) as a model in evaluation mode.

    The file tells widths, ratios, number of passes, classes and image size. It does not tell the groups, since they
    have no weights. Nothing in the file is executed.

    Parameters
    ----------
    path : a ``.pth`` file: a dictionary with ``model``, or the state alone.
    config : of the model, where the file is none of the released variants.
    sliced : with the groups of the released sliced variants, or plain attention.
    options : others of ``SReTConfig``, such as ``groups1``, or ``permute="always"`` for the official random inference.

    Raises
    ------
    InputError : a file that is no checkpoint, copies of a shared tensor that differ, tensors of another shape, missing
        or without a place.
    """
    state = _read(Path(path))
    found = config if config is not None else _config(state, str(path), sliced, options)
    model = SReTForImageClassification(found)
    own = model.state_dict()
    taken: dict[str, Tensor] = {}
    used: set[str] = set()
    missing: list[str] = []
    for name, places in _places(model):
        there = [place for place in places if place in state]
        missing += [place for place in places if place not in state]
        used.update(there)
        if not there:
            continue
        for place in there[1:]:
            if not torch.equal(state[place], state[there[0]]):
                raise InputError(place, f"another tensor than {there[0]}", "the same one: they are of one shared block")
        taken[name] = state[there[0]]
    for name, places in _coefficients(model):
        missing += [place for place in places if place not in state]
        used.update(places)
        if all(place in state for place in places):
            taken[name] = torch.cat([state[place].reshape(1) for place in places])
    mismatched = [(name, taken[name].shape, own[name].shape) for name in taken if taken[name].shape != own[name].shape]
    extra = [name for name in state if name not in used and not _is_copy(name, model)]
    refuse_tensors(Path(path), missing, extra, mismatched)
    _compare_coefficients(model, state)
    model.load_state_dict(taken)
    return model.eval()


def official_state(model: SReTForImageClassification) -> dict[str, Tensor]:
    """The state of a model under the names of the official code, shared tensors once for each pass.

    ``torch.save({"model": official_state(model)}, path)`` is a file that the official classes load.
    """
    own = model.state_dict()
    found = {place: own[name] for name, places in _places(model) for place in places}
    for prefix, module in _parts(model):
        if module.coefficients is not None:
            for number, value in enumerate(module.coefficients.detach()):
                found[f"{prefix}.coefficient{number + 1}.bias"] = value.reshape(1)
    return found


def _parts(model: SReTForImageClassification) -> Iterator[tuple[str, Block | NonlinearProjection]]:
    """Official name and module of every pass: a block at even places, the projection behind it at odd ones."""
    stages: Any = model.sret.stages
    for stage, stack in enumerate(stages):
        for number, (block, _) in enumerate(stack.schedule):
            yield f"transformers.{stage}.blocks.{2 * number}", stack.blocks[block]
            yield f"transformers.{stage}.blocks.{2 * number + 1}", stack.projections[number]


def _places(model: SReTForImageClassification) -> Iterator[tuple[str, list[str]]]:
    """Our name of every tensor but the coefficients, and the official names of it."""
    names = {id(tensor): name for name, tensor in model.state_dict(keep_vars=True).items()}
    found: dict[str, list[str]] = {names[id(model.sret.positions)]: ["pos_embed"]}

    def add(module: nn.Module, place: str) -> None:
        for key, tensor in module.state_dict(keep_vars=True).items():
            found.setdefault(names[id(tensor)], []).append(f"{place}.{key}")

    for number, layer in enumerate(model.sret.stem.layers):
        if number % 3 < 2:
            add(layer, f"patch_embed.{('conv', 'bn')[number % 3]}{number // 3 + 1}")
    for number, pooling in enumerate(model.sret.poolings):
        add(pooling, f"pools.{number}.conv")
    for prefix, module in _parts(model):
        for ours, theirs in {**(_BLOCK if isinstance(module, Block) else _PROJECTION), **_MLP}.items():
            add(module.get_submodule(ours), f"{prefix}.{theirs}")
    add(model.sret.norm, "norm")
    add(model.classifier, "head")
    yield from found.items()


def _coefficients(model: SReTForImageClassification) -> Iterator[tuple[str, list[str]]]:
    names = {id(tensor): name for name, tensor in model.named_parameters()}
    seen: set[int] = set()
    for prefix, module in _parts(model):
        if module.coefficients is not None and id(module) not in seen:
            seen.add(id(module))
            count = len(module.coefficients)
            yield names[id(module.coefficients)], [f"{prefix}.coefficient{n + 1}.bias" for n in range(count)]


def _is_copy(name: str, model: SReTForImageClassification) -> bool:
    """Whether a tensor is a coefficient of a later pass."""
    return ".coefficient" in name and any(name.startswith(f"{prefix}.") for prefix, _ in _parts(model))


def _compare_coefficients(model: SReTForImageClassification, state: Mapping[str, Tensor]) -> None:
    first: dict[int, str] = {}
    for prefix, module in _parts(model):
        if isinstance(module, Block) and module.coefficients is not None:
            other = first.setdefault(id(module), prefix)
            for number in range(1, 5):
                name, copy = f"{other}.coefficient{number}.bias", f"{prefix}.coefficient{number}.bias"
                if copy not in state or not torch.equal(state[name], state[copy]):
                    found = f"another number than {name}" if copy in state else "nothing"
                    raise InputError(copy, found, "the same one: they are of one shared block")


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError("path", f"{path}, which is no file", "a .pth file of the official code")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise InputError("path", f"{path} ({first_line(error)})", "a .pth file of tensors") from None
    state = content.get("model", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()) or not state:
        raise InputError("path", f"{path}, without a state of tensors", 'a dictionary with "model"')
    return {name.removeprefix("module."): value for name, value in state.items()}


def _config(state: Mapping[str, Tensor], path: str, sliced: bool, options: dict[str, Any]) -> SReTConfig:
    def shape(name: str) -> torch.Size:
        if name not in state:
            raise InputError(name, f"no such tensor in {path}", "a checkpoint of SReT")
        return state[name].shape

    stages = len({name.split(".")[1] for name in state if name.startswith("transformers.")})
    widths = [shape(f"transformers.{s}.blocks.0.attn.proj.weight")[0] for s in range(stages)]
    hidden, projected = (shape(f"transformers.0.blocks.{n}.mlp.fc1.weight")[0] for n in (0, 1))
    size: dict[str, Any] = {
        "image_size": [STRIDE * side for side in shape("pos_embed")[2:]],
        "num_channels": shape("patch_embed.conv1.weight")[1],
        "num_labels": shape("head.weight")[0],
    }
    for name in VARIANTS:
        known = variant_config(name)
        same = known.widths == widths and int(known.mlp_ratio * widths[0]) == hidden
        if same and int(known.np_mlp_ratio * widths[0]) == projected:
            return variant_config(name, sliced=sliced, **{**size, **options})
    found = f"stages of widths {widths} with {hidden} and {projected} hidden units in {path}"
    raise InputError("config", found, f"one of {', '.join(VARIANTS)}, or the configuration of the file")
