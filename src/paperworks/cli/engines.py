"""The flags that choose where runs are executed, and the engine that they name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from paperworks.cli.options import parse_bytes, parse_seconds
from paperworks.errors import InputError

if TYPE_CHECKING:
    from paperworks.runs import Engine

EngineName = Literal["local", "child", "ray"]
ENGINE = "where it runs: in this process, in a child process, or on a Ray cluster"
ADDRESS = "HOST:PORT of the head of the Ray cluster (none: that of RAY_ADDRESS, else one of this machine alone)"
CPUS = "CPUs of a node that are kept for it on a Ray cluster"
GPUS = "GPUs of a node that are kept for it on a Ray cluster (none: one if --device is cuda)"
Address = Annotated[str | None, Parameter(help=ADDRESS)]


def make_engine(
    name: str,
    *,
    address: str | None = None,
    cpus: float | None = None,
    gpus: float | None = None,
    time_limit: str | None = None,
    memory_limit: str | None = None,
    in_parts: bool = False,
) -> Engine:
    """The engine of these flags. Raises InputError for flags that do not go together."""
    from paperworks.runs.engine import ChildEngine, LocalEngine
    from paperworks.runs.limits import RunLimits

    check_ray_flags(name, address=address, cpus=cpus, gpus=gpus)
    seconds = parse_seconds(time_limit) if time_limit else None
    memory = parse_bytes(memory_limit) if memory_limit else None
    if name == "ray":
        from paperworks.runs.cluster import RayEngine

        limits = RunLimits(seconds, memory)
        return RayEngine(address, cpus=1.0 if cpus is None else cpus, gpus=gpus, limits=limits, in_parts=in_parts)
    if name == "child" or seconds or memory:
        return ChildEngine(seconds, memory)
    return LocalEngine()


def check_ray_flags(engine: str, **given: Any) -> None:
    """Raise InputError for flags of the Ray engine beside another engine."""
    for name, value in given.items():
        if value is not None and engine != "ray":
            raise InputError(f"--{name}", f"{value} with the engine '{engine}'", "--engine ray")
