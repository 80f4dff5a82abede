"""``paperworks doctor``: what is installed, where files lie, and what this machine offers."""

from __future__ import annotations

import json as jsonlib
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

import paperworks

State = Literal["good", "missing", "bad"]
MARKS: dict[State, str] = {"good": "✓", "missing": "–", "bad": "✗"}
LEAST_FREE_BYTES = 2**30


@dataclass(frozen=True)
class Check:
    """One line of what was looked at. ``advice`` says what to do where something is missing or bad."""

    name: str
    state: State
    found: str
    advice: str = ""


def doctor(*, json: Annotated[bool, Parameter(name="--json", negative="", help="print JSON")] = False) -> int:
    """Show what is installed, which extras are missing, where files lie, free space and devices.

    The exit code is 1 if something is bad: a folder that cannot be written, a damaged run, or too little space.
    """
    checks = [_python(), *_extras(), *_folders(), _store(), *_machine()]
    if json:
        print(jsonlib.dumps([asdict(check) for check in checks], indent=1))
    else:
        for check in checks:
            line = f"{MARKS[check.state]} {check.name}: {check.found}"
            print(line + (f" ({check.advice})" if check.advice else ""))
    return int(any(check.state == "bad" for check in checks))


def _python() -> Check:
    python = f"Python {platform.python_version()}, {platform.platform()}"
    return Check("paperworks", "good", f"{paperworks.__version__} on {python}")


def _extras() -> list[Check]:
    from paperworks.catalog import papers
    from paperworks.extras import declared_extras, missing_packages

    needed: dict[str, int] = {}
    for paper in papers():
        if paper.has_recipe and paper.extra:
            needed[paper.extra] = needed.get(paper.extra, 0) + 1
    checks = []
    for extra in declared_extras():
        missing = missing_packages(extra)
        count = needed.get(extra, 0)
        use = f"; needed by {count} {'paper' if count == 1 else 'papers'}" if count else ""
        if missing:
            shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
            advice = f"pip install 'paperworks[{extra}]'"
            checks.append(Check(f"extra {extra}", "missing", f"without {shown}{use}", advice))
        else:
            checks.append(Check(f"extra {extra}", "good", f"installed{use}"))
    return checks


def _folders() -> list[Check]:
    from paperworks.runs.render import format_bytes
    from paperworks.runs.store import home

    checks = []
    place = home()
    for name, folder in (("home", place), ("inputs", place / "inputs"), ("runs", place / "runs")):
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
        advice = "" if writable else "set PAPERWORKS_HOME to a folder that can be written"
        state: State = "good" if writable else "bad"
        checks.append(Check(name, state, f"{folder}{'' if folder.exists() else ', not made yet'}", advice))
    there = next(parent for parent in (place, *place.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    scarce = free < LEAST_FREE_BYTES
    advice = "free some space: 'paperworks remove' removes runs" if scarce else ""
    return [*checks, Check("free space", "bad" if scarce else "good", format_bytes(free), advice)]


def _store() -> Check:
    from paperworks.runs.store import Store

    records = Store().records()
    damaged = [record.id for record in records if record.status == "damaged"]
    if damaged:
        return Check("store", "bad", f"{len(records)} runs, damaged: {', '.join(damaged[:3])}", "paperworks remove RUN")
    open_ones = sum(record.status in ("interrupted", "cancelled", "failed") for record in records)
    return Check("store", "good", f"{len(records)} runs" + (f", {open_ones} can be resumed" if open_ones else ""))


def _machine() -> list[Check]:
    import psutil

    from paperworks.extras import missing_packages
    from paperworks.runs.render import format_bytes

    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = [
        Check("processor", "good", f"{cores} cores"),
        Check("memory", "good", f"{format_bytes(memory.total)}, {format_bytes(memory.available)} available"),
    ]
    if missing_packages("torch"):
        return found
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("Apple GPU (mps)")
    words = ", ".join(devices) or "no GPU; torch uses the processor"
    return [*found, Check("devices", "good" if devices else "missing", words)]
