"""Papers for tests outside the papers' folders: found in the catalogue by what a test needs, never by name.

A test that names a paper would fail when the paper's folder is deleted.
"""

from __future__ import annotations

from paperworks import catalog


def measured_paper() -> catalog.Paper:
    """A paper that works here, with measured findings."""
    return next(paper for paper in catalog.papers(works=True) if paper.findings)
