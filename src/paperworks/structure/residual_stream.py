"""Change of basis of a transformer's residual stream: fold the norms, rotate, slice (SliceGPT, sections 3.1 to 3.4).

Row-vector convention: the stream is X [tokens, D], and a basis is Q [D, d] with orthonormal columns; the stream in the
new basis is X Q. A square Q changes nothing but the coordinates; fewer columns delete directions. All products are
formed in float64, a few rows at a time, and cast back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from paperworks.errors import InputError
from paperworks.structure.configuration_sliced import SlicedConfig
from paperworks.structure.families import FAMILIES, Family
from paperworks.structure.layers_sliced import (
    StreamMap,
    convert_layer,
    convert_shell,
    give_bias,
    norm_eps,
    pad_stream,
    part,
    set_weight,
)
from paperworks.structure.modeling_sliced import MODEL_CLASSES
from paperworks.structure.registry import check_model, check_rotation, spec_for

CHUNK_BYTES = 16 * 2**20
"""Rows of a matrix are taken to float64 in pieces of about this size."""


@dataclass(frozen=True)
class NormWeights:
    """Gain [D] and bias [D] (or None) of a norm in float64, and its eps."""

    gain: torch.Tensor
    bias: torch.Tensor | None
    eps: float


def norm_weights(norm: Any, family: Family, width: int) -> NormWeights:
    """What a norm does after it has divided: gain and bias, ones and None where it stores nothing."""
    weight = getattr(norm, "weight", None)
    bias = getattr(norm, "bias", None)
    gain = torch.ones(width, dtype=torch.float64) if weight is None else weight.detach().double() + family.gain_offset
    return NormWeights(gain, None if bias is None else bias.detach().double(), norm_eps(norm))


def along_stream(
    weight: torch.Tensor,
    axis: int,
    change: Callable[[torch.Tensor], torch.Tensor],
    width: int | None = None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Apply ``change`` (float64 [rows, D] to [rows, width]) along the axis of ``weight`` that touches the stream."""
    weight = weight.detach()
    rows = weight if axis == 1 else weight.T
    width = rows.shape[1] if width is None else width
    shape = (rows.shape[0], width) if axis == 1 else (width, rows.shape[0])
    result = weight.new_empty(shape, dtype=dtype)
    result_rows = result if axis == 1 else result.T
    step = max(1, CHUNK_BYTES // (8 * rows.shape[1]))
    for start in range(0, rows.shape[0], step):
        result_rows[start : start + step] = change(rows[start : start + step].double())
    return result


def _input_axis(module: Any) -> int:
    return 0 if hasattr(module, "nf") else 1  # Conv1D stores [in, out], Linear [out, in]


def centre(weight: torch.Tensor, axis: int) -> torch.Tensor:
    """Subtract the mean over the stream: the matrix M = I - 11^T / D of a LayerNorm, applied ahead of it."""
    return along_stream(weight, axis, lambda rows: rows - rows.mean(1, keepdim=True))


def absorb_norm(module: Any, norm: NormWeights, basis: torch.Tensor | None = None) -> None:
    """W <- diag(gain) W and b <- b + bias W, for a matrix that reads what ``norm`` wrote; then W <- Q^T W."""
    axis = _input_axis(module)
    weight = module.weight.detach()
    gain = norm.gain.to(weight.device)
    bias = None
    if norm.bias is not None:
        shift = norm.bias.to(weight.device)
        added = along_stream(weight, axis, lambda rows: rows @ shift[:, None], 1, torch.float64).flatten()
        bias = (module.bias.detach().double() + added).to(weight.dtype)
    if basis is None:
        weight = along_stream(weight, axis, lambda rows: rows * gain)
    else:
        turn = _times(basis, weight)
        weight = along_stream(weight, axis, lambda rows: turn(rows * gain), basis.shape[1])
    set_weight(module, weight, bias)


def fold_head(head: Any, norm: NormWeights, basis: torch.Tensor | None = None) -> None:
    """Absorb the final norm into the head, which gets a bias if the norm has one; then turn it into ``basis``."""
    if norm.bias is not None:
        give_bias(head)
    absorb_norm(head, norm, basis)


def fold_embedding(module: Any, family: Family, basis: torch.Tensor | None = None) -> None:
    """E <- E M where a LayerNorm will read the sum of the embeddings (M subtracts the mean); then E <- E Q."""
    if family.norm == "layer":
        turn = None if basis is None else _times(basis, module.weight)

        def change(rows: torch.Tensor) -> torch.Tensor:
            rows = rows - rows.mean(1, keepdim=True)
            return rows if turn is None else turn(rows)

        set_weight(module, along_stream(module.weight, 1, change, None if basis is None else basis.shape[1]))
    elif basis is not None:
        turn_embedding(module, basis)


def fold_layer(
    layer: Any, family: Family, incoming: NormWeights | None = None, last: bool = False, slice_head: bool = False
) -> NormWeights | None:
    """Turn a stock layer into a sliced layer of full width that computes the same (step 1 of the method).

    ``incoming``: for a post-norm layer, the norm that wrote its input, which it absorbs. Returns the norm that the
    next layer has to absorb (None for the pre-norm families).
    """
    post = family.topology == "post_norm"
    width = _stream_width(layer, family)
    own = [norm_weights(part(layer, block.norm), family, width) for block in family.blocks]
    feeding = own if incoming is None else [incoming, own[0]]
    convert_layer(layer, family, tuple(norm.bias is not None for norm in feeding), last, slice_head)
    for index, (block, norm) in enumerate(zip(family.blocks, feeding, strict=True)):
        for path in block.inputs:
            absorb_norm(part(layer, path), norm)
        if family.norm == "layer":
            for path in block.outputs:
                module = part(layer, path)
                bias = None if module.bias is None else module.bias.detach().double()
                set_weight(
                    module,
                    centre(module.weight, 1 - _input_axis(module)),
                    None if bias is None else (bias - bias.mean()).to(module.weight.dtype),
                )
        if post:
            _write_map(residual_map(layer, index), norm, centred=True)
    if post and last and slice_head:
        _write_map(layer.restore, own[-1], centred=False)
    return own[-1] if post else None


def residual_map(layer: Any, index: int) -> StreamMap:
    """The matrix on the residual path of block ``index`` of a sliced layer."""
    return layer.attention_residual if index == 0 else layer.feed_forward_residual


def turn_embedding(module: Any, basis: torch.Tensor) -> None:
    """E <- E Q."""
    set_weight(module, along_stream(module.weight, 1, _times(basis, module.weight), basis.shape[1]))


def turn_input(layer: Any, family: Family, index: int, basis: torch.Tensor) -> None:
    """W_in <- Q^T W_in for block ``index``, and S <- Q^T S for the matrix on its residual path."""
    for path in family.blocks[index].inputs:
        module = part(layer, path)
        change = _times(basis, module.weight)
        set_weight(module, along_stream(module.weight, _input_axis(module), change, basis.shape[1]))
    path_map = residual_map(layer, index)
    _set_map(path_map, along_stream(path_map.weight, 0, _times(basis, path_map.weight), basis.shape[1]))


def turn_output(layer: Any, family: Family, index: int, basis: torch.Tensor) -> None:
    """W_out <- W_out Q and b_out <- b_out Q for block ``index``, and S <- S Q for the matrix on its residual path."""
    for path in family.blocks[index].outputs:
        module = part(layer, path)
        change = _times(basis, module.weight)
        weight = along_stream(module.weight, 1 - _input_axis(module), change, basis.shape[1])
        bias = None if module.bias is None else change(module.bias.detach().double()).to(weight.dtype)
        set_weight(module, weight, bias)
    path_map = residual_map(layer, index)
    change = _times(basis, path_map.weight)
    shift = None if path_map.bias is None else change(path_map.bias.detach().double()).to(path_map.weight.dtype)
    _set_map(path_map, along_stream(path_map.weight, 1, change, basis.shape[1]), shift)
    if index == len(family.blocks) - 1 and getattr(layer, "restore", None) is not None:
        restore = layer.restore
        _set_map(restore, along_stream(restore.weight, 0, _times(basis, restore.weight), basis.shape[1]))


def turn_head(head: Any, basis: torch.Tensor) -> None:
    """W_head <- Q^T W_head."""
    set_weight(head, along_stream(head.weight, 1, _times(basis, head.weight), basis.shape[1]))


def set_sliced_class(model: PreTrainedModel, family: Family, stream_widths: Sequence[Sequence[int]]) -> None:
    """Make the model, whose modules are sliced ones by now, an instance of its sliced class, with its configuration.

    The configuration object stays the same, as every attention module holds it. Raises InputError for a last width
    below the first where the family cannot have that.
    """
    check_ends(family, stream_widths[0][0], stream_widths[-1][-1])
    model_class: Any = MODEL_CLASSES[family.model_type]
    config = model.config
    if getattr(model, "pooler", False) is None:
        config.add_pooling_layer = False
    config.__class__ = model_class.config_class
    config.layer_widths = [{"stream": [int(w) for w in widths]} for widths in stream_widths]
    config.restored = getattr(part(model, family.layers)[-1], "restore", None) is not None
    config.tie_word_embeddings = False
    config.architectures = [model_class.__name__]
    model.__class__ = model_class
    pad_stream(model, family, stream_widths[-1][-1])
    # transformers keeps records per class and per instance that a constructor sets up; this one allocates nothing
    with torch.device("meta"):
        built = model_class(config)
    model._tied_weights_keys = built._tied_weights_keys
    model.all_tied_weights_keys = built.all_tied_weights_keys
    model._no_split_modules = built._no_split_modules
    shapes = [{name: p.shape for name, p in m.named_parameters()} for m in (model, built)]
    assert shapes[0] == shapes[1], "the edited model and its configuration disagree"


def check_ends(family: Family, d_first: int, d_last: int) -> None:
    """Raise InputError if the last width is below the first in a family whose forward does not allow that."""
    if family.padded_at and d_last < d_first:
        raise InputError("dims", f"{d_last} at the head, {d_first} at the embedding", "a head at least as wide (GPT-2)")


def fold_norms(model: PreTrainedModel, slice_head: bool = False) -> PreTrainedModel:
    """Step 1: the same function with norms that have no weight, at full width. Edits and returns ``model``.

    The head is untied from the embedding, LayerNorms become RMS norms, gains and biases move into the matrices that
    read them, and identity matrices stand on the residual paths. ``slice_head``: whether the last sum, which the head
    (or, in an encoder, the output) reads, is to be rotated as well.

    Raises InputError for what ``spec_for`` and ``check_model`` refuse.
    """
    family = spec_for(model)
    check_rotation(family)
    check_model(model, family)
    with torch.no_grad():
        width = model.config.hidden_size
        layers = part(model, family.layers)
        incoming = None
        if family.embedding_norm:
            incoming = norm_weights(part(model, family.embedding_norm), family, width)
        for path in family.embeddings:
            fold_embedding(part(model, path), family)
        for index, layer in enumerate(layers):
            incoming = fold_layer(layer, family, incoming, index == len(layers) - 1, slice_head)
        if family.head:
            fold_head(
                part(model, family.head),
                norm_weights(part(model, family.final_norm), family, width),
            )
        convert_shell(model, family)
    set_sliced_class(model, family, [[width] * (len(family.blocks) + 1)] * len(layers))
    return model


def cuts_of(model: PreTrainedModel) -> int:
    """How many points of the stream of a sliced model have a basis of their own: see ``rotate``."""
    family = _sliced_family(model)
    layers = part(model, family.layers)
    last = getattr(layers[-1], "restore", None) is not None or bool(family.head)
    return len(family.blocks) * len(layers) + int(last)


def rotate(model: PreTrainedModel, bases: Sequence[torch.Tensor]) -> PreTrainedModel:
    """Step 2 (and 3): give every point of the stream its basis. Edits and returns ``model``, after ``fold_norms``.

    ``bases``: one float64 matrix [width, d] with orthonormal columns for each point: the sum of the embeddings, then
    the sum after each block, in order. The last sum has a basis where there is a head to absorb it, or where
    ``fold_norms`` was told to slice it. Square matrices leave the function of the model unchanged.

    Raises InputError for a wrong number or shape of bases.
    """
    family = _sliced_family(model)
    layers = part(model, family.layers)
    expected = cuts_of(model)
    if len(bases) != expected:
        raise InputError("bases", f"{len(bases)} matrices", f"{expected}, one for each point of the stream")
    present = [w for widths in model.config.stream_widths for w in widths[:-1]]
    present += [model.config.stream_widths[-1][-1]]
    for index, (basis, width) in enumerate(zip(bases, present, strict=False)):
        if basis.ndim != 2 or basis.shape[0] != width or basis.shape[1] > width:
            raise InputError(f"bases[{index}]", f"shape {tuple(basis.shape)}", f"[{width}, d] with d <= {width}")
    each = len(family.blocks)
    with torch.no_grad():
        for path in family.embeddings:
            turn_embedding(part(model, path), bases[0])
        for position, layer in enumerate(layers):
            for index in range(each):
                cut = each * position + index
                turn_input(layer, family, index, bases[cut])
                if cut + 1 < expected:
                    turn_output(layer, family, index, bases[cut + 1])
        if family.head:
            turn_head(part(model, family.head), bases[-1])
    widths = [basis.shape[1] for basis in bases] + ([present[-1]] if expected == each * len(layers) else [])
    set_sliced_class(model, family, [widths[each * i : each * i + each + 1] for i in range(len(layers))])
    return model


def slice_stream(model: PreTrainedModel, widths: Sequence[int]) -> PreTrainedModel:
    """Keep the first ``widths[c]`` coordinates of the stream at every point c (those of ``rotate``)."""
    present = [w for row in model.config.stream_widths for w in row[:-1]] + [model.config.stream_widths[-1][-1]]
    return rotate(
        model, [torch.eye(p, w, dtype=torch.float64) for p, w in zip(present[: len(widths)], widths, strict=True)]
    )


def _sliced_family(model: PreTrainedModel) -> Family:
    architecture: str = model.config.model_type
    if not isinstance(model.config, SlicedConfig):
        raise InputError("model", type(model).__name__, "a model whose norms are folded (fold_norms)")
    return FAMILIES[architecture.removeprefix("sliced_")]


def _stream_width(layer: Any, family: Family) -> int:
    module = part(layer, family.blocks[0].outputs[0])
    return module.nf if hasattr(module, "nf") else module.out_features


def _times(basis: torch.Tensor, like: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    right = basis.to(device=like.device, dtype=torch.float64)
    return lambda rows: rows @ right


def _set_map(path_map: StreamMap, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
    path_map.weight = nn.Parameter(weight)
    if bias is not None:
        path_map.bias = nn.Parameter(bias)


def _write_map(path_map: StreamMap, norm: NormWeights, centred: bool) -> None:
    """diag(gain) M and bias M: what a residual path after the norm carries, in the norm's own coordinates."""
    weight = torch.diag(norm.gain)
    bias = norm.bias
    if centred:
        weight = weight - weight.mean(1, keepdim=True)
        bias = None if bias is None else bias - bias.mean()
    like = path_map.weight
    _set_map(path_map, weight.to(like), None if bias is None else bias.to(like))
