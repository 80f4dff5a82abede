"""ModHiFi-U: a network forgets a class when the contributions that carry it are zeroed or negated. No training."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.papers.modhifi.analyzer import CenterChoice, center_for
from paperworks.papers.modhifi.layers import ReadLayer, layer_at, readable_layers
from paperworks.papers.modhifi.moments import batches_of, call, collect, count_samples
from paperworks.papers.modhifi.normalised import normalised_layers
from paperworks.papers.modhifi.scores import SCORES, contribution_scores
from paperworks.papers.modhifi.targets import call_order
from paperworks.parameters import check_whole
from paperworks.runs import Progress, no_progress

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Values of p that are tried where samples to retain are given."""
Edit = Literal["auto", "zero", "negate"]


@dataclass(frozen=True)
class UnlearnReport:
    """What was edited.

    Attributes
    ----------
    edited : by layer, bool [c_out, c_in]: the contributions that were zeroed or negated.
    edit : ``zero`` or ``negate``.
    p : the share that was used.
    trials : (p, agreement with the dense network on the samples to retain, mean probability that forget samples keep of
        the class they had), where p was chosen.
    met : False where no p kept ``min_agreement``; then p is the one that kept most.
    """

    edited: dict[str, torch.Tensor]
    edit: str
    p: float
    trials: tuple[tuple[float, float, float], ...] = ()
    met: bool = True

    @property
    def share(self) -> float:
        """Share of all contributions of the edited layers."""
        return sum(int(e.sum()) for e in self.edited.values()) / sum(e.numel() for e in self.edited.values())


