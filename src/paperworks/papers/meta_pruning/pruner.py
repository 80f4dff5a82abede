"""The pruner: a metanetwork trained on networks of one family, then applied to further ones."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from paperworks.classification import last_linear_layer
from paperworks.errors import InputError
from paperworks.papers.meta_pruning.criterion import (
    STRUCTURED,
    CriterionName,
    check_criterion,
    magnitude_masks,
    n_of_m_masks,
    weight_names,
)
from paperworks.papers.meta_pruning.graph import LayoutName, NetGraph, make_layout, tensors_of_model
from paperworks.papers.meta_pruning.meta_training import MetaHistory, MetaSettings, Target, meta_train
from paperworks.papers.meta_pruning.metanetwork import GraphMetaNetwork
from paperworks.papers.meta_pruning.planning import speed_plans
from paperworks.papers.meta_pruning.targets import (
    SPEEDS,
    Examples,
    accuracy,
    accuracy_curve,
    as_pair,
    copy_of,
    fine_tune,
)
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.structure import KeepPlan
from paperworks.structure.trace import TracedGroups, analyze, cut, measure_latency
from paperworks.structure.trace.architecture import architecture


@dataclass(frozen=True)
class PrunedNetwork:
    """A network that was edited, fine-tuned, cut and fine-tuned again.

    Attributes
    ----------
    model : the smaller network, in evaluation mode.
    ready : the network right before it was cut.
    speedup, share : dense over kept multiply-accumulates; share of the parameters that is left.
    report : accuracies after each stage on the data that was given for it, cost, seconds.
    """

    model: nn.Module
    ready: nn.Module
    speedup: float
    share: float
    report: dict[str, float] = field(default_factory=dict)


class MetaPruner:
    """Prunes networks of one family by a metanetwork.

    Parameters
    ----------
    metanetwork : one that was trained before, its folder, or None: ``fit`` makes one.
    criterion : what prunes, see ``CriterionName``.
    layout : of the graph, ``auto`` or ``paper``.
    hidden, layers, rho : of the metanetwork that ``fit`` makes.
    settings : of meta-training.
    finetune_epochs, finetune_rate : of the training after the edit, for selection and in ``prune``.
    speeds : speed-ups of the curve whose mean is the score of a checkpoint.
    steps : portions in which channels leave, see ``speed_plans``.
    device, random_state : place of the computation; seed of everything that is drawn.

    Attributes
    ----------
    metanetwork_ : the metanetwork with the weights of the best epoch.
    history_ : a row for each epoch of meta-training.
    """

    def __init__(
        self,
        metanetwork: GraphMetaNetwork | str | Path | None = None,
        *,
        criterion: CriterionName = "group-l2",
        layout: LayoutName = "auto",
        hidden: int = 16,
        layers: int = 4,
        rho: float = 0.1,
        settings: MetaSettings | None = None,
        finetune_epochs: int = 20,
        finetune_rate: float = 0.01,
        speeds: Sequence[float] = SPEEDS,
        steps: int = 200,
        device: str = "auto",
        random_state: int = 0,
    ) -> None:
        check_seed("random_state", random_state)
        check_criterion(criterion)
        if finetune_epochs < 0:
            raise InputError("finetune_epochs", finetune_epochs, "0 or more")
        if not speeds or any(not speed >= 1 for speed in speeds):
            raise InputError("speeds", list(speeds), "speed-ups of 1 or more")
        self.criterion, self.layout, self.settings = criterion, layout, settings or MetaSettings()
        self.hidden, self.layers, self.rho = hidden, layers, rho
        self.finetune_epochs, self.finetune_rate = finetune_epochs, finetune_rate
        self.speeds, self.steps, self.device, self.random_state = tuple(speeds), steps, device, random_state
        if isinstance(metanetwork, str | Path):
            metanetwork = GraphMetaNetwork.from_pretrained(metanetwork)
        self._given = self._metanetwork = metanetwork
        self._traced: dict[bytes, Target] = {}
        self.history_ = MetaHistory()

    @property
    def metanetwork_(self) -> GraphMetaNetwork:
        """The metanetwork that edits; raises InputError where none was given and ``fit`` was not called."""
        if self._metanetwork is None:
            raise InputError("metanetwork", None, "a trained one, or a call of fit before")
        return self._metanetwork

    @metanetwork_.setter
    def metanetwork_(self, metanetwork: GraphMetaNetwork) -> None:
        self._given = self._metanetwork = metanetwork

    def fit(
        self,
        models: Sequence[nn.Module],
        data: Any,
        selection: nn.Module | None = None,
        selection_data: Any = None,
        *,
        checkpoint: Path | None = None,
        progress: Progress = no_progress,
    ) -> MetaPruner:
        """Train the metanetwork: a copy of the given one, or a new one. Called again, it begins there again.

        Parameters
        ----------
        models : trained networks of one family: one architecture, or several with the same types of layers.
        data : (images ``[n, ...]``, class codes ``[n]``) that the networks were trained on.
        selection : a network that is not among ``models``. After each epoch it is edited, fine-tuned and pruned; the
            epoch with the best mean of its accuracy curve is kept. None keeps the last epoch.
        selection_data : images and labels for these curves, neither training nor test images.
        checkpoint : a file for resuming.

        Raises
        ------
        InputError : no network, one that cannot be traced, a selection model that is among ``models``.
        """
        if not models:
            raise InputError("models", "none", "at least one trained network")
        if any(model is selection for model in models):
            raise InputError("selection", "one of models", "a network that the metanetwork does not see in training")
        if (selection is None) != (selection_data is None):
            raise InputError("selection_data", selection_data, "images and labels together with a selection model")
        pair = as_pair(data, "data")
        targets = [self.target(model, pair[0][:2]) for model in models]
        if self._given is not None:
            self._metanetwork = copy.deepcopy(self._given)
        else:
            layouts = [target.layout for target in targets]
            self._metanetwork = GraphMetaNetwork.for_layouts(
                *layouts, seed=self.random_state, hidden=self.hidden, layers=self.layers, rho=self.rho
            )
        score = None
        if selection is not None:
            held, chosen = as_pair(selection_data, "selection_data"), self.target(selection, pair[0][:2])

            def score(metanetwork: GraphMetaNetwork) -> float:
                edited = fine_tune(
                    self.edited(chosen, metanetwork),
                    pair,
                    epochs=self.finetune_epochs,
                    learning_rate=self.finetune_rate,
                    seed=self.random_state,
                    device=self.device,
                    progress=progress,
                )
                return float(self.curve_of(edited, chosen, held).mean())

        self.history_ = meta_train(
            self._metanetwork,
            targets,
            pair,
            self.settings,
            criterion=self.criterion,
            score=score,
            checkpoint=checkpoint,
            seed=self.random_state,
            device=self.device,
            progress=progress,
        )
        return self

    def target(self, model: nn.Module, examples: torch.Tensor) -> Target:
        """A network with its layout and groups, traced at a batch of images; once for each architecture."""
        known = architecture(model, examples)
        if known is None or known not in self._traced:
            groups = analyze(model, examples)
            made = Target(model, make_layout(model, examples, self.layout, groups), groups)
            if known is None:
                return made
            self._traced[known] = made
        return self._traced[known].of(model)

    def edited(self, target: Target, metanetwork: GraphMetaNetwork | None = None) -> nn.Module:
        """A copy of the network with the weights that the metanetwork gives it."""
        found = self.metanetwork_ if metanetwork is None else metanetwork
        graph = NetGraph(target.layout, *target.layout.read(tensors_of_model(target.model)), target.model)
        return found.edit(graph).to_module().eval()

    def curve_of(self, model: nn.Module, target: Target, data: Examples) -> np.ndarray:
        """Accuracy curve of a network with the architecture of ``target``, see ``curve``."""
        return accuracy_curve(
            model,
            target.groups,
            data,
            self.speeds,
            criterion=self.criterion,
            steps=self.steps,
            skip=(last_weight(model),),
            seed=self.random_state,
            device=self.device,
        )

    def transform(self, model: nn.Module, example_images: Any) -> nn.Module:
        """The edited network: one pass through the metanetwork; the network itself is not changed.

        Running statistics are the old ones, so that its accuracy before any fine-tuning can be near chance;
        ``paperworks.pruning.reestimate_norms`` helps.

        Parameters
        ----------
        example_images : a batch of images ``[n, ...]`` to trace with.
        """
        self.metanetwork_  # noqa: B018  raises before the tracing where there is none
        return self.edited(self.target(model, torch.as_tensor(example_images)[:2].float()))

    def curve(self, model: nn.Module, data: Any) -> np.ndarray:
        """Accuracy of a network after pruning to each of ``speeds`` without training in between, float64 ``[speeds]``.

        Parameters
        ----------
        model : a network, edited or not.
        data : (images, class codes) to measure on.
        """
        pair = as_pair(data, "data")
        return self.curve_of(model, self.target(model, pair[0][:2]), pair)

    def prune(
        self,
        model: nn.Module,
        data: Any,
        *,
        speedup: float | None = None,
        parameters: float | None = None,
        latency: float | None = None,
        final_epochs: int = 20,
        edit: bool = True,
        test_data: Any = None,
        progress: Progress = no_progress,
    ) -> PrunedNetwork:
        """Edit, fine-tune, prune and fine-tune a network. The network that is passed stays as it is.

        Parameters
        ----------
        data : (images, class codes) to fine-tune on.
        speedup : dense over kept multiply-accumulates, or
        parameters : the share of parameters that stays, or
        latency : dense over kept measured time of a forward pass of ``test_data`` (or of ``data``), at least.
        final_epochs : of fine-tuning after the cut.
        edit : False leaves the metanetwork out: the same pipeline without it.
        test_data : images and labels for the accuracies in the report.

        Raises
        ------
        InputError : not exactly one target, or one that cannot be reached.
        """
        given = {"speedup": speedup, "parameters": parameters, "latency": latency}
        named = {name: value for name, value in given.items() if value is not None}
        if len(named) != 1:
            raise InputError("speedup", ", ".join(named) or "no target", "one of speedup, parameters and latency")
        if parameters is not None and not 0 < parameters <= 1:
            raise InputError("parameters", parameters, "a share above 0, at most 1")
        if self.criterion not in STRUCTURED and speedup is None:
            raise InputError(next(iter(named)), named, f"speedup, for the criterion {self.criterion}")
        pair = as_pair(data, "data")
        test = None if test_data is None else as_pair(test_data, "test_data")
        started = time.monotonic()
        report: dict[str, float] = {}

        def note(name: str, current: nn.Module) -> None:
            if test is not None:
                report[f"accuracy {name}"] = accuracy(current, test, device=self.device)

        note("of the dense network", model)
        target = self.target(model, pair[0][:2])
        ready = self.edited(target) if edit else copy_of(model)
        if edit:
            note("after the edit", ready)
        self._fine_tuned(ready, pair, self.finetune_epochs, progress)
        note("after fine-tuning", ready)
        groups = target.groups.of(ready)
        dense = left = groups.cost()
        if self.criterion not in STRUCTURED:
            assert speedup is not None
            small = _masked(copy_of(ready), self.criterion, speedup)
        else:
            if latency is not None:
                plan = self._by_latency(ready, groups, latency, (test or pair)[0][:256])
            else:
                wanted = speedup or 1 / (parameters or 1)
                plan = self.plan_for(ready, groups, wanted, "macs" if speedup else "parameters")
            small, left = cut(groups, plan).eval(), groups.cost(plan)
        note("after pruning", small)
        self._fine_tuned(small, pair, final_epochs, progress)
        note("after the last fine-tuning", small)
        report |= {"seconds": time.monotonic() - started, "macs": left.macs, "parameters": left.parameters}
        sparse = self.criterion not in STRUCTURED
        share = _nonzero(small) / _nonzero(model) if sparse else left.parameters / dense.parameters
        return PrunedNetwork(small, ready, dense.macs / left.macs, share, report)

    def _fine_tuned(self, model: nn.Module, data: Examples, epochs: int, progress: Progress) -> None:
        fine_tune(
            model,
            data,
            epochs=epochs,
            learning_rate=self.finetune_rate,
            seed=self.random_state,
            device=self.device,
            progress=progress,
        )

    def plan_for(self, model: nn.Module, groups: TracedGroups, speed: float, measure: str = "macs") -> KeepPlan:
        """What the criterion keeps at ``dense / speed`` of the multiply-accumulates (or parameters)."""
        tensors = tensors_of_model(model)
        options: dict[str, Any] = {"criterion": self.criterion, "steps": self.steps, "seed": self.random_state}
        (plan,) = speed_plans(tensors, groups, [speed], measure=measure, **options)
        return plan

    def _by_latency(self, model: nn.Module, groups: TracedGroups, wanted: float, images: torch.Tensor) -> KeepPlan:
        """The least pruning after which the network is ``wanted`` times as fast: bisection over speed-ups."""
        low, high, found = 1.0, 1.0, None
        for _ in range(12):
            middle = high * 1.6 if found is None else (low + high) / 2
            try:
                plan = self.plan_for(model, groups, middle)
                small = cut(groups, plan).eval()
            except InputError:
                break
            times = measure_latency({"dense": model, "cut": small}, images, rounds=5, seconds=0.02)
            if times["dense"].median / times["cut"].median >= wanted:
                high, found = middle, plan
                if high / low < 1.05:
                    break
            else:
                low = middle
                high = max(high, middle)
        if found is None:
            raise InputError("latency", wanted, "a ratio that pruning reaches here; time falls less than computation")
        return found


def last_weight(model: nn.Module) -> str:
    """The name of the classifier's weight."""
    return f"{last_linear_layer(model)}.weight"


def _nonzero(model: nn.Module) -> int:
    return sum(int((p != 0).sum()) for p in model.parameters())


@torch.no_grad()
def _masked(model: nn.Module, criterion: CriterionName, speed: float) -> nn.Module:
    """The network with single weights at zero. Their gradients are zero from now on, so that training leaves them."""
    tensors = tensors_of_model(model)
    names = weight_names(tensors, (last_weight(model),))
    names = [name for name in names if name in dict(model.named_parameters())]
    masks = n_of_m_masks(tensors, names) if criterion == "2:4" else magnitude_masks(tensors, names, 1 - 1 / speed)
    for name, mask in masks.items():
        parameter = model.get_parameter(name)
        parameter.mul_(mask)
        parameter.register_hook(lambda gradient, mask=mask: gradient * mask.to(gradient.device))
    return model
