"""The step of ``paperworks.training.train`` beside a plain PyTorch loop, on a small network, in one process.

    python benchmarks/training_step.py [--steps 1000] [--repeats 5]

Three loops make the same steps (AdamW, norm clipped at 1, batches of 16 from 64 rows) and are run in turn: a plain loop
in PyTorch; ``train``; and ``train`` with ``AcceleratedOptimizer.step``, which searches for optional packages in every
step. Figures are microseconds of processor time a step (median), and ratios of medians.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from paperworks.training import TrainSettings, cross_entropy_loss, loop, train


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))


def rows() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "input": torch.randn(64, 8, generator=generator),
        "labels": torch.randint(3, (64,), generator=generator),
    }


def plain(steps: int) -> None:
    model, data = network(), rows()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(64, generator=generator)
    for step in range(steps):
        at = order[step * 16 % 64 :][:16]
        loss = torch.nn.functional.cross_entropy(model(data["input"][at]), data["labels"][at])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if not loss.item() < float("inf"):
            raise ArithmeticError("loss is not finite")


def ours(steps: int) -> None:
    settings = TrainSettings(steps=steps, batch_size=16, learning_rate=1e-3, clip_norm=1.0, device="cpu")
    train(network(), rows(), settings, loss=cross_entropy_loss())


def wrapped(steps: int) -> None:
    """``train`` as it would be with accelerate's own step."""
    own = loop.step_optimizer
    loop.step_optimizer = lambda optimizer, accelerator: optimizer.step()
    try:
        ours(steps)
    finally:
        loop.step_optimizer = own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    loops = {"plain PyTorch": plain, "train": ours, "train with AcceleratedOptimizer.step": wrapped}
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for run in loops.values():
        run(10)
    for _ in range(options.repeats):
        for name, run in loops.items():
            started = time.process_time()
            run(options.steps)
            seconds[name].append(time.process_time() - started)
    medians = {name: statistics.median(values) / options.steps * 1e6 for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name:40s} {median:7.0f} us a step  {median / medians['train']:.2f} of train")


if __name__ == "__main__":
    main()
