"""Try options and files that few recipes can use on every paper: python scripts/try_bad_input.py [--help]

Each call is a run with the small options that a paper has in ``tests`` and one of them changed. It may be refused with
one line that names the option, what was found and what would be right; or it may work. Anything else is printed: a raw
error, advice that is not safe, a run that is left behind by what was refused, a process that was killed, that took too
much memory or that does not stop when it is asked to.
"""

from __future__ import annotations

import argparse
import collections
import importlib
import json
import os
import pkgutil
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from paperworks import catalog
from paperworks.cli.options import merge_options
from paperworks.errors import InputError
from paperworks.runs import Config, build_config, load_recipe
from paperworks.runs.config import names_file

TESTS = Path(__file__).parent.parent / "tests"
sys.path.insert(0, str(TESTS))

import forked  # noqa: E402
from bad_bases import Bases  # noqa: E402
from bad_calls import FINE, Outcome, attempt  # noqa: E402
from bad_paths import bad_paths  # noqa: E402
from bad_values import bad_values  # noqa: E402
from strange_checkpoints import strange_checkpoints  # noqa: E402

STOP_SECONDS, KILL_SECONDS = 3.0, 9.0
"""Processor seconds after which a call is asked to stop, and after which it is killed."""
WAIT_SECONDS = 60.0
"""Seconds after which a call is killed that has hardly used the processor: it waits for something."""
MOST_ACCEPTED = 2
"""So many of an option's values that its recipe accepts are run."""
MEMORY = 3 * 2**30
"""Bytes that a call may take."""


KINDS = ("options", "files", "checkpoints")


@dataclass(frozen=True)
class Case:
    """One call: the option, the fault, all options as they are typed, and what a message may name.

    Beside a table the column of its label is typed as well: a message about that is as good.
    """

    option: str
    fault: str
    values: dict[str, Any]
    names: tuple[str, ...]


def cases(paper: catalog.Paper, folder: Path, kinds: set[str], only: list[str], every: int) -> Iterator[Case]:
    """Every option with every bad value, and every option that names a file with every bad file (or each n-th).

    ``only`` are values to try in place of all, where a list of them is given.
    """
    kind: type[Config] = load_recipe(paper.slug, f"{paper.module}.recipe").config
    (folder / "base").mkdir()
    (folder / "bad").mkdir()
    (folder / "strange").mkdir()
    bases = Bases(paper, kind, folder / "base")
    paths = list(bad_paths(folder / "bad")) if "files" in kinds else []
    paths += strange_checkpoints(folder / "strange") if "checkpoints" in kinds else []
    column = next((name for name in ("label", "target") if name in kind.model_fields), None)
    for number, (name, field) in enumerate(kind.model_fields.items()):
        base = bases.beside_of(name)
        accepted = 0
        values = list(dict.fromkeys(bad_values(name, field))) if "options" in kinds else []
        values = [value for value in values if value in only or not only]
        for value in values[number % every :: every]:
            works = valid(kind, base, name, value)
            accepted += works
            if accepted <= MOST_ACCEPTED or not works:
                yield Case(name, value, base | {name: value}, (name,))
        if names_file(field) is not None:
            labelled = {column: "y"} if column is not None and name in ("data", "input") else {}
            for fault, path in paths[number % every :: every]:
                yield Case(name, fault, base | labelled | {name: str(path)}, (name, path.name, *labelled))


def valid(kind: type[Config], base: dict[str, Any], name: str, value: str) -> bool:
    """Whether the options are accepted, so that the recipe is run, which takes longer than a refusal."""
    try:
        build_config(kind, base | merge_options(kind, None, {name: value}))
    except InputError:
        return False
    except Exception:
        return True
    return True


