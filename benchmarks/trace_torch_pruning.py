"""Any module made smaller: paperworks.structure.trace beside Torch-Pruning 1.6.1, in one run.

    pip install torch-pruning==1.6.1
    python benchmarks/trace_torch_pruning.py [--families resnet vit ...] [--skip-large]

First, small random models of nine families of transformers (not Llama: on grouped queries Torch-Pruning's search for
groups does not end). For each tool: whether it finishes at half of the units with
a model that runs, the time (analysis, magnitude scores, cut), and, for paperworks, the largest difference of cut and
masked model. Torch-Pruning is told the number of heads of every attention, and which layers give the outputs; it also
cuts the stream that norms are taken over, which paperworks lists and leaves out of the default. Its groups are those
that its own iterator gives, without the layers of the outputs; they are compared by their members (layer, side).

Second, a network of the size of ResNet-50 (25.6 M parameters) at 64 x 64 pixels, each tool in a process of its own:
seconds to trace, score by magnitude and cut, and the peak of memory over that of the loaded model.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "structure" / "trace"))


def members(names: dict[int, str], group: Any) -> frozenset[tuple[str, str]]:
    """(layer, side) of the layers with matrices in a group of Torch-Pruning."""
    found = set()
    for dependency, _ in group:
        name = names.get(id(dependency.target.module))
        if name is not None and isinstance(dependency.target.module, nn.Linear | nn.Conv2d):
            found.add((name, "out" if "out" in dependency.handler.__name__ else "in"))
        elif name is not None and isinstance(dependency.target.module, nn.Embedding):
            found.add((name, "out"))
    return frozenset(found)


def own_members(model: nn.Module, group: Any) -> frozenset[tuple[str, str]]:
    """The same of a traced group. A depthwise convolution counts on its output side, as it does there."""
    found = set()
    for piece in group.slices:
        module = model.get_submodule(piece.module)
        matrix = piece.param.endswith(".weight") and isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding)
        if matrix:
            out = piece.axis == 0 or isinstance(module, nn.Embedding)
            found.add((piece.module, "out" if out else "in"))
    return frozenset(found)


def heads_of(model: nn.Module) -> dict[nn.Module, int]:
    """How many heads the query, key and value layers of every attention have."""
    found: dict[nn.Module, int] = {}
    for module in model.modules():
        count = getattr(module, "num_attention_heads", None) or getattr(module, "num_heads", None)
        linear = [m for m in module.children() if isinstance(m, nn.Linear)]
        if isinstance(count, int) and len(linear) >= 3:
            names = {n: m for n, m in module.named_children() if isinstance(m, nn.Linear)}
            found |= {m: count for n, m in names.items() if n[0] in "qkv"}
    return found


def logits_of(output: Any) -> torch.Tensor:
    return output.logits if hasattr(output, "logits") else output.logits_per_image


def run_model(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return logits_of(model(**inputs))


def last_layers(model: nn.Module, inputs: dict[str, torch.Tensor]) -> list[nn.Module]:
    """Layers whose channels are those of an output: found by name in these families."""
    ends = ("classifier", "classifier.1", "lm_head", "decode_head.classifier", "text_projection", "visual_projection")
    return [m for n, m in model.named_modules() if n in ends and isinstance(m, nn.Linear | nn.Conv2d)]


def with_paperworks(model: nn.Module, inputs: Any, keep: float) -> tuple[nn.Module, Any, Any]:
    from paperworks.structure import magnitude_scores
    from paperworks.structure.trace import analyze, cut, ranked_plan

    groups = analyze(model, inputs)
    plan = ranked_plan(groups, magnitude_scores(model, groups.units), keep=keep)
    return cut(groups, plan), groups, plan


def with_torch_pruning(model: nn.Module, inputs: Any, keep: float, heads: bool = True) -> nn.Module:
    import torch_pruning

    pruner = torch_pruning.pruner.BasePruner(
        model,
        inputs,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=1 - keep,
        max_pruning_ratio=0.9,
        ignored_layers=last_layers(model, inputs),
        num_heads=heads_of(model) if heads else {},
        prune_num_heads=heads,
        forward_fn=(lambda m, x: logits_of(m(**x))) if isinstance(inputs, dict) else None,
    )
    pruner.step()
    return model


def groups_of_torch_pruning(model: nn.Module, inputs: Any) -> list[frozenset[tuple[str, str]]]:
    import torch_pruning

    graph = torch_pruning.DependencyGraph().build_dependency(
        model, example_inputs=inputs, forward_fn=lambda m, x: logits_of(m(**x))
    )
    names = {id(m): n for n, m in model.named_modules()}
    ends = last_layers(model, inputs)
    return [
        members(names, g) for g in graph.get_all_groups(ignored_layers=ends, root_module_types=[nn.Conv2d, nn.Linear])
    ]


def one_family(name: str) -> dict[str, Any]:
    from tiny_families import family

    from paperworks.structure.trace import masked_outputs
    from paperworks.structure.trace.capture import call
    from paperworks.structure.trace.positions import largest_difference

    model, inputs = family(name)
    row: dict[str, Any] = {"family": name}
    start = time.process_time()
    smaller, groups, plan = with_paperworks(copy.deepcopy(model), inputs, 0.5)
    row["ours_s"] = time.process_time() - start
    row["difference"] = largest_difference(masked_outputs(groups, plan), call(smaller, inputs))
    row["groups"] = len(groups)
    row["ours"] = {own_members(groups.model, g) for g in groups.values()}
    row["ours_left"] = sum(p.numel() for p in smaller.parameters()) / sum(p.numel() for p in model.parameters())
    try:
        row["theirs"] = groups_of_torch_pruning(copy.deepcopy(model), inputs)
    except Exception as error:
        row["theirs"], row["error"] = [], f"{type(error).__name__}: {str(error)[:70]}"
    peer = copy.deepcopy(model)
    start = time.process_time()
    try:
        with_torch_pruning(peer, inputs, 0.5)
        with torch.no_grad():
            run_model(peer, inputs)
        row["runs"] = True
    except Exception as error:
        row["runs"], row["error"] = False, f"{type(error).__name__}: {str(error).splitlines()[0][:70]}"
    row["theirs_s"] = time.process_time() - start
    return row


def show(row: dict[str, Any]) -> None:
    same = [g for g in row["theirs"] if g in row["ours"]]
    print(
        f"{row['family']:10} paperworks: {row['groups']} groups, {row['ours_s']:.2f} s, cut = masked to "
        f"{row['difference']:.1e}   Torch-Pruning: {len(row['theirs'])} groups ({len(same)} the same), "
        f"{row['theirs_s']:.2f} s, {'runs' if row['runs'] else 'fails: ' + row.get('error', '')}"
    )
    for group in row["theirs"]:
        if group not in row["ours"]:
            near = max(row["ours"], key=lambda g: len(g & group) / max(1, len(g | group)), default=frozenset())
            print(f"    only theirs {short(group - near)}; only in the nearest of ours {short(near - group)}")


def short(group: frozenset[tuple[str, str]]) -> str:
    names = sorted(f"{name}.{side}" for name, side in group)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if names else "nothing"


def large_model() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    model = ResNetForImageClassification(ResNetConfig(num_labels=1000)).eval()
    return model, {"pixel_values": torch.randn(2, 3, 64, 64)}


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def measure(which: str) -> dict[str, float]:
    """Seconds and bytes over the loaded model at the peak, for the large network."""
    model, inputs = large_model()
    if which == "paperworks":
        import paperworks.structure.scores
        import paperworks.structure.trace.cutting
        import paperworks.structure.trace.ranking  # noqa: F401
    else:
        import torch_pruning  # noqa: F401
    with torch.no_grad():
        model(**inputs)
    before = sum(p.numel() for p in model.parameters())
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the kernel's record of the peak starts anew
    memory, start, cpu = resident(), time.perf_counter(), time.process_time()
    if which == "paperworks":
        from paperworks.structure import magnitude_scores
        from paperworks.structure.trace import analyze, cut, ranked_plan

        groups = analyze(model, inputs)
        plan = ranked_plan(groups, magnitude_scores(model, groups.units), keep=0.5)
        model = cut(groups, plan, inplace=True)
    else:
        model = with_torch_pruning(model, inputs, 0.5, heads=False)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    with torch.no_grad():
        model(**inputs)
    left = sum(p.numel() for p in model.parameters())
    return {"before": before, "left": left, "seconds": seconds, "cpu": cpu, "extra": peak - memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="*")
    parser.add_argument("--skip-large", action="store_true")
    parser.add_argument("--only", choices=["paperworks", "torch-pruning"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if options.only:
        print(json.dumps(measure(options.only)))
        return
    from tiny_families import FAMILIES

    for name in [n for n in FAMILIES if n != "llama"] if options.families is None else options.families:
        show(one_family(name))
    if options.skip_large:
        return
    found = {}
    for which in ("paperworks", "torch-pruning"):
        command = [sys.executable, __file__, "--only", which]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        row = found[which] = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{which:14} {row['before'] / 1e6:.1f} M -> {row['left'] / 1e6:.1f} M parameters in {row['seconds']:.2f} s "
            f"({row['cpu']:.2f} s of processor time), {row['extra'] / 2**20:,.0f} MiB over the model"
        )
    ours, theirs = found["paperworks"], found["torch-pruning"]
    print(
        f"Torch-Pruning takes {theirs['cpu'] / ours['cpu']:.1f} times our processor time and "
        f"{theirs['extra'] / max(1, ours['extra']):.1f} times our memory"
    )


if __name__ == "__main__":
    main()
