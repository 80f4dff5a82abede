"""Small networks with weights drawn so that no two values are alike."""

from __future__ import annotations

import torch
from torch import nn

from paperworks.nn import MLP, SmallCNN, TinyViT


class PlainCNN(nn.Module):
    """Convolutions with biases and norms, as in VGG."""

    def __init__(self, kernel: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(2, 4, kernel, padding=kernel // 2),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 5, 3, padding=1),
            nn.BatchNorm2d(5),
            nn.ReLU(),
        )
        self.head = nn.Linear(5, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(inputs).mean((2, 3)))


class Mixed(nn.Module):
    """Concatenation, a depthwise, a grouped and a transposed convolution, flattening, an unused table."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(2, 2, 1)
        self.norm = nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.grouped = nn.Conv2d(6, 4, 1, groups=2)
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.table = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.head = nn.Linear(3 * 8 * 8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        x = self.norm(torch.cat([self.left(inputs), self.right(inputs)], 1)).relu()
        x = self.up(self.grouped(self.depthwise(x)).relu()) + self.table
        return self.head(x.flatten(1))


def build(name: str, seed: int = 0) -> tuple[nn.Module, torch.Tensor]:
    """A network in evaluation mode with random parameters and statistics, and inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module
        inputs = torch.rand(2, 1, 8, 8)
        if name == "mlp":
            model = MLP(inputs=64, hidden=(6, 5), outputs=3, batch_norm=True)
        elif name == "residual":
            model = SmallCNN(channels=1, widths=(4, 6), outputs=3)
        elif name == "vit":
            model = TinyViT(image_size=8, width=8, layers=2, heads=2, outputs=3)
        else:
            model = PlainCNN() if name == "plain" else Mixed()
            inputs = torch.rand(2, 2, 4, 4)
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.data = torch.rand_like(tensor) + 0.1
        return model.eval(), inputs