def outcomes(
    paper: catalog.Paper, kinds: set[str], only: list[str], values: list[str], checks: int, every: int
) -> Iterator[tuple[Case, Outcome]]:
    """All calls of one paper, in processes that are forked anew where one had to be killed."""
    folder, place = Path(tempfile.mkdtemp(prefix="bad-input-")), os.getcwd()
    try:
        os.environ["PAPERWORKS_HOME"] = str(folder / "store")
        (folder / "work").mkdir()
        os.chdir(folder / "work")
        chosen = [case for case in cases(paper, folder, kinds, values, every) if not only or case.option in only]
        done = 0
        while done < len(chosen):
            lines = folder / f"outcomes-{done}.jsonl"
            lines.touch()
            calls = [(case.values, case.names) for case in chosen[done:]]
            module = f"{paper.module}.recipe"
            process = forked.start(
                attempt, paper.slug, module, calls, lines, checks, MEMORY, folder=folder, imported=forked.SLOW
            )
            try:
                for found in watched(process, lines):
                    yield chosen[done], found
                    done += 1
            finally:
                process.kill()
    finally:
        os.chdir(place)
        shutil.rmtree(folder, ignore_errors=True)


def watched(process: Any, lines: Path) -> Iterator[Outcome]:
    """What a process writes, as it comes; last, where it did not make all its calls, how it ended."""
    child, read, asked = psutil.Process(process.pid), 0, False
    before, since = 0.0, time.monotonic()
    while True:
        running = process.exitcode is None
        whole = lines.read_bytes()[read:].rpartition(b"\n")[0]
        if whole:
            read += len(whole) + 1
            asked, before, since = False, seconds(child, before), time.monotonic()
            yield from (Outcome(**json.loads(line)) for line in whole.splitlines())
        elif not running:
            if process.exitcode:
                yield Outcome(f"ended with {process.exitcode}", "")
            return
        used = seconds(child, before) - before
        if used > STOP_SECONDS and not asked:
            asked = True
            os.kill(process.pid, signal.SIGINT)
        elif used > KILL_SECONDS or (used < 0.3 and time.monotonic() - since > WAIT_SECONDS):
            process.kill()
            process.join()
            yield Outcome("does not stop" if used > KILL_SECONDS else "waits", "")
            return
        process.join(0.05)


def seconds(process: psutil.Process, otherwise: float) -> float:
    """Processor seconds of a process."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return otherwise
    return float(times.user + times.system)


def modules(paper: catalog.Paper) -> list[str]:
    """All that the recipe may import; the processes are forked from a server that has imported it."""
    found = [m.name for m in pkgutil.walk_packages([str(paper.folder)], f"{paper.module}.")]
    return [name for name in found if ".studies" not in name and not name.endswith((".study", ".__main__"))]


def main() -> int:
    """Try, print the faults and a count of each kind; 1 where there is a fault."""
    parser = argparse.ArgumentParser(
        description="Try bad options, bad files and checkpoints of other models on every paper."
    )
    parser.add_argument("papers", nargs="*", help="slugs; all papers by default")
    parser.add_argument("--only", choices=KINDS, help="bad values, bad files, or checkpoints of other models")
    parser.add_argument("--option", action="append", default=[], help="only this option; may be repeated")
    parser.add_argument("--value", action="append", default=[], help="only this bad value; may be repeated")
    parser.add_argument(
        "--checks",
        type=int,
        default=6,
        help="stop a run at its check of this number or at its first figure; 0: at its end",
    )
    parser.add_argument("--every", type=int, default=1, help="only each n-th value or file, others for the next option")
    parser.add_argument("--out", type=Path, help="a file for all outcomes, in JSON lines")
    asked = parser.parse_args()
    papers = [p for p in catalog.papers() if p.has_recipe and (not asked.papers or p.slug in asked.papers)]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    forked.SLOW = (*forked.SLOW, "bad_calls", *(m for p in papers for m in modules(p)))
    for name in forked.SLOW:
        importlib.import_module(name)  # fails here where the server would go on without it
    kinds = {asked.only} if asked.only else set(KINDS)
    counts: collections.Counter[str] = collections.Counter()
    out = asked.out.open("w", encoding="utf-8", buffering=1) if asked.out else None
    for paper in papers:
        for case, found in outcomes(paper, kinds, asked.option, asked.value, asked.checks, asked.every):
            counts[found.kind] += 1
            if out:
                line = {"paper": paper.slug, "option": case.option, "fault": case.fault, **asdict(found)}
                out.write(json.dumps(line) + "\n")
            if found.kind not in FINE:
                print(f"{paper.slug} --{case.option} {ascii(case.fault)[:60]}: {found.kind}: {found.words[:400]}")
                sys.stdout.flush()
    print(dict(counts))
    return int(any(kind not in FINE for kind in counts))


if __name__ == "__main__":
    sys.exit(main())
