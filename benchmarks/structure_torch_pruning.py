"""Cutting a random Llama of a billion parameters: paperworks beside Torch-Pruning 1.6.1, the same units, in one run.

    pip install torch-pruning==1.6.1
    python benchmarks/structure_torch_pruning.py [--layers 20] [--share 0.5] [--small] [--pairs 5]

Both remove the same feed-forward channels and attention heads (every second one at share 0.5) of every layer of the
same model, each in a process of its own: one head per key-value head, which Torch-Pruning follows through the
attention by itself. Timed is everything after the model is in memory: units or dependency graph, groups, cutting.
Memory is the peak of the process's resident memory over that of the loaded model. Both end with the same weights, which
a checksum of their bits says.

One run of each varies with what else the machine does: the first touch of fresh memory, and turns of the processor. So
the two run in pairs, and change who begins; the figure is the ratio of the medians over the pairs, of processor time
and of the clock. Beside it stand the geometric mean of the ratios of the pairs with its 95 % interval, and the least
and the largest of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from paperworks.metrics import ratio_interval

LARGE = {"hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 16, "vocab_size": 32000}
SMALL = {"hidden_size": 256, "intermediate_size": 704, "num_attention_heads": 8, "vocab_size": 2000}


def random_llama(layers: int, small: bool) -> Any:
    """The same weights in every process, bfloat16: four million normal numbers, over and over at changing offsets."""
    config = LlamaConfig(num_hidden_layers=layers, tie_word_embeddings=False, **(SMALL if small else LARGE))
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(config)
    model.to_empty(device="cpu").to(torch.bfloat16)
    # drawing each of a billion numbers would take far longer than what is measured
    drawn = torch.empty(1 << 22, dtype=torch.bfloat16).normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            if parameter.ndim == 1:
                parameter.fill_(1)
                continue
            for place, part in enumerate(parameter.view(-1).split(len(drawn))):
                part.copy_(drawn.roll(10007 * (number + 31 * place))[: len(part)])
        for module in model.modules():
            if hasattr(module, "inv_freq"):
                module.__init__(config)
    return model.eval()


def kept_units(n: int, share: float) -> list[int]:
    """Evenly spread units."""
    return sorted({int(i / share) for i in range(int(n * share))})


def with_paperworks(model: Any, share: float) -> None:
    """Units, plan, cut."""
    from paperworks.structure import KeepPlan, prune, units_of

    units = units_of(model, ["ffn", "kv_group"])
    prune(model, KeepPlan.of(units, {key: kept_units(s.n_units, share) for key, s in units.items()}))


def with_torch_pruning(model: Any, share: float) -> None:
    """Dependency graph by a traced forward, groups, cut."""
    import torch_pruning

    ids = torch.randint(model.config.vocab_size, (1, 8), generator=torch.Generator().manual_seed(0))
    graph = torch_pruning.DependencyGraph().build_dependency(
        model, example_inputs={"input_ids": ids}, forward_fn=lambda m, x: m(**x, use_cache=False).logits
    )
    cut = torch_pruning.prune_linear_out_channels
    for layer in model.model.layers:
        head = layer.self_attn.head_dim
        width, heads = layer.mlp.gate_proj.out_features, layer.self_attn.q_proj.out_features // head
        channels = sorted(set(range(width)) - set(kept_units(width, share)))
        gone = sorted(set(range(heads)) - set(kept_units(heads, share)))
        rows = [h * head + c for h in gone for c in range(head)]
        graph.get_pruning_group(layer.mlp.gate_proj, cut, idxs=channels).prune()
        graph.get_pruning_group(layer.self_attn.q_proj, cut, idxs=rows).prune()


def resident() -> int:
    """Resident memory now, bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def measure(which: str, layers: int, share: float, small: bool) -> dict[str, float]:
    """Seconds, bytes over the loaded model at the peak, and a checksum of the weights."""
    model = random_llama(layers, small)
    parameters = sum(p.numel() for p in model.parameters())
    if which == "paperworks":
        import paperworks.structure.surgery
        import paperworks.structure.units  # noqa: F401
    else:
        import torch_pruning  # noqa: F401
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the kernel's record of the peak starts anew
    before, start, cpu = resident(), time.perf_counter(), time.process_time()
    (with_paperworks if which == "paperworks" else with_torch_pruning)(model, share)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    bits = (p.detach().contiguous().view(torch.int16) for n, p in model.named_parameters() if "proj" in n)
    checksum = sum(int(part.sum()) * (i + 1) for i, part in enumerate(bits))
    left = sum(p.numel() for p in model.parameters())
    extra = peak - before
    found = {"parameters": parameters, "left": left, "seconds": seconds, "cpu": cpu, "extra": extra}
    return {**found, "checksum": checksum}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", choices=["paperworks", "torch-pruning"])
    options = parser.parse_args()
    if options.pairs < 2:
        parser.error("--pairs: 2 or more, for an interval")
    if options.only:
        print(json.dumps(measure(options.only, options.layers, options.share, options.small)))
        return
    runs: dict[str, list[dict[str, float]]] = {"paperworks": [], "torch-pruning": []}
    for pair in range(options.pairs):
        for which in sorted(runs, reverse=bool(pair % 2)):
            command = [sys.executable, __file__, "--only", which, "--layers", str(options.layers)]
            command += ["--share", str(options.share), *(["--small"] if options.small else [])]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            runs[which].append(row)
            print(
                f"{pair + 1}. {which:14} {row['parameters'] / 1e9:.2f}B -> {row['left'] / 1e9:.2f}B parameters "
                f"in {row['seconds']:.2f} s ({row['cpu']:.2f} s of processor time), "
                f"{row['extra'] / 2**20:,.0f} MiB over the model",
                flush=True,
            )
    for ours, theirs in zip(runs["paperworks"], runs["torch-pruning"], strict=True):
        assert ours["left"] == theirs["left"], "not the same units"
        assert ours["checksum"] == theirs["checksum"], "not the same weights"
    for name, words in (("cpu", "processor time"), ("seconds", "time"), ("extra", "memory")):
        ours, theirs = ([max(row[name], 1e-9) for row in runs[which]] for which in ("paperworks", "torch-pruning"))
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        mean = ratio_interval(ratios)
        print(
            f"Torch-Pruning takes {statistics.median(theirs) / statistics.median(ours):.1f} times our {words} "
            f"(medians of {options.pairs} pairs; geometric mean {mean.estimate:.1f} [{mean.low:.1f}, {mean.high:.1f}], "
            f"a pair: {min(ratios):.1f} to {max(ratios):.1f})"
        )


if __name__ == "__main__":
    main()
