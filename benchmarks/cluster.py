"""What a Ray cluster costs and brings: overhead of a task, studies of five papers on 1 and 2 nodes, a node killed.

    python benchmarks/cluster.py [--papers paging,fold-se,...] [--out FILE]

Nodes of one CPU each are started on this machine. Studies run in their fast version, each once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster as Nodes

from paperworks import catalog, reproduction
from paperworks.runs.cluster import Cluster, Work

PAPERS = "paging,loki,fold-se,permutations-ntk,music-word2vec"
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray gives its workers what others leave; here others work too
SERIAL = [4, 12]
"""Tasks of the two sizes whose difference gives the cost of one task."""


def empty_works(folder: Path, n: int) -> list[Work]:
    """Work that does nothing: a process that starts and ends."""
    works = []
    for i in range(n):
        own = folder / f"{n}-{i}"
        own.mkdir(parents=True)
        works.append(Work(f"{n}-{i}", "this", ["{root}"], {"here": own}))
    return works


def overhead() -> dict[str, float]:
    """Seconds of an empty task on a node of one CPU, of the same process here, and of joining the cluster."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1})
        begun = time.perf_counter()
        with Cluster(nodes.address) as cluster:
            joined = time.perf_counter()
            times = []
            for n in SERIAL:
                at = time.perf_counter()
                cluster.execute(empty_works(Path(folder), n))
                times.append(time.perf_counter() - at)
        nodes.shutdown()
    return {
        "start of a node": begun - started,
        "joining": joined - begun,
        "a task": (times[1] - times[0]) / (SERIAL[1] - SERIAL[0]),
    }


def reproduce(papers: list[str], count: int) -> dict[str, Any]:
    """Wall-clock seconds of all studies on so many nodes, and the sum of what the studies say they took."""
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(count - 1):
        nodes.add_node(num_cpus=1)
    measured: list[reproduction.Measured] = []
    with tempfile.TemporaryDirectory() as home, Cluster(nodes.address) as cluster:
        started = time.perf_counter()
        chosen = [catalog.find(slug) for slug in papers]
        reproduction.measure_on_cluster(cluster, chosen, measured.append, fast=True, root=Path(home))
        seconds = time.perf_counter() - started
    nodes.shutdown()
    return {
        "nodes": count,
        "seconds": seconds,
        "studies": sum(len(m.studies) for m in measured),
        "errors": {m.paper.slug: m.errors for m in measured if m.errors},
        "sum of the studies": sum(s["seconds"] for m in measured for s in m.studies),
    }


def takeover() -> dict[str, float]:
    """Seconds from the death of a node to its work going on elsewhere; items that were done again, of 40."""
    with tempfile.TemporaryDirectory() as folder:
        site, here, log = Path(folder) / "site", Path(folder) / "here", Path(folder) / "log"
        for made in (site, here):
            made.mkdir()
        (site / "count_to_forty.py").write_text(
            "import os, pathlib, sys, time\n"
            "for i in range(40):\n"
            "    mark = pathlib.Path(sys.argv[1]) / str(i)\n"
            "    if not mark.exists():\n"
            "        time.sleep(0.2)\n"
            "        with open(sys.argv[2], 'a') as out: out.write(f'{os.getpid()} {time.time()}\\n')\n"
            "        mark.write_text('')\n"
        )
        os.environ["PYTHONPATH"] = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
        nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0})
        first = nodes.add_node(num_cpus=1)
        killed: list[float] = []

        def kill() -> None:
            if not killed and len(list(here.iterdir())) >= 10:
                nodes.add_node(num_cpus=1)
                killed.append(time.time())
                nodes.remove_node(first, allow_graceful=False)

        with Cluster(nodes.address) as cluster:
            cluster.execute([Work("count", "count_to_forty", ["{root}/here", str(log)], {"here": here})], kill)
        nodes.shutdown()
        lines = [line.split() for line in log.read_text().splitlines()]
    first_process = lines[0][0]
    after = min(float(at) for process, at in lines if process != first_process)
    return {"seconds until it went on": round(after - killed[0], 2), "items done again": len(lines) - 40.0}


def main() -> None:
    """Measure all three, and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--papers", default=PAPERS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    papers = given.papers.split(",")
    found: dict[str, Any] = {"ray": ray.__version__, "cores": os.cpu_count()}

    def keep(name: str, value: Any) -> None:
        found[name] = {"measured": value, "load": round(os.getloadavg()[0], 1)}
        print(json.dumps({name: found[name]}), flush=True)
        if given.out is not None:
            given.out.write_text(json.dumps(found, indent=1))

    costs = [overhead() for _ in range(given.repeats)]
    keep("overhead, seconds (median)", {k: round(statistics.median(c[k] for c in costs), 2) for k in costs[0]})
    for count in (1, 2):
        keep(f"reproduce on {count}", reproduce(papers, count))
    keep("a killed node", [takeover() for _ in range(given.repeats)])


if __name__ == "__main__":
    main()
