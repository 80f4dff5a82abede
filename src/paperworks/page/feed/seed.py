"""The catalogue's papers as entries of the feed, and the day on which each began to work here."""

from __future__ import annotations

from datetime import date

from paperworks import catalog
from paperworks.errors import InputError
from paperworks.page.database import Database, now
from paperworks.page.feed.entries import CATALOGUE, Change, ImportOutcome, IncomingPaper, upsert_entry
from paperworks.page.feed.trend import refresh_trends


def seed_catalogue(database: Database) -> ImportOutcome:
    """Put the catalogue's papers into the feed and refresh whether they work and how many claims hold."""
    outcome = ImportOutcome()
    with database.session() as session:
        for paper in catalog.papers():
            incoming = IncomingPaper(
                title=paper.title,
                summary=paper.summary,
                arxiv=paper.arxiv or None,
                authors=paper.author_names,
                author_count=paper.authors,
                organisation=paper.organisation,
                published=date.fromisoformat(paper.date),
                tags=paper.tags,
                repository=paper.repository,
                source=CATALOGUE,
            )
            try:
                entry, change = upsert_entry(session, incoming)
            except InputError as error:
                outcome.skipped.append((paper.slug, str(error)))
                continue
            figures = {
                "slug": paper.slug,
                "works": paper.works,
                "claims_held": paper.claims_held,
                "claims_total": len(paper.claims),
            }
            if paper.works and not entry.works:
                entry.works_since = _began(paper, change)
            elif not paper.works:
                entry.works_since = None
            if any(getattr(entry, name) != value for name, value in figures.items()):
                for name, value in figures.items():
                    setattr(entry, name, value)
                change = "added" if change == "added" else "updated"
            outcome.count(change)
        refresh_trends(session, now())
    return outcome


def _began(paper: catalog.Paper, change: Change) -> date:
    """The day on which a paper began to work here: today, or when it was measured for a page that first hears of it."""
    today = now().date()
    if change != "added" or not paper.results:
        return today
    return min(today, date.fromisoformat(paper.results["measured"]))
