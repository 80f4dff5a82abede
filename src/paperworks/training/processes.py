"""The processes of a training: its device, its random state, and what all processes must share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, broadcast

from paperworks.errors import InputError
from paperworks.nn import resolve_device
from paperworks.runs import Cancelled
from paperworks.training.settings import TrainSettings
from paperworks.training.sharding import allow_on_cpu


def make_accelerator(settings: TrainSettings, *, unused_parameters: bool) -> Accelerator:
    """The accelerator of one training. ``unused_parameters``: some parameters get no gradient in some steps.

    Raises InputError for a device or a precision that this machine does not have.
    """
    # accelerate keeps one state per process and refuses a second precision or device: start from none, as Trainer does
    AcceleratorState._reset_state(reset_partial_state=True)
    wanted = resolve_device(settings.device)
    if settings.precision == "fp16" and wanted.type != "cuda":
        raise InputError("precision", "fp16 on a machine or device without CUDA", "no or bf16")
    ddp = DistributedDataParallelKwargs(find_unused_parameters=unused_parameters)
    accelerator = Accelerator(
        cpu=settings.device.startswith("cpu"), mixed_precision=settings.precision, kwargs_handlers=[ddp]
    )
    allow_on_cpu(accelerator)
    if settings.device != "auto" and wanted.type != accelerator.device.type:
        raise InputError("device", settings.device, f"auto, cpu or {accelerator.device.type}")
    return accelerator


def step_optimizer(optimizer: AcceleratedOptimizer, accelerator: Accelerator) -> None:
    """One step of a prepared optimiser.

    ``AcceleratedOptimizer.step`` searches ``sys.path`` for the package of the LOMO optimisers twice a step, which is a
    fifth of the step of a small network. It is needed for a gradient scaler (fp16) and on XLA only.
    """
    if accelerator.scaler is None and accelerator.distributed_type != DistributedType.XLA:
        optimizer.optimizer.step()
    else:
        optimizer.step()


def until_any_is_cancelled(steps: Iterable[int], accelerator: Accelerator) -> Iterator[int]:
    """The steps, until any process is cancelled: then all of them are, so that none waits for another forever."""
    iterator = iter(steps)
    while True:
        cancelled: Cancelled | None = None
        try:
            step = next(iterator)
        except StopIteration:
            return
        except Cancelled as error:
            cancelled = error
        if accelerator.num_processes > 1:
            stops = torch.tensor(float(cancelled is not None), device=accelerator.device)
            if float(cast(torch.Tensor, accelerator.reduce(stops, "sum"))):
                raise cancelled or Cancelled
        elif cancelled is not None:
            raise cancelled
        yield step


def shared_number(value: float, accelerator: Accelerator) -> float:
    """The main process's value, in every process."""
    if accelerator.num_processes == 1:
        return value
    found = broadcast(torch.tensor(value, dtype=torch.float64, device=accelerator.device))
    return float(cast(torch.Tensor, found))


@torch.no_grad()
def share_buffers(model: torch.nn.Module, accelerator: Accelerator) -> None:
    """Give every process the main process's buffers: each has statistics of its own examples only (BatchNorm)."""
    if accelerator.num_processes == 1:
        return
    for buffer in model.buffers():
        broadcast(buffer)


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of PyTorch's global generators, on the CPU and on a CUDA or MPS device."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(device: torch.device, state: dict[str, torch.Tensor]) -> None:
    """Go on from what ``random_state`` gave."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    if device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


@contextmanager
def own_randomness(device: torch.device, seed: int) -> Iterator[None]:
    """Dropout draws from PyTorch's global generators and no others: seed them, and restore them afterwards."""
    before = random_state(device)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        set_random_state(device, before)
