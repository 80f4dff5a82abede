"""A paper as Markdown, for programs and for language models: what the page shows, without the page."""

from __future__ import annotations

import re

from paperworks.page.database import Entry
from paperworks.page.links import paper_path
from paperworks.page.web.evidence import Evidence


def write(entry: Entry, evidence: Evidence | None, address: str) -> str:
    """Title, facts, abstract, and the claims beside what was measured here."""
    lines = [f"# {_line(entry.title)}", ""]
    facts = {
        "arXiv": f"https://arxiv.org/abs/{entry.arxiv}" if entry.arxiv else "",
        "Published": entry.published.isoformat() if entry.published else "",
        "Authors": ", ".join(entry.authors) or (f"{entry.author_count}" if entry.author_count else ""),
        "Organisation": entry.organisation or "",
        "Tags": ", ".join(entry.tag_names),
        "Code": entry.repository,
        "Page": address + paper_path(entry),
    }
    lines += [f"- {name}: {_line(value)}" for name, value in facts.items() if value]
    if evidence is not None:
        lines += ["", "## Summary", "", evidence.paper.summary]
    if entry.abstract:
        lines += ["", "## Abstract", "", entry.abstract]
    if evidence is not None:
        lines += ["", "## Claims", "", f"{evidence.words}.", ""]
        if evidence.paper.has_recipe:
            lines += [f"Run it: `paperworks run {evidence.paper.slug}`", ""]
        for row in evidence.rows:
            lines.append(f"- **{row.verdict}**: {_line(row.claim.statement)}")
            if row.claim.value:
                against = f" (against {_line(row.claim.baseline)})" if row.claim.baseline else ""
                lines.append(f"  - The paper: {_line(row.claim.value)}{against}")
            for found in row.measured:
                beside = f"; {found.baseline}" if found.baseline else ""
                lines.append(f"  - Measured here: {_line(found.statement)} {found.measured} ({found.compared}{beside})")
            if row.claim.reason:
                lines.append(f"  - Not tested: {_line(row.claim.reason)}")
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
