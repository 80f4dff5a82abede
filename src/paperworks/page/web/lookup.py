"""Finding the entry that an address names."""

from __future__ import annotations

import re

from sqlalchemy import select
from sqlalchemy.orm import Session as OrmSession
from starlette.exceptions import HTTPException

from paperworks.page.database import Entry
from paperworks.page.feed.keys import arxiv_id

_NUMBER = re.compile(r"p([1-9]\d{0,8})")


def find_entry(session: OrmSession, name: str) -> Entry:
    """The entry of an arXiv id (with or without version), of ``p<number>``, or of a slug of the catalogue; else 404."""
    arxiv = arxiv_id(name)
    number = _NUMBER.fullmatch(name)
    if arxiv is not None:
        condition = Entry.arxiv == arxiv
    elif number is not None:
        condition = Entry.id == int(number[1])
    else:
        condition = Entry.slug == name
    entry = session.scalar(select(Entry).where(condition, Entry.hidden.is_(False)))
    if entry is None:
        raise HTTPException(404)
    return entry
