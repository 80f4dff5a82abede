"""The classic criteria for single weights: ``score(model, weights, evidence) -> {name: tensor}``; low scores leave.

``theta`` is a weight, ``g`` the gradient of the mean loss, ``H`` its Hessian. Models are in evaluation mode throughout.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from paperworks.errors import InputError, nearest
from paperworks.nn import evaluation_mode
from paperworks.papers.pruning_survey.layerwise import input_grams, obs_scores, wanda_scores
from paperworks.papers.pruning_survey.masks import WeightScores, turned, turned_weights
from paperworks.pruning.evidence import Evidence
from paperworks.pruning.taxonomy import By, Data
from paperworks.training import TrainingCallback, model_logits

Weights = Mapping[str, nn.Parameter]
GRASP_TEMPERATURE = 200.0
SYNFLOW_STEPS = 100


@dataclass(frozen=True)
class WeightCriterion:
    """A criterion by name: its formula, the examples that it needs, its family in the taxonomy.

    ``by_row``: scores are comparable inside an output row only. ``steps``: how often the original computes it anew.
    """

    name: str
    formula: str
    data: Data
    by: By
    function: Callable[[nn.Module, Weights, Evidence], WeightScores]
    by_row: bool = False
    steps: int = 1


def magnitude(model: nn.Module, weights: Weights, evidence: Evidence) -> WeightScores:
    """``|theta|`` (Han 2015)."""
    return {name: weight.detach().abs() for name, weight in weights.items()}


def uniform(model: nn.Module, weights: Weights, evidence: Evidence) -> WeightScores:
    """``U(0, 1)``: the control that no comparison may lack."""
    generator = evidence.generator
    return {n: torch.rand(w.shape, generator=generator, dtype=torch.float64).to(w.device) for n, w in weights.items()}


def lamp(model: nn.Module, weights: Weights, evidence: Evidence) -> WeightScores:
    """LAMP: ``theta^2 / sum of theta_v^2 over the v of the same tensor with theta_v^2 >= theta^2`` (Lee 2021)."""
    found = {}
    for name, weight in weights.items():
        squares = weight.detach().double().square().flatten()
        ascending = squares.sort().values
        tails = ascending.flip(0).cumsum(0).flip(0)
        # of equal weights all count in the sum, so the first of them in the order gives it
        first = torch.searchsorted(ascending, squares)
        found[name] = (squares / tails[first].clamp(min=torch.finfo(torch.float64).tiny)).view(weight.shape)
    return found


def mean_gradients(
    model: nn.Module, weights: Weights, evidence: Evidence, criterion: str
) -> list[tuple[int, WeightScores]]:
    """Examples, and the gradient of their mean loss, of every batch.

    Raises InputError for weights that no output depends on.
    """
    found = []
    with evaluation_mode(model), torch.enable_grad(), _trainable(weights):
        for losses, _ in evidence.losses(model, criterion):
            gradients = torch.autograd.grad(losses.mean(), list(weights.values()), allow_unused=True)
            for name, gradient in zip(weights, gradients, strict=True):
                if gradient is None:
                    raise InputError("model", f"{name}, which has no gradient", "weights that the loss depends on")
            found.append((len(losses), dict(zip(weights, gradients, strict=True))))
    return found


class _trainable:
    """Gradients for frozen weights, too, while the context lasts."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def __enter__(self) -> None:
        self.flags = {name: weight.requires_grad for name, weight in self.weights.items()}
        for weight in self.weights.values():
            weight.requires_grad_(True)

    def __exit__(self, *_: object) -> None:
        for name, weight in self.weights.items():
            weight.requires_grad_(self.flags[name])


def snip(model: nn.Module, weights: Weights, evidence: Evidence) -> WeightScores:
    """SNIP: ``|g theta| / sum |g theta|`` on the examples together (Lee 2019); at initialisation, one batch."""
    batches = mean_gradients(model, weights, evidence, "snip")
    products = {
        name: torch.stack([count * batch[name] for count, batch in batches]).sum(0).mul(weight.detach()).abs().double()
        for name, weight in weights.items()
    }
    total = sum(float(value.sum()) for value in products.values())
    return {name: value / max(total, torch.finfo(torch.float64).tiny) for name, value in products.items()}


