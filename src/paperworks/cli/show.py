"""How the commands print what they found."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paperworks.catalog import Claim, Paper
from paperworks.cli.printing import print_parts
from paperworks.errors import InputError
from paperworks.runs.render import (
    evidence_text,
    format_bytes,
    format_cell,
    format_seconds,
    margin_text,
    relation_text,
    terminal_table,
    to_terminal,
    verdict_text,
)
from paperworks.runs.report import Report, Table

if TYPE_CHECKING:
    from paperworks.reproduction import Measured
    from paperworks.runs.store import RunRecord


MARKS = {"holds": "✓", "does not hold": "✗", "not decided": "?"}


def _status(paper: Paper) -> str:
    if not paper.has_recipe:
        return "not here yet"
    return "works" if paper.works else "does not work"


def print_papers(papers: Sequence[Paper], note: str = "") -> None:
    """A row per paper, and a count of those that work."""
    rows: list[list[Any]] = []
    for paper in papers:
        row = paper.to_dict()
        rows.append([paper.slug, _status(paper), f"{row['claims_held']} of {row['claims_total']}", paper.purpose])
    total = f"{sum(p.works for p in papers)} of {len(papers)} papers work. 'paperworks show SLUG' tells more."
    print_parts(
        terminal_table(
            Table("", ["paper", "status", "claims held", "what you get"], rows, " ".join(t for t in (note, total) if t))
        )
    )


def paper_dict(paper: Paper) -> dict[str, Any]:
    """``paperworks show --json``."""
    from dataclasses import asdict

    verdicts = paper.verdicts()
    return paper.to_dict() | {
        "summary": paper.summary,
        "repository": paper.repository,
        "obstacles": paper.obstacles(),
        "claims": [asdict(c) | {"verdict": verdicts[c.id]} for c in paper.claims],
        "findings": paper.findings,
        "measured": paper.results.get("measured"),
    }


def print_paper(paper: Paper) -> None:
    """Title, summary, claims beside what was measured, and how to use it."""
    from rich.padding import Padding
    from rich.text import Text

    by = f"{paper.authors} authors" if paper.authors else (paper.organisation or "")
    meta = [f"arXiv {paper.arxiv}", paper.date, by, ", ".join(paper.tags), paper.repository]
    print_parts(
        Text(paper.title, style="bold"),
        Text(" · ".join(m for m in meta if m), style="dim"),
        "",
        Text(paper.summary),
        "",
    )
    verdicts = paper.verdicts()
    print_parts(Text("What the paper claims, and what was measured here", style="bold"))
    for number, claim in enumerate(paper.claims, start=1):
        print_parts("", Text(f"{number}. {claim.statement}"))
        print_parts(*(Padding(Text(line), (0, 0, 0, 3)) for line in _claim_lines(paper, claim, verdicts[claim.id])))
    print_parts("")
    obstacles = paper.obstacles()
    if obstacles:
        print_parts(Text(f"{_status(paper)}: " + "; ".join(obstacles)))
        return
    readme = paper.folder / "README.md"
    commands = [
        f"paperworks run {paper.slug}",
        f"paperworks run {paper.slug} --help",
        f"paperworks reproduce {paper.slug}",
    ]
    use = "\n".join([*commands, "", "import paperworks as pw", f"help(pw.{paper.folder.name})"])
    print_parts(Text("How to use it", style="bold"), Padding(Text(use), (0, 0, 0, 4)))
    if readme.is_file():
        print_parts(Text(f"\nMore in {readme}", style="dim"))


def _claim_lines(paper: Paper, claim: Claim, verdict: str) -> Iterator[str]:
    """The paper's figure, the verdict here, and what stands behind it."""
    where = "; ".join(text for text in (claim.setting, claim.source) if text)
    yield f"in the paper: {claim.value}{claim.baseline and f', against {claim.baseline}'}{where and f' [{where}]'}"
    yield f"here: {verdict}"
    findings = [f for f in paper.findings if f["claim"] == claim.id]
    for f in findings:
        yield f"{MARKS[verdict_text(f)]} {_finding_line(f)}"
    if findings:
        yield from (f"not tested: {part}" for part in paper.untested_parts(claim))
    elif claim.reason:
        yield claim.reason


def _finding_line(finding: dict[str, Any]) -> str:
    return f"{finding['statement']}: {relation_text(finding)}; margin {margin_text(finding)}"


def print_report(folder: Path, out: Path | None = None) -> None:
    """A finished run's report, with the path of its HTML page."""
    where = out if out is not None else folder
    print_parts(to_terminal(Report.load(folder), str(where / "files" if out is None else where)))
    print(f"report: {where / 'report.html'}")
    print(f"run: {folder.name}")


