"""Loki in torch: a module that turns the outputs of any classifier into scores of all labels, and losses to train it.

    base classifier ── logits [B, K] ──softmax(logits / T)──> p ──> S = p @ D2 [K, N] ──> scores -S

``LokiHead`` holds the squared distances as a buffer, so that it moves, saves and exports with the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.papers.loki.loci import observed_classes
from paperworks.papers.loki.spaces import LabelSpace

Gradient = Literal["straight-through", "negative-identity", "polytope"]


class LokiHead(torch.nn.Module):
    """Scores of all N labels from the outputs of a classifier of K observed labels.

    Parameters
    ----------
    space, observed : the label space, and the index of the label of each output.
    temperature : of the softmax. Probabilities are used as p^(1/T), in rows that sum to 1, which is the same.
    inputs : ``logits``, or ``probabilities`` (weights of at least 0).
    dtype : of the squared distances and of the product. With float32 and a diameter of about 1000, labels whose
        variances differ by less than 1e-7 of them cannot be told apart; float64 is the default.
    """

    squared: torch.Tensor
    observed: torch.Tensor

    def __init__(
        self,
        space: LabelSpace,
        observed: Sequence[int] | np.ndarray,
        *,
        temperature: float = 1.0,
        inputs: Literal["logits", "probabilities"] = "logits",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        if not 0 < temperature < float("inf"):
            raise InputError("temperature", temperature, "a number above 0")
        if inputs not in ("logits", "probabilities"):
            raise InputError("inputs", repr(inputs), "'logits' or 'probabilities'")
        if not dtype.is_floating_point:
            raise InputError("dtype", dtype, "a floating-point format")
        self.temperature, self.inputs = temperature, inputs
        indices = observed_classes(space, observed)
        self.register_buffer("squared", torch.from_numpy(space.squared(indices)).to(dtype))
        self.register_buffer("observed", torch.from_numpy(indices))

    def weights(self, outputs: torch.Tensor) -> torch.Tensor:
        """What the classifier gives the observed labels, float ``[B, K]``."""
        values = outputs.to(self.squared.dtype)
        if self.inputs == "logits":
            return functional.softmax(values / self.temperature, dim=-1)
        if self.temperature == 1:
            return values
        powered = (values / values.amax(dim=-1, keepdim=True)) ** (1 / self.temperature)
        return powered / powered.sum(dim=-1, keepdim=True)

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        """``[B, K]`` to scores ``-S`` float ``[B, N]``; the prediction is their argmax."""
        return -(self.weights(outputs) @ self.squared)

    def predict(self, outputs: torch.Tensor) -> torch.Tensor:
        """Indices of labels, int64 ``[B]``."""
        return self.forward(outputs).argmax(dim=-1)


class LokiModel(torch.nn.Module):
    """A classifier of transformers, or any module, with a ``LokiHead`` behind it.

    The output is the model's own with ``logits`` replaced by the scores of all labels. CLIP and its kin classify by
    ``logits_per_image`` (the texts name the observed labels, in the order of ``observed``).
    """

    def __init__(self, model: torch.nn.Module, head: LokiHead) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """See the class."""
        output = self.model(*args, **kwargs)
        if isinstance(output, torch.Tensor):
            return self.head(output)
        name = next((n for n in ("logits", "logits_per_image") if getattr(output, n, None) is not None), None)
        if name is None:
            raise InputError("model", type(self.model).__name__, "a classifier whose output has logits")
        output["logits"] = self.head(output[name])
        return output


def loki_loss(outputs: torch.Tensor, target: torch.Tensor, head: LokiHead) -> torch.Tensor:
    """Cross-entropy with the scores -S as logits of all N labels: exact and differentiable. Scalar mean.

    Parameters
    ----------
    outputs : ``[B, K]``, what the head takes.
    target : int64 ``[B]``, indices of labels of the whole space, unobserved ones among them.
    """
    return functional.cross_entropy(head(outputs), target)


def surrogate_loss(
    outputs: torch.Tensor,
    target: torch.Tensor,
    head: LokiHead,
    *,
    gradient: Gradient = "straight-through",
    smoothing: float = 1e-3,
    step: float = 0.01,
) -> torch.Tensor:
    """Negative log of a smoothed one-hot of the prediction, with a gradient that stands in for that of the argmin.

    With g the gradient with respect to the one-hot ``[B, N]``:

    - ``straight-through``: g at the observed labels becomes the gradient of the weights p;
    - ``negative-identity``: -g becomes the gradient of the variances S;
    - ``polytope``: the same with (onehot - projection(onehot - step g)) / step in place of g, where the projection is
      the Euclidean one onto the simplex.
    """
    if gradient not in ("straight-through", "negative-identity", "polytope"):
        raise InputError("gradient", repr(gradient), "one of straight-through, negative-identity, polytope")
    if not 0 < smoothing < 1:
        raise InputError("smoothing", smoothing, "a number between 0 and 1")
    weights = head.weights(outputs)
    onehot = _Prediction.apply(weights, -(weights @ head.squared), head.observed, gradient, step)
    smooth = (1 - smoothing) * onehot + smoothing / onehot.shape[-1]
    return functional.nll_loss(smooth.log(), target)


class _Prediction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weights: torch.Tensor, scores: torch.Tensor, observed: torch.Tensor, gradient: Gradient, step: float
    ) -> torch.Tensor:
        onehot = functional.one_hot(scores.argmax(dim=-1), scores.shape[-1]).to(scores.dtype)
        ctx.save_for_backward(onehot, observed)
        ctx.gradient, ctx.step = gradient, step
        return onehot

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        onehot, observed = ctx.saved_tensors
        if ctx.gradient == "straight-through":
            return grad[:, observed], None, None, None, None
        if ctx.gradient == "polytope":
            grad = (onehot - project_to_simplex(onehot - ctx.step * grad)) / ctx.step
        return None, grad, None, None, None


def project_to_simplex(values: torch.Tensor) -> torch.Tensor:
    """The nearest point of the probability simplex in Euclidean distance, along the last axis."""
    ordered = values.sort(dim=-1, descending=True).values
    sums = ordered.cumsum(dim=-1) - 1
    rank = torch.arange(1, values.shape[-1] + 1, dtype=values.dtype, device=values.device)
    support = (ordered - sums / rank > 0).sum(dim=-1, keepdim=True)
    return (values - sums.gather(-1, support - 1) / support).clamp(min=0)
