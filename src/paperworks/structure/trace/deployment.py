"""What a cut is for: ONNX files that a runtime confirms, and measured time beside the dense model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils.benchmark import Timer

from paperworks.errors import InputError
from paperworks.extras import require_extra
from paperworks.nn import evaluation_mode
from paperworks.runs.files import new_file
from paperworks.structure.trace.capture import Inputs, arguments, quiet, tensors_of
from paperworks.structure.trace.positions import largest_difference


@dataclass(frozen=True)
class Latency:
    """Seconds of one forward: median and 95th percentile over rounds; ``threads`` of torch."""

    median: float
    p95: float
    rounds: int
    threads: int


def measure_latency(
    models: dict[str, nn.Module], inputs: Inputs, *, rounds: int = 15, threads: int = 1, seconds: float = 0.05
) -> dict[str, Latency]:
    """Time one forward of each model at ``inputs``, in turns, so that a busy machine slows all of them alike.

    The ratio of multiply-accumulates is not the ratio of these times: small layers are bound by memory and overhead.

    Parameters
    ----------
    rounds : how often all models take their turn, after one round to warm up.
    threads : of torch, while it measures.
    seconds : how long a turn is at least.
    """
    if rounds < 1 or not models:
        raise InputError("rounds", f"{rounds} of {len(models)} models", "at least one round of one model")
    args, kwargs = arguments(inputs)
    times: dict[str, list[float]] = {name: [] for name in models}
    with evaluation_mode(*models.values()), torch.no_grad():
        timers = {
            name: Timer(
                "model(*args, **kwargs)", globals={"model": m, "args": args, "kwargs": kwargs}, num_threads=threads
            )
            for name, m in models.items()
        }
        for round_number in range(rounds + 1):
            for name, timer in timers.items():
                found = timer.blocked_autorange(min_run_time=seconds).median
                if round_number:
                    times[name].append(found)
    return {
        name: Latency(float(np.median(row)), float(np.percentile(row, 95)), rounds, threads)
        for name, row in times.items()
    }


def export_onnx(
    model: nn.Module, example_inputs: Inputs, path: str | Path, *, tolerance: float = 1e-4, any_batch: bool = False
) -> float:
    """Write a model as ONNX to a new file, and run it in onnxruntime at the example inputs.

    Returns the largest difference of its outputs, relative to the largest output (or 1). Needs ``onnx``, ``onnxscript``
    and ``onnxruntime``.

    Parameters
    ----------
    any_batch : the file takes any number of examples, not that of the example inputs (two or more) alone. It is run
        with other numbers as well.

    Raises
    ------
    InputError : the file exists, torch cannot export the model, or the runtime's outputs differ by more than
        ``tolerance``; no file is left then.
    """
    require_extra("onnx", "an ONNX file")
    import onnxruntime

    args, kwargs = arguments(example_inputs)
    tried = [(args, kwargs)]
    options: dict[str, Any] = {}
    if any_batch:
        batch = torch.export.Dim("batch", min=1, max=65536)
        shapes = pytree.tree_map_only(torch.Tensor, lambda _: {0: batch}, (args, kwargs))
        options["dynamic_shapes"] = shapes[1] if kwargs else shapes[0]
        for change in (lambda x: x[:1], lambda x: torch.cat([x, x, x[:1]])):
            tried.append(pytree.tree_map_only(torch.Tensor, change, (args, kwargs)))
    with new_file(Path(path), "path") as aside, evaluation_mode(model), torch.no_grad():
        try:
            with quiet():  # of packages that are not installed
                # a dict at the end of the arguments would be taken for keyword arguments
                whole = (*args, kwargs)
                program: Any = torch.onnx.export(model, whole, dynamo=True, verbose=False, **options)
        except Exception as error:
            cause = error.__cause__ or error  # the error itself is a page about what torch tried
            said = f"{type(cause).__name__}: {str(cause)[:200]}"
            raise InputError("model", said, "a model that torch.onnx exports") from error
        program.save(str(aside), external_data=False)
        try:
            session = onnxruntime.InferenceSession(str(aside), providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own kinds have no common one
            said = f"{type(error).__name__}: {str(error)[:200]}"
            raise InputError("model", said, "operators and a type (float32) that onnxruntime has") from error
        names, difference = [entry.name for entry in session.get_inputs()], 0.0
        for inputs in tried:
            leaves = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, torch.Tensor)]
            feeds = dict(zip(names, (leaf.numpy() for leaf in leaves), strict=True))
            found = [torch.from_numpy(np.asarray(value)) for value in session.run(None, feeds)]
            difference = max(difference, largest_difference(tensors_of(model(*inputs[0], **inputs[1])), found))
        if not difference <= tolerance:
            raise InputError("model", f"ONNX outputs that differ by {difference:.3g}", f"at most {tolerance}")
    return difference
