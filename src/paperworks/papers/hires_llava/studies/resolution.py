"""Accuracy by the number of slices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.hires_llava.encoder import HiResVisionEncoder
from paperworks.papers.hires_llava.entitygrid.generation import EntityGrid
from paperworks.papers.hires_llava.studies.setting import SEEDS, seed_tower
from paperworks.runs import Finding, Run
from paperworks.runs.files import write_text
from paperworks.training import TrainSettings, cross_entropy_loss, train


@runs.study(claims=["more-slices"], title="Accuracy by the number of slices", minutes=1)
def resolution(run: Run, fast: bool) -> Iterator[Finding]:
    """Images of 48 x 48 pixels with one digit of 12 pixels anywhere, read at 1, 4 and 9 slices without adapter."""
    rows = []
    for seed in run.progress(range(2 if fast else SEEDS), "reading at 1, 4 and 9 slices"):
        kept = run.state / f"resolution-{seed}.json"
        if not kept.is_file():
            write_text(kept, json.dumps(_resolutions(seed, fast)))
        rows.append(json.loads(kept.read_text(encoding="utf-8")))
    accuracy = np.array(rows)
    for number, (few, many) in enumerate(((1, 4), (4, 9))):
        yield Finding(
            "more-slices",
            f"accuracy with {many} slices, less that with {few}",
            "empirical",
            mean_interval(accuracy[:, number + 1] - accuracy[:, number]),
            ">",
            0,
            baseline=float(accuracy[:, number].mean()),
            baseline_name=f"{few} slice{'s' * (few > 1)}",
            detail="; ".join(f"{k} slices {v:.3f}" for k, v in zip((1, 4, 9), accuracy.mean(0), strict=True)),
        )


def _resolutions(seed: int, fast: bool) -> list[float]:
    grid, tower = seed_tower(seed, fast)
    encoder = HiResVisionEncoder(tower, sra_layers="none", sampler=None, global_view=False)
    count = 40 if fast else 1200
    found = []
    sets = {
        split: _scattered(grid, split, count if split == "train" else count // 2, seed) for split in ("train", "test")
    }
    for side in (1, 2, 3):
        features = {}
        for split, (images, _) in sets.items():
            parts = []
            with torch.no_grad():
                for start in range(0, len(images), 100):
                    part = encoder.prepare(images[start : start + 100], grid=(side, side))
                    parts.append(torch.stack(encoder.maps(part.slices, part.grids)).mean((1, 2)) * side * side)
            features[split] = torch.cat(parts)
        head = nn.Linear(tower.width, 10)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            nn.init.normal_(head.weight, std=0.02)
        labels = {split: torch.from_numpy(values) for split, (_, values) in sets.items()}
        settings = TrainSettings(
            steps=10 if fast else 600, batch_size=64, learning_rate=2e-2, schedule="cosine", device="cpu", seed=seed
        )
        train(head, {"inputs": features["train"], "labels": labels["train"]}, settings, loss=cross_entropy_loss())
        with torch.no_grad():
            found.append(float((head(features["test"]).argmax(1) == labels["test"]).float().mean()))
    return found


def _scattered(grid: EntityGrid, split: Any, count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Images of 48 x 48 pixels with one digit each, anywhere."""
    rng = np.random.default_rng([seed, 21 if split == "train" else 22])
    part = grid.part(split)
    rows = rng.integers(len(part), size=count)
    images = []
    for row in rows:
        image = np.full((48, 48, 3), part.background, np.uint8)
        object_ = grid.fitted(int(row), split)
        top, left = (int(rng.integers(48 - extent + 1)) for extent in object_.shape[:2])
        image[top : top + object_.shape[0], left : left + object_.shape[1]] = object_
        images.append(image)
    return images, part.labels[rows]
