"""What can be counted or proved: sizes, multiply-adds, and sliced attention against its definition."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from paperworks import runs
from paperworks.papers.sret.configuration import variant_config
from paperworks.papers.sret.costs import attention_macs, block_parameters, profile
from paperworks.papers.sret.layers import Block, GroupAttention, NonlinearProjection
from paperworks.papers.sret.modeling import SReTForImageClassification
from paperworks.papers.sret.recursion import RecursiveStack, fixed_permutation
from paperworks.runs import Finding, Run, largest, smallest

NAMES = {"tiny": "SReT_T", "tiny-large": "SReT_LT", "small": "SReT_S"}
PARAMETERS = {"tiny": 4_755_979, "tiny-large": 4_988_024, "small": 20_899_692}
MACS = {"tiny": (1.1124e9, 1.3657e9), "tiny-large": (1.1645e9, 1.4177e9), "small": (4.1728e9, 4.6714e9)}
"""With and without slices, counted on the official code."""


@runs.study(
    claims=["parameter-counts", "slicing-cost", "cost-equivalence", "sharing-saves", "recursion-cost"],
    title="Parameters and multiply-adds of the released variants",
    minutes=0.1,
)
def counts(run: Run, fast: bool) -> Iterator[Finding]:
    """The networks are built without memory for their weights, and counted; multiply-adds in closed form."""
    for name, expected in PARAMETERS.items():
        config = variant_config(name)
        with torch.device("meta"):
            built = SReTForImageClassification(config)
        found = sum(p.numel() for p in built.parameters())
        yield Finding("parameter-counts", f"parameters of {NAMES[name]}", "exact", found, "==", expected)
        cost, (sliced, unsliced) = profile(config), MACS[name]
        for words, macs, official in (("", cost.macs, sliced), (" without slices", cost.macs_unsliced, unsliced)):
            yield Finding(
                "slicing-cost",
                f"multiply-adds of {NAMES[name]}{words}, relative to those counted on the official code",
                "exact",
                macs / official,
                "==",
                1.0,
                tolerance=1e-3,
                detail=f"{macs:,}",
            )
        yield Finding(
            "slicing-cost",
            f"slices save 10 to 30 % of the multiply-adds of {NAMES[name]}",
            "exact",
            abs(cost.slicing_saves - 0.2),
            "<=",
            0.1,
            detail=f"{cost.slicing_saves:.1%} saved; distance from 20 %",
        )
    for passes in (2, 4, 8, 16):
        quadratic = [attention_macs(784, 64, groups) - 4 * 784 * 64**2 for groups in (passes, 1)]
        yield Finding(
            "cost-equivalence",
            f"quadratic multiply-adds of {passes} passes in {passes} groups, relative to one full pass",
            "exact",
            passes * quadratic[0] / quadratic[1],
            "==",
            1.0,
            detail=f"N = 784, D = 64: {attention_macs(784, 64, passes):,} multiply-adds a pass",
        )
    shared = profile(variant_config("tiny", sliced=False))
    apart = profile(variant_config("tiny", sliced=False, recursive_num=(4, 10, 6)))
    once = profile(variant_config("tiny", sliced=False, depth=(2, 5, 3)))
    yield Finding(
        "sharing-saves",
        "parameters of SReT_T without sharing",
        "exact",
        apart.parameters,
        "==",
        7_984_582,
        detail=f"sharing saves {shared.sharing_saves:.1%}",
    )
    yield Finding("sharing-saves", "multiply-adds without sharing", "exact", apart.macs, "==", shared.macs)
    extra = sum(
        (depth - distinct) * block_parameters(width, 3.6)
        for depth, distinct, width in zip((4, 10, 6), (2, 5, 3), (64, 128, 256), strict=True)
    )
    yield Finding(
        "sharing-saves",
        "what sharing saves is the blocks of the later passes, in closed form",
        "exact",
        apart.parameters - shared.parameters,
        "==",
        extra,
    )
    yield Finding("recursion-cost", "parameters without recursion", "exact", once.parameters, "==", 4_176_375)
    yield Finding(
        "recursion-cost",
        "multiply-adds without recursion, relative to those counted on the official code",
        "exact",
        once.macs / 0.7319e9,
        "==",
        1.0,
        tolerance=1e-3,
        detail=f"{once.macs:,}; recursion multiplies them by {shared.macs / once.macs:.2f}",
    )


@runs.study(claims=["group-attention"], title="Sliced attention is full attention under a mask", minutes=0.1)
def attention(run: Run, fast: bool) -> Iterator[Finding]:
    """Random inputs, every group count that divides 24, random permutations; float32."""
    torch.manual_seed(run.seed % 2**63)
    worst, least = 0.0, math.inf
    for draw in range(2 if fast else 10):
        module, x = GroupAttention(16, 4), torch.randn(2, 24, 16)
        permutation = fixed_permutation(24, run.seed % 2**63, draw)
        place = torch.argsort(permutation)
        full = module(x)
        for groups in (1, 2, 3, 4, 6, 8, 12, 24):
            same = (place // (24 // groups))[:, None] == (place // (24 // groups))[None, :]
            q, k, v = module.qkv(x).view(2, 24, 3, 4, 4).permute(2, 0, 3, 1, 4)
            scores = (q @ k.transpose(-1, -2) / 2).masked_fill(~same, -math.inf).softmax(-1)
            masked = module.output((scores @ v).transpose(1, 2).reshape(2, 24, 16))
            worst = largest((worst, float((module(x, groups, permutation) - masked).abs().max())))
            if groups > 1:
                least = smallest((least, float((masked - full).abs().max())))
    yield Finding(
        "group-attention",
        "largest difference between sliced attention and full attention under the mask of the groups",
        "exact",
        worst,
        "<",
        1e-5,
        detail=f"8 group counts; without the mask the difference is at least {least:.2g}",
    )


@runs.study(claims=["very-deep"], title="One block applied 1,000 times", minutes=0.2)
def depth(run: Run, fast: bool) -> Iterator[Finding]:
    """Parameters do not grow with depth, and signal and gradient stay finite through 1,000 passes."""
    torch.manual_seed(run.seed % 2**63)
    counted = []
    passes = 100 if fast else 1_000
    for loops in (1, passes):
        stack = RecursiveStack(lambda _: Block(16, 2, 2.0), 1, loops, groups=(4, 2))
        counted.append(sum(p.numel() for p in stack.parameters()))
    yield Finding(
        "very-deep",
        f"parameters of a block applied {passes:,} times, relative to once",
        "exact",
        counted[1] / counted[0],
        "==",
        1.0,
        detail=f"{counted[1]:,} parameters",
    )
    stack = RecursiveStack(
        lambda _: Block(16, 2, 2.0), 1, passes, projection=lambda _: NonlinearProjection(16, 1.0), groups=(4, 2)
    )
    tokens = torch.randn(2, 16, 16)
    found = torch.nn.functional.layer_norm(stack(tokens), (16,))
    found.square().mean().backward()
    gradients = torch.cat([p.grad.flatten() for p in stack.parameters() if p.grad is not None])
    yield Finding(
        "very-deep",
        f"share of the gradient through {passes:,} passes and projections that is finite",
        "exact",
        float(torch.isfinite(gradients).float().mean()),
        "==",
        1.0,
        detail=f"{sum(p.numel() for p in stack.parameters()):,} parameters; norm {float(gradients.norm()):.3g}",
    )