def print_runs(records: Sequence[RunRecord]) -> None:
    """A row per run."""
    rows: list[list[Any]] = [
        [
            r.id,
            r.status,
            r.started[:16].replace("T", " "),
            "–" if r.seconds is None else format_seconds(r.seconds),
            r.headline,
        ]
        for r in records
    ]
    print_parts(
        terminal_table(
            Table("", ["run", "status", "started (UTC)", "time", "result"], rows, "" if rows else "No runs yet.")
        )
    )


def print_removed(removed: Sequence[dict[str, Any]], dry_run: bool) -> None:
    """Runs that are gone, or would be, and the room that they took."""
    for run in removed:
        print(f"{'would remove' if dry_run else 'removed'} {run['id']} ({format_bytes(run['bytes'])})")


def compare_runs(first: RunRecord, second: RunRecord) -> dict[str, Any]:
    """The options that differ and the metrics of both runs. Both must be finished."""
    for record in (first, second):
        if record.status != "finished":
            raise InputError("run", f"{record.id}, which is {record.status}", "a finished run")
    options = [json.loads((r.folder / "config.json").read_text(encoding="utf-8")) for r in (first, second)]
    names = list(dict.fromkeys([*options[0], *options[1]]))
    reports = [Report.load(r.folder) for r in (first, second)]
    figures = {
        **{
            name: [r.metrics.get(name) for r in reports]
            for name in dict.fromkeys([*reports[0].metrics, *reports[1].metrics])
        },
        **{name: [r.usage.get(name) for r in reports] for name in ("seconds", "peak memory, bytes", "files, bytes")},
    }
    return {
        "runs": [first.id, second.id],
        "headlines": [r.headline for r in reports],
        "options": {n: [o.get(n) for o in options] for n in names if options[0].get(n) != options[1].get(n)},
        "figures": figures,
    }


def print_comparison(comparison: dict[str, Any]) -> None:
    """Two tables: options that differ, figures with the ratio of the second to the first."""
    runs = comparison["runs"]
    options: list[list[Any]] = [
        [name, *(json.dumps(v) for v in values)] for name, values in comparison["options"].items()
    ]
    note = "" if options else "The same options."
    figures: list[list[Any]] = []
    for name, (a, b) in comparison["figures"].items():
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (a, b))
        figures.append([name, format_cell(a, name), format_cell(b, name), f"{b / a:.3g}" if numbers and a else "–"])
    print_parts(
        terminal_table(Table("Options that differ", ["option", *runs], options, note)),
        terminal_table(Table("Figures", ["figure", *runs, "ratio"], figures)),
    )


def print_measured(measured: Sequence[Measured], written: Sequence[Path], fast: bool) -> None:
    """What ``reproduce`` found."""
    from rich.padding import Padding
    from rich.text import Text

    for one in measured:
        findings = [f.to_dict() for f in one.findings]
        print_parts(Text(one.paper.slug, style="bold"))
        for f in findings:
            verdict = verdict_text(f) if f["holds"] else "DOES NOT HOLD"
            print_parts(Text(f"{MARKS[verdict_text(f)]} {f['claim']} ({f['kind']}), {verdict}: {_finding_line(f)}"))
            print_parts(*(Padding(Text(t), (0, 0, 0, 2)) for t in (f["detail"], evidence_text(f)) if t))
        for claim in one.paper.claims:
            if claim.reason:
                print_parts(Text(f"– {claim.id}, not tested here: {claim.reason}"))
        for name, why in one.errors.items():
            print_parts(Text(f"✗ FAILED: study {name} ended without findings: {why}"))
        held = sum(f["holds"] for f in findings)
        kind = "in the small, fast version" if fast else "at full size"
        seconds = sum(s["seconds"] for s in one.studies)
        note = f"{held} of {len(findings)} findings hold, measured {kind} in {format_seconds(seconds)}."
        if one.errors:
            former = {s["name"] for s in one.paper.results.get("studies", [])} & set(one.errors)
            note += f" Not measured: {', '.join(one.errors)}."
            note += f" Findings of before stay: {', '.join(sorted(former))}." if former and not fast else ""
        print_parts("", Text(note), "")
    for path in written:
        print(f"written: {path}")


def print_sources(sources: Sequence[Any]) -> None:
    """A row per input."""
    rows: list[list[Any]] = []
    for source in sources:
        data = source.to_dict()
        rows.append(
            [
                data["name"],
                "here" if data["available"] else f"paperworks data get {data['name']}",
                data["licence"],
                data["description"],
            ]
        )
    print_parts(terminal_table(Table("", ["input", "where", "licence", "what it is"], rows)))
