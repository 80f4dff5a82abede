"""Memory of scoring a checkpoint folder layer by layer, beside the model in memory and beside what is held at once.

    python benchmarks/structure_memory.py [--sequences 16] [--length 128] [--batch-size 4] [--sizes small]

Two randomly initialised Llama models in bfloat16 (about 0.3 and 1.16 billion parameters) are written shard by shard.
Each is scored in processes of its own: forward statistics (what down and o read, magnitudes, how much each layer
changes) and Taylor scores, streamed from the folder with a budget for activations, and with the whole model loaded in
float32. The peak of a process's resident memory over what it held at its start (libraries imported) is set beside
``layerwise_memory_bytes``. The scores of both ways are compared as well.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from slicegpt_memory import LARGE, SMALL, write_checkpoint

from paperworks.runs.usage import UsageMeter

MIB = 2**20
SIZES = {"small": SMALL, "large": LARGE}
WAYS = ("forward, streamed", "forward, in memory", "Taylor, streamed", "Taylor, in memory")


def tokens_of(arguments: argparse.Namespace) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, 32000, (arguments.sequences, arguments.length), generator=generator)


def scores_of(way: str, arguments: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Scores by name, with the work that ``way`` names."""
    from paperworks import structure

    ids = tokens_of(arguments)
    options: dict[str, Any] = {
        "batch_size": arguments.batch_size,
        "activation_budget": arguments.budget,
        "spill_dir": arguments.folder,
    }
    dense = arguments.folder / "dense"
    if way == "forward, streamed":
        found = structure.layerwise_scores(dense, ids, **options)
        return {**_named(found.wanda, "wanda"), **found.layer_change}
    if way == "Taylor, streamed":
        return _named(structure.layerwise_taylor(dense, ids, **options)["param_first"], "taylor")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32, local_files_only=True).eval()
    units = structure.units_of(model)
    batches = [{"input_ids": piece} for piece in ids.split(arguments.batch_size)]
    if way == "forward, in memory":
        with structure.LayerChange(model) as change:
            channels = structure.read_channels(model, units, batches)
        return {**_named({key: read.wanda for key, read in channels.items()}, "wanda"), "cosine": change.importance()}
    with structure.TaylorScores(model, units) as taylor:
        for batch in batches:
            taylor.add(batch)
        return _named(taylor.scores(), "taylor")


def _named(scores: Any, name: str) -> dict[str, torch.Tensor]:
    return {f"{name} {layer} {kind}": value.contiguous() for (layer, kind), value in scores.items()}


def score_in_this_process(way: str, arguments: argparse.Namespace) -> None:
    """Score, keep the scores in a file, and print the figures: the child's half of ``measure``."""
    import paperworks.structure.layerwise  # noqa: F401

    torch.randn(8, 8).matmul(torch.randn(8, 8))  # the thread pool and the buffers of the BLAS
    with UsageMeter() as usage:
        scores = scores_of(way, arguments)
    save_file(scores, arguments.folder / f"{way}.safetensors")
    print(json.dumps({"over": usage.peak_bytes - usage.start_bytes, "seconds": usage.seconds}))


def measure(way: str, folder: Path, arguments: argparse.Namespace, budget: int) -> dict[str, Any]:
    """One way in a child process, on the checkpoint in ``folder``."""
    command = [sys.executable, __file__, "--child", way, "--folder", str(folder), "--budget", str(budget)]
    for name in ("sequences", "length", "batch_size"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def difference(folder: Path, one: str, other: str) -> float:
    """The largest difference of two ways' scores, relative to the largest score of the same set."""
    left, right = (load_file(folder / f"{way}.safetensors") for way in (one, other))
    assert left.keys() == right.keys()
    return max(float((left[n] - right[n]).abs().max() / right[n].abs().max()) for n in left)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=16, help="calibration sequences")
    parser.add_argument("--length", type=int, default=128, help="tokens of a sequence")
    parser.add_argument("--batch-size", type=int, default=4, help="sequences computed together")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="which models")
    parser.add_argument("--scores", nargs="+", choices=("forward", "Taylor"), default=["forward", "Taylor"])
    parser.add_argument("--streamed-only", action="store_true", help="leave out what needs the model in memory")
    parser.add_argument("--folder", type=Path, help="where the checkpoints are written (default: a temporary folder)")
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--budget", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        score_in_this_process(arguments.child, arguments)
        return
    from paperworks.structure.layerwise import layerwise_memory_bytes

    ways = [way for way in WAYS if way.split(",")[0] in arguments.scores]
    ways = [way for way in ways if way.endswith("streamed") or not arguments.streamed_only]
    for size in (SIZES[name] for name in arguments.sizes):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as root:
            folder = Path(root)
            (folder / "dense").mkdir()
            count = write_checkpoint(size, folder / "dense")
            stream = 4 * arguments.sequences * arguments.length * size["hidden_size"]
            print(f"{count:,} parameters, {4 * count / MIB:,.0f} MiB in float32; the stream {stream / MIB:,.0f} MiB")
            for way in ways:
                budgets = (0, stream) if way == "forward, streamed" else (0,)
                for budget in budgets:
                    found = measure(way, folder, arguments, budget)
                    line = f"{way:20} {found['over'] / MIB:>8,.0f} MiB over the start, {found['seconds']:>5.0f} s"
                    if way.endswith("streamed"):
                        parts = layerwise_memory_bytes(
                            folder / "dense",
                            arguments.length,
                            sequences=arguments.sequences,
                            activation_budget=budget,
                            batch_size=arguments.batch_size,
                            taylor=way.startswith("Taylor"),
                        )
                        said = ", ".join(f"{name} {value / MIB:,.0f}" for name, value in parts.items())
                        line += f"; budget {budget / MIB:,.0f}; at most {sum(parts.values()) / MIB:,.0f} ({said})"
                    print(line, flush=True)
            for one, other in () if arguments.streamed_only else zip(ways[::2], ways[1::2], strict=True):
                print(f"{one} and {other}: largest difference {difference(folder, one, other):.1e}")


if __name__ == "__main__":
    main()
