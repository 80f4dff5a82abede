"""The engine for Ray: a run of the store is executed on a node of a cluster, and comes back into the same store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paperworks.errors import InputError
from paperworks.runs.cluster.work import Cluster, Ended, Work, seen_by_all
from paperworks.runs.config import Config, build_config, is_sequence
from paperworks.runs.engine import execute_here
from paperworks.runs.limits import RunLimits
from paperworks.runs.processes import on_interrupt
from paperworks.runs.recipe import load_recipe
from paperworks.runs.run import EventTail, Listener
from paperworks.runs.store import RunFailed, RunRecord, Store

INPUTS = "inputs"


class RayEngine:
    """Executes runs on the nodes of a Ray cluster.

    Files that the options name are sent, unless all nodes have them under the same path. Events, checkpoints and files
    come back while the run goes on. When its node is lost, the run goes on elsewhere from the last checkpoint that came
    back; when this process is, ``paperworks resume`` goes on from there.

    Parameters
    ----------
    address : ``HOST:PORT`` of the cluster's head; None for that of ``RAY_ADDRESS``, else for one of this machine alone.
    cpus : CPUs of a node that are kept for a run.
    gpus : GPUs; by default one if the run's device is ``cuda``, else none.
    limits : of the run's process on the node.
    retries : how often a run is taken up again after its worker was lost.
    in_parts : for recipes that divide their work by themselves (``Run.cluster``): the recipe runs in this process, and
        its parts run on the nodes.
    inputs : further files and folders to send, by the relative paths by which the options name them.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        cpus: float = 1.0,
        gpus: float | None = None,
        limits: RunLimits | None = None,
        retries: int = 3,
        in_parts: bool = False,
        inputs: Mapping[str, Path] | None = None,
    ) -> None:
        check_share("cpus", cpus, least=1.0)
        if gpus is not None:
            check_share("gpus", gpus)
        self.address, self.cpus, self.gpus = address, cpus, gpus
        self.limits, self.retries, self.in_parts = limits or RunLimits(), retries, in_parts
        self.inputs = dict(inputs or {})

    def execute(self, store: Store, run_id: str, listener: Listener | None = None) -> RunRecord:
        """See ``Engine.execute``."""
        try:
            with Cluster(self.address, self.retries) as cluster:
                if self.in_parts:
                    return execute_here(store, run_id, listener, cluster=cluster)
                return self._execute(cluster, store, run_id, listener)
        except InputError:
            store.discard_untouched(run_id)
            raise

    def _execute(self, cluster: Cluster, store: Store, run_id: str, listener: Listener | None) -> RunRecord:
        interrupts: list[None] = []
        with store.claim(run_id) as folder:
            store.state(run_id).mkdir(parents=True, exist_ok=True)
            about = store.about(folder)
            recipe = load_recipe(about["slug"], about["module"])
            config = build_config(recipe.config, json.loads((folder / "config.json").read_text(encoding="utf-8")))
            inputs, moved = _inputs(config)
            events = EventTail(folder / "events.jsonl", store.runs / run_id / "events.jsonl", listener)

            def tick() -> None:
                events.forward()
                if len(interrupts) > 1:
                    raise KeyboardInterrupt
                if interrupts:
                    store.request_cancel(run_id)

            def note(work: Work, text: str) -> None:
                if listener is not None:
                    listener({"kind": "log", "level": "info", "text": text})

            work = Work(
                run_id,
                "paperworks.runs.child",
                ["{root}", run_id, json.dumps(moved)],
                {f"working/{run_id}": folder, f"state/{run_id}": store.state(run_id)},
                {**inputs, **self.inputs},
                {f"runs/{run_id}": folder},
                self.cpus,
                gpus_for(config.device) if self.gpus is None else self.gpus,
                self.limits,
            )
            with on_interrupt(lambda: interrupts.append(None)):
                ended = cluster.execute([work], tick, note)[run_id]
            events.forward()
            if (folder / "report.json").exists() and ended.code == 0:
                return store.adopt(run_id)
            failure = _failure(ended)
            if ended.passed or ended.code is None:
                store.stop(run_id, failure, 0.0)
            failure = store.error(run_id) or failure
        if isinstance(failure, InputError):
            store.discard_untouched(run_id)
        raise failure


def check_share(name: str, asked: float, least: float = 0.0) -> None:
    """Raise InputError for a number of CPUs or GPUs that Ray cannot keep: parts above one, or less than ``least``."""
    if not (least <= asked < float("inf") and (asked <= 1 or asked == int(asked))):
        raise InputError(name, f"{asked:g}", f"{least:g} or more, above 1 a whole number")


def gpus_for(device: str) -> float:
    """GPUs to keep for a run with this option ``device``."""
    return 1.0 if device.startswith("cuda") else 0.0


def _failure(ended: Ended) -> Exception:
    return RunFailed(ended.passed or f"the run's process ended with {ended.ending}")


def _inputs(config: Config) -> tuple[Mapping[str, Path], dict[str, Any]]:
    """What is to be sent, by its place on the node, and the options that name it there."""
    named: dict[str, list[str | Path]] = {}
    for name, text, mark in config.named_files():
        path = Path(text).expanduser().absolute()
        there = bool(text) and not mark.is_name(text) and path.exists()
        named.setdefault(name, []).append(path if there else text)
    shared = seen_by_all(path for values in named.values() for path in values if isinstance(path, Path))
    sent: dict[str, Path] = {}
    moved: dict[str, Any] = {}
    for name, values in named.items():
        places = []
        for number, value in enumerate(values):
            place = str(value)
            if isinstance(value, Path) and not shared[value]:
                place = f"{INPUTS}/{name}/{number}/{value.name}"
                sent[place] = value
            places.append(place)
        moved[name] = places if is_sequence(type(config).model_fields[name].annotation) else places[0]
    return sent, moved
