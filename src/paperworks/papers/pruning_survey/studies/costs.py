"""Real speed, what scores cost, and scores of coupled layers: a residual network on handwritten digits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from paperworks import runs
from paperworks.metrics import mean_interval, ratio_interval
from paperworks.nn import SmallCNN
from paperworks.papers.pruning_survey.bench import Bench, Protocol, weight_macs
from paperworks.papers.pruning_survey.contrasts import run_contrast
from paperworks.papers.pruning_survey.masks import apply_masks, keep_best, prunable_weights
from paperworks.papers.pruning_survey.recipe import criteria_contrast
from paperworks.papers.pruning_survey.studies.benches import EPOCHS, finding, seeds_of
from paperworks.papers.pruning_survey.weight_criteria import score_weights
from paperworks.pruning import ImageOptions, PlainCNN, image_task
from paperworks.pruning.evidence import Evidence
from paperworks.pruning.unit_criteria import score_units
from paperworks.runs import Finding, Run
from paperworks.structure.trace import analyze, cut, ranked_plan

BATCH = 64
SHOWN = ("group-norm", "l1", "l2", "fpgm", "taylor", "gates", "mean-activation", "random")


def residual(seed: int) -> nn.Module:
    """Three stages of residual blocks with batch norms, 16, 32 and 64 channels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SmallCNN(widths=(16, 32, 64))


@runs.study(
    claims=["only-structured-speeds-up-everywhere"], title="Images per second at half of the operations", minutes=1
)
def speed(run: Run, fast: bool) -> Iterator[Finding]:
    """Six convolutions at 28 x 28 pixels, batches of 64 on one thread: dense, half the operations cut, or masked."""
    torch.manual_seed(run.seed % 2**31)
    model = PlainCNN().eval()
    images = torch.rand(BATCH, 1, 28, 28)
    groups = analyze(model, images[:2])
    scores = score_units("group-norm", model, groups)
    smaller = cut(groups, ranked_plan(groups, scores, macs=0.5, scope="group", multiple_of=8))
    masked = PlainCNN().eval()
    masked.load_state_dict(model.state_dict())
    sizes = {name: weight.detach().abs() for name, weight in prunable_weights(masked).items()}
    masks = keep_best(sizes, 0.5, "local")
    apply_masks(masked, masks)
    share = weight_macs(smaller, images) / weight_macs(model, images)
    models = {"dense": model, "cut": smaller, "masked": masked}
    cut_ratios, mask_ratios = [], []
    with threadpool_limits(1):
        for number in run.progress(range(3 if fast else 11), "timing in turns"):
            found = {name: _seconds(one, images) for name, one in models.items()}
            if number:  # the first warms up
                cut_ratios.append(found["dense"] / found["cut"])
                mask_ratios.append(found["dense"] / found["masked"])
    claim = "only-structured-speeds-up-everywhere"
    yield Finding(
        claim,
        "images per second of processor time: the cut network over the dense one, at half of the operations",
        "empirical",
        ratio_interval(cut_ratios),
        ">=",
        1.4,
        detail=f"{share:.3f} of the multiply-accumulates are left",
    )
    yield Finding(
        claim,
        "images per second of processor time: half of the weights masked, over the dense network: no more than 1.1",
        "empirical",
        ratio_interval(mask_ratios),
        "<=",
        1.1,
        detail="dense kernels multiply with the zeros",
    )


@torch.no_grad()
def _seconds(model: nn.Module, images: torch.Tensor, times: int = 3) -> float:
    """Processor time of a forward pass: other work on the machine counts less in it than in the time of the clock."""
    start = time.process_time()
    for _ in range(times):
        model(images)
    return (time.process_time() - start) / times


@runs.study(claims=["cost-of-scores"], title="What scores cost", minutes=1)
def costs(run: Run, fast: bool) -> Iterator[Finding]:
    """Processor time of a score on a residual network, 500 images where a score looks at images."""
    task = image_task(ImageOptions(limit=100 if fast else None), run)
    model = residual(0).eval()
    groups = analyze(model, task.example)
    weights = prunable_weights(model)
    evidence = Evidence(task.train, examples=50 if fast else 500)

    def of_units(name: str) -> Callable[[], object]:
        return lambda: score_units(name, model, groups, evidence)

    timed: dict[str, Callable[[], object]] = {
        name: of_units(name) for name in ("random", "l1", "bn-scale", "fpgm", "taylor", "hrank")
    }
    timed["lamp"] = lambda: score_weights("lamp", model, weights, evidence)
    repeats = 2 if fast else 5
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in run.progress(range(repeats + 1), "timing scores"):
        for name, score in timed.items():
            before = time.process_time()
            score()
            seconds[name].append(time.process_time() - before)
    seconds = {name: values[1:] for name, values in seconds.items()}  # the first warms up
    table = ", ".join(f"{name} {1000 * np.median(v):.1f} ms" for name, v in seconds.items())
    for slow, quick in (("taylor", "l1"), ("taylor", "fpgm"), ("hrank", "taylor")):
        yield Finding(
            "cost-of-scores",
            f"processor time of {slow} over that of {quick}: more than 1",
            "empirical",
            ratio_interval(np.divide(seconds[slow], seconds[quick])),
            ">",
            1.0,
            baseline=float(np.median(seconds[quick])),
            baseline_name=quick,
            detail=table,
        )


@runs.study(
    claims=["group-aware-structured-pruning"], title="Scores of units at a quarter of the operations", minutes=5
)
def criteria(run: Run, fast: bool) -> Iterator[Finding]:
    """A residual network on digits, 15 epochs; cut to a quarter of its operations by eight scores; 15 epochs after."""
    task = image_task(ImageOptions(limit=200 if fast else None), run)
    protocol = Protocol(epochs=1 if fast else EPOCHS, recovery_epochs=1 if fast else EPOCHS)
    bench = Bench(task, residual, protocol, state=run.state, progress=run.progress)
    names = SHOWN[:3] if fast else SHOWN
    rows = run_contrast(criteria_contrast(), bench, [0.75], seeds_of(fast), names)
    means = {n: np.mean([[r.before, r.accuracy] for r in rows if r.variant == n], axis=0) for n in names}
    table = ", ".join(f"{n} {v[0]:.3f} / {v[1]:.3f}" for n, v in means.items())
    for worse in ("l1", "l2"):
        yield finding(
            "group-aware-structured-pruning",
            rows,
            "group-norm",
            worse,
            0.75,
            detail=f"accuracy before / after recovery: {table}" if worse == "l1" else "",
        )
    by_seed = [
        next(r.before for r in rows if r.variant == "group-norm" and r.seed == s)
        - next(r.before for r in rows if r.variant == "l1" and r.seed == s)
        for s in seeds_of(fast)
    ]
    yield Finding(
        "group-aware-structured-pruning",
        "before recovery: group-norm, less l1: better",
        "empirical",
        mean_interval(by_seed),
        ">=",
        0.0,
        baseline=float(means["l1"][0]),
        baseline_name="l1",
        unit="accuracy",
    )
