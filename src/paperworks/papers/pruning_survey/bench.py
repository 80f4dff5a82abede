"""One protocol for all pruning runs: the same dense network for a seed, the same data, the same training afterwards."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.papers.pruning_survey.masks import MaskCallback, Masks, apply_masks, least_kept, prunable_weights
from paperworks.papers.pruning_survey.pruner import PruneResult, prune
from paperworks.papers.pruning_survey.spec import PruneSpec, read_spec
from paperworks.parameters import check_seed
from paperworks.pruning import ImageTask, accuracy, new_weights, steps_of, train_classifier
from paperworks.pruning.images import MakeModel
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import write_text
from paperworks.training import TrainingCallback

FOREST = 1_000_003
"""Apart from small numbers, so that seeds of different uses do not meet."""


@dataclass(frozen=True)
class Protocol:
    """How networks are trained: SGD with momentum 0.9, a cosine, gradients cut to norm 1.

    Attributes
    ----------
    epochs : of the dense network, and of networks pruned before training or trained from scratch.
    recovery_epochs : after pruning; a gradual schedule has as many over all of its rounds.
    """

    epochs: float = 15
    recovery_epochs: float = 15
    learning_rate: float = 0.05
    batch_size: int = 64
    device: str = "cpu"


@dataclass(frozen=True)
class Row:
    """What a run came to.

    Attributes
    ----------
    variant, seed, ratio : what was asked for; ``spec``: its hash.
    kept : the share of the parameters that is there (not zero), of all.
    macs : multiply-accumulates of convolutions and linear layers with weights that are there, of the dense network's.
    before, accuracy : on the test images, right after pruning (of a gradual schedule: and its last round of training)
        and at the end.
    least : weights in the emptiest tensor.
    epochs : of training that belong to this network, in all.
    """

    variant: str
    seed: int
    ratio: float
    spec: str
    kept: float
    macs: float
    before: float
    accuracy: float
    least: int
    epochs: float
    seconds: float
    note: str = ""

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)


@dataclass
class Bench:
    """A task, a network and a protocol, with what was trained and found before.

    ``state`` keeps dense networks and rows, so that a run that goes on does not do them again.
    """

    task: ImageTask
    make: MakeModel
    protocol: Protocol = field(default_factory=Protocol)
    trained: bool = False
    state: Path | None = None
    progress: Progress = no_progress
    _dense: dict[int, nn.Module] = field(default_factory=dict, repr=False)
    _pruned: dict[tuple[str, int], PruneResult] = field(default_factory=dict, repr=False)

    def initial(self, seed: int) -> nn.Module:
        """The untrained network of a seed. Of a trained one: new weights in its sizes."""
        model = self.make(seed)
        return new_weights(model, seed) if self.trained else model

    def dense(self, seed: int) -> nn.Module:
        """A copy of the trained dense network of a seed."""
        if seed not in self._dense:
            model = self.make(seed)
            kept = None if self.state is None else self.state / f"dense-{seed}.pt"
            if not self.trained:
                if kept is not None and kept.is_file():
                    model.load_state_dict(torch.load(kept, weights_only=True))
                else:
                    self.train(model, (), self.protocol.epochs, seed)
                    if kept is not None:
                        torch.save(model.state_dict(), kept.with_suffix(".part"))
                        kept.with_suffix(".part").replace(kept)
            self._dense[seed] = model.eval()
        return copy.deepcopy(self._dense[seed])

    def train(
        self,
        model: nn.Module,
        callbacks: Sequence[TrainingCallback],
        epochs: float,
        seed: int,
        teacher: nn.Module | None = None,
    ) -> None:
        """Train in place under the protocol."""
        p = self.protocol
        steps = steps_of(epochs, self.task.train, p.batch_size)
        train_classifier(
            model,
            self.task.train,
            steps=steps,
            learning_rate=p.learning_rate,
            batch_size=p.batch_size,
            seed=seed,
            device=p.device,
            callbacks=callbacks,
            teacher=teacher,
            settle_norms=True,
            progress=self.progress,
        )

    def pruned(self, spec: PruneSpec, seed: int) -> PruneResult:
        """The result of pruning without what follows it; found once for specs that differ in the recovery only."""
        name = read_spec(spec, recovery="update" if spec.criterion == "sparsegpt" else "finetune").hash
        if (name, seed) not in self._pruned:
            model = self.initial(seed) if spec.when == "before" else self.dense(seed)

            def between(model: nn.Module, callbacks: tuple[TrainingCallback, ...], number: int) -> None:
                share = self.protocol.recovery_epochs / spec.rounds
                self.train(model, callbacks, share, seed * FOREST + number + 1)

            seeded = read_spec(spec, seed=seed)
            self._pruned[name, seed] = prune(
                model, seeded, self.task.example, self.task.train, train=between, inplace=True, progress=self.progress
            )
        found = self._pruned[name, seed]
        return replace(found, model=copy.deepcopy(found.model))

    def trial(self, variant: str, spec: PruneSpec, seed: int, epochs: float | None = None) -> Row:
        """Prune and recover as the spec says; ``epochs`` in place of the protocol's for the recovery."""
        kept = None if self.state is None else self.state / f"row-{spec.hash}-{seed}-{epochs}.json"
        if kept is not None and kept.is_file():
            return Row(**{**json.loads(kept.read_text(encoding="utf-8")), "variant": variant})
        started = time.perf_counter()
        result = self.pruned(spec, seed)
        before = accuracy(result.model, self.task.test, self.protocol.device)
        model, taken = self.recovered(result, spec, seed, epochs)
        row = self.row(variant, spec, seed, model, result.masks, before, taken, time.perf_counter() - started)
        if kept is not None:
            write_text(kept, json.dumps(asdict(row)))
        return row

    def recovered(
        self, result: PruneResult, spec: PruneSpec, seed: int, epochs: float | None = None
    ) -> tuple[nn.Module, float]:
        """The network at the end, and the epochs that it took in all."""
        p, model = self.protocol, result.model
        gradual = spec.schedule == "gradual"
        own = (0.0 if spec.when == "before" else p.epochs) + (p.recovery_epochs if gradual else 0.0)
        if spec.recovery in ("none", "update") or (gradual and spec.recovery == "finetune"):
            return model, own
        length = p.recovery_epochs if spec.when == "after" else p.epochs + p.recovery_epochs
        if spec.recovery == "scratch":
            model, own, length = new_weights(model, seed + FOREST), 0.0, p.epochs
        elif spec.recovery == "rewind":
            model, own, length = self.initial(seed), 0.0, p.epochs
        length = length if epochs is None else epochs
        teacher = self.dense(seed) if spec.recovery == "distil" else None
        self.train_masked(model, result.masks, length, seed + 1, teacher)
        return model, own + length

    def train_masked(
        self, model: nn.Module, masks: Masks, epochs: float, seed: int, teacher: nn.Module | None = None
    ) -> None:
        """Train with masks held, if there are any."""
        if not masks:
            self.train(model, (), epochs, seed, teacher)
            return
        with MaskCallback(model, masks) as held:
            self.train(model, (held,), epochs, seed, teacher)

    def row(
        self,
        variant: str,
        spec: PruneSpec,
        seed: int,
        model: nn.Module,
        masks: Masks,
        before: float,
        epochs: float,
        seconds: float,
        note: str = "",
    ) -> Row:
        """Measure a network at the end of a run."""
        apply_masks(model, masks)
        dense = self._dense.get(seed) or self.make(seed)
        whole = sum(p.numel() for p in dense.parameters())
        there = sum(p.numel() for p in model.parameters()) - sum(int((~m).sum()) for m in masks.values())
        found = accuracy(model, self.task.test, self.protocol.device)
        tensors = masks or {n: torch.ones_like(w, dtype=torch.bool) for n, w in prunable_weights(model).items()}
        return Row(
            variant=variant,
            seed=seed,
            ratio=spec.ratio,
            spec=spec.hash,
            kept=there / whole,
            macs=weight_macs(model, self.task.example, masks) / weight_macs(dense, self.task.example),
            before=before,
            accuracy=found,
            least=least_kept(tensors),
            epochs=epochs,
            seconds=seconds,
            note=note,
        )

    def dense_accuracy(self, seeds: Sequence[int]) -> list[float]:
        """Accuracy of the dense networks."""
        return [accuracy(self.dense(seed), self.task.test, self.protocol.device) for seed in seeds]


