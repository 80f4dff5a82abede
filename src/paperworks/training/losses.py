"""What a step minimises: a sum over targets and their number, so that batches of any make-up add up rightly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.nn import check_ids, model_inputs

Batch = Mapping[str, torch.Tensor]
Loss = Callable[[torch.nn.Module, Batch], tuple[torch.Tensor, torch.Tensor]]
"""``loss(model, batch) -> (sum over the targets, number of targets)``, both scalars, the first with a gradient."""

IGNORED = -100
"""The label of a position that is not a target (PyTorch's ``ignore_index``)."""

NOT_INPUTS = ("labels", "weights", "teacher_logits", "index")
"""Columns of a batch that are for the loss, not for the model: see ``model_logits``."""


def model_logits(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Call a model on a batch and return its logits.

    Parameters
    ----------
    model : a module that returns a tensor, an output of transformers, or a dictionary with ``logits``.
    batch : ``inputs``, passed as the only positional argument; or the keywords of the model's forward, such as
        ``pixel_values`` or ``input_ids`` with ``attention_mask``. Left out are ``labels``, ``weights``,
        ``teacher_logits`` and ``index`` (the number of each example).

    Raises
    ------
    InputError : naming ``data``, for a batch without inputs; naming ``model``, for an output without logits.
    """
    inputs = {name: value for name, value in batch.items() if name not in NOT_INPUTS}
    if not inputs:
        raise InputError("data", f"a batch of {', '.join(batch)}", "inputs, or keywords of the model's forward")
    output: Any = model(inputs["inputs"]) if "inputs" in inputs else model(**inputs)
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
    if not isinstance(logits, torch.Tensor):
        raise InputError("model", f"an output of type {type(output).__name__}", "a tensor, or an output with logits")
    return logits


def cross_entropy_loss(
    *, label_smoothing: float = 0.0, class_weights: Sequence[float] | torch.Tensor | None = None
) -> Loss:
    """Cross-entropy of a classifier, in nats, for ``train``.

    The batch has the model's inputs (see ``model_logits``) and ``labels``: int64 ``[n]`` with logits ``[n, C]``; int64
    ``[n, T]`` with logits ``[n, T, C]``; int64 ``[n, H, W]`` with logits ``[n, C, H, W]``; -100 is no target. Labels of
    a floating-point type and the logits' shape are probabilities of the classes. Optional ``weights`` ``[n]`` multiply
    the loss of each example. The mean that ``train`` takes is weighted: it divides by the sum of the weights, as
    ``torch.nn.functional.cross_entropy`` does for class weights.

    Parameters
    ----------
    label_smoothing : share of the target that is spread over all classes, in [0, 1).
    class_weights : one weight per class, 0 or more.

    Raises
    ------
    InputError : a value out of bounds; in training, batches without labels, or labels that are no class.
    """
    if not 0 <= label_smoothing < 1:
        raise InputError("label_smoothing", label_smoothing, "a share from 0 to below 1")
    by_class = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
    if by_class is not None and (by_class.ndim != 1 or not bool((by_class >= 0).all())):
        raise InputError("class_weights", class_weights, "one number per class, 0 or more")

    def loss(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        logits, labels = model_logits(model, batch).float(), required_labels(batch)
        own = None if by_class is None else by_class.to(logits.device)
        weights = batch.get("weights")
        return summed_cross_entropy(logits, labels, weights=weights, class_weights=own, label_smoothing=label_smoothing)

    return loss


def summed_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    weights: torch.Tensor | None = None,
    class_weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted sum of the cross-entropies and sum of the weights; shapes as in ``cross_entropy_loss``."""
    options: dict[str, Any] = {"weight": class_weights, "label_smoothing": label_smoothing, "reduction": "none"}
    if not labels.is_floating_point() and labels.shape != logits.shape[:-1] and logits.ndim > 2:
        logits = logits.movedim(1, -1)
    classes = logits.shape[-1]
    if labels.shape != (logits.shape if labels.is_floating_point() else logits.shape[:-1]):
        raise InputError("labels", f"shape {tuple(labels.shape)}", f"classes of logits {tuple(logits.shape)}")
    if class_weights is not None and len(class_weights) != classes:
        raise InputError("class_weights", f"{len(class_weights)} weights", f"{classes}, one per class")
    count, logits = len(labels), logits.flatten(0, -2)
    if labels.is_floating_point():
        losses = functional.cross_entropy(logits, labels.flatten(0, -2).to(logits), **options)
        return _weighted(losses, torch.ones_like(losses), weights, count)
    flat = class_codes(labels.flatten(), classes)
    wanted = flat != IGNORED
    losses = functional.cross_entropy(logits, flat, ignore_index=IGNORED, **options)
    share = wanted.to(losses) if class_weights is None else class_weights[flat.clamp(min=0)].to(losses) * wanted
    return _weighted(losses, share, weights, count)


def class_codes(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Labels of any whole-number type as int64. Raises InputError for one that is neither a class nor -100."""
    codes = labels.long()
    wrong = codes[(codes != IGNORED) & ((codes < 0) | (codes >= classes))]
    if len(wrong):
        raise InputError("labels", int(wrong[0]), f"a class from 0 to {classes - 1}, or {IGNORED} for none")
    return codes


def binary_cross_entropy_loss(*, positive_weight: float | Sequence[float] | torch.Tensor = 1.0) -> Loss:
    """Binary cross-entropy of multi-label and two-class models with one logit per label, in nats, for ``train``.

    ``labels`` are 0 or 1 (or probabilities), with the shape of the logits: ``[n, C]``, or ``[n]`` with logits ``[n]``
    or ``[n, 1]``. Optional ``weights`` ``[n]`` multiply the loss of each example, and the mean is divided by their sum.

    ``positive_weight`` multiplies the loss of positive labels: a number, or one per label.
    """
    factor = torch.as_tensor(positive_weight, dtype=torch.float32)
    if not bool((factor > 0).all()):
        raise InputError("positive_weight", positive_weight, "positive numbers")

    def loss(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        logits, labels = model_logits(model, batch).float(), required_labels(batch)
        if logits.shape == (*labels.shape, 1):
            logits = logits[..., 0]
        if logits.shape != labels.shape:
            raise InputError("labels", f"shape {tuple(labels.shape)}", f"the logits' {tuple(logits.shape)}")
        wrong = labels[~((labels >= 0) & (labels <= 1))]
        if len(wrong):
            raise InputError("labels", wrong[0].item(), "0, 1, or a probability")
        losses = functional.binary_cross_entropy_with_logits(
            logits, labels.to(logits), pos_weight=factor.to(logits.device), reduction="none"
        )
        return _weighted(losses.flatten(), torch.ones_like(losses.flatten()), batch.get("weights"), len(labels))

    return loss


def _weighted(
    losses: torch.Tensor, share: torch.Tensor, weights: torch.Tensor | None, examples: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of the losses and of their shares, with every example's own weight; ``losses`` and ``share``: flat."""
    if weights is None:
        return losses.sum(), share.sum()
    if weights.shape != (examples,):
        raise InputError("weights", f"shape {tuple(weights.shape)}", f"[{examples}], one weight per example")
    each = weights.to(losses).repeat_interleave(len(losses) // max(examples, 1))
    return (losses * each).sum(), (share * each).sum()


def required_labels(batch: Batch) -> torch.Tensor:
    """The labels of a batch. Raises InputError naming ``data`` where there are none."""
    if "labels" not in batch:
        raise InputError("data", f"a batch of {', '.join(batch)}", "labels")
    return batch["labels"]


def labels_of(batch: Batch) -> torch.Tensor:
    """The labels of tokens, int64 ``[n, T]``: the batch's own, or its tokens. Position t is predicted from t - 1.

    -100 where there is padding, or padding in front: the first token of a row has nothing to be predicted from,
    whichever side the padding is on.
    """
    labels = batch["labels"] if "labels" in batch else batch["input_ids"]
    mask = batch.get("attention_mask")
    if mask is None:
        return labels
    before = torch.cat([torch.ones_like(mask[:, :1]), mask[:, :-1]], 1)
    return labels.masked_fill((mask == 0) | (before == 0), IGNORED)


def next_token_logits(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Logits ``[n, T, V]`` of a causal language model of transformers, without a cache.

    Raises InputError for token ids that the model has no embedding for.
    """
    check_ids(model, batch["input_ids"], "input_ids")
    inputs = model_inputs(model, batch["input_ids"], batch.get("attention_mask"))
    return model(**inputs, use_cache=False).logits


def next_token_loss(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of every token given those before it, in nats.

    Parameters
    ----------
    model : a causal language model of transformers.
    batch : ``input_ids`` int64 ``[n, T]``; optional ``attention_mask`` (0 is padding) and ``labels`` (-100: no target).

    Returns
    -------
    sum of the negative log-likelihoods, and the number of predicted tokens.

    Raises
    ------
    InputError : a token or a label that the model's vocabulary does not have.
    """
    logits = next_token_logits(model, batch)
    targets = class_codes(labels_of(batch)[:, 1:].flatten(), logits.shape[-1])
    total = functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), targets, ignore_index=IGNORED, reduction="sum"
    )
    return total, (targets != IGNORED).sum()
