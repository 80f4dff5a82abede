"""Memory of slicing a checkpoint folder layer by layer: measured on two sizes, projected to 7 billion parameters.

    python benchmarks/slicegpt_memory.py [--sequences 16] [--length 256] [--batch-size 4] [--sizes small] [--folder DIR]

For each of two randomly initialised Llama models (about 0.3 and 1.1 billion parameters, bfloat16) the checkpoint is
written shard by shard, sliced by 25 % in a process of its own with every activation on disk, and the peak of that
process's resident memory over its start is set beside two things: the size of the model's weights, and the formula of
``predicted_peak``, which counts what is alive at once. The second projection to 7B is the line through the two measured
peaks, as a function of the numbers in one layer (``line_through``); it is an extrapolation by a factor of four.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from paperworks.structure.allocator import LIBRARY_BYTES
from paperworks.structure.residual_stream import CHUNK_BYTES

SMALL = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 18,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
}
LARGE = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 20,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
}
SEVEN = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
}
SIZES = {"small": SMALL, "large": LARGE}
SLICING = 0.25


def config_of(size: dict[str, int]) -> LlamaConfig:
    """A Llama with a vocabulary of 32,000 and a head of its own, as Llama-2 has."""
    return LlamaConfig(vocab_size=32000, tie_word_embeddings=False, dtype="bfloat16", **size)


def write_checkpoint(size: dict[str, int], folder: Path) -> int:
    """Write random weights, one shard per module of the model, and return their number."""
    config = config_of(size)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(0)
    parts: dict[str, list[str]] = {}
    for name in model.state_dict():
        pieces = name.split(".")
        parts.setdefault(".".join(pieces[:3]) if "layers" in pieces else name, []).append(name)
    weight_map: dict[str, str] = {}
    count = 0
    for number, names in enumerate(parts.values()):
        tensors = {}
        for name in names:
            shape = model.get_parameter(name).shape
            tensors[name] = torch.ones(shape, dtype=torch.bfloat16)
            if len(shape) > 1:
                scale = 0.02 / math.sqrt(2 * config.num_hidden_layers) if "o_proj" in name or "down" in name else 0.02
                tensors[name].normal_(0, scale, generator=generator)
            count += tensors[name].numel()
        file = f"model-{number:05d}.safetensors"
        save_file(tensors, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": 2 * count}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    return count


def predicted_peak(size: dict[str, int], batch_size: int, length: int) -> dict[str, float]:
    """Bytes held at once over the process's start, in the most demanding moment of a layer and of the ends.

    Layer: its weights in float32 (4 bytes a number; they are read one by one, and written in the 4 bytes that bfloat16
    and its serialised copy take), the two residual matrices in float32; the covariance, its eigenvectors, the workspace
    of the eigensolver and the basis in float64 (6 D^2 numbers of 8 bytes); pieces of a matrix in float64; the
    activations of one batch in float32, feed-forward width included. Ends: the head in bfloat16 (V D numbers), read and
    written, beside what is left of a layer's statistics. Both: what the libraries load when they are first used.
    """
    d, f, vocabulary = size["hidden_size"], size["intermediate_size"], 32000
    layer = 4 * d * d + 3 * d * f
    tokens = batch_size * length
    activations = 4 * tokens * (6 * d + 3 * f)
    statistics = 8 * 6 * d * d
    pieces = 3 * CHUNK_BYTES
    at_layer = 4 * layer + 4 * 2 * d * d + statistics + pieces + activations + LIBRARY_BYTES
    at_head = 2 * 2 * vocabulary * d + 8 * 2 * d * d + pieces + LIBRARY_BYTES
    return {"layer": at_layer, "head": at_head, "peak": max(at_layer, at_head)}


def layer_numbers(size: dict[str, int]) -> int:
    """Weights of one layer: four square matrices and three of the feed-forward."""
    return 4 * size["hidden_size"] ** 2 + 3 * size["hidden_size"] * size["intermediate_size"]


def line_through(points: list[tuple[int, int]], x: int) -> float:
    """The value at ``x`` of the line through the first and the last point."""
    (x0, y0), (x1, y1) = points[0], points[-1]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def slice_in_this_process(arguments: argparse.Namespace) -> None:
    """Slice the folder and print the report as JSON: the child's half of ``measure``."""
    from paperworks.papers.slicegpt import SliceGPT

    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 32000, (arguments.sequences, arguments.length), generator=generator)
    method = SliceGPT(SLICING, activation_budget=0, spill_dir=arguments.folder.parent)
    report = method.fit(arguments.folder, ids, batch_size=arguments.batch_size, output_dir=arguments.output).report_
    print(json.dumps(report.to_dict()))


def measure(size: dict[str, int], arguments: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Write a model, slice it in a child process, and gather its figures."""
    dense, sliced = root / "dense", root / "sliced"
    dense.mkdir()
    count = write_checkpoint(size, dense)
    command = [sys.executable, __file__, "--child", "--folder", str(dense), "--output", str(sliced)]
    for name in ("sequences", "length", "batch_size"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    report = json.loads(done.stdout.strip().splitlines()[-1])
    return {
        "parameters": count,
        "weights": 2 * count,
        "start": report["start_bytes"],
        "over": report["peak_bytes"] - report["start_bytes"],
        "predicted": predicted_peak(size, arguments.batch_size, arguments.length)["peak"],
        "spilled": report["spilled_bytes"],
        "seconds": report["seconds"],
        "after": report["parameters_after"],
        "tokens": report["calibration_tokens"],
    }


def main() -> None:
    """Measure both sizes, then project."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=16, help="calibration sequences")
    parser.add_argument("--length", type=int, default=256, help="tokens of a sequence")
    parser.add_argument("--batch-size", type=int, default=4, help="sequences computed together")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="which models")
    parser.add_argument("--folder", type=Path, help="where the checkpoints are written (default: a temporary folder)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        slice_in_this_process(arguments)
        return
    gib = 2**30
    print("model        parameters   weights   peak over start   formula   ratio   on disk   time")
    points = []
    for name, size in ((name, SIZES[name]) for name in arguments.sizes):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as root:
            found = measure(size, arguments, Path(root))
        points.append((layer_numbers(size), found["over"]))
        print(
            f"{name:<12} {found['parameters']:>11,} {found['weights'] / gib:>7.2f} G {found['over'] / gib:>14.2f} G"
            f" {found['predicted'] / gib:>8.2f} G {found['over'] / found['predicted']:>7.2f}"
            f" {found['spilled'] / gib:>7.2f} G {found['seconds']:>5.0f} s"
            f"   (start {found['start'] / gib:.2f} G; {found['after']:,} parameters after)",
            flush=True,
        )
    for sequences, length, batch in ((arguments.sequences, arguments.length, arguments.batch_size), (128, 2048, 4)):
        seven = predicted_peak(SEVEN, batch, length)
        disk = 4 * sequences * length * SEVEN["hidden_size"]
        print(
            f"7B, {sequences} x {length} tokens, batch {batch}: {seven['peak'] / gib:.2f} G over the start, by formula "
            f"(a layer {seven['layer'] / gib:.2f} G, the head {seven['head'] / gib:.2f} G), {disk / gib:.1f} G of "
            "activations on disk"
        )
    if len(points) > 1:
        projected = line_through(points, layer_numbers(SEVEN))
        print(
            f"7B, batch {arguments.batch_size} x {arguments.length}, by the line through the measured peaks: "
            f"{projected / gib:.1f} G over the start"
        )


if __name__ == "__main__":
    main()
