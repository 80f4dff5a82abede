"""What must hold on any machine: merge and split, reach of the adapter's paths, token counts, positions and cuts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from paperworks import runs
from paperworks.nn import TinyViT
from paperworks.papers.hires_llava.adapter import SliceRestoreAdapter, merge_slices, split_slices
from paperworks.papers.hires_llava.encoder import HiResVisionEncoder
from paperworks.papers.hires_llava.entitygrid.answerers import OracleAnswerer, RandomAnswerer, TemplateAnswerer
from paperworks.papers.hires_llava.entitygrid.evaluation import evaluate
from paperworks.papers.hires_llava.entitygrid.generation import EntityDataset, EntityGrid
from paperworks.papers.hires_llava.entitygrid.positions import EDGES, INSIDE, cuts_by_position
from paperworks.papers.hires_llava.samplers import AveragePoolSampler, SelfMiningSampler, token_count
from paperworks.papers.hires_llava.towers import VisionTower
from paperworks.runs import Finding, Run


@runs.study(
    claims=["merge-and-split", "reach-across-cuts", "sampler-token-count", "entitygrid-positions"],
    title="Merge and split, reach across cuts, token counts, and the benchmark's own positions",
    minutes=0.5,
)
def parts(run: Run, fast: bool) -> Iterator[Finding]:
    """Random tensors, every grid up to 4 x 4, a small vision transformer of random weights, digits."""
    torch.manual_seed(run.seed)
    yield from _merging(run)
    yield from _reach()
    yield from _tokens()
    yield from _positions(run, fast)


def _merging(run: Run) -> Iterator[Finding]:
    rng = run.rng("merging")
    different = 0
    for m in range(1, 5):
        for n in range(1, 5):
            h, w, width = (int(v) for v in rng.integers(1, 7, size=3))
            slices = torch.randn(2, m * n, h, w, width)
            different += int((split_slices(merge_slices(slices, (m, n)), (m, n)) != slices).sum())
    yield Finding(
        "merge-and-split",
        "values that differ after slices were joined and cut again",
        "exact",
        different,
        "==",
        0,
        detail="all 16 grids up to 4 x 4, random sizes",
    )
    tower = _tower()
    encoder = HiResVisionEncoder(tower, sra_layers="all", sampler=None, global_view=False).eval()
    plain = VisionTower(tower).eval()
    slices = torch.rand(6, 1, 16, 16)
    with torch.no_grad():
        found = split_slices(encoder.maps(slices, [(2, 3)])[0][None], (2, 3))[0].flatten(1, 2)
        largest = float((found - plain(slices)[:, 1:]).abs().max())
    yield Finding(
        "merge-and-split",
        "largest difference between an encoder with an untrained adapter after every layer and the encoder itself",
        "exact",
        largest,
        "<=",
        1e-6,
        detail="2 x 3 slices; the projection starts at 0",
    )


def _tower() -> TinyViT:
    return TinyViT(image_size=16, patch_size=2, channels=1, width=16, layers=2, heads=2, outputs=2).eval()


def _changed(adapter: SliceRestoreAdapter | None, side: int = 8) -> torch.Tensor:
    """Columns of the left slice in which some token changes when the whole right slice does, bool ``[side]``."""
    torch.manual_seed(1)
    slices = torch.randn(1, 2, side, side, 8)
    other = slices.clone()
    other[:, 1] += torch.randn(1, side, side, 8)
    if adapter is None:
        return torch.zeros(side, dtype=torch.bool)
    with torch.no_grad():
        return (adapter(slices, (1, 2)) != adapter(other, (1, 2))).any(-1)[0, 0].any(0)


def _reach() -> Iterator[Finding]:
    tower = _tower()
    encoder = HiResVisionEncoder(tower, sra_layers="none", sampler=None, global_view=False).eval()
    slices = torch.rand(2, 1, 16, 16)
    changed = slices.clone()
    changed[1] = torch.rand(1, 16, 16)
    with torch.no_grad():
        before, after = (encoder.maps(one, [(1, 2)])[0][:, :8] for one in (slices, changed))
    yield Finding(
        "reach-across-cuts",
        "without the adapter: values of a slice that change when its neighbour is replaced",
        "exact",
        int((before != after).sum()),
        "==",
        0,
    )
    wrong, kernels = 0, (1, 3, 5, 7)
    for kernel in kernels:
        reached = _changed(SliceRestoreAdapter(8, 2, kernel=kernel, path="local", init="default"))
        expected = torch.arange(8) >= 8 - kernel // 2
        wrong += int((reached != expected).sum())
    yield Finding(
        "reach-across-cuts",
        "local path alone: columns that are not among the k // 2 beside the cut and change, or are and do not",
        "exact",
        wrong,
        "==",
        0,
        detail=f"kernels {', '.join(map(str, kernels))}, slices of 8 x 8 tokens",
    )
    every = int(_changed(SliceRestoreAdapter(8, 2, path="global", init="default")).sum())
    yield Finding(
        "reach-across-cuts",
        "global path: columns of a slice that change when its neighbour is replaced, of 8",
        "exact",
        every,
        "==",
        8,
    )


def _tokens() -> Iterator[Finding]:
    wrong = 0
    for m in range(1, 4):
        for n in range(1, 4):
            for window in (1, 2, 3):
                whole = torch.zeros(1, m * 6, n * 6, 4)
                found = AveragePoolSampler(4, window=window)(whole)[0].shape[1]
                formula = (m * 6 // window) * (n * 6 // window)
                wrong += found != formula or token_count((m, n), 6, window, global_view=False) != formula
    yield Finding(
        "sampler-token-count",
        "grids and windows whose number of tokens is not (m h / s)(n w / s)",
        "exact",
        wrong,
        "==",
        0,
    )
    yield Finding(
        "sampler-token-count",
        "tokens of ViT-L/14 at 336 px, 2 x 2 slices and the global view, s = 2",
        "exact",
        token_count((2, 2), 24, 2),
        "==",
        720,
        detail=f"without the sampler {token_count((2, 2), 24, 1):,}",
    )
    torch.manual_seed(2)
    sampler, whole = SelfMiningSampler(8, 2, window=2), torch.randn(1, 6, 8, 8)
    wrong = 0
    with torch.no_grad():
        before = sampler(whole)[0]
        for row in range(6):
            for column in range(8):
                other = whole.clone()
                other[0, row, column] += 1
                changed = (sampler(other)[0] != before).any(-1)[0].nonzero().flatten().tolist()
                wrong += changed != [row // 2 * 4 + column // 2]
    yield Finding(
        "sampler-token-count",
        "tokens of a map whose change changes any other token than that of their own window, in raster order",
        "exact",
        wrong,
        "==",
        0,
        detail="all 48 tokens of a map of 6 x 8",
    )
    layers: Any = sampler.layers
    for layer in layers:
        for part in (layer.attention.out_proj, layer.feed_forward[2]):
            torch.nn.init.zeros_(part.weight)
            torch.nn.init.zeros_(part.bias)
    with torch.no_grad():
        largest = float((sampler(whole)[0] - AveragePoolSampler(8)(whole)[0]).abs().max())
    yield Finding(
        "sampler-token-count",
        "largest difference between the sampler whose attention and feed-forward part give 0 and average pooling",
        "exact",
        largest,
        "<=",
        1e-6,
    )


def _positions(run: Run, fast: bool) -> Iterator[Finding]:
    wrong = 0
    for side in range(4, 40):
        for entity in range(2, side + 1):
            cuts = cuts_by_position(side, entity)
            expected = {p: 1 if p in INSIDE else 2 if p in EDGES else 4 for p in range(1, 10)}
            wrong += cuts != expected
    yield Finding(
        "entitygrid-positions",
        "slice and object sizes at which a position is cut otherwise than said",
        "exact",
        wrong,
        "==",
        0,
        detail="all slices of 4 to 39 pixels with all objects of 2 pixels up to a slice",
    )
    grid = EntityGrid("digits", canvas=32, per_category=2, most_entities=1, seed=run.seed)
    dataset = grid.dataset(36)
    oracle = evaluate(OracleAnswerer(dataset), dataset, n_resamples=0)
    yield Finding("entitygrid-positions", "answers from the records: accuracy", "exact", oracle.accuracy, "==", 1)
    whole = evaluate(TemplateAnswerer(grid.test, grid.entity_side, "image"), dataset, n_resamples=0)
    yield Finding(
        "entitygrid-positions",
        "templates on the whole image: accuracy at all nine positions, all tasks",
        "exact",
        whole.accuracy,
        "==",
        1,
    )
    sliced = evaluate(TemplateAnswerer(grid.test, grid.entity_side, "slice"), dataset, n_resamples=0)
    yield Finding(
        "entitygrid-positions",
        "templates within slices: accuracy at 1, 3, 7, 9, all tasks",
        "exact",
        sliced.accuracy_of(positions=INSIDE),
        "==",
        1,
    )
    tasks = ("identification", "position")
    yield Finding(
        "entitygrid-positions",
        "templates within slices: accuracy of identification and position at 2, 4, 5, 6, 8",
        "exact",
        sliced.accuracy_of(tasks, (*EDGES, 5)),
        "<",
        1,
        detail=f"the same templates on the whole image {whole.accuracy_of(tasks, (*EDGES, 5)):.2f}",
    )
    # chance must be chance: within the two-sided 99.9% bounds of the binomial distribution
    from scipy.stats import binom

    records = [r for r in dataset.records if r.task == "identification"]
    asked = EntityDataset(dataset.images, records)
    seeds = range(5 if fast else 30)
    count = sum(int(evaluate(RandomAnswerer(seed), asked, n_resamples=0).correct.sum()) for seed in seeds)
    total = len(seeds) * len(records)
    low, high = (float(v) for v in binom.ppf([0.0005, 0.9995], total, 1 / grid.n_choices))
    yield Finding(
        "entitygrid-positions",
        "random answers: distance of the right ones from the middle of the binomial bounds (99.9%)",
        "exact",
        abs(count - (low + high) / 2),
        "<=",
        (high - low) / 2,
        detail=f"{count} of {total} with {grid.n_choices} choices; bounds {low:.0f} to {high:.0f}",
    )
