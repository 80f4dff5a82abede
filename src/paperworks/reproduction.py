"""Measure the claims of papers again, and write down what came out.

One study after the other, each in a run of its own below ``<home>/reproduce``; a study that finished is not measured
again when a reproduction is taken up after a stop, unless the source has changed since.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from paperworks.catalog import Paper, checkout, read_paper
from paperworks.errors import InputError
from paperworks.runs.files import write_text
from paperworks.runs.findings import Finding, Study, studies_of
from paperworks.runs.render import format_cell, format_number, format_seconds
from paperworks.runs.run import Cancelled, Listener, Run, stop_on_interrupt
from paperworks.runs.store import RunBusy, home
from paperworks.runs.usage import UsageMeter, versions

PACKAGE = Path(__file__).parent
OURS = "paperworks.papers."
TABLE_START, TABLE_END = "<!-- papers -->", "<!-- end of papers -->"


@dataclass
class Measured:
    """What measuring one paper gave. ``errors`` maps a study to why it ended without findings."""

    paper: Paper
    findings: list[Finding] = field(default_factory=list)
    studies: list[dict[str, Any]] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    def results(self, fast: bool) -> dict[str, Any]:
        """The content of ``results.json``."""
        return {
            "paper": self.paper.slug,
            "measured": date.today().isoformat(),
            "fast": fast,
            "versions": versions(),
            "studies": self.studies,
            "findings": [f.to_dict() for f in self.findings],
        }


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
    paper: Paper, *, fast: bool = False, listener: Listener | None = None, root: Path | None = None
) -> Measured:
    """Run a paper's studies. A study that fails is noted in ``errors`` and the others still run.

    Raises Cancelled when asked to stop; what finished by then is kept for the next call.
    """
    import filelock

    studies = load_studies(paper)
    session = (root or home()) / "reproduce" / (paper.slug + ("-fast" if fast else ""))
    session.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(session.with_name(session.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise RunBusy(f"{paper.slug} is being reproduced by another process") from None
    try:
        _start_over_if_changed(session, paper)
        measured = Measured(paper)
        for study in studies:
            _measure_study(study, session / study.name, fast, listener, measured)
        if not measured.errors:
            shutil.rmtree(session)
        return measured
    finally:
        lock.release()


def _measure_study(study: Study, folder: Path, fast: bool, listener: Listener | None, measured: Measured) -> None:
    done = folder / "findings.json"
    if done.exists():
        kept = json.loads(done.read_text(encoding="utf-8"))
        measured.studies.append(kept["study"])
        measured.findings += [Finding.from_dict(f) for f in kept["findings"]]
        return
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder, seed=0, listener=listener, resumed=(folder / "events.jsonl").exists())
    run.emit("step", text=f"{measured.paper.slug}: {study.title}" + ("" if fast else f" (about {study.minutes:g} min)"))
    meter = UsageMeter()
    try:
        with meter, stop_on_interrupt(run, "stopping at the next checkpoint"):
            findings = study(run, fast)
    except Cancelled:
        raise
    except Exception as error:
        measured.errors[study.name] = f"{type(error).__name__}: {error}"
        run.emit(
            "log", level="error", text=f"{study.name}: {measured.errors[study.name]}", detail=traceback.format_exc()
        )
        return
    about = {"name": study.name, "title": study.title, "claims": list(study.claims), "seconds": round(meter.seconds, 1)}
    write_text(done, json.dumps({"study": about, "findings": [f.to_dict() for f in findings]}))
    measured.studies.append(about)
    measured.findings += findings


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


def write_results(
    measured: Sequence[Measured], papers: Callable[[], list[Paper]], into: Path | None = None
) -> list[Path]:
    """Write ``results.json`` of each paper and the table of all papers; returns the files written.

    In a checkout: the paper's folder and ``docs/reproductions.md``. Elsewhere, or with ``into``: that folder (default
    ``./reproductions``).
    """
    root = checkout() if into is None else None
    target = into or Path("reproductions")
    written = []
    for one in measured:
        path = (one.paper.folder if root else target / one.paper.slug) / "results.json"
        write_text(path, json.dumps(one.results(fast=False), indent=1) + "\n")
        written.append(path)
    table = (root / "docs" if root else target) / "reproductions.md"
    shown = papers()
    if root is None:
        fresh = {one.paper.slug: one.results(fast=False) for one in measured}
        shown = [_with_results(p, fresh[p.slug]) if p.slug in fresh else p for p in shown]
    write_text(table, reproductions_markdown(shown))
    written.append(table)
    if root is not None:
        readme = root / "README.md"
        write_text(
            readme,
            with_papers_table(readme.read_text(encoding="utf-8"), [p for p in shown if p.module.startswith(OURS)]),
        )
        written.append(readme)
    return written


def with_papers_table(text: str, papers: Sequence[Paper]) -> str:
    """A README with the table between its ``papers`` marks replaced by the present state of the catalogue."""
    if text.count(TABLE_START) != 1 or text.count(TABLE_END) != 1:
        raise InputError(
            "README.md", "no place for the table of papers", f"{TABLE_START} and {TABLE_END} on lines of their own"
        )
    before, _, rest = text.partition(TABLE_START)
    after = rest.partition(TABLE_END)[2]
    rows = ["| paper | what you get | claims that hold here |", "| --- | --- | --- |"]
    for paper in papers:
        state = f"{paper.claims_held} of {len(paper.claims)}" if paper.works else "not here yet"
        name = f"[{paper.slug}](src/paperworks/papers/{paper.folder.name}/README.md)" if paper.works else paper.slug
        rows.append(f"| {name} | {paper.purpose} | {state} |")
    return before + TABLE_START + "\n" + "\n".join(rows) + "\n" + TABLE_END + after


def _with_results(paper: Paper, results: dict[str, Any]) -> Paper:
    copy = read_paper(paper.folder, paper.module)
    copy.__dict__["results"] = results
    return copy


def relation_text(finding: dict[str, Any]) -> str:
    """``30.2 < 33.1 (dense model 29.8)``: the measured figure, its bound and what it was compared with."""
    measured, bound = (format_number(float(finding[name])) for name in ("measured", "bound"))
    text = f"{measured} {finding['relation']} {bound}"
    if finding["tolerance"]:
        text += f" ± {format_number(float(finding['tolerance']))}"
    if finding["unit"]:
        text += f" {finding['unit']}"
    if finding["baseline"] is not None:
        text += f" ({finding['baseline_name'] or 'baseline'} {format_number(float(finding['baseline']))})"
    return text


def reproductions_markdown(papers: Sequence[Paper]) -> str:
    """The table of all measured claims, as ``docs/reproductions.md``."""
    lines = [
        "# What was measured here",
        "",
        "Written by `paperworks reproduce`; do not edit. *Exact* findings must hold on any machine, *empirical* ones "
        "may fail here.",
        "",
        "| paper | works | claims held | not held | not tested here |",
        "| --- | --- | --- | --- | --- |",
    ]
    here = [p for p in papers if p.results]
    for paper in here:
        row = paper.to_dict()
        lines.append(
            f"| [{paper.slug}](#{paper.slug}) | {'yes' if row['works'] else 'no'} "
            f"| {row['claims_held']} of {row['claims_total']} "
            f"| {row['claims_not_held']} | {row['claims_not_tested']} |"
        )
    for paper in here:
        lines += [
            "",
            f"## {paper.slug}",
            "",
            f"{paper.title} (arXiv {paper.arxiv}). Measured {paper.results['measured']}.",
        ]
        environment = ", ".join(f"{name} {format_cell(value)}" for name, value in paper.results["versions"].items())
        lines += ["", f"With {environment}. Run it again: `paperworks reproduce {paper.slug}`.", ""]
        lines += ["| claim | what was measured | figure and bound | kind | holds |", "| --- | --- | --- | --- | --- |"]
        for claim in paper.claims:
            own = [f for f in paper.findings if f["claim"] == claim.id]
            for finding in own:
                detail = f"<br>{_cell(finding['detail'])}" if finding["detail"] else ""
                lines.append(
                    f"| {claim.id} | {_cell(finding['statement'])}{detail} | {_cell(relation_text(finding))} "
                    f"| {finding['kind']} | {'yes' if finding['holds'] else '**no**'} |"
                )
            if not own:
                lines.append(f"| {claim.id} | {_cell(claim.reason or 'not measured')} | | | not tested here |")
        lines += [
            "",
            "Time of the studies: "
            + ", ".join(f"{s['title']} {format_seconds(s['seconds'])}" for s in paper.results["studies"])
            + ".",
        ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
