"""Measure the claims of papers again: here one study after the other, or on a cluster many at once.

Each study has a run of its own below ``<home>/reproduce``. One that finished is not measured again when a reproduction
is taken up after a stop, unless the source has changed since.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paperworks.catalog import Paper
from paperworks.errors import InputError, nearest
from paperworks.runs.files import write_text
from paperworks.runs.findings import Finding, Study, studies_of
from paperworks.runs.processes import on_interrupt
from paperworks.runs.run import Cancelled, Event, EventTail, Listener, Run, stop_on_interrupt
from paperworks.runs.store import RunBusy, home
from paperworks.runs.usage import UsageMeter, versions

if TYPE_CHECKING:
    from paperworks.runs.cluster import Cluster

PACKAGE = Path(__file__).parents[1]
FINDINGS, FAILED = "findings.json", "failed.json"
"""What a study leaves in its folder: what it found, or why it has not found anything."""


@dataclass
class Measured:
    """What measuring one paper gave.

    ``studies`` are as ``results.json`` holds them, each with its date and versions; ``by_study`` holds the findings of
    each study, by its name; ``errors`` maps a study to why it ended without findings.
    """

    paper: Paper
    studies: list[dict[str, Any]] = field(default_factory=list)
    by_study: dict[str, list[Finding]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def findings(self) -> list[Finding]:
        """The findings of all studies."""
        return [finding for found in self.by_study.values() for finding in found]

    def results(self, fast: bool) -> dict[str, Any]:
        """The content of ``results.json``, of these studies alone."""
        findings = [{"study": name} | f.to_dict() for name, found in self.by_study.items() for f in found]
        return _results(self.paper, self.studies, findings, fast)

    def merged(self) -> dict[str, Any]:
        """The content of ``results.json``: studies that were not measured now stay as they were measured before.

        Of those only the findings stay whose claims the study still names: the others have moved or are withdrawn.
        """
        old = self.paper.results
        claims = {study.name: study.claims for study in load_studies(self.paper)}
        names = list(claims)
        fresh = {about["name"] for about in self.studies}
        kept = [] if fresh >= set(names) else _attributed(self.paper)
        former = {
            s["name"]: {"measured": old["measured"], "versions": old["versions"]} | s for s in old.get("studies", [])
        }
        studies = former | {about["name"]: about for about in self.studies}
        kept = [f for f in kept if f["study"] not in fresh and f["claim"] in claims.get(f["study"], ())]
        findings = kept + self.results(fast=False)["findings"]
        return _results(
            self.paper,
            [studies[name] for name in names if name in studies],
            [f for name in names for f in findings if f["study"] == name],
            fast=False,
        )


def _results(paper: Paper, studies: list[dict[str, Any]], findings: list[dict[str, Any]], fast: bool) -> dict[str, Any]:
    newest = max(
        studies, key=lambda s: s["measured"], default={"measured": date.today().isoformat(), "versions": versions()}
    )
    return {
        "paper": paper.slug,
        "measured": newest["measured"],
        "fast": fast,
        "versions": newest["versions"],
        "studies": studies,
        "findings": findings,
    }


def _attributed(paper: Paper) -> list[dict[str, Any]]:
    """The findings of ``results.json`` with the study of each.

    Older files do not name it. The order of studies and claims tells it, unless two studies in a row share a claim.
    """
    findings = paper.results.get("findings", [])
    if all("study" in f for f in findings):
        return findings
    studies = paper.results["studies"]

    def assign(findings: Sequence[dict[str, Any]], studies: Sequence[dict[str, Any]]) -> list[str]:
        names, at = [], 0
        for finding in findings:
            while finding["claim"] not in studies[at]["claims"]:
                at += 1
            names.append(studies[at]["name"])
        return names

    try:
        first, last = assign(findings, studies), assign(findings[::-1], studies[::-1])[::-1]
    except IndexError:
        first, last = [], ["unknown"]
    if first != last:
        raise InputError(
            f"{paper.slug}, results.json",
            "findings that do not name their study",
            "one reproduction of all studies first",
        )
    return [{"study": name} | finding for name, finding in zip(first, findings, strict=True)]


def load_studies(paper: Paper) -> list[Study]:
    """The paper's studies; every claim that they name must be in ``paper.toml``."""
    if not paper.has_study:
        raise InputError(
            "slug", f"{paper.slug}, which has no study", "a paper that is here; see 'paperworks list --works'"
        )
    paper.require_extra()
    studies = studies_of(importlib.import_module(f"{paper.module}.study"))
    known = {claim.id for claim in paper.claims}
    for study in studies:
        strangers = set(study.claims) - known
        if strangers:
            raise InputError(
                f"{paper.slug}, study {study.name}", f"claims {', '.join(sorted(strangers))}", "claims of paper.toml"
            )
    return studies


