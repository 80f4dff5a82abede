"""Time: a layer's matrix products, generation, and slicing itself."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from paperworks import runs
from paperworks.language import speeds_in_turn
from paperworks.metrics import ratio_interval
from paperworks.papers.slicegpt.estimator import SliceGPT
from paperworks.papers.slicegpt.studies.bench import Bench
from paperworks.runs import Finding


@runs.study(claims=["matmul-time", "throughput", "slicing-cost"], title="Time", minutes=4)
def times(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Products of a layer with Llama-2 7B's shapes; tokens a second of a wide random model; the cost of slicing."""
    products = _layer_seconds((0.0, 0.25, 0.5), 32 if fast else 256, 2 if fast else 7)
    width = 256 if fast else 1024
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=2 if fast else 8,
        num_attention_heads=16,
        num_key_value_heads=16,
        vocab_size=2000,
        max_position_embeddings=512,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dense: Any = LlamaForCausalLM(config).eval()
    ids = torch.randint(0, 2000, (8, 256), generator=run.torch_rng("tokens"))
    method = SliceGPT(0.25, device="cpu")
    method.fit(copy.deepcopy(dense), ids, progress=run.progress)
    rounds = 2 if fast else 5
    speeds = speeds_in_turn(
        {"dense": dense, "sliced": method.model_},
        batch_size=8,
        prompt=128,
        new_tokens=4 if fast else 32,
        rounds=rounds,
        progress=run.progress,
    )
    pairs = list(zip(speeds.rounds["sliced"], speeds.rounds["dense"], strict=True))
    passes, costs = _slicing_seconds(Bench(run, fast), 2 if fast else 3)
    half = ratio_interval([a / b for a, b in zip(products[0.0], products[0.5], strict=True)])
    speedup = ratio_interval([a / b for a, b in zip(products[0.0], products[0.25], strict=True)])
    return [
        Finding(
            "matmul-time",
            "Time of one layer's matrix products with a quarter of the hidden size cut, over the dense layer's",
            "empirical",
            ratio_interval([a / b for a, b in zip(products[0.25], products[0.0], strict=True)]),
            "<",
            1.0,
            baseline=statistics.median(products[0.0]),
            baseline_name="dense, seconds",
            detail=f"Llama-2 7B shapes, float32, in turn; speed-up {speedup.estimate:.2f} at 25 % and "
            f"{half.estimate:.2f} at 50 % (paper, A100: 1.33 and 1.94)",
        ),
        Finding(
            "throughput",
            "Tokens a second when generating for 8 sequences, sliced by 25 % over dense",
            "empirical",
            ratio_interval([a.decode_tokens_per_second / b.decode_tokens_per_second for a, b in pairs]),
            ">",
            1.0,
            baseline=speeds.median("dense").decode_tokens_per_second,
            baseline_name="dense tokens/s",
            detail=f"random Llama, hidden size {width}, {config.num_hidden_layers} layers, in turn; reading a prompt: "
            f"{speeds.ratios('sliced', 'dense')[0]:.2f} times the dense speed",
        ),
        Finding(
            "slicing-cost",
            "Time to slice the bundled model by 25 %, in passes of the dense model over the calibration set",
            "empirical",
            ratio_interval([cost / one for cost, one in zip(costs, passes, strict=True)]),
            "<",
            5.0,
            baseline=statistics.median(passes),
            baseline_name="one pass, seconds",
            detail="every block runs once per sequence; the rest is covariances, eigenvectors and products of weights",
        ),
    ]


def _slicing_seconds(bench: Bench, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of a pass of the dense model over the calibration set, and of slicing with it, in turn."""
    data = bench.calibration(8 if bench.fast else 128)
    bench.perplexity(bench.dense)
    passes, costs = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        with torch.inference_mode():
            for batch in data.batches(16):
                bench.dense.get_submodule("model")(**batch, use_cache=False)
        passes.append(time.perf_counter() - start)
        costs.append(bench.sliced(0.25, calibration=data).report_.seconds)
    return passes, costs


def _layer_seconds(slicings: Sequence[float], tokens: int, rounds: int) -> dict[float, list[float]]:
    """Seconds of all matrix products of a Llama-2 7B layer by slicing, with its residual matrices where it is sliced.

    In every round each slicing is timed once, after a round that does not count.
    """
    full, inner = 4096, 11008
    generator = torch.Generator().manual_seed(0)

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator)

    layers = {}
    for slicing in slicings:
        d = full - int(full * slicing)
        shapes = [*[(d, full)] * 3, (full, d), *[(d, inner)] * 2, (inner, d), *[(d, d)] * (2 if slicing else 0)]
        layers[slicing] = [matrix(*shape) for shape in shapes]
    signals = {rows: matrix(tokens, rows) for rows in {w.shape[0] for weights in layers.values() for w in weights}}
    spent: dict[float, list[float]] = {slicing: [] for slicing in slicings}
    for number in range(rounds + 1):
        for slicing, weights in layers.items():
            start = time.perf_counter()
            for weight in weights:
                signals[weight.shape[0]] @ weight
            if number:
                spent[slicing].append(time.perf_counter() - start)
    return spent
