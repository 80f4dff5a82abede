"""Time: a layer's matrix products, generation, and slicing itself."""

from __future__ import annotations

import copy
import statistics
import time
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from paperworks import runs
from paperworks.language import measure_speed
from paperworks.papers.slicegpt.estimator import SliceGPT
from paperworks.papers.slicegpt.studies.bench import Bench
from paperworks.runs import Finding


@runs.study(claims=["matmul-time", "throughput", "slicing-cost"], title="Time", minutes=4)
def times(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Products of a layer with Llama-2 7B's shapes; tokens a second of a wide random model; the cost of slicing."""
    products = {s: _layer_seconds(s, 32 if fast else 256, 2 if fast else 7) for s in (0.0, 0.25, 0.5)}
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
    speeds = {
        name: measure_speed(model, batch_size=8, prompt=128, new_tokens=4 if fast else 32, repetitions=2 if fast else 5)
        for name, model in (("dense", dense), ("sliced", method.model_))
    }
    prefill = speeds["sliced"].prefill_tokens_per_second / speeds["dense"].prefill_tokens_per_second
    bench = Bench(run, fast)
    data = bench.calibration(8 if fast else 128)
    bench.perplexity(bench.dense)
    start = time.perf_counter()
    with torch.inference_mode():
        for batch in data.batches(16):
            bench.dense.get_submodule("model")(**batch, use_cache=False)
    one_pass = time.perf_counter() - start
    cost = bench.sliced(0.25, calibration=data).report_.seconds
    return [
        Finding(
            "matmul-time",
            "Time of one layer's matrix products with a quarter of the hidden size cut, over the dense layer's",
            "empirical",
            products[0.25] / products[0.0],
            "<",
            1.0,
            baseline=products[0.0],
            baseline_name="dense, seconds",
            detail=f"Llama-2 7B shapes, float32; speed-up {products[0.0] / products[0.25]:.2f} at 25 % and "
            f"{products[0.0] / products[0.5]:.2f} at 50 % (paper, A100: 1.33 and 1.94)",
        ),
        Finding(
            "throughput",
            "Tokens a second when generating for 8 sequences, sliced by 25 % over dense",
            "empirical",
            speeds["sliced"].decode_tokens_per_second / speeds["dense"].decode_tokens_per_second,
            ">",
            1.0,
            baseline=speeds["dense"].decode_tokens_per_second,
            baseline_name="dense tokens/s",
            detail=f"random Llama, hidden size {width}, {config.num_hidden_layers} layers; reading a prompt: "
            f"{prefill:.2f} times the dense speed",
        ),
        Finding(
            "slicing-cost",
            "Time to slice the bundled model by 25 %, in passes of the dense model over the calibration set",
            "empirical",
            cost / one_pass,
            "<",
            5.0,
            baseline=one_pass,
            baseline_name="one pass, seconds",
            detail="every block runs once per sequence; the rest is covariances, eigenvectors and products of weights",
        ),
    ]


def _layer_seconds(slicing: float, tokens: int, repetitions: int) -> float:
    """Median seconds of all matrix products of a Llama-2 7B layer, with its residual matrices where it is sliced."""
    full, inner = 4096, 11008
    d = full - int(full * slicing)
    generator = torch.Generator().manual_seed(0)

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator)

    weights = (
        [matrix(d, full) for _ in range(3)]
        + [matrix(full, d)]
        + [matrix(d, inner) for _ in range(2)]
        + [matrix(inner, d)]
    )
    weights += [matrix(d, d) for _ in range(2)] if slicing else []
    signals = {rows: matrix(tokens, rows) for rows in {w.shape[0] for w in weights}}
    spent = []
    for number in range(repetitions + 1):
        start = time.perf_counter()
        for weight in weights:
            signals[weight.shape[0]] @ weight
        if number:
            spent.append(time.perf_counter() - start)
    return statistics.median(spent)
