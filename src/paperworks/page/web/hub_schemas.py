"""The Hugging Face Hub's shapes of papers, as its Python client reads them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time

from pydantic import BaseModel, Field

from paperworks.page.database import Entry
from paperworks.page.links import paper_id
from paperworks.page.web.evidence import Evidence


class ApiError(BaseModel):
    """What went wrong."""

    error: str


class Author(BaseModel):
    """An author of a paper."""

    name: str
    hidden: bool = False


class Organization(BaseModel):
    """Where a paper comes from."""

    name: str
    fullname: str


class Submitter(BaseModel):
    """Who brought a paper here."""

    user: str
    fullname: str
    type: str = "user"


class ClaimResult(BaseModel):
    """A claim of the paper, with the verdict of what was measured here."""

    id: str
    statement: str
    paper: str = Field(description="the paper's figure")
    verdict: str = Field(description="holds, partly tested, does not hold, not tested here, or not measured")
    measured: list[str] = Field(description="what was measured here")


class Paper(BaseModel):
    """A paper."""

    id: str = Field(description="arXiv id, or p and a number for a paper that has none")
    title: str
    summary: str
    authors: list[Author]
    publishedAt: datetime | None = Field(description="null where no source says it")
    submittedOnDailyAt: datetime
    submittedOnDailyBy: Submitter | None = None
    upvotes: int
    numComments: int
    source: str | None = Field(None, description="arxiv, for a paper with an arXiv id")
    organization: Organization | None = None
    ai_keywords: list[str] = Field(description="the tags")
    projectPage: str | None = None
    githubRepo: str | None = None
    slug: str | None = Field(None, description="the name of the paper on the command line")
    works: bool = Field(description="whether it can be run here")
    withdrawn: bool = Field(description="whether its authors withdrew it")
    claimsHeld: int
    claimsTotal: int


class PaperDetail(Paper):
    """A paper with its claims."""

    claims: list[ClaimResult] = Field(default_factory=list)


class ListedPaper(BaseModel):
    """A paper in a list: ``paper``, and beside it what the Hub gives again there."""

    paper: Paper
    title: str
    summary: str
    publishedAt: datetime | None = Field(
        description="the day of the feed on which it stands; null for a paper of which no source says when it appeared"
    )
    submittedOnDailyAt: datetime = Field(description="the day of the feed on which it stands")
    numComments: int
    submittedBy: Submitter | None = None
    source: str | None = None
    organization: Organization | None = None
    ai_keywords: list[str]
    projectPage: str | None = None
    githubRepo: str | None = None


def paper_fields(entry: Entry, submitters: Mapping[int, str]) -> dict[str, object]:
    """The fields of ``Paper`` of an entry. ``submitters``: names by id."""
    name = submitters.get(entry.submitted_by) if entry.submitted_by is not None else None
    return {
        "id": paper_id(entry),
        "title": entry.title,
        "summary": entry.abstract or entry.summary,
        "authors": [{"name": author} for author in entry.authors],
        "publishedAt": _midnight(entry.published) if entry.published else None,
        "submittedOnDailyAt": _midnight(entry.listed),
        "submittedOnDailyBy": {"user": name, "fullname": name} if name else None,
        "upvotes": entry.upvotes + entry.upvotes_elsewhere,
        "numComments": entry.comments + entry.comments_elsewhere,
        "source": "arxiv" if entry.arxiv else None,
        "organization": {"name": entry.organisation, "fullname": entry.organisation} if entry.organisation else None,
        "ai_keywords": entry.tag_names,
        "projectPage": entry.url or None,
        "githubRepo": entry.repository or None,
        "slug": entry.slug,
        "works": entry.works,
        "withdrawn": entry.withdrawn,
        "claimsHeld": entry.claims_held,
        "claimsTotal": entry.claims_total,
    }


def listed(entry: Entry, submitters: Mapping[int, str]) -> ListedPaper:
    """An entry in a list."""
    fields = paper_fields(entry, submitters)
    # The Hub's client takes this field for the paper's own day where the paper has none.
    day = fields["submittedOnDailyAt"] if fields["publishedAt"] else None
    listing = {"submittedBy": fields["submittedOnDailyBy"], "publishedAt": day}
    return ListedPaper.model_validate(fields | listing | {"paper": fields})


def detail(entry: Entry, evidence: Evidence | None, submitters: Mapping[int, str]) -> PaperDetail:
    """An entry with its claims."""
    claims = [
        {
            "id": row.claim.id,
            "statement": row.claim.statement,
            "paper": row.claim.value,
            "verdict": row.verdict,
            "measured": [f"{f.statement}: {f.measured} ({f.compared})" for f in row.measured],
        }
        for row in (evidence.rows if evidence is not None else ())
    ]
    return PaperDetail.model_validate(paper_fields(entry, submitters) | {"claims": claims})


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
