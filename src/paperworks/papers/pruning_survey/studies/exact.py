"""E1: identities and theorems, on networks with random weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from paperworks import runs
from paperworks.papers.pruning_survey.layerwise import obs_row, sparsegpt
from paperworks.papers.pruning_survey.masks import Masks, keep_best, least_kept, prunable_weights
from paperworks.papers.pruning_survey.schedules import masks_in_steps
from paperworks.papers.pruning_survey.weight_criteria import score_weights, synflow
from paperworks.pruning import ImageOptions, PlainCNN, image_task
from paperworks.pruning.evidence import Evidence
from paperworks.runs import Finding, Run, largest, smallest
from paperworks.structure.trace import analyze, cut


@runs.study(
    claims=["synflow-conservation", "obs-update-is-least-squares", "channel-ratio-is-quadratic", "layer-collapse"],
    title="Identities, and layers that are emptied",
    minutes=1.0,
)
def exact(run: Run, fast: bool) -> Iterator[Finding]:
    """Networks of six convolutions with random weights; rows of a layer with a random Gram."""
    yield from _conservation()
    yield from _least_squares(run)
    yield from _quadratic()
    yield from _collapse(run, fast)


def _network(seed: int) -> PlainCNN:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PlainCNN()


def _conservation() -> Iterator[Finding]:
    worst = 0.0
    for seed in range(3):
        model = _network(seed)
        found = synflow(model, prunable_weights(model), Evidence(unlabelled=torch.zeros(1, 1, 8, 8)))
        sums = [float(v.sum()) for v in found.values()]
        worst = largest((worst, max(sums) / min(sums) - 1))
    yield Finding(
        "synflow-conservation",
        "largest sum of a layer's scores over the smallest, less 1",
        "exact",
        worst,
        "<=",
        1e-9,
        detail="3 networks of 7 layers",
    )


def _least_squares(run: Run) -> Iterator[Finding]:
    rng = run.rng("rows")
    x = rng.normal(size=(200, 24)) @ rng.normal(size=(24, 24))
    gram = torch.from_numpy(x.T @ x)
    rows = torch.from_numpy(rng.normal(size=(20, 24)))
    mask = torch.from_numpy(rng.random((20, 24)) > 0.5)
    found, _ = sparsegpt(rows, gram, mask=mask, damping=0.0, block=24)
    worst = 0.0
    for row, keep, result in zip(rows, mask, found, strict=True):
        change = torch.zeros_like(row)
        for j in range(24):
            step = -row[j]
            if keep[j]:
                step = torch.zeros_like(step)
                if j:
                    step = -torch.linalg.solve(gram[j:, j:], gram[j:, :j] @ change[:j])[0]
            change[j] = step
        worst = largest((worst, float((result - torch.where(keep, row + change, torch.zeros_like(row))).abs().max())))
    yield Finding(
        "obs-update-is-least-squares",
        "SparseGPT with a given mask, beside least squares on the columns that are left, column after column",
        "exact",
        worst,
        "<=",
        1e-8,
        detail="20 rows of 24 weights, half of them removed; largest difference of a weight",
    )
    gap = 0.0
    for row in rows:
        result, kept = obs_row(row, gram, 12)
        best = torch.linalg.solve(gram[kept][:, kept], gram[kept] @ row)
        gap = largest((gap, float((result[kept] - best).abs().max())))
    yield Finding(
        "obs-update-is-least-squares",
        "optimal brain surgeon, 12 of 24 weights removed one by one, beside least squares on the kept inputs",
        "exact",
        gap,
        "<=",
        1e-8,
    )


def _quadratic() -> Iterator[Finding]:
    model = _network(0)
    groups = analyze(model, torch.zeros(2, 1, 8, 8))
    worst = 0.0
    for share in (0.25, 0.5, 0.75):
        kept = {name: range(round((1 - share) * group.n_units)) for name, group in groups.items()}
        smaller = dict(cut(groups, groups.keep(kept)).named_parameters())
        inner = [n for n, w in prunable_weights(model).items() if n not in ("0.weight", "14.weight")]
        whole = dict(model.named_parameters())
        removed = 1 - sum(smaller[n].numel() for n in inner) / sum(whole[n].numel() for n in inner)
        worst = largest((worst, abs(removed - (1 - (1 - share) ** 2))))
    yield Finding(
        "channel-ratio-is-quadratic",
        "share of the inner layers' weights that leaves with a share p of all channels, less 1 - (1 - p)^2",
        "exact",
        worst,
        "<=",
        1e-12,
        detail="p of 0.25, 0.5, 0.75; the five inner convolutions",
    )


def _collapse(run: Run, fast: bool) -> Iterator[Finding]:
    task = image_task(ImageOptions(limit=300), run)
    seeds = 1 if fast else 3
    least: dict[str, list[int]] = {}
    for seed in run.progress(range(seeds), "pruning untrained networks"):
        evidence = Evidence(task.train, examples=128, seed=seed)
        for name, steps in (("random", 1), ("magnitude", 1), ("snip", 1), ("synflow", 1), ("synflow", 100)):
            for density in (1e-2, 1e-3):
                masks = _untrained(seed, name, steps, density, evidence)
                least.setdefault(f"{name}, {steps} step{'s' * (steps > 1)}, density {density:g}", []).append(
                    least_kept(masks)
                )
    table = "; ".join(f"{name}: {min(v)}" for name, v in least.items())
    yield Finding(
        "layer-collapse",
        "density 0.001, SynFlow in 100 steps: weights in the emptiest layer",
        "exact",
        float(smallest(least["synflow, 100 steps, density 0.001"])),
        ">=",
        1,
        detail=f"{seeds} networks; the least kept of any layer: {table}",
    )
    yield Finding(
        "layer-collapse",
        "density 0.001, SynFlow in one step: weights in the emptiest layer",
        "exact",
        float(largest(least["synflow, 1 step, density 0.001"])),
        "==",
        0,
        detail="the scores of wide layers are smaller, so that a global ranking empties them",
    )
    assert np.isfinite(list(map(min, least.values()))).all()


def _untrained(seed: int, name: str, steps: int, density: float, evidence: Evidence) -> Masks:
    model = _network(seed)
    weights = prunable_weights(model)
    if steps == 1:
        return keep_best(score_weights(name, model, weights, evidence), density)
    return masks_in_steps(
        model, lambda _: score_weights(name, model, weights, evidence), density, steps=steps, allow_collapse=True
    )
