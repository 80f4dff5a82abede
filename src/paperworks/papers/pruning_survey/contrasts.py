"""The survey's pairs of contrasts, each as one experiment: what is held fixed, what varies, which rows are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from paperworks.errors import InputError, nearest
from paperworks.metrics import Interval, mean_interval
from paperworks.papers.pruning_survey.bench import FOREST, Bench, Row
from paperworks.papers.pruning_survey.masks import Masks, apply_masks, keep_best, prunable_weights
from paperworks.papers.pruning_survey.runtime import (
    PENALTY,
    gates_of,
    macs_by_input,
    saliency_penalty,
    with_gates,
)
from paperworks.papers.pruning_survey.spec import PruneSpec, read_spec
from paperworks.pruning import ImageTask, accuracy

ROUNDS = 5
"""Of gradual schedules."""


@dataclass(frozen=True)
class Variant:
    """One side of a contrast at one ratio.

    ``once``: networks that are pruned before training get the epochs of the dense network only, where all sides begin
    untrained; else those of the recovery as well.
    """

    name: str
    spec: PruneSpec
    once: bool = False


@dataclass(frozen=True)
class Contrast:
    """A pair of the survey.

    Attributes
    ----------
    name, question : of the experiment.
    fixed : what is held equal between the sides.
    pairs : (left, right) names of variants whose accuracies are compared, seed by seed.
    variants : of a ratio; None where ``rows`` does the whole experiment.
    rows : (bench, ratio, seed) -> rows.
    task : the task that the rows are tested on, of the bench's (None: that one).
    """

    name: str
    question: str
    fixed: str
    pairs: tuple[tuple[str, str], ...]
    variants: Callable[[float], list[Variant]] | None = None
    rows: Callable[[Bench, float, int], list[Row]] | None = None
    task: Callable[[ImageTask], ImageTask] | None = None

    def tested(self, task: ImageTask) -> ImageTask:
        """The task whose test images the accuracies are of."""
        return task if self.task is None else self.task(task)


def _spec(ratio: float, **options: Any) -> PruneSpec:
    return read_spec({"ratio": ratio, **options})


def _weights(ratio: float, **options: Any) -> PruneSpec:
    return _spec(ratio, **{"allow_collapse": True, **options})


def _units(ratio: float, **options: Any) -> PruneSpec:
    return _spec(ratio, **{"speedup": "structured", "criterion": "group-norm", **options})


def _unstructured_or_structured(ratio: float) -> list[Variant]:
    found = [
        Variant("weights", _weights(ratio)),
        Variant("units", _units(ratio)),
        Variant("random weights", _weights(ratio, criterion="random")),
        Variant("random units", _units(ratio, criterion="random")),
    ]
    n = round(8 * (1 - ratio))
    if n and abs(n / 8 - (1 - ratio)) < 1e-9:
        spec = _spec(ratio, speedup="semi-structured", pattern=f"{n}:8", allow_collapse=True)
        found.insert(1, Variant("N:8", spec))
    return found


def _one_shot_or_iterative(ratio: float) -> list[Variant]:
    before: dict[str, Any] = {"when": "before", "weights": "initialised", "criterion": "synflow"}
    return [
        Variant("one-shot", _weights(ratio)),
        Variant("gradual", _weights(ratio, schedule="gradual", rounds=ROUNDS)),
        Variant("random", _weights(ratio, criterion="random")),
        Variant("SynFlow in 1 step, untrained", _weights(ratio, **before), once=True),
        Variant(
            "SynFlow in 100 steps, untrained",
            _weights(ratio, schedule="iterative", rounds=100, **before),
            once=True,
        ),
    ]


def _data_free_or_driven(ratio: float) -> list[Variant]:
    before: dict[str, Any] = {"when": "before", "weights": "initialised"}
    found = [
        Variant("random", _weights(ratio, criterion="random", **before)),
        Variant("magnitude", _weights(ratio, **before)),
        Variant("SynFlow", _weights(ratio, criterion="synflow", schedule="iterative", rounds=100, **before)),
        Variant("SNIP, 16 examples", _weights(ratio, criterion="snip", examples=16, **before)),
    ]
    for name in ("SNIP", "GraSP", "Taylor"):
        found.append(Variant(f"{name}, 128 examples", _weights(ratio, criterion=name.lower(), **before)))
    return [replace(variant, once=True) for variant in found]


def _initialised_or_pretrained(ratio: float) -> list[Variant]:
    before: dict[str, Any] = {"when": "before", "weights": "initialised"}
    return [
        Variant("after training", _weights(ratio, schedule="gradual", rounds=ROUNDS)),
        Variant("before training", _weights(ratio, criterion="snip", **before)),
        Variant("random mask", _weights(ratio, criterion="random", **before)),
    ]


def _scratch_or_inherited(ratio: float) -> list[Variant]:
    gradual: dict[str, Any] = {"schedule": "gradual", "rounds": ROUNDS}
    return [
        Variant("inherited weights", _weights(ratio, **gradual)),
        Variant("same mask, new weights", _weights(ratio, recovery="scratch", **gradual)),
        Variant("units, inherited", _units(ratio)),
        Variant("units, distilled", _units(ratio, recovery="distil")),
        Variant("units, new weights", _units(ratio, recovery="scratch")),
    ]


def _local_or_global(ratio: float) -> list[Variant]:
    return [
        Variant("weights, global", _weights(ratio)),
        Variant("weights, local", _weights(ratio, scope="local")),
        Variant("units, global, equal parameters", _units(ratio)),
        Variant("units, local, equal parameters", _units(ratio, scope="local")),
        Variant("units, global, equal MACs", _units(ratio, target="macs")),
        Variant("units, local, equal MACs", _units(ratio, target="macs", scope="local")),
    ]


def _tickets(ratio: float) -> list[Variant]:
    gradual: dict[str, Any] = {"schedule": "gradual", "rounds": ROUNDS}
    return [
        Variant("rewound", _weights(ratio, recovery="rewind", **gradual)),
        Variant("new initial weights", _weights(ratio, recovery="scratch", **gradual)),
    ]


def _halves(task: ImageTask) -> list[ImageTask]:
    """The task of the first half of the classes, and that of the second. Raises InputError for less than four."""
    codes = list(range(len(task.class_names)))
    if len(codes) < 4:
        raise InputError("data", f"{len(codes)} classes", "four or more, for two tasks of two or more each")
    return [task.of_classes(part) for part in (codes[: len(codes) // 2], codes[len(codes) // 2 :])]


def _original_or_transfer(bench: Bench, ratio: float, seed: int) -> list[Row]:
    """Masks from one half of the classes, used for the other half; and the other half's own; and random ones."""
    halves = _halves(bench.task)
    spec = _weights(ratio, schedule="gradual", rounds=ROUNDS)
    benches = [replace(bench, task=half, state=None, _dense={}, _pruned={}) for half in halves]
    masks = [one.pruned(spec, seed).masks for one in benches]
    target = benches[1]
    weights = prunable_weights(target.initial(seed))
    generator = torch.Generator().manual_seed(seed + FOREST)
    noise: Masks = keep_best({n: torch.rand(w.shape, generator=generator) for n, w in weights.items()}, 1 - ratio)
    found = []
    for name, mask in (("native mask", masks[1]), ("transferred mask", masks[0]), ("random mask", noise)):
        model = target.initial(seed)  # the weights that the masks were found from
        apply_masks(model, mask)
        before = accuracy(model, target.task.test, target.protocol.device)
        target.train_masked(model, mask, target.protocol.epochs, seed + 1)
        found.append(target.row(name, spec, seed, model, mask, before, target.protocol.epochs, 0.0))
    return found


