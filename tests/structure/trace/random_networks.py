"""Random small convolutional networks: any order of convolutions, norms, skips, concatenations, splits and gates."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import nn

STEPS = ("conv", "grouped", "deep", "batch", "group", "act", "skip", "project", "cat", "chunk", "gate", "again", "pool")


class RandomNetwork(nn.Module):
    """``seed`` decides the steps and their sizes. Every tensor keeps its height and width until the head."""

    def __init__(self, seed: int, steps: int = 9) -> None:
        super().__init__()
        rng = random.Random(seed)
        self.parts = nn.ModuleList()
        self.steps: list[tuple[str, Any]] = []
        widths = [3]
        self._add(nn.Conv2d(3, 12, 3, padding=1), "conv", widths, 12)
        for _ in range(steps):
            kind, width = rng.choice(STEPS), widths[-1]
            if kind == "conv":
                new = rng.choice([6, 8, 12])
                self._add(nn.Conv2d(width, new, rng.choice([1, 3]), padding="same"), kind, widths, new)
            elif kind == "grouped" and width % 2 == 0:
                groups = rng.choice([g for g in (2, 3, 4) if width % g == 0])
                new = groups * rng.choice([2, 4])
                self._add(nn.Conv2d(width, new, 3, padding=1, groups=groups), kind, widths, new)
            elif kind == "deep":
                times = rng.choice([1, 1, 2]) if width < 13 else 1
                layer = nn.Conv2d(width, width * times, 3, padding=1, groups=width)
                self._add(layer, kind, widths, width * times)
            elif kind == "batch":
                self._add(nn.BatchNorm2d(width), kind, widths, width)
            elif kind == "group" and width % 2 == 0:
                self._add(nn.GroupNorm(2, width), kind, widths, width)
            elif kind == "act":
                act = rng.choice([nn.ReLU(), nn.Sigmoid(), nn.GELU(), nn.PReLU(width), nn.Softplus(), nn.Hardtanh()])
                self._add(act, kind, widths, width)
            elif kind in ("skip", "cat"):
                back = rng.randrange(1, len(widths))
                if kind == "skip" and widths[back] == width:
                    self._add(nn.Identity(), kind, widths, width, back)
                elif kind == "cat" and width + widths[back] <= 24:
                    self._add(nn.Identity(), kind, widths, width + widths[back], back)
            elif kind == "project":
                back = rng.randrange(1, len(widths))
                self._add(nn.Conv2d(widths[back], width, 1), kind, widths, width, back)
            elif kind == "chunk" and width % 2 == 0:
                self._add(nn.Conv2d(width // 2, width // 2, 1), kind, widths, width)
            elif kind == "gate":
                self._add(nn.Linear(width, width), kind, widths, width)
            elif kind == "again" and isinstance(self.parts[-1], nn.Conv2d) and self.parts[-1].in_channels == width:
                self._add(self.parts[-1], "conv", widths, self.parts[-1].out_channels)
            elif kind == "pool":
                self._add(nn.MaxPool2d(3, 1, 1), kind, widths, width)
        self.flat = rng.random() < 0.5
        self.head = nn.Linear(widths[-1] * (16 if self.flat else 1), 3)

    def _add(self, part: nn.Module, kind: str, widths: list[int], width: int, back: int = 0) -> None:
        self.parts.append(part)
        self.steps.append((kind, back))
        widths.append(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = [x]
        for part, (kind, back) in zip(self.parts, self.steps, strict=True):
            x = seen[-1]
            if kind in ("skip", "project"):
                x = x + part(seen[back])
            elif kind == "cat":
                x = torch.cat([x, seen[back]], 1)
            elif kind == "chunk":
                left, right = x.chunk(2, 1)
                x = torch.cat([right, part(left)], 1)
            elif kind == "gate":
                x = x * torch.sigmoid(part(x.mean((2, 3))))[:, :, None, None]
            else:
                x = part(x)
            seen.append(x)
        return self.head(x.flatten(1) if self.flat else x.mean((2, 3)))
