"""How much each unit matters: first- and second-order Taylor, magnitude, random; and how much each layer changes.

``IndexMap.reduce`` makes unit scores of scores per position, so that every query head of a group counts for its own
key-value head (a fold by reshape adds up the wrong ones where groups hold several heads).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.nn import check_ids, unpadded
from paperworks.structure.calibration import CHUNK_BYTES
from paperworks.structure.families import Family
from paperworks.structure.layers_pruned import linear_at
from paperworks.structure.units import Key, Slice, Units, base_of, family_of
from paperworks.training.losses import Loss, next_token_loss

Scores = dict[Key, torch.Tensor]
"""float64 [n_units] for every unit set: higher matters more."""
Taylor = Literal["param_first", "param_second", "param_mix", "vectorize"]
Reduction = Literal["sum", "mean", "max", "prod", "first"]


def parameter_at(model: Any, piece: Slice) -> torch.nn.Parameter:
    """The parameter that a slice is of, inside its adapter where it has one."""
    return getattr(linear_at(base_of(model), piece.module), piece.param.rpartition(".")[2])


def score_reduce(saliency: torch.Tensor, piece: Slice, *, signed: bool = False) -> torch.Tensor:
    """Sum of an elementwise saliency over the positions of each unit of a slice, float64 [n_units].

    ``signed``: the absolute value of the sum is taken, for each unit (``vectorize``).
    """
    if piece.outer is not None:
        rest = [axis for axis in range(saliency.ndim) if axis not in (piece.outer, piece.axis)]
        reduced = piece.index.reduce((saliency.sum(rest, dtype=torch.float64) if rest else saliency.double()).flatten())
        return reduced.abs() if signed else reduced
    others = [axis for axis in range(saliency.ndim) if axis != piece.axis]
    # a sum in float64 makes a copy in float64: of a few rows or columns at a time
    step = max(1, CHUNK_BYTES * saliency.shape[piece.axis] // (8 * max(1, saliency.numel())))
    parts = [part.sum(others, dtype=torch.float64) for part in saliency.split(step, piece.axis)] if others else []
    along = torch.cat(parts) if parts else saliency.double()
    reduced = piece.index.reduce(along)
    return reduced.abs() if signed else reduced


def combine(members: Iterable[torch.Tensor], how: Reduction = "sum") -> torch.Tensor:
    """One score for each unit out of those of its member matrices."""
    stacked = torch.stack(list(members))
    if how == "first":
        return stacked[0]
    if how in ("sum", "mean"):
        return stacked.sum(0) if how == "sum" else stacked.mean(0)
    if how in ("max", "prod"):
        return stacked.amax(0) if how == "max" else stacked.prod(0)
    raise InputError("reduction", how, "sum, mean, max, prod or first")


def _scored(
    model: Any,
    units: Units,
    saliency: Callable[[torch.nn.Parameter], torch.Tensor],
    how: Reduction,
    *,
    signed: bool = False,
    biases: bool = True,
) -> Scores:
    found: Scores = {}
    for key, unit_set in units.items():
        members = [piece for piece in unit_set.slices if biases or not piece.param.endswith(".bias")]
        if not members:
            raise InputError("units", f"{key[1]}, which has no parameters of its own", "units of weights")
        scores = combine((score_reduce(saliency(parameter_at(model, p)), p, signed=signed) for p in members), how)
        if not bool(torch.isfinite(scores).all()):
            raise InputError(
                f"scores of {key}", "NaN or infinite values", "finite weights and gradients: a wider dtype?"
            )
        found[key] = scores.cpu()
    return found


class TaylorScores:
    """Gradients of a calibration loss on the weights of the units, and the scores they give.

    ``with TaylorScores(model, units) as taylor: taylor.add(batch); scores = taylor.scores("param_first")``

    Gradients are switched on for the units' weights while the context lasts (also where they are frozen), accumulated
    in float32 outside ``.grad``, and gone afterwards. Memory: one float32 copy of those weights, a second one for the
    modes with a second order.

    - ``param_first``: |w g|; ``param_second``: |w h w| with h the mean over batches of g^2 (a diagonal Fisher matrix);
      ``param_mix``: |w g - w h w / 2|; ``vectorize``: |sum of w g| over each row or column of a unit.
    """

    def __init__(self, model: Any, units: Units, *, second_order: bool = False) -> None:
        self.model, self.units, self.second_order = model, units, second_order
        self.batches = 0
        pieces = [piece for unit_set in units.values() for piece in unit_set.slices]
        self._parameters = {id(p): p for p in (parameter_at(model, piece) for piece in pieces)}
        self._first: dict[int, torch.Tensor] = {}
        self._second: dict[int, torch.Tensor] = {}

    def __enter__(self) -> TaylorScores:
        self._flags = {name: p.requires_grad for name, p in self.model.named_parameters()}
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) in self._parameters)
        return self

    def __exit__(self, *_: object) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(self._flags.get(name, True))
        self._first.clear()
        self._second.clear()

    def add(self, batch: Mapping[str, torch.Tensor], loss: Loss | None = None) -> float:
        """One backward pass through the mean loss of a batch, added to the sums. Returns the loss.

        ``loss(model, batch) -> (sum, count)``; None is the next-token loss.
        """
        if "input_ids" in batch:
            check_ids(self.model, batch["input_ids"], "calibration")
            if loss is None and batch["input_ids"].shape[-1] < 2:
                raise InputError("calibration", "sequences of 1 token", "2 or more: the first is not predicted")
        total, count = (next_token_loss if loss is None else loss)(self.model, batch)
        value = total / count
        if not bool(torch.isfinite(value)):
            raise InputError("calibration", f"a loss of {float(value)}", "a finite loss: a wider dtype?")
        self.add_gradients(torch.autograd.grad(value, self.parameters, allow_unused=True))
        return float(value.detach())

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """The weights of the units, each once."""
        return list(self._parameters.values())

    def add_gradients(self, gradients: Sequence[torch.Tensor | None]) -> None:
        """Add the gradients of the loss of one batch on ``parameters`` (None: 0) to the sums."""
        for parameter, gradient in zip(self._parameters.values(), gradients, strict=True):
            if gradient is None:
                gradient = torch.zeros_like(parameter)
            _accumulate(self._first, parameter, gradient.float())
            if self.second_order:
                _accumulate(self._second, parameter, gradient.float().square())
        self.batches += 1

    def scores(self, mode: Taylor = "param_first", reduction: Reduction = "sum") -> Scores:
        """Scores of all units, float64."""
        if self.batches == 0:
            raise InputError("calibration", "no batches", "at least one")
        if mode not in ("param_first", "param_second", "param_mix", "vectorize"):
            raise InputError("taylor", mode, "param_first, param_second, param_mix or vectorize")
        if mode in ("param_second", "param_mix") and not self.second_order:
            raise InputError("second_order", False, f"True for {mode}")

        def saliency(parameter: torch.nn.Parameter) -> torch.Tensor:
            w, g = parameter.detach().float(), self._first[id(parameter)]
            if mode == "vectorize":
                return w * g
            if mode == "param_first":
                return (w * g).abs()
            h = self._second[id(parameter)] / self.batches
            return (w * h * w).abs() if mode == "param_second" else (w * g - 0.5 * w * h * w).abs()

        return _scored(self.model, self.units, saliency, reduction, signed=mode == "vectorize")


def _accumulate(sums: dict[int, torch.Tensor], parameter: torch.nn.Parameter, value: torch.Tensor) -> None:
    if id(parameter) in sums:
        sums[id(parameter)] += value
    else:
        sums[id(parameter)] = value.clone()


@torch.no_grad()
def magnitude_scores(model: Any, units: Units, norm: Literal[1, 2] = 2, reduction: Reduction = "sum") -> Scores:
    """Sum of |w| (``norm`` 1), or of w^2 (``norm`` 2, the square of the usual norm), of every unit."""
    if norm not in (1, 2):
        raise InputError("norm", norm, "1 or 2")

    def saliency(parameter: torch.nn.Parameter) -> torch.Tensor:
        weight = parameter.detach().float()
        return weight.abs() if norm == 1 else weight.square()

    return _scored(model, units, saliency, reduction)


def random_scores(units: Units, generator: torch.Generator) -> Scores:
    """Uniform noise from ``generator``."""
    return {key: torch.rand(s.n_units, generator=generator, dtype=torch.float64) for key, s in units.items()}


class LayerChange:
    """How much each layer changes the stream, from its input x and output y: forward hooks while the context lasts.

    ``with LayerChange(model, "cosine") as change: model(...); importance = change.importance()``

    - ``cosine``: -mean cos(x, y); ``euclidean``, ``manhattan``: mean distance of x and y. Higher: the layer matters
      more. In float32 over tokens that ``set_mask`` does not call padding.
    """

    def __init__(self, model: Any, metric: Literal["cosine", "euclidean", "manhattan"] = "cosine") -> None:
        if metric not in ("cosine", "euclidean", "manhattan"):
            raise InputError("layer_importance", metric, "cosine, euclidean or manhattan")
        family: Family = family_of(model)
        self.layers = list(base_of(model).get_submodule(family.layers))
        self.metric = metric
        self.sums = torch.zeros(len(self.layers), dtype=torch.float64)
        self.count = torch.zeros(len(self.layers), dtype=torch.int64)
        self._mask: torch.Tensor | None = None
        self._handles: list[Any] = []

    def set_mask(self, mask: torch.Tensor | None) -> None:
        """The attention mask [b, T] of the batches that follow (0: padding)."""
        self._mask = None if mask is None or unpadded(mask) else mask

    def __enter__(self) -> LayerChange:
        for number, layer in enumerate(self.layers):
            hook = self._hook(number)
            self._handles.append(layer.register_forward_hook(hook, with_kwargs=True))
        return self

    def __exit__(self, *_: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _hook(self, number: int) -> Callable[..., None]:
        @torch.no_grad()
        def note(module: Any, args: Any, kwargs: Any, out: Any) -> None:
            x = (args[0] if args else kwargs["hidden_states"]).float()
            y = (out[0] if isinstance(out, tuple) else out).float()
            if self.metric == "cosine":
                value = -functional.cosine_similarity(x, y, dim=-1)
            else:
                value = (y - x).norm(p=2 if self.metric == "euclidean" else 1, dim=-1)
            if self._mask is not None:
                value = value[self._mask.to(value.device).bool()]
            self.sums[number] += float(value.sum(dtype=torch.float64))
            self.count[number] += value.numel()

        return note

    def importance(self) -> torch.Tensor:
        """float64 [layers]. Raises InputError without tokens, or where activations were not finite."""
        if int(self.count.min()) == 0:
            raise InputError("calibration", "no tokens", "at least one forward pass inside the context")
        found = self.sums / self.count
        if not bool(torch.isfinite(found).all()):
            raise InputError("activations", "NaN or infinite values", "finite activations: a wider dtype?")
        return found