def _static_or_dynamic(bench: Bench, ratio: float, seed: int) -> list[Row]:
    """Channels chosen for each input beside a static cut, at equal mean multiply-accumulates, with equal training."""
    p = bench.protocol
    spec = _units(ratio, target="macs")
    static = bench.trial("static channels", spec, seed)
    fixed = bench.trial("random static channels", _units(ratio, target="macs", criterion="random"), seed)
    dense: Any = bench.dense(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = with_gates(dense, (1 - ratio) ** 0.5)
    before = accuracy(model, bench.task.test, p.device)
    _train_gated(bench, model, p.recovery_epochs, seed + 1)
    images = bench.task.test.tensors[0]
    counts = macs_by_input(model, images).double()
    whole = sum(_gate_macs(model, bench.task.example))
    found = bench.row("dynamic channels", spec, seed, model, {}, before, p.epochs + p.recovery_epochs, 0.0)
    spread = f"MACs by input: {counts.min() / whole:.3f} to {counts.max() / whole:.3f}"
    share = float(counts.mean()) / whole
    return [static, replace(found, macs=share, note=spread), fixed]


def _gate_macs(model: torch.nn.Module, example: torch.Tensor) -> list[int]:
    """Multiply-accumulates of the gated convolutions without gates."""
    sizes: list[int] = []
    handles = []
    for gate in gates_of(model):

        def hook(module: Any, args: Any, out: torch.Tensor) -> None:
            sizes.append(module.weight.numel() * out.shape[2:].numel())

        handles.append(gate.convolution.register_forward_hook(hook))
    with torch.no_grad():
        model(example[:1])
    for handle in handles:
        handle.remove()
    return sizes


def _train_gated(bench: Bench, model: torch.nn.Module, epochs: float, seed: int) -> None:
    from paperworks.papers.pruning_survey.regularisers import penalised
    from paperworks.pruning import steps_of
    from paperworks.training import TrainSettings, cross_entropy_loss, train

    p = bench.protocol
    inputs, labels = bench.task.train.tensors
    options = TrainSettings(
        steps=max(1, steps_of(epochs, bench.task.train, p.batch_size)),
        batch_size=min(p.batch_size, len(inputs)),
        optimizer="sgd",
        learning_rate=p.learning_rate,
        weight_decay=0.0,
        schedule="cosine",
        device=p.device,
        seed=seed,
    )
    loss = penalised(cross_entropy_loss(), [(PENALTY, saliency_penalty)])
    train(model, {"inputs": inputs, "labels": labels}, options, loss=loss, progress=bench.progress)


CONTRASTS: dict[str, Contrast] = {
    contrast.name: contrast
    for contrast in (
        Contrast(
            "unstructured-vs-structured",
            "Which accuracy is left when single weights, patterns or whole units leave?",
            "score by size, share of the parameters, recovery",
            (("weights", "units"), ("weights", "N:8"), ("N:8", "units"), ("units", "random units")),
            _unstructured_or_structured,
        ),
        Contrast(
            "one-shot-vs-iterative",
            "Is it better to prune at once or in steps?",
            "criterion, final ratio, training steps in all",
            (("gradual", "one-shot"), ("SynFlow in 100 steps, untrained", "SynFlow in 1 step, untrained")),
            _one_shot_or_iterative,
        ),
        Contrast(
            "data-free-vs-data-driven",
            "Do scores need examples?",
            "untrained network, ratio, training afterwards",
            (("SynFlow", "SNIP, 128 examples"), ("SNIP, 128 examples", "SNIP, 16 examples"), ("SynFlow", "magnitude")),
            _data_free_or_driven,
        ),
        Contrast(
            "initialised-vs-pretrained",
            "Is it better to prune before or after training?",
            "ratio, epochs in all",
            (
                ("after training", "before training"),
                ("after training", "random mask"),
                ("before training", "random mask"),
            ),
            _initialised_or_pretrained,
        ),
        Contrast(
            "scratch-vs-finetune",
            "What are the inherited weights worth?",
            "the mask or the sizes at the end",
            (
                ("inherited weights", "same mask, new weights"),
                ("units, inherited", "units, new weights"),
                ("units, distilled", "units, inherited"),
            ),
            _scratch_or_inherited,
        ),
        Contrast(
            "original-vs-transfer",
            "Does a mask found on some classes serve for others?",
            "initial weights, ratio, training",
            (("native mask", "transferred mask"), ("transferred mask", "random mask")),
            rows=_original_or_transfer,
            task=lambda task: _halves(task)[1],
        ),
        Contrast(
            "static-vs-dynamic",
            "Should channels be chosen for each input?",
            "mean multiply-accumulates, training afterwards",
            (("dynamic channels", "static channels"), ("static channels", "random static channels")),
            rows=_static_or_dynamic,
        ),
        Contrast(
            "local-vs-global",
            "Should layers be ranked together?",
            "criterion, ratio, recovery",
            (
                ("weights, global", "weights, local"),
                ("units, global, equal parameters", "units, local, equal parameters"),
                ("units, local, equal MACs", "units, global, equal MACs"),
            ),
            _local_or_global,
        ),
        Contrast(
            "lottery-ticket",
            "Does a mask need the initial weights that it was found from?",
            "the mask of gradual pruning, epochs",
            (("rewound", "new initial weights"),),
            _tickets,
        ),
    )
}


def contrast_of(name: str) -> Contrast:
    """By name. Raises InputError with the nearest for an unknown one."""
    if name not in CONTRASTS:
        raise InputError("contrast", name, f"one of {', '.join(CONTRASTS)}{nearest(name, CONTRASTS)}")
    return CONTRASTS[name]


def run_contrast(
    contrast: Contrast, bench: Bench, ratios: Iterable[float], seeds: Iterable[int], only: Iterable[str] = ()
) -> list[Row]:
    """All rows of a contrast: every variant (or those named in ``only``), ratio and seed."""
    chosen = set(only)
    work = [(ratio, seed) for seed in seeds for ratio in ratios]
    rows: list[Row] = []
    for ratio, seed in bench.progress(work, contrast.name, len(work)):
        if contrast.rows is not None:
            rows += contrast.rows(bench, ratio, seed)
            continue
        assert contrast.variants is not None
        for variant in contrast.variants(ratio):
            if not chosen or variant.name in chosen:
                epochs = bench.protocol.epochs if variant.once else None
                rows.append(bench.trial(variant.name, variant.spec, seed, epochs))
    return rows


def accuracies(rows: Iterable[Row], variant: str, ratio: float) -> dict[int, float]:
    """Accuracy by seed of a variant at a ratio."""
    return {row.seed: row.accuracy for row in rows if row.variant == variant and abs(row.ratio - ratio) < 1e-9}


def compared(rows: list[Row], left: str, right: str, ratio: float) -> tuple[np.ndarray, Interval | None]:
    """Differences of accuracy, left less right, seed by seed, and their interval where there are two seeds or more."""
    a, b = accuracies(rows, left, ratio), accuracies(rows, right, ratio)
    seeds = sorted(a.keys() & b.keys())
    differences = np.array([a[s] - b[s] for s in seeds])
    return differences, mean_interval(differences) if len(differences) > 1 else None