def grasp(model: nn.Module, weights: Weights, evidence: Evidence) -> WeightScores:
    """GraSP: ``theta * H g`` with the loss of logits / 200 (Wang 2020); the smallest leave.

    Removing a weight changes the squared gradient norm by about ``-2 theta H g``: what is kept preserves it. (Many
    re-implementations remove the other end.)
    """
    inputs, labels = evidence.examples_of("grasp")
    place = next(model.parameters()).device
    with evaluation_mode(model), torch.enable_grad(), _trainable(weights):
        logits = model_logits(model, {"inputs": inputs.to(place)}) / GRASP_TEMPERATURE
        evidence.check_classes(labels, logits)
        loss = evidence.loss(logits, labels.to(place)).mean()
        gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        product = sum(((g * g.detach()).sum() for g in gradients), torch.zeros((), device=place))
        second = torch.autograd.grad(product, list(weights.values()), allow_unused=True)
    return {
        name: torch.zeros_like(w).double() if h is None else (w.detach() * h).double()
        for (name, w), h in zip(weights.items(), second, strict=True)
    }


def synflow(model: nn.Module, weights: Weights, evidence: Evidence) -> WeightScores:
    """SynFlow: ``theta dR/dtheta`` with ``R = 1' prod |theta_l| 1`` (Tanaka 2020).

    A copy in float64 with absolute weights, no biases and norms that do nothing sees an input of ones: R overflows
    float32 in deep networks. Of the evidence only the shape of an input is looked at, never its values.
    """
    ones = torch.ones_like(evidence.inputs("synflow")[:1], dtype=torch.float64)
    place = next(model.parameters()).device
    linear = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for module in linear.modules():
            norm = isinstance(module, nn.modules.batchnorm._NormBase)
            for leaf, parameter in module.named_parameters(recurse=False):
                if leaf.endswith("bias"):
                    parameter.zero_()
                elif norm:
                    parameter.fill_(1)
                else:
                    parameter.abs_()
            if isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats:
                module.running_mean.zero_()  # type: ignore[union-attr]
                module.running_var.fill_(1)  # type: ignore[union-attr]
                module.eps = 0.0
    named = dict(linear.named_parameters(remove_duplicate=False))
    mirrored = {name: named[name] for name in weights}
    with torch.enable_grad(), _trainable(mirrored):
        total = model_logits(linear, {"inputs": ones.to(place)}).sum()
        if not math.isfinite(float(total.detach())):
            raise InputError("model", "a SynFlow objective beyond float64", "a shallower network, or other scores")
        gradients = torch.autograd.grad(total, list(mirrored.values()), allow_unused=True)
    return {
        name: torch.zeros_like(w) if g is None else (w * g).detach()
        for (name, w), g in zip(mirrored.items(), gradients, strict=True)
    }


def taylor(model: nn.Module, weights: Weights, evidence: Evidence) -> WeightScores:
    """First-order Taylor of single weights: ``(g theta)^2``, averaged over batches (Molchanov 2019)."""
    batches = mean_gradients(model, weights, evidence, "taylor")
    return {
        name: torch.stack([(b[name] * w.detach()).double().square() for _, b in batches]).mean(0)
        for name, w in weights.items()
    }


def fisher(model: nn.Module, weights: Weights, evidence: Evidence) -> WeightScores:
    """The sum over examples of ``(g theta)^2`` of each example alone."""
    squares, _ = squared_gradients(model, weights, evidence, "fisher")
    return {name: squares[name] * w.detach().double().square() for name, w in weights.items()}


def obd(model: nn.Module, weights: Weights, evidence: Evidence) -> WeightScores:
    """Optimal brain damage: ``h_ii theta^2 / 2`` with the mean of squared gradients of examples (Fisher) for h_ii."""
    squares, count = squared_gradients(model, weights, evidence, "obd")
    return {name: 0.5 * squares[name] / count * w.detach().double().square() for name, w in weights.items()}


def squared_gradients(
    model: nn.Module, weights: Weights, evidence: Evidence, criterion: str, chunk: int = 16
) -> tuple[WeightScores, int]:
    """The sum of squared gradients of single examples, float64, and how many there are."""
    inputs, labels = evidence.examples_of(criterion)
    place = next(model.parameters()).device
    fixed = {n: p.detach() for n, p in [*model.named_parameters(), *model.named_buffers()] if n not in weights}

    def loss(values: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        output = torch.func.functional_call(model, {**fixed, **values}, (x[None],))
        logits: Any = output if isinstance(output, torch.Tensor) else output.logits
        return evidence.loss(logits, y[None])[0]

    gradient = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))
    values = {name: weight.detach() for name, weight in weights.items()}
    sums = {name: torch.zeros(w.shape, dtype=torch.float64, device=place) for name, w in weights.items()}
    with evaluation_mode(model):
        with torch.no_grad():
            evidence.check_classes(labels, model_logits(model, {"inputs": inputs[:1].to(place)}))
        for x, y in zip(inputs.split(chunk), labels.split(chunk), strict=True):
            for name, value in gradient(values, x.to(place), y.to(place)).items():
                sums[name] += value.double().square().sum(0)
    return sums, len(inputs)