@torch.no_grad()
def weight_macs(model: nn.Module, example: torch.Tensor, masks: Masks | None = None) -> int:
    """Multiply-accumulates for one example: weights that are not masked, times the positions that they act at."""
    positions: dict[str, int] = {}
    handles: list[Any] = []
    for name, module in model.named_modules():
        if f"{name}.weight" in (weights := _weights_of(name, module)):

            def hook(module: nn.Module, args: Any, out: torch.Tensor, name: str = weights[0]) -> None:
                conv = isinstance(module, nn.modules.conv._ConvNd)
                positions[name] = positions.get(name, 0) + (
                    out.shape[2:].numel() if conv else out.shape[:-1].numel() // len(out)
                )

            handles.append(module.register_forward_hook(hook))
    try:
        with evaluation_mode(model):
            model(example[:1].to(next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    named = dict(model.named_parameters(remove_duplicate=False))
    counts = {n: int(masks[n].sum()) if masks and n in masks else named[n].numel() for n in positions}
    if not counts:
        raise InputError("model", "no convolution or linear layer", "a model with at least one")
    return sum(count * positions[name] for name, count in counts.items())


def _weights_of(name: str, module: nn.Module) -> list[str]:
    layer = isinstance(module, nn.Linear | nn.modules.conv._ConvNd)
    return [f"{name}.weight"] if layer else []
