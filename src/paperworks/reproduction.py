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
from paperworks.errors import InputError, nearest
from paperworks.runs.files import write_text
from paperworks.runs.findings import Finding, Study, studies_of
from paperworks.runs.render import evidence_text, format_cell, format_seconds, margin_text, relation_text, verdict_text
from paperworks.runs.run import Cancelled, Listener, Run, stop_on_interrupt
from paperworks.runs.store import RunBusy, home
from paperworks.runs.usage import UsageMeter, versions

PACKAGE = Path(__file__).parent
OURS = "paperworks.papers."
TABLE_START, TABLE_END = "<!-- papers -->", "<!-- end of papers -->"


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
        """The content of ``results.json``: studies that were not measured now stay as they were measured before."""
        old = self.paper.results
        names = [study.name for study in load_studies(self.paper)]
        fresh = {about["name"] for about in self.studies}
        kept = [] if fresh >= set(names) else _attributed(self.paper)
        former = {
            s["name"]: {"measured": old["measured"], "versions": old["versions"]} | s for s in old.get("studies", [])
        }
        studies = former | {about["name"]: about for about in self.studies}
        findings = [f for f in kept if f["study"] not in fresh] + self.results(fast=False)["findings"]
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
    import filelock

    studies = chosen_studies(paper, only)
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
            for study in studies:
                shutil.rmtree(session / study.name)
        return measured
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


def _measure_study(study: Study, folder: Path, fast: bool, listener: Listener | None, measured: Measured) -> None:
    done = folder / "findings.json"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        run = Run(folder, seed=0, listener=listener, resumed=(folder / "events.jsonl").exists())
        about = f"{measured.paper.slug}: {study.title}" + ("" if fast else f" (about {study.minutes:g} min)")
        run.emit("step", text=about)
        meter = UsageMeter()
        try:
            with meter, stop_on_interrupt(run, "stopping at the next checkpoint"):
                findings = study(run, fast)
        except Cancelled:
            raise
        except Exception as error:
            said = measured.errors[study.name] = f"{type(error).__name__}: {error}"
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
        write_text(done, json.dumps({"study": measured_now, "findings": [f.to_dict() for f in findings]}))
    kept = json.loads(done.read_text(encoding="utf-8"))
    measured.studies.append(kept["study"])
    measured.by_study[study.name] = [Finding.from_dict(f) for f in kept["findings"]]


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
        write_text(path, json.dumps(one.merged(), indent=1) + "\n")
        written.append(path)
    table = (root / "docs" if root else target) / "reproductions.md"
    shown = papers()
    if root is None:
        fresh = {one.paper.slug: one.merged() for one in measured}
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


def reproductions_markdown(papers: Sequence[Paper]) -> str:
    """The table of all measured claims, as ``docs/reproductions.md``."""
    lines = [
        "# What was measured here",
        "",
        "Written by `paperworks reproduce`; do not edit. *Exact* findings must hold on any machine, *empirical* ones "
        "may fail here. Brackets hold a 95% interval: a finding holds only if all of it is on the right side of the "
        "bound. The *margin* is the distance from the bound, in percent of it. A claim is *partly tested* where a part "
        "of it was not tested, or a comparison has no interval.",
        "",
        "| paper | works | claims held | partly tested | not held | not tested here |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    here = [p for p in papers if p.results]
    for paper in here:
        row = paper.to_dict()
        lines.append(
            f"| [{paper.slug}](#{paper.slug}) | {'yes' if row['works'] else 'no'} "
            f"| {row['claims_held']} of {row['claims_total']} | {row['claims_partly_tested']} "
            f"| {row['claims_not_held']} | {row['claims_not_tested']} |"
        )
    for paper in here:
        lines += ["", f"## {paper.slug}", "", f"{paper.title} (arXiv {paper.arxiv}).", *_measured_lines(paper), ""]
        lines += [
            "| claim | what was measured | figure and bound | kind | margin | verdict |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for claim in paper.claims:
            own = [f for f in paper.findings if f["claim"] == claim.id]
            for finding in own:
                more = "".join(f"<br>{_cell(t)}" for t in (finding["detail"], evidence_text(finding)) if t)
                verdict = verdict_text(finding) if finding["holds"] else f"**{verdict_text(finding)}**"
                lines.append(
                    f"| {claim.id} | {_cell(finding['statement'])}{more} | {_cell(relation_text(finding))} "
                    f"| {finding['kind']} | {margin_text(finding)} | {verdict} |"
                )
            if claim.reason or not own:
                lines.append(f"| {claim.id} | {_cell(claim.reason or 'not measured')} | | | | not tested here |")
    return "\n".join(lines) + "\n"


def _measured_lines(paper: Paper) -> list[str]:
    """When and with what each study was measured, studies of one day and one environment together."""
    results = paper.results
    groups: dict[str, list[str]] = {}
    for study in results["studies"]:
        environment = ", ".join(f"{n} {format_cell(v)}" for n, v in study.get("versions", results["versions"]).items())
        when = f"Measured {study.get('measured', results['measured'])} with {environment}"
        groups.setdefault(when, []).append(f"{study['title']} {format_seconds(study['seconds'])}")
    again = f"Run it again: `paperworks reproduce {paper.slug}`."
    return ["", *(f"{when}: {', '.join(titles)}." for when, titles in groups.items()), again]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