def wanda(model: nn.Module, weights: Weights, evidence: Evidence) -> WeightScores:
    """Wanda: ``|W_ij| |X_j|_2``, compared inside each output row (Sun 2024)."""
    names, grams = turned_weights(model), input_grams(model, weights, [{"inputs": evidence.inputs("wanda")}])
    return turned(wanda_scores(turned(weights, names), grams), names)


def obs(model: nn.Module, weights: Weights, evidence: Evidence) -> WeightScores:
    """Optimal brain surgeon of each layer's output: ``theta_q^2 / (2 [H^-1]_qq)`` with ``H = X'X`` (Dong 2017)."""
    names, grams = turned_weights(model), input_grams(model, weights, [{"inputs": evidence.inputs("obs")}])
    return turned(obs_scores(turned(weights, names), grams), names)


class MovementScores(TrainingCallback):
    """Movement: ``-sum_t theta_t g_t`` over a training; weights that move away from zero score high (Sanh 2020).

    Use it as a context around ``train`` with it among the callbacks; ``scores()`` afterwards.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.sums = {name: torch.zeros_like(w, requires_grad=False).double() for name, w in weights.items()}
        self._handles: list[Any] = []

    def __enter__(self) -> MovementScores:
        for name, weight in self.weights.items():
            self._handles.append(weight.register_hook(self._hook(name, weight)))
        return self

    def __exit__(self, *_: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _hook(self, name: str, weight: nn.Parameter) -> Any:
        def add(gradient: torch.Tensor) -> None:
            self.sums[name] -= (weight.detach() * gradient).double()

        return add

    def scores(self) -> WeightScores:
        """What was accumulated."""
        return dict(self.sums)

    def state_dict(self) -> Mapping[str, Any]:
        """The sums."""
        return dict(self.sums)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the sums of a checkpoint."""
        self.sums = {name: torch.as_tensor(value) for name, value in state.items()}


def _listed(*criteria: WeightCriterion) -> dict[str, WeightCriterion]:
    return {criterion.name: criterion for criterion in criteria}


WEIGHT_CRITERIA: dict[str, WeightCriterion] = _listed(
    WeightCriterion("random", "U(0, 1)", "none", "chance", uniform),
    WeightCriterion("magnitude", "|theta|", "none", "magnitude", magnitude),
    WeightCriterion("lamp", "theta^2 / sum of the larger squares", "none", "magnitude", lamp),
    WeightCriterion("synflow", "theta dR/dtheta", "none", "sensitivity", synflow, steps=SYNFLOW_STEPS),
    WeightCriterion("snip", "|g theta|", "labelled", "sensitivity", snip),
    WeightCriterion("grasp", "theta H g", "labelled", "loss change", grasp),
    WeightCriterion("taylor", "(g theta)^2, mean of batches", "labelled", "loss change", taylor),
    WeightCriterion("fisher", "sum over examples of (g theta)^2", "labelled", "loss change", fisher),
    WeightCriterion("obd", "h_ii theta^2 / 2", "labelled", "loss change", obd),
    WeightCriterion("obs", "theta^2 / (2 [H^-1]_qq)", "unlabelled", "reconstruction", obs, by_row=True),
    WeightCriterion("wanda", "|W_ij| |X_j|_2", "unlabelled", "magnitude", wanda, by_row=True),
    WeightCriterion(
        "sparsegpt", "W_ij^2 / [H^-1]_jj^2 of the running factor, with update", "unlabelled", "reconstruction", obs
    ),
)


def weight_criterion(name: str) -> WeightCriterion:
    """By name. Raises InputError with the nearest for an unknown one."""
    if name not in WEIGHT_CRITERIA:
        raise InputError("criterion", name, f"one of {', '.join(WEIGHT_CRITERIA)}{nearest(name, WEIGHT_CRITERIA)}")
    return WEIGHT_CRITERIA[name]


def score_weights(name: str, model: nn.Module, weights: Weights, evidence: Evidence) -> WeightScores:
    """Scores of the weights by a criterion's name.

    Raises InputError for missing examples or labels, and for scores that are not finite.
    """
    scores = weight_criterion(name).function(model, weights, evidence)
    for key, values in scores.items():
        if not bool(torch.isfinite(values).all()):
            raise InputError(f"scores of {key}", "NaN or infinite values", "finite weights, gradients and activations")
    return scores
