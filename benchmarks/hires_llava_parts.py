"""HiRes-LLaVA's parts beside their rivals: slicing, adapter and sampler, in time, memory and operations, in one run.

    python benchmarks/hires_llava_parts.py [--part all] [--rounds 7] [--width 384] [--layers 6]

1. Slicing: an image to normalised slices and the whole view, beside transformers' ``LlavaNextImageProcessor`` (any
   resolution, as LLaVA-NeXT) with the same grids of at most 4 slices of 336 pixels.
2. Adapter: a vision transformer with 2 x 2 slices of 14 x 14 tokens: alone; with the local path, the global path and
   both after 4 layers; nine windows that overlap by half; and the same tower on the whole map at once (attention over
   all slices in every layer), which needs no adapter.
3. Sampler: the map of 48 x 48 tokens of CLIP-ViT-L/14 at 336 pixels and 2 x 2 slices, width 1024, to 576 tokens, by
   each sampler.

Processor time of one thread; all ways of a part take turns in every round; ratios are geometric means of paired rounds
with 95 % intervals. Memory is what autograd keeps for the backward pass, counted tensor by tensor; it is exact.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import ViTConfig, ViTModel

from paperworks.metrics import ratio_interval
from paperworks.papers.hires_llava import HiResVisionEncoder
from paperworks.papers.hires_llava.adapter import SliceRestoreAdapter, adapter_macs
from paperworks.papers.hires_llava.samplers import make_sampler

PATCH, SIDE, LEAST = 16, 224, 0.3
MEGA = 2**20


def seconds_of(call: Callable[[], Any], count: int) -> float:
    """Processor time of a call, mean of ``count``."""
    start = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - start) / count


def calls_of(call: Callable[[], Any]) -> int:
    """Calls that take about LEAST seconds, which the clock of processor time can tell."""
    start = time.perf_counter()
    call()
    return max(1, round(LEAST / max(time.perf_counter() - start, 1e-5)))


def in_turns(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of every way in every round, after one call to warm up and one to choose the number of calls."""
    for way in ways.values():
        way()
    counts = [calls_of(way) for way in ways.values()]
    found = [[seconds_of(way, count) for way, count in zip(ways.values(), counts, strict=True)] for _ in range(rounds)]
    return dict(zip(ways, np.array(found).T, strict=True))


