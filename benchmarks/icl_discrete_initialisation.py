"""The default networks of icl-discrete beside plain ones of the same size, in one run.

    python benchmarks/icl_discrete_initialisation.py --out FOLDER            # 1000 steps, 3 seeds
    python benchmarks/icl_discrete_initialisation.py --out FOLDER --fast     # 5 steps, to see that it works

Each network (width 64, 4 layers, 4 heads) is trained on the same prompts: conjunctions of 8 bits, 30 points, batches of
64, Adam at 1e-3. The table has the accuracy over the last 5 positions and over all, on the same 1,000 new prompts: mean
over the seeds, lowest and highest. ``plain`` is ``torch.nn.TransformerEncoder`` with pre-normalisation and learned
positions N(0, 0.02). Stopped, it goes on when it is started again.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from paperworks.nn import resolve_device
from paperworks.papers import icl_discrete as icl
from paperworks.papers.icl_discrete.curves import correct, last

WIDTH, LAYERS, HEADS, DIMS, POINTS = 64, 4, 4, 8, 30


class Plain(nn.Module):
    """A pre-norm transformer as PyTorch has it."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        for block in self.encoder.layers:  # TransformerEncoder copies one layer; its matrices are to differ
            for parameter in block.parameters():
                if parameter.ndim == 2:
                    nn.init.xavier_uniform_(parameter)
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device)
        return self.encoder(x + self.positions[: x.shape[1]], mask=mask, is_causal=True)


def make(name: str, seed: int) -> icl.InContextModel:
    """A network of the comparison."""
    architecture, _, scale = name.partition(" x ")
    factor = {"": 1.0, "sqrt(d)": math.sqrt(WIDTH)}[scale]
    stock = "transformer" if architecture == "plain" else architecture
    config = icl.InContextConfig(stock, DIMS, WIDTH, LAYERS, HEADS, max_points=100, read_in_scale=factor)
    model = icl.new_model(config, seed)
    if architecture == "plain":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model.network = Plain(2 * config.max_points)
    return model


NAMES = ("transformer", "transformer x sqrt(d)", "plain", "gpt2", "retnet", "retnet x sqrt(d)", "hyena", "dss", "lstm")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NAMES[:4]), choices=NAMES)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--fast", action="store_true")
    given = parser.parse_args()
    steps, seeds = (5, 1) if given.fast else (given.steps, given.seeds)
    task, device = icl.BooleanTask("conjunction", DIMS), str(resolve_device("auto"))
    prompts = task.sample(1000, POINTS, 1000)
    print(f"{'network':24} {'parameters':>10}  last 5 (low, high)      all (low, high)         loss", flush=True)
    for name in given.networks:
        found = []
        for seed in range(seeds):
            model = make(name, seed)
            options = icl.TrainOptions(steps, 64, POINTS, 1e-3, seed=seed)
            folder = given.out / f"{name.replace(' ', '-')}-{seed}-{steps}"
            result = icl.fit(model, task, options, checkpoint_dir=folder, device=device)
            right = correct(model.to(device), prompts)
            found.append((last(right), right.mean(), np.mean(result.losses[-50:])))
        columns = [f"{v.mean():.4f} ({v.min():.4f}, {v.max():.4f})" for v in np.array(found).T]
        parameters = sum(p.numel() for p in model.parameters())
        print(f"{name:24} {parameters:10,d}  {'  '.join(columns)}", flush=True)


if __name__ == "__main__":
    main()