def measure(
    paper: Paper,
    *,
    only: Sequence[str] = (),
    fast: bool = False,
    listener: Listener | None = None,
    root: Path | None = None,
) -> Measured:
    """Run a paper's studies, or ``only`` those of these names. One that fails is noted, and the others still run.

    Raises Cancelled when asked to stop; what finished by then is kept for the next call.
    """
    studies = chosen_studies(paper, only)
    with _session(paper, fast, root) as session:
        for study in studies:
            measure_study(study, paper.slug, session / study.name, fast, listener)
        return _collect(paper, studies, session)


def measure_on_cluster(
    cluster: Cluster,
    papers: Sequence[Paper],
    done: Callable[[Measured], None],
    *,
    only: Sequence[str] = (),
    fast: bool = False,
    listener: Listener | None = None,
    root: Path | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
) -> None:
    """As ``measure``, with the studies of all papers on the nodes of a cluster, as many at once as it has room for.

    ``done`` gets each paper as soon as all of its studies have ended. A study keeps ``cpus`` and ``gpus`` of its node.
    A study whose node is lost goes on elsewhere from its last checkpoint; one that has finished is here, and stays.
    """
    from paperworks.runs.cluster import Ended, Work

    with ExitStack() as stack:
        interrupts: list[None] = []
        left: dict[str, set[str]] = {}
        sessions: dict[str, tuple[Paper, list[Study], Path]] = {}
        works: dict[str, Work] = {}
        tails = []
        for paper in papers:
            session = stack.enter_context(_session(paper, fast, root))
            studies = chosen_studies(paper, only)
            sessions[paper.slug] = paper, studies, session
            left[paper.slug] = set()
            for study in studies:
                folder = session / study.name
                if (folder / FINDINGS).exists():
                    continue
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "cancel").unlink(missing_ok=True)
                name = f"{paper.slug} {study.name}"
                left[paper.slug].add(name)
                arguments = [paper.slug, study.name, "{root}/study", "fast" if fast else "whole"]
                works[name] = Work(
                    name, "paperworks.reproduction.child", arguments, {"study": folder}, cpus=cpus, gpus=gpus
                )
                said = None if listener is None else _named(name, listener)
                tails.append(EventTail(folder / "events.jsonl", folder / "events.jsonl", said))

        def ended(work: Work, how: Ended) -> None:
            slug = work.name.partition(" ")[0]
            folder = work.folders["study"]
            if how.code != 0 and not (folder / FAILED).exists() and not interrupts:
                write_text(folder / FAILED, json.dumps({"error": f"its process ended with {how.ending}"}))
            left[slug].discard(work.name)
            if not left[slug] and not interrupts:
                done(_collect(*sessions[slug]))

        def tick() -> None:
            for tail in tails:
                tail.forward()
            if len(interrupts) > 1:
                raise KeyboardInterrupt
            if interrupts:
                for work in works.values():
                    (work.folders["study"] / "cancel").touch()

        def note(work: Work, text: str) -> None:
            if listener is not None:
                listener({"kind": "log", "level": "info", "text": f"{work.name}: {text}"})

        for slug, waiting in left.items():
            if not waiting:
                done(_collect(*sessions[slug]))
        with on_interrupt(lambda: interrupts.append(None)):
            cluster.execute(works.values(), tick, note, ended)
        tick()
        if interrupts:
            raise Cancelled()


