"""One pruning run: a model, a spec and examples in; the pruned model, its masks or its plan, and what it costs out."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

from paperworks.errors import InputError
from paperworks.papers.pruning_survey.layerwise import input_grams, sparsegpt_layers
from paperworks.papers.pruning_survey.masks import (
    MaskCallback,
    Masks,
    apply_masks,
    by_pattern,
    check_collapse,
    density_of,
    least_kept,
    prunable_weights,
    turned,
    turned_weights,
)
from paperworks.papers.pruning_survey.schedules import densities, masks_in_steps, next_masks
from paperworks.papers.pruning_survey.spec import PruneSpec, read_spec
from paperworks.papers.pruning_survey.weight_criteria import SYNFLOW_STEPS, Weights, score_weights
from paperworks.pruning.evidence import Evidence
from paperworks.pruning.unit_criteria import score_units
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder
from paperworks.structure.trace import TracedGroups, analyze, cut, load_cut, ranked_plan, save_cut
from paperworks.training import TrainingCallback

Train = Callable[[nn.Module, tuple[TrainingCallback, ...], int], None]
"""``train(model, callbacks, round)``: trains in place for one of the spec's rounds."""
SPEC_FILE, MASKS_FILE = "spec.json", "masks.safetensors"


@dataclass
class PruneResult:
    """What ``prune`` gives back.

    Attributes
    ----------
    model : pruned: with zeros where weights left, or smaller where units left.
    masks : of the weights; empty for units.
    spec : what was asked for.
    report : achieved density, the least that a tensor keeps, parameters before and after.
    """

    model: nn.Module
    masks: Masks
    spec: PruneSpec
    report: dict[str, float] = field(default_factory=dict)

    def holding(self) -> AbstractContextManager[tuple[TrainingCallback, ...]]:
        """A context with the callbacks that keep the masks: ``with result.holding() as callbacks: ...``."""
        return _Held(self.model, self.masks) if self.masks else nullcontext(())

    def finetune(self, train: Callable[[nn.Module, tuple[TrainingCallback, ...]], Any]) -> PruneResult:
        """Call ``train(model, callbacks)`` with the masks held; returns self."""
        with self.holding() as callbacks:
            train(self.model, callbacks)
        return self

    def to_sparse(self, layout: str = "csr") -> dict[str, torch.Tensor]:
        """The masked weights as sparse matrices [out, rest]: ``csr`` or ``coo``. Raises InputError without masks."""
        if not self.masks:
            raise InputError("layout", layout, "a result with masks: units were cut, the model is dense and smaller")
        if layout not in ("csr", "coo"):
            raise InputError("layout", layout, "csr or coo")
        named = dict(self.model.named_parameters(remove_duplicate=False))
        matrices = {name: named[name].detach().flatten(1) for name in self.masks}
        return {n: m.to_sparse_csr() if layout == "csr" else m.to_sparse() for n, m in matrices.items()}

    def save(self, folder: Path | str) -> Path:
        """Weights (safetensors), masks or plan, and the spec with its hash, in a new folder; returns it."""
        target = Path(folder)
        content = {"spec": self.spec.model_dump(mode="json"), "hash": self.spec.hash, "report": self.report}
        if not self.masks:
            save_cut(self.model, target)
            (target / SPEC_FILE).write_text(json.dumps(content, indent=1), encoding="utf-8")
            return target
        from safetensors.torch import save_file

        with new_folder(target) as out:
            state = {name: value.detach().cpu().contiguous().clone() for name, value in self.model.state_dict().items()}
            save_file(state, out / "model.safetensors", metadata={"format": "pt"})
            save_file({name: mask.cpu().contiguous() for name, mask in self.masks.items()}, out / MASKS_FILE)
            (out / SPEC_FILE).write_text(json.dumps(content, indent=1), encoding="utf-8")
        return target