class ClassUnlearner:
    """Makes a network forget the class of some samples.

    ::

        scores of contributions on samples of the class only (synthetic ones will do)
        for each edited layer: H = the best p of every output
        W[c, i] <- 0 for (c, i) in H     (networks with BatchNorm),   or  -W[c, i]   (LayerNorm and residuals)

    There is no gradient step. Statistics of BatchNorms stay: to renew them on the other classes brings the class back
    (``attacks.recalled``).

    Parameters
    ----------
    p : the share of the inputs of every output, above 0 and at most 1.
    layers : paths; or how many of the last convolutions; ``auto`` is the last quarter of the convolutions of a network
        with BatchNorm, and every linear layer but the classifier of another.
    edit : ``auto`` zeroes where there is a BatchNorm and negates elsewhere.
    within : the best p are taken for every ``output``, at least one; or over a whole ``layer``, for p times the
        number of inputs below 1.
    score, center : see ``FidelityAnalyzer``; the paper takes ``rowsum``.
    min_agreement : where samples to retain are given, p is the one of ``SHARES`` that leaves the class the least
        probability while this share of them keeps its class.
    batch_size : samples in a forward.

    Attributes
    ----------
    model_ : the edited network. report_ : an ``UnlearnReport``.
    """

    def __init__(
        self,
        p: float = 0.2,
        layers: str | int | Sequence[str] = "auto",
        edit: Edit = "auto",
        *,
        within: Literal["output", "layer"] = "output",
        score: str = "rowsum",
        center: CenterChoice = "auto",
        min_agreement: float = 0.9,
        batch_size: int = 64,
    ) -> None:
        if not 0 < p <= 1:
            raise InputError("p", p, "a share above 0, at most 1")
        if edit not in ("auto", "zero", "negate"):
            raise InputError("edit", repr(edit), "auto, zero or negate")
        if within not in ("output", "layer"):
            raise InputError("within", repr(within), "output or layer")
        if score not in SCORES:
            raise InputError("score", repr(score), f"one of {', '.join(SCORES)}")
        if isinstance(layers, str) and layers != "auto":
            raise InputError("layers", repr(layers), "auto, a number of layers, or a list of paths")
        if isinstance(layers, int):
            check_whole("layers", layers, 1)
        if not 0 < min_agreement <= 1:
            raise InputError("min_agreement", min_agreement, "a share above 0, at most 1")
        check_whole("batch_size", batch_size, 1)
        self.p, self.layers, self.edit, self.within = p, layers, edit, within
        self.score, self.center, self.min_agreement, self.batch_size = score, center, min_agreement, batch_size
        self.model_: nn.Module
        self.report_: UnlearnReport

    def fit(
        self,
        model: nn.Module,
        forget_samples: Any,
        retain_samples: Any = None,
        *,
        progress: Progress = no_progress,
    ) -> Self:
        """Edit a copy of ``model``.

        Parameters
        ----------
        forget_samples : of the class that is to be forgotten; see ``moments.batches_of``.
        retain_samples : of the other classes, to choose p with; without them ``p`` is used.

        Raises
        ------
        InputError : no samples, or a layer that is not there.
        """
        place = next((p.device for p in model.parameters()), torch.device("cpu"))
        forget = batches_of(forget_samples, self.batch_size, device=place)
        paths, edit = self._layers(model, forget[0])
        scores = self._scores(model, forget, paths, progress)

        def edited(p: float) -> tuple[nn.Module, dict[str, torch.Tensor]]:
            chosen = {path: best_pairs(values, p, self.within) for path, values in scores.items()}
            return with_edits(model, chosen, edit), chosen

        trials: list[tuple[float, float, float]] = []
        p, met = self.p, True
        if retain_samples is not None:
            retain = batches_of(retain_samples, self.batch_size, device=place)
            had, stay = _probabilities(model, forget).argmax(1), _probabilities(model, retain).argmax(1)
            for share in progress(SHARES, "choosing p", len(SHARES)):
                made, _ = edited(share)
                agreement = float((_probabilities(made, retain).argmax(1) == stay).double().mean())
                left = float(_probabilities(made, forget).gather(1, had[:, None]).mean())
                trials.append((share, agreement, left))
            able = [trial for trial in trials if trial[1] >= self.min_agreement]
            met = bool(able)
            p = min(able, key=lambda trial: trial[2])[0] if met else max(trials, key=lambda trial: trial[1])[0]
        self.model_, chosen = edited(p)
        self.report_ = UnlearnReport(chosen, edit, p, tuple(trials), met)
        return self

    def _layers(self, model: nn.Module, batch: Any) -> tuple[list[str], str]:
        normalised = any(isinstance(module, _BatchNorm) for module in model.modules())
        edit = ("zero" if normalised else "negate") if self.edit == "auto" else self.edit
        if not isinstance(self.layers, (str, int)):
            for path in self.layers:
                layer_at(model, path)
            return list(self.layers), edit
        known = {path: layer_at(model, path) for path in readable_layers(model)}
        order = call_order(model, batch, known)
        convolutions = [path for path in order if known[path].convolution]
        if isinstance(self.layers, int) or (normalised and convolutions):
            wanted = self.layers if isinstance(self.layers, int) else math.ceil(len(convolutions) / 4)
            if wanted > len(convolutions):
                raise InputError("layers", wanted, f"at most {len(convolutions)}, the convolutions of the network")
            return convolutions[len(convolutions) - wanted :], edit
        linear = [path for path in order if not known[path].convolution][:-1]
        if not linear:
            raise InputError("layers", "auto", "paths of layers: there is no linear layer besides the last")
        return linear, edit

    def _scores(
        self, model: nn.Module, forget: list[Any], paths: list[str], progress: Progress
    ) -> dict[str, torch.Tensor]:
        with normalised_layers(model) as normalised, evaluation_mode(model), torch.no_grad():
            call(model, forget[0])
        moments = collect(model, forget, paths, progress=progress, what="the class that is forgotten")
        found = {}
        for path in paths:
            layer = layer_at(model, path)
            gram = moments[path].matrix(center_for(self.center, path in normalised))
            found[path] = contribution_scores(layer.matrix(), gram, layer.blocks(), self.score)
        return found


def best_pairs(scores: torch.Tensor, p: float, within: str = "output") -> torch.Tensor:
    """The best share p, bool [c_out, c_in]: of every output (at least one), or of all pairs of the layer."""
    if not 0 < p <= 1:
        raise InputError("p", p, "a share above 0, at most 1")
    rows = scores if within == "output" else scores.reshape(1, -1)
    count = max(1, round(p * rows.shape[1]))
    best = rows.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(rows, dtype=torch.bool).scatter_(1, best, True).view_as(scores)


def with_edits(model: nn.Module, chosen: dict[str, torch.Tensor], edit: str) -> nn.Module:
    """A copy of the model in which the kernels of chosen pairs [c_out, c_in] are zeroed or negated."""
    made = copy.deepcopy(model)
    for path, pairs in chosen.items():
        layer: ReadLayer = layer_at(made, path)
        factor = torch.where(pairs, 0.0 if edit == "zero" else -1.0, 1.0).double()
        layer.write(layer.matrix() * factor.repeat_interleave(layer.kernel, 1))
    return made.eval()


def _probabilities(model: nn.Module, batches: list[Any]) -> torch.Tensor:
    found = []
    with evaluation_mode(model), torch.no_grad():
        for batch in batches:
            output = call(model, batch)
            found.append(getattr(output, "logits", output).softmax(1).cpu())
    if count_samples(batches) != sum(map(len, found)):
        raise InputError("model", "outputs of another number of rows", "a classifier: logits [n, classes]")
    return torch.cat(found)
