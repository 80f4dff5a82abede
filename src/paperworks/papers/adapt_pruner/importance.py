"""Which layers matter, and which units inside a layer: what every pruning step measures on fresh batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Literal, get_args

import torch

from paperworks.errors import InputError
from paperworks.nn import check_ids
from paperworks.papers.adapt_pruner.calibration import Batch
from paperworks.structure import LayerChange, TaylorScores, Units, magnitude_scores, random_scores
from paperworks.structure.scores import Reduction, Scores, Taylor
from paperworks.training.losses import next_token_loss

LayerMetric = Literal["cosine", "euclidean", "manhattan"]
Normalisation = Literal["max", "zscore", "rank"]
Ranker = Literal["taylor", "l1", "l2", "random"]
LayerFunction = Callable[[Any, Sequence[Batch]], torch.Tensor]
"""``f(model, batches) -> [layers]``, higher: the layer matters more."""
UnitFunction = Callable[[Any, Units, Sequence[Batch]], Scores]
"""``f(model, units, batches) -> {(layer, kind): [n_units]}``, higher: the unit matters more."""
TAYLOR_MODES = get_args(Taylor)
REDUCTIONS = get_args(Reduction)


def normalised(importance: torch.Tensor, how: Normalisation = "max") -> torch.Tensor:
    """Importance of layers on a scale of mean 0 inside [-1, 1], float64 ``[n]``; zeros where all are equal.

    - ``max`` (the paper): ``I - mean(I)``, over its largest absolute value. One outlier compresses all others.
    - ``zscore``: standard scores, cut to [-1, 1] and centred again.
    - ``rank``: ranks, evenly spaced from -1 to 1; equal values share the mean of their ranks.
    """
    values = importance.double()
    centred = values - values.mean()
    spread = centred.abs().max()
    if len(values) < 2 or float(spread) <= 1e-12 * max(1.0, float(values.abs().max())):
        return torch.zeros_like(values)
    if how == "max":
        return centred / spread
    if how == "rank":
        below = (values[:, None] > values[None, :]).sum(1)
        equal = (values[:, None] == values[None, :]).sum(1)
        ranks = below.double() + (equal - 1).double() / 2
        return 2 * ranks / (len(values) - 1) - 1
    if how != "zscore":
        raise InputError("normalise", how, "max, zscore or rank")
    cut = (centred / centred.pow(2).mean().sqrt()).clamp(-1, 1)
    cut = cut - cut.mean()
    return cut / cut.abs().max().clamp(min=1.0)


class Measurement:
    """What one pass over the batches of a step gives.

    Attributes
    ----------
    layers : raw importance of every layer, float64 ``[layers]``.
    units : scores of all units.
    loss : mean calibration loss in nats, NaN where the ranker needs none.
    """

    def __init__(self, layers: torch.Tensor, units: Scores, loss: float) -> None:
        self.layers, self.units, self.loss = layers, units, loss


def measure(
    model: Any,
    units: Units,
    batches: Sequence[Batch],
    *,
    layer_importance: LayerMetric | LayerFunction = "cosine",
    unit_importance: Ranker | UnitFunction = "taylor",
    taylor: Taylor = "param_first",
    reduction: Reduction = "sum",
    generator: torch.Generator,
) -> Measurement:
    """Layer and unit importance on the same batches; with Taylor scores both come out of one forward pass.

    The second-order modes take one sequence per backward pass, so that h is the mean over examples of g^2, and g is
    still the sum of the minibatches' mean gradients.
    """
    device = next(model.parameters()).device
    moved = [{name: tensor.to(device) for name, tensor in batch.items()} for batch in batches]
    if not moved:
        raise InputError("calibration", "no batches", "at least one")
    for batch in moved:
        check_ids(model, batch["input_ids"], "calibration")
        if batch["input_ids"].shape[1] < 2:
            raise InputError("calibration", "sequences of 1 token", "2 or more: the first is not predicted")
    metric = "cosine" if callable(layer_importance) else layer_importance
    watch = LayerChange(model, metric)
    losses: list[float] = []
    scores: Scores | None = None
    with ExitStack() as stack:
        stack.enter_context(watch)
        if unit_importance == "taylor":
            second = taylor in ("param_second", "param_mix")
            scorer = stack.enter_context(TaylorScores(model, units, second_order=second))
            size = sum(len(b["input_ids"]) for b in moved) / len(moved)
            for batch in _singles(moved) if second else moved:
                watch.set_mask(batch.get("attention_mask"))
                losses.append(scorer.add(batch, _times(size) if second else None))
            scores = scorer.scores(taylor, reduction)
            if second:
                # the loss was scaled by the batch size b: first and second order are both b^2 times what they should be
                losses = [value / size for value in losses]
                factor = size**2 if reduction != "prod" else 1.0
                scores = {key: row / factor for key, row in scores.items()}
        elif not callable(layer_importance):
            for batch in moved:
                watch.set_mask(batch.get("attention_mask"))
                with torch.no_grad():
                    total, count = next_token_loss(model, batch)
                losses.append(float(total / count))
    if callable(layer_importance):
        layers = torch.as_tensor(layer_importance(model, moved)).double()
        if layers.shape != (len(watch.layers),) or not bool(torch.isfinite(layers).all()):
            found = f"shape {tuple(layers.shape)} or values that are not finite"
            raise InputError("layer_importance", found, f"{len(watch.layers)} finite numbers")
    else:
        layers = watch.importance()
    if scores is None:
        scores = _other_scores(model, units, moved, unit_importance, reduction, generator)
    return Measurement(layers, scores, sum(losses) / len(losses) if losses else float("nan"))


def _other_scores(
    model: Any,
    units: Units,
    batches: Sequence[Batch],
    ranker: Ranker | UnitFunction,
    reduction: Reduction,
    generator: torch.Generator,
) -> Scores:
    if callable(ranker):
        scores = {key: torch.as_tensor(row).double() for key, row in ranker(model, units, batches).items()}
        for key, unit_set in units.items():
            if key not in scores or scores[key].shape != (unit_set.n_units,) or bool(scores[key].isnan().any()):
                raise InputError("unit_importance", f"no scores of {key}", f"{unit_set.n_units} numbers for it")
        return scores
    if ranker == "random":
        return random_scores(units, generator)
    return magnitude_scores(model, units, 1 if ranker == "l1" else 2, reduction)


def _singles(batches: Sequence[Batch]) -> list[Batch]:
    return [{name: t[i : i + 1] for name, t in b.items()} for b in batches for i in range(len(b["input_ids"]))]


def _times(factor: float) -> Any:
    def loss(model: torch.nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        total, count = next_token_loss(model, batch)
        return total * factor, count

    return loss
