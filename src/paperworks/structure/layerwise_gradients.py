"""Taylor scores of a checkpoint folder, one layer at a time: forward, then backward from the last to the first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.runs import Progress, no_progress
from paperworks.structure.calibration import ActivationStore
from paperworks.structure.layers_sliced import part
from paperworks.structure.layerwise import BUDGET, LayerwiseRunner
from paperworks.structure.scores import Reduction, Scores, Taylor, TaylorScores
from paperworks.structure.units import LAYER_KINDS, units_of
from paperworks.training.losses import Loss, next_token_loss


def layerwise_taylor(
    folder: str | Path,
    calibration: Any,
    attention_mask: Any = None,
    *,
    kinds: Sequence[str] = ("kv_group", "ffn"),
    modes: Sequence[Taylor] = ("param_first",),
    reduction: Reduction = "sum",
    loss: Loss = next_token_loss,
    batch_size: int = 8,
    activation_budget: int = BUDGET,
    spill_dir: str | Path | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress = no_progress,
) -> dict[Taylor, Scores]:
    """Taylor scores, by mode, of a causal language model in a checkpoint folder, one layer in memory at a time.

    The first pass keeps what every layer reads: (L + 2) * n * T * D numbers, of which whole sets of n * T * D stay in
    memory as long as ``activation_budget`` lasts; the others are in files. The second pass goes from the head to the
    first layer, computes every layer once more and hands the gradient down. Gradients, and so the scores, are those of
    ``TaylorScores`` with the same batches, up to rounding.

    Memory over the start: the budget; one layer's weights, the gradients of one batch and their sum (three times the
    layer's size; four with a second order); the activations of one batch in a layer, with what its gradient needs; the
    head, and three times the logits of one batch. Parameters are otherwise those of ``LayerwiseRunner``; ``kinds`` are
    units inside a layer; ``loss(model, batch)`` calls its model once, for the logits.

    Raises InputError as ``layerwise_scores`` does, and for an encoder, which has no such loss.
    """
    for kind in kinds:
        if kind not in LAYER_KINDS:
            raise InputError("kinds", kind, f"units inside a layer: {', '.join(LAYER_KINDS)}")
    second = any(mode in ("param_second", "param_mix") for mode in modes)
    with LayerwiseRunner(
        folder,
        calibration,
        attention_mask,
        batch_size=batch_size,
        activation_budget=activation_budget,
        spill_dir=spill_dir,
        dtype=dtype,
    ) as stream:
        if not stream.family.head:
            raise InputError("model", stream.family.model_type, "a causal language model, which has a loss")
        gradient = stream.store()
        inputs = [stream.store() for _ in range(stream.layer_count + 1)]
        for _ in stream.layers(keep=inputs, progress=progress):
            pass
        _head_gradient(stream, inputs[-1], gradient, loss)
        found: dict[Taylor, Scores] = {mode: {} for mode in modes}
        order = list(reversed(range(stream.layer_count)))
        for number in progress(order, "gradients", len(order)):
            path = f"{stream.family.layers}.{number}"
            layer = stream.weights.fetch(path, stream.dtype)
            with TaylorScores(stream.model, units_of(stream.model, kinds, [number]), second_order=second) as taylor:
                for index in range(len(stream.tokens)):
                    taylor.add_gradients(_layer_gradient(stream, layer, number, index, inputs, gradient, taylor))
                for mode in modes:
                    found[mode] = taylor.scores(mode, reduction) | found[mode]
            stream.weights.give_back(path)
    return found


def _layer_gradient(
    stream: LayerwiseRunner,
    layer: Any,
    number: int,
    index: int,
    inputs: Sequence[ActivationStore],
    gradient: ActivationStore,
    taylor: TaylorScores,
) -> Sequence[torch.Tensor | None]:
    """The gradients of one batch on a layer's weights; ``gradient`` then holds that on the layer's input."""
    x = inputs[number].read(index).detach().requires_grad_()
    with torch.enable_grad():
        y = stream.output_of(layer, number, index, x)
    *parameters, below = torch.autograd.grad(
        y, [*taylor.parameters, x], gradient.read(index).to(y.dtype), allow_unused=True
    )
    assert below is not None, "a layer adds to its input"
    gradient.write(index, below)
    return parameters


def _head_gradient(stream: LayerwiseRunner, last: ActivationStore, gradient: ActivationStore, loss: Loss) -> None:
    """The gradient of the loss of every batch on what the last layer wrote."""
    family = stream.family
    for path in (family.final_norm, family.head):
        stream.weights.fetch(path, stream.dtype).requires_grad_(False)
    for index in range(len(stream.tokens)):
        x = last.read(index).detach().requires_grad_()
        batch = {"input_ids": stream.tokens.ids[stream.tokens.rows(index)]}
        mask = stream.mask(index)
        with torch.enable_grad():
            end = _End(part(stream.model, family.final_norm), part(stream.model, family.head), x)
            total, count = loss(end, batch if mask is None else {**batch, "attention_mask": mask})
            value = total / count
            if not bool(torch.isfinite(value)):
                raise InputError("calibration", f"a loss of {float(value.detach())}", "a finite loss: a wider dtype?")
            gradient.write(index, torch.autograd.grad(value, x)[0])
    for path in (family.final_norm, family.head):
        stream.weights.give_back(path)


class _End(nn.Module):
    """What is left of a model behind its layers: called as the model, it gives the logits of one known batch."""

    def __init__(self, norm: nn.Module, head: nn.Module, stream: torch.Tensor) -> None:
        super().__init__()
        self.norm, self.head, self.stream = norm, head, stream

    def forward(self, **_: Any) -> Any:
        return SimpleNamespace(logits=self.head(self.norm(self.stream)))
