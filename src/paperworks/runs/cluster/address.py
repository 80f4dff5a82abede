"""Joining a Ray cluster: an address that nobody answers is refused at once, and so are nodes with another version."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from paperworks.errors import InputError
from paperworks.extras import require_extra
from paperworks.version import __version__

CONNECT_SECONDS = 3.0
"""How long a machine may take to accept a connection."""
ANSWER_SECONDS = 20.0
"""How long Ray may then take to say that it is there. A process of its own asks: Ray itself would try for minutes."""
ASK = "import sys; from ray.scripts.scripts import main; print('asks', flush=True); sys.exit(main())"
"""That process. The time counts from the line that it writes: the import takes long on a machine that is busy."""
PROBE_SECONDS = 60.0
"""How long a node may take to start the process that says what it has installed."""
ENVIRONMENT = "RAY_ADDRESS"
EXPECTED = "HOST:PORT of the head of a Ray cluster that runs (ray start --head), from a machine that is a node of it"


def join(address: str | None) -> bool:
    """Make this process one of a Ray cluster; returns whether it was not one before.

    Without an address that of the environment (``RAY_ADDRESS``) is taken, and without that a cluster of this machine
    alone is started, which ends with this process. A process that is in a cluster stays in it.

    Raises InputError if Ray is not installed, if nobody answers at the address within seconds, or if a node has other
    versions of Paperworks, Ray or Python than this process.
    """
    require_extra("ray", "the engine 'ray'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    import ray

    chosen = address or os.environ.get(ENVIRONMENT) or None
    joined = not ray.is_initialized()
    if joined:
        if chosen is not None:
            _require_answer(chosen)
        try:
            ray.init(
                address=chosen or "local", log_to_driver=False, include_dashboard=False if chosen is None else None
            )
        except (RuntimeError, ConnectionError, ValueError) as error:  # also of another version of Ray or Python
            raise InputError("address", f"{chosen or 'a new cluster'}: {error}", EXPECTED) from None
    try:
        require_same_version()
    except BaseException:
        if joined:
            ray.shutdown()
        raise
    return joined


def _require_answer(address: str) -> None:
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise InputError("address", repr(address), EXPECTED)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError("address", f"{address}, where nobody answers ({reason})", EXPECTED) from None
    ask = [sys.executable, "-c", ASK, "health-check", "--skip-version-check", "--address", address]
    with subprocess.Popen(ask, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as asking:
        assert asking.stdout is not None
        asking.stdout.readline()
        try:
            answered = asking.wait(ANSWER_SECONDS) == 0
        except subprocess.TimeoutExpired:
            answered = False
        finally:
            asking.kill()
    if not answered:
        raise InputError(
            "address", f"{address}, which did not answer as Ray does within {ANSWER_SECONDS:g} seconds", EXPECTED
        )


def require_same_version() -> None:
    """Raise InputError, naming the node, if a node of the cluster has another version of Paperworks, or none."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def installed() -> str:
        # A function inside another is sent as it is; one of a module would have to be installed there.
        import subprocess
        import sys

        ask = "from paperworks.version import __version__; print(__version__)"
        return subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True).stdout.strip()

    probe = ray.remote(num_cpus=0, max_retries=0)(installed)
    nodes = alive_nodes()
    asked = [
        probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote()
        for node in nodes
    ]
    answered, _ = ray.wait(asked, num_returns=len(asked), timeout=PROBE_SECONDS)
    for node, reference in zip(nodes, asked, strict=True):
        where = f"the node {node['NodeManagerAddress']}"
        if reference not in answered:
            continue  # a node that is being lost: what is to run there is given to another one
        try:
            version = ray.get(reference)
        except ray.exceptions.RayError:
            continue
        require_version(where, version)


def require_version(where: str, version: str) -> None:
    """Raise InputError if the version that a node has is not that of this process."""
    if version != __version__:
        found = f"{where} with {f'Paperworks {version}' if version else 'no Paperworks'}"
        raise InputError("address", found, f"Paperworks {__version__} on every node, as here")


def require_room(cpus: float, gpus: float) -> None:
    """Raise InputError if no node of the cluster has so many CPUs and GPUs: the work would wait for ever."""
    nodes = [node["Resources"] for node in alive_nodes()]
    if any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        return
    most = _most(nodes, "CPU"), _most(nodes, "GPU")
    name, asked = ("gpus", gpus) if gpus > most[1] else ("cpus", cpus)
    raise InputError(
        name, f"{asked:g}", f"what one node of the cluster has (at most {most[0]:g} CPUs, {most[1]:g} GPUs)"
    )


def _most(nodes: Sequence[dict[str, float]], name: str) -> float:
    return max((node.get(name, 0.0) for node in nodes), default=0.0)


def alive_nodes() -> list[dict[str, Any]]:
    """The nodes of the cluster, as ``ray.nodes()`` has them."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]