class _Held:
    """A mask callback as a context that gives a tuple of callbacks."""

    def __init__(self, model: nn.Module, masks: Masks) -> None:
        self.callback = MaskCallback(model, masks)

    def __enter__(self) -> tuple[TrainingCallback, ...]:
        return (self.callback.__enter__(),)

    def __exit__(self, *error: object) -> None:
        self.callback.__exit__(*error)


def load_pruned(folder: Path | str, make: Callable[[], nn.Module]) -> PruneResult:
    """Read back what ``PruneResult.save`` wrote; ``make()`` gives the dense module, whose weights do not matter.

    Raises InputError for a folder without a spec, or weights that are not of this module.
    """
    source = Path(folder).expanduser()
    try:
        content = json.loads((source / SPEC_FILE).read_text(encoding="utf-8"))
        spec = read_spec(content["spec"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("folder", f"{source} ({error})", "a folder that a pruning run saved") from None
    report = dict(content.get("report", {}))
    if not (source / MASKS_FILE).is_file():
        return PruneResult(load_cut(source, build=make), {}, spec, report)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    model = make()
    try:
        model.load_state_dict(load_file(source / "model.safetensors"))
        masks = {name: mask.bool() for name, mask in load_file(source / MASKS_FILE).items()}
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InputError("folder", f"{source} ({str(error).splitlines()[0]})", "weights of this module") from None
    apply_masks(model, masks)
    return PruneResult(model.eval(), masks, spec, report)


def prune(
    model: nn.Module,
    spec: PruneSpec | Mapping[str, Any] | str | Path,
    example_inputs: Any = None,
    data: TensorDataset | torch.Tensor | None = None,
    *,
    train: Train | None = None,
    loss: Any = None,
    inplace: bool = False,
    progress: Progress = no_progress,
) -> PruneResult:
    """Prune a model as a spec declares.

    Parameters
    ----------
    spec : a ``PruneSpec``, a dict, YAML text or a file.
    example_inputs : to trace the model with, where units are cut (a batch of 2 is enough).
    data : labelled examples, or inputs alone, for criteria that need them.
    train : trains between the rounds of a gradual schedule, and is called with the round's number.
    loss : of each example, ``loss(logits, labels) -> [n]`` (None: cross-entropy).
    inplace : prune ``model`` itself; else a copy.

    Raises
    ------
    InputError : a spec that is no method, missing examples or labels, an emptied layer, a ratio out of reach.
    """
    wanted = read_spec(spec)
    labelled = data if isinstance(data, TensorDataset) else None
    unlabelled = data if isinstance(data, torch.Tensor) else None
    wanted.check_evidence(labelled is not None, unlabelled is not None)
    if wanted.schedule == "gradual" and train is None:
        raise InputError("train", "none, with a gradual schedule", "a function that trains between the rounds")
    evidence = Evidence(labelled, unlabelled, examples=wanted.examples, seed=wanted.seed)
    if loss is not None:
        evidence = replace(evidence, loss=loss)
    work = model if inplace else copy.deepcopy(model)
    before = sum(p.numel() for p in work.parameters())
    if wanted.speedup == "structured":
        return _units(work, wanted, example_inputs, evidence, train, before, progress)
    if wanted.criterion == "synflow" and evidence.unlabelled is None and evidence.labelled is None:
        evidence = replace(evidence, unlabelled=_first_tensor(example_inputs))
    masks = _weights(work, wanted, evidence, train, progress)
    report = {
        "density": density_of(masks),
        "least kept": least_kept(masks),
        "parameters before": before,
        "parameters": before - sum(int((~mask).sum()) for mask in masks.values()),
    }
    return PruneResult(work, masks, wanted, report)


def _first_tensor(inputs: Any) -> torch.Tensor:
    found = inputs[0] if isinstance(inputs, tuple) else inputs
    if not isinstance(found, torch.Tensor):
        raise InputError("example_inputs", type(found).__name__, "a tensor, whose shape synflow needs")
    return found


def _weights(model: nn.Module, spec: PruneSpec, evidence: Evidence, train: Train | None, progress: Progress) -> Masks:
    weights = prunable_weights(model, spec.exclude)
    names = turned_weights(model)
    if spec.criterion == "sparsegpt":
        return _sparsegpt(model, weights, spec, evidence, names)
    scope: Any = spec.scope

    def scores(step: int) -> dict[str, torch.Tensor]:
        return score_weights(spec.criterion, model, weights, replace(evidence, seed=evidence.seed + step))

    if spec.pattern:
        masks = turned(by_pattern(turned(scores(0), names), spec.pattern, spec.density), names)
        if not spec.allow_collapse:
            check_collapse(masks)
        apply_masks(model, masks)
        return masks
    if spec.schedule != "gradual":
        return masks_in_steps(
            model,
            scores,
            spec.density,
            steps=spec.rounds,
            curve=spec.curve,
            scope=scope,
            floor=spec.floor,
            allow_collapse=spec.allow_collapse,
            progress=progress,
        )
    assert train is not None
    masks = {}
    for number, share in progress(
        list(enumerate(densities(spec.density, spec.rounds, spec.curve))), "rounds of pruning", spec.rounds
    ):
        masks = next_masks(scores(number), masks, share, scope, floor=spec.floor, stored=names)
        if not spec.allow_collapse:
            check_collapse(masks)
        with MaskCallback(model, masks) as held:
            train(model, (held,), number)
    return masks


def _sparsegpt(model: nn.Module, weights: Weights, spec: PruneSpec, evidence: Evidence, names: frozenset[str]) -> Masks:
    grams = input_grams(model, weights, [{"inputs": evidence.inputs("sparsegpt")}])
    how: dict[str, Any] = {"density": spec.density}
    if spec.pattern:
        n, _, m = spec.pattern.partition(":")
        if not (n.isdigit() and m.isdigit()):
            raise InputError("pattern", spec.pattern, "N:M such as 2:4, for sparsegpt")
        how = {"pattern": (int(n), int(m))}
    masks = turned(sparsegpt_layers(turned(weights, names), grams, **how), names)
    if not spec.allow_collapse:
        check_collapse(masks)
    return masks


def _units(
    model: nn.Module,
    spec: PruneSpec,
    example: Any,
    evidence: Evidence,
    train: Train | None,
    before: int,
    progress: Progress,
) -> PruneResult:
    if example is None:
        raise InputError("example_inputs", "none", "inputs to trace the model with, where units are cut")
    rounds = spec.rounds if spec.schedule != "one-shot" else 1
    ignore = tuple(f"{name}.*" for name in spec.exclude)
    groups = analyze(model, example, ignore=ignore)
    dense = groups.cost()
    for number, share in progress(
        list(enumerate(densities(spec.density, rounds, spec.curve))), "rounds of pruning", rounds
    ):
        if number:
            groups = analyze(model, example, ignore=ignore)
        scores = score_units(spec.criterion, model, groups, replace(evidence, seed=evidence.seed + number))
        model = cut(groups, _plan(groups, scores, spec, share, dense, number), inplace=True)
        if spec.schedule == "gradual" and train is not None:
            train(model, (), number)
    after = sum(p.numel() for p in model.parameters())
    report = {"density": after / before, "parameters before": before, "parameters": after}
    return PruneResult(model, {}, spec, report)


def _plan(groups: TracedGroups, scores: Any, spec: PruneSpec, share: float, dense: Any, number: int) -> Any:
    now = groups.cost()
    if spec.target == "units":
        steps = densities(spec.density, spec.rounds, spec.curve)
        target: dict[str, Any] = {"keep": share / (steps[number - 1] if number else 1.0)}
    else:
        target = {spec.target: min(1.0, share * getattr(dense, spec.target) / getattr(now, spec.target))}
    scope: Any = {"local": "group"}.get(spec.scope, spec.scope)
    return ranked_plan(
        groups, scores, scope=scope, multiple_of=spec.multiple_of, min_share=max(spec.floor, 1e-9), **target
    )


def steps_of_original(criterion: str) -> int:
    """How often the criterion's own paper computes the scores anew."""
    return SYNFLOW_STEPS if criterion == "synflow" else 1
