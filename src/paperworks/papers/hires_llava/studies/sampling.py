"""Samplers of 16 tokens from 64: naming the digit, and saying where it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.hires_llava.encoder import HiResVisionEncoder
from paperworks.papers.hires_llava.entitygrid.generation import EntityGrid
from paperworks.papers.hires_llava.samplers import make_sampler
from paperworks.papers.hires_llava.studies.setting import (
    READ,
    SEEDS,
    SHORT_PRETRAIN_STEPS,
    TOWER_STEPS,
    adapted,
    seed_tower,
    small,
)
from paperworks.papers.hires_llava.towers import VisionTower
from paperworks.runs import Finding, Run
from paperworks.runs.files import write_text
from paperworks.training import TrainSettings, cross_entropy_loss, train

SAMPLER_STEPS, SAMPLER_RATE, CANVASES = 300, 3e-3, 900
SAMPLERS = ("self-mining", "qformer", "avgpool")


@dataclass(frozen=True)
class Cached:
    """Maps of canvases ``[n, 8, 8, D]`` with categories and positions ``[n]``."""

    maps: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor


@runs.study(
    claims=["sampler-against-q-former", "ablation-share"],
    title="Samplers of 16 tokens from 64: naming the digit, and saying where it is",
    minutes=4,
)
def samplers(run: Run, fast: bool) -> Iterator[Finding]:
    """Three seeds; the encoder's maps are computed once, the samplers are trained on them with a linear head."""
    rows: list[dict[str, Any]] = []
    for seed in run.progress(range(2 if fast else SEEDS), "training samplers, one seed after the other"):
        kept = run.state / f"samplers-{seed}.json"
        if not kept.is_file():
            write_text(kept, json.dumps(_samplers_of(seed, fast)))
        rows.append(json.loads(kept.read_text(encoding="utf-8")))

    def figure(name: str) -> np.ndarray:
        return np.array([row[name] for row in rows])

    words = "; ".join(
        f"{name}: position {figure(f'{name}/position').mean():.3f}, naming {figure(f'{name}/name').mean():.3f}"
        for name in SAMPLERS
    )
    yield Finding(
        "sampler-against-q-former",
        "accuracy of the position with the self-mining sampler, less that with a Q-Former of as many tokens",
        "empirical",
        mean_interval(figure("self-mining/position") - figure("qformer/position")),
        ">=",
        0.05,
        baseline=float(figure("qformer/position").mean()),
        baseline_name="Q-Former, 16 queries",
        detail=f"{words}; {SAMPLER_STEPS} steps",
    )
    for task, word in (("position", "the position"), ("name", "the digit")):
        yield Finding(
            "sampler-against-q-former",
            f"accuracy of {word} with a quarter of the images, less that of a Q-Former with all",
            "empirical",
            mean_interval(figure(f"quarter/{task}") - figure(f"qformer/{task}")),
            ">",
            0,
            baseline=float(figure(f"qformer/{task}").mean()),
            baseline_name="Q-Former with all images",
            detail="better with less data",
        )
    yield Finding(
        "sampler-against-q-former",
        "steps until the loss of the position is as low as the Q-Former's at its end, as a share of all",
        "empirical",
        mean_interval(figure("steps")),
        "<",
        1,
        baseline=1.0,
        baseline_name="steps of the Q-Former",
        detail="faster convergence; means over 20 steps",
    )
    mean = {
        name: (figure(f"{name}/position") + figure(f"{name}/name")) / 2 for name in ("qformer", "self-mining", "sra")
    }
    gain, other = mean["self-mining"] - mean["qformer"], mean["sra"] - mean["qformer"]
    yield Finding(
        "ablation-share",
        "gain of the self-mining sampler over the Q-Former, less the gain of the adapter with the Q-Former kept",
        "empirical",
        mean_interval(gain - other),
        ">",
        0,
        baseline=float(other.mean()),
        baseline_name="gain of the adapter alone",
        detail=f"mean of position and naming; sampler alone {gain.mean():.3f}, adapter alone {other.mean():.3f}",
    )