def kept_bytes(call: Callable[[], torch.Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass of a call, weights left out; a storage counts once."""
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, nn.Parameter):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        found = call()
        total = sum(storages.values())
    del found
    return total


def operations(call: Callable[[], Any], weights: Sequence[nn.Parameter] = ()) -> float:
    """10^9 multiply-adds of matrix products, attention and convolutions.

    PyTorch's attention has fused ways on processors that its counter does not see; they are off while counting.
    ``weights`` get no gradient meanwhile: the counter refuses views of those that do.
    """
    for weight in weights:
        weight.requires_grad_(False)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
        for weight in weights:
            weight.requires_grad_(True)
    return counter.get_total_flops() / 2e9


def table(
    ways: dict[str, Callable[[], Any]], first: str, rounds: int, memory: bool, weights: Sequence[nn.Parameter] = ()
) -> None:
    """Print time, ratio to ``first``, operations and memory of every way."""
    with torch.no_grad():
        seconds = in_turns(ways, rounds)
    for name, way in ways.items():
        found = ratio_interval(seconds[name] / seconds[first])
        cells = [f"{1000 * np.median(seconds[name]):.1f} ms"]
        cells.append("1" if name == first else f"{found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}] times")
        if memory:
            cells += [f"{operations(way, weights):.2f} x 10^9 multiply-adds", f"{kept_bytes(way) / MEGA:.1f} MiB kept"]
        print(f"{name}: " + ", ".join(cells))


def slicing(rounds: int) -> None:
    """Print the time from an image to slices."""
    from transformers import LlavaNextImageProcessor

    side = 336
    config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=side, patch_size=14)
    encoder = HiResVisionEncoder(ViTModel(config, add_pooling_layer=False), sra_layers="none", sampler=None)
    grids = [[m * side, n * side] for m in range(1, 5) for n in range(1, 5) if m * n <= 4]
    peer = LlavaNextImageProcessor(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}, image_grid_pinpoints=grids
    )
    rng = np.random.default_rng(0)
    for height, width in ((480, 640), (1080, 1920)):
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        print(f"\nSlicing an image of {width} x {height}, slices of {side} pixels, at most 4 and the whole view")
        ways: dict[str, Callable[[], Any]] = {
            "LlavaNextImageProcessor": lambda image=image: peer(images=[image], return_tensors="pt"),
            "here": lambda image=image: encoder.prepare([image]),
        }
        table(ways, "LlavaNextImageProcessor", rounds, memory=False)


def tower(width: int, layers: int, image_size: int) -> ViTModel:
    """A vision transformer with random weights."""
    config = ViTConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        image_size=image_size,
        patch_size=PATCH,
    )
    return ViTModel(config, add_pooling_layer=False).eval()


def adapters(rounds: int, width: int, layers: int) -> None:
    """Print what the adapter costs in a tower, and in itself."""
    torch.manual_seed(0)
    grid, tokens = (2, 2), (SIDE // PATCH) ** 2
    slices, windows = torch.randn(4, 3, SIDE, SIDE), torch.randn(9, 3, SIDE, SIDE)
    whole = torch.randn(1, 3, 2 * SIDE, 2 * SIDE)
    vit, big = tower(width, layers, SIDE), tower(width, layers, 2 * SIDE)
    ways: dict[str, Callable[[], Any]] = {"slices, no adapter": lambda: vit(pixel_values=slices).last_hidden_state}
    for path in ("local", "global", "both"):
        encoder = HiResVisionEncoder(
            tower(width, layers, SIDE),
            sra_layers="even",
            path=path,  # type: ignore[arg-type]
            sampler=None,
            global_view=False,
        ).eval()
        encoder.tower.requires_grad_(True)  # so that memory is that of training everything, as in the others
        ways[f"slices, {path} path{'s' * (path == 'both')} after {len(encoder.sra_layers)} layers"] = (
            lambda encoder=encoder: encoder.maps(slices, [grid])[0]
        )
    ways["nine windows that overlap by half"] = lambda: vit(pixel_values=windows).last_hidden_state
    ways["the whole map at once"] = lambda: big(pixel_values=whole).last_hidden_state
    print(f"\nA tower of {layers} layers, width {width}, 2 x 2 slices of {SIDE} pixels, {tokens} tokens each")
    table(ways, "slices, no adapter", rounds, memory=True)
    print("\nOne adapter, counted beside the formula: 10^6 multiply-adds")
    for name, (count, size) in {"here": (tokens, width), "ViT-L/14 at 336": (576, 1024)}.items():
        side = int(count**0.5)
        given = torch.zeros(1, 4, side, side, size)
        macs = adapter_macs(grid, count, size)
        for path in ("local", "global"):
            adapter = SliceRestoreAdapter(size, size // 64, path=path).eval()  # type: ignore[arg-type]
            found = operations(lambda adapter=adapter, given=given: adapter(given, grid)) * 1e3
            projection = 4 * count * size**2 / 1e6
            print(
                f"{name}, {path}: counted {found - projection:.1f} and the projection {projection:.1f}; "
                f"formula {macs[path] / 1e6:.1f}; attention over the map {macs['full'] / 1e6:.1f}"
            )


def samplers(rounds: int) -> None:
    """Print what each sampler costs from a map of 48 x 48 tokens to 576."""
    torch.manual_seed(0)
    width, heads = 1024, 16
    whole = torch.randn(1, 48, 48, width)
    weights: list[nn.Parameter] = []
    ways: dict[str, Callable[[], Any]] = {}
    for name in ("self-mining", "avgpool", "concat", "qformer", "resampler"):
        sampler = make_sampler(name, width, heads, window=2, layers=1, queries=576).eval()  # type: ignore[arg-type]
        weights += sampler.parameters()
        ways[name] = lambda sampler=sampler: sampler(whole)[0]
    print("\nSamplers: 2,304 tokens of width 1024 to 576")
    table(ways, "self-mining", rounds, memory=True, weights=weights)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["all", "slicing", "adapter", "sampler"], default="all")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, medians of {options.rounds} rounds of processor time")
    if options.part in ("all", "slicing"):
        slicing(options.rounds)
    if options.part in ("all", "adapter"):
        adapters(options.rounds, options.width, options.layers)
    if options.part in ("all", "sampler"):
        samplers(options.rounds)


if __name__ == "__main__":
    main()
