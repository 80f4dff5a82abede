"""SReT's sliced attention beside unsliced attention, and SReT_T beside a ViT of the same size, in one run.

    python benchmarks/sret_attention.py [--rounds 7] [--batch 2]

Attention: width 64, two heads (the first stage of SReT_T), at 784 and 3,136 tokens. ``quadratic`` is the softmax and
both matrix products with it (PyTorch's scaled_dot_product_attention); ``module`` adds the linear maps. The ViT is
transformers' own, of DeiT-Ti's width with 10 layers, which has about the parameters of SReT_T. All take turns; medians
of processor time, one thread.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import ViTConfig, ViTForImageClassification

from paperworks.metrics import ratio_interval
from paperworks.papers.sret import GroupAttention, attention_macs, fixed_permutation, sret_tiny

WIDTH, HEADS = 64, 2
GROUPS = (1, 2, 4, 8, 16)
LEAST = 0.1
"""Seconds that a way takes in a round."""


def in_turns(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of processor time of a call of every way in every round, after one round to warm up.

    A way is called so often in a round that it takes ``LEAST`` seconds: some machines count processor time in steps of
    4 ms.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    calls: dict[str, int] = {}
    with torch.no_grad():
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            way()
            calls[name] = max(1, math.ceil(LEAST / ((time.perf_counter() - start) / 2)))
        for _ in range(rounds):
            for name, way in ways.items():
                start = time.process_time()
                for _ in range(calls[name]):
                    way()
                seconds[name].append((time.process_time() - start) / calls[name])
    return {name: np.array(values) for name, values in seconds.items()}


def attention(tokens: int, batch: int, rounds: int) -> None:
    """Print a row for each group count."""
    module = GroupAttention(WIDTH, HEADS).eval()
    x, permutation = torch.randn(batch, tokens, WIDTH), fixed_permutation(tokens)
    ways: dict[str, Callable[[], Any]] = {}
    for groups in GROUPS:
        heads = [torch.randn(batch * groups, HEADS, tokens // groups, WIDTH // HEADS) for _ in range(3)]
        ways[f"quadratic {groups}"] = lambda heads=heads: functional.scaled_dot_product_attention(*heads)
        ways[f"module {groups}"] = lambda groups=groups: module(x, groups)
        ways[f"permuted {groups}"] = lambda groups=groups: module(x, groups, permutation if groups > 1 else None)
    found = in_turns(ways, rounds)
    print(f"\nN = {tokens:,}, batch {batch}: milliseconds, and relative to one group")
    print("groups  multiply-adds     quadratic            module               module, permuted")
    for groups in GROUPS:
        cells = []
        for what in ("quadratic", "module", "permuted"):
            own = found[f"{what} {groups}"]
            ratio = ratio_interval(own / found[f"{what} 1"]) if groups > 1 else None
            words = "" if ratio is None else f"{ratio.estimate:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
            cells.append(f"{1e3 * np.median(own):8.2f} {words:22}")
        print(f"{groups:6}  {attention_macs(tokens, WIDTH, groups):13,}  {''.join(cells)}")


def counted(model: torch.nn.Module, image: torch.Tensor) -> int:
    """Multiply-adds of a forward pass, as PyTorch counts them."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(image)
    return counter.get_total_flops() // 2


def models(batch: int, rounds: int) -> None:
    """Print time and size of both networks, and the ratio of times."""
    vit = ViTForImageClassification(
        ViTConfig(hidden_size=192, num_hidden_layers=10, num_attention_heads=3, intermediate_size=768, num_labels=1000)
    ).eval()
    sliced, plain = sret_tiny().eval(), sret_tiny(sliced=False).eval()
    images = torch.randn(batch, 3, 224, 224)
    every: dict[str, Any] = {"SReT_T": sliced, "SReT_T without slices": plain, "ViT, 192 x 10": vit}
    found = in_turns({name: lambda model=model: model(images) for name, model in every.items()}, rounds)
    print(f"\n224 x 224, batch {batch}: milliseconds an image")
    for name, model in every.items():
        ratio = ratio_interval(found[name] / found["ViT, 192 x 10"]) if model is not vit else None
        words = "" if ratio is None else f"{ratio.estimate:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] of the ViT's time"
        macs = f"{counted(model, images[:1]) / 1e9:.3f} G multiply-adds"
        parameters = sum(p.numel() for p in model.parameters())
        print(f"{name:24} {1e3 * np.median(found[name]) / batch:8.2f}  {parameters:,} parameters  {macs}  {words}")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for tokens in (784, 3_136):
        attention(tokens, given.batch, given.rounds)
    models(given.batch, given.rounds)


if __name__ == "__main__":
    main()