def maps_of(encoder: HiResVisionEncoder, grid: EntityGrid, count: int, split: str, seed: int) -> Cached:
    """The maps of ``count`` canvases with one object each, at any of the nine positions."""
    rng = np.random.default_rng([seed, 11 if split == "train" else 12])
    images, labels, positions = grid.batch(count, rng, split)  # type: ignore[arg-type]
    parts = []
    with torch.no_grad():
        for start in range(0, count, 100):
            part = encoder.prepare(list(images[start : start + 100]), grid=(2, 2))
            parts.append(torch.stack(encoder.maps(part.slices, part.grids)))
    return Cached(torch.cat(parts), torch.from_numpy(labels), torch.from_numpy(positions) - 1)


class SamplerReader(nn.Module):
    """A sampler of 16 tokens and a linear head on all of them."""

    def __init__(self, name: str, width: int, classes: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.sampler = make_sampler(name, width, 4, window=2, queries=16)  # type: ignore[arg-type]
            self.head = nn.Linear(16 * width, classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits from maps ``[n, 8, 8, D]``."""
        return self.head(self.sampler(inputs)[0].flatten(1))


def sampler_accuracy(
    name: str, data: Cached, test: Cached, task: str, seed: int, steps: int
) -> tuple[float, list[float]]:
    """Accuracy on the test maps, and the loss of every step. ``task`` is position or name."""
    targets, right = (data.positions, test.positions) if task == "position" else (data.labels, test.labels)
    reader = SamplerReader(name, data.maps.shape[-1], 9 if task == "position" else 10, seed)
    settings = TrainSettings(
        steps=steps, batch_size=48, learning_rate=SAMPLER_RATE, schedule="cosine", device="cpu", seed=seed
    )
    result = train(reader, {"inputs": data.maps, "labels": targets}, settings, loss=cross_entropy_loss())
    with torch.no_grad():
        return float((reader.eval()(test.maps).argmax(1) == right).float().mean()), result.losses


def _samplers_of(seed: int, fast: bool) -> dict[str, float]:
    grid, tower = seed_tower(seed, fast, SHORT_PRETRAIN_STEPS)
    count, steps = (60, 5) if fast else (CANVASES, SAMPLER_STEPS)
    plain = HiResVisionEncoder(tower, sra_layers="none", sampler=None, global_view=False)
    data, test = (maps_of(plain, grid, n, split, seed) for n, split in ((count, "train"), (count // 3, "test")))
    quarter = Cached(data.maps[: count // 4], data.labels[: count // 4], data.positions[: count // 4])
    found: dict[str, float] = {}
    losses: dict[str, list[float]] = {}
    for name in SAMPLERS:
        for task in ("position", "name"):
            found[f"{name}/{task}"], losses[f"{name}/{task}"] = sampler_accuracy(name, data, test, task, seed, steps)
    for task in ("position", "name"):
        found[f"quarter/{task}"], _ = sampler_accuracy("self-mining", quarter, test, task, seed, steps)
    width = min(20, steps)
    ours, theirs = (
        np.convolve(losses[f"{name}/position"], np.ones(width) / width, "valid") for name in ("self-mining", "qformer")
    )
    reached = np.flatnonzero(ours <= theirs[-1])
    found["steps"] = float((reached[0] + width) / steps) if len(reached) else 2.0
    found |= _with_adapter(grid, tower, seed, fast, steps)
    return found


def _with_adapter(grid: EntityGrid, tower: VisionTower, seed: int, fast: bool, steps: int) -> dict[str, float]:
    """The Q-Former on maps that an adapter has restored. The adapter is trained by the reader of the mean token."""
    from paperworks.papers.hires_llava.restoration import SliceReader, train_reader

    encoder = adapted()(tower)
    reader = SliceReader(encoder, len(grid.entities.names), seed=seed)
    train_reader(reader, grid, small(replace(READ, steps=TOWER_STEPS), fast), seed=seed)
    count = 60 if fast else CANVASES
    data, test = (maps_of(encoder, grid, n, split, seed) for n, split in ((count, "train"), (count // 3, "test")))
    return {
        f"sra/{task}": sampler_accuracy("qformer", data, test, task, seed, steps)[0] for task in ("position", "name")
    }
