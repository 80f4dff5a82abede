"""Where measured claims are written down: ``results.json`` of a paper, the table of all, and the README's table."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from paperworks.catalog import Paper, checkout, read_paper
from paperworks.errors import InputError
from paperworks.reproduction.measuring import Measured
from paperworks.runs.files import write_text
from paperworks.runs.render import evidence_text, format_cell, format_seconds, margin_text, relation_text, verdict_text

OURS = "paperworks.papers."
TABLE_START = "<!-- papers -->"
"""The line in README.md after which the table of papers stands."""
TABLE_END = "<!-- end of papers -->"
"""The line that ends it."""


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
        "of it was not tested, or an empirical figure has no interval and is not deterministic. Fewer than six "
        "equal values give no interval.",
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