def _named(name: str, listener: Listener) -> Listener:
    """A listener for one of several studies: it says which one the event is of."""

    def said(event: Event) -> None:
        key = "description" if event["kind"] == "progress" else "text"
        listener(event | {key: f"{name}: {event[key]}"} if key in event else event)

    return said


@contextmanager
def _session(paper: Paper, fast: bool, root: Path | None) -> Iterator[Path]:
    """The folder of a paper's studies, for this process only."""
    import filelock

    session = (root or home()) / "reproduce" / (paper.slug + ("-fast" if fast else ""))
    session.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(session.with_name(session.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise RunBusy(f"{paper.slug} is being reproduced by another process") from None
    try:
        _start_over_if_changed(session, paper)
        yield session
    finally:
        lock.release()


def chosen_studies(paper: Paper, only: Sequence[str]) -> list[Study]:
    """The paper's studies of these names (none: all). Raises InputError for a name that none has."""
    studies = load_studies(paper)
    names = [study.name for study in studies]
    for name in only:
        if name not in names:
            raise InputError("study", repr(name), f"one of {', '.join(names)}{nearest(name, names)}")
    return [study for study in studies if not only or study.name in only]


def measure_study(study: Study, slug: str, folder: Path, fast: bool, listener: Listener | None = None) -> None:
    """Measure one study in its folder, which gets its findings or why it has none. Nothing to do if it has findings."""
    if (folder / FINDINGS).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FAILED).unlink(missing_ok=True)
    run = Run(folder, seed=0, listener=listener, resumed=(folder / "events.jsonl").exists())
    run.emit("step", text=f"{slug}: {study.title}" + ("" if fast else f" (about {study.minutes:g} min)"))
    meter = UsageMeter()
    try:
        with meter, stop_on_interrupt(run, "stopping at the next checkpoint"):
            findings = study(run, fast)
    except Cancelled:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        write_text(folder / FAILED, json.dumps({"error": said}))
        run.emit("log", level="error", text=f"{study.name}: {said}", detail=traceback.format_exc())
        return
    measured_now = {
        "name": study.name,
        "title": study.title,
        "claims": list(study.claims),
        "seconds": round(meter.seconds, 1),
        "measured": date.today().isoformat(),
        "versions": versions(),
    }
    write_text(folder / FINDINGS, json.dumps({"study": measured_now, "findings": [f.to_dict() for f in findings]}))


def _collect(paper: Paper, studies: Sequence[Study], session: Path) -> Measured:
    """What the studies of a paper left in their folders. These go, unless one has failed."""
    measured = Measured(paper)
    for study in studies:
        folder = session / study.name
        if not (folder / FINDINGS).exists():
            measured.errors[study.name] = json.loads((folder / FAILED).read_text(encoding="utf-8"))["error"]
            continue
        kept = json.loads((folder / FINDINGS).read_text(encoding="utf-8"))
        measured.studies.append(kept["study"])
        measured.by_study[study.name] = [Finding.from_dict(f) for f in kept["findings"]]
    if not measured.errors:
        for study in studies:
            shutil.rmtree(session / study.name)
    return measured


def _start_over_if_changed(session: Path, paper: Paper) -> None:
    """Findings of an interrupted reproduction count only for the source that measured them."""
    digest = hashlib.sha256()
    own = {folder for folder in (PACKAGE / "papers").glob("*") if folder != paper.folder}
    for path in sorted([*PACKAGE.rglob("*.py"), *paper.folder.rglob("*.py"), paper.folder / "paper.toml"]):
        if not any(path.is_relative_to(other) for other in own):
            digest.update(path.read_bytes())
    mark = session / "source.sha256"
    if not mark.exists() or mark.read_text() != digest.hexdigest():
        shutil.rmtree(session)
        session.mkdir(parents=True)
        write_text(mark, digest.hexdigest())
