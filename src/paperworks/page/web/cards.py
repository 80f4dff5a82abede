"""Papers in lists. A card is rendered once for what it shows, and kept: most of a list is as it was a moment ago."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from sqlalchemy import func, select
from sqlalchemy.orm import Session as OrmSession

from paperworks.page.community.reactions import reactions_of
from paperworks.page.database import AMONG_IDS, Entry, EntryTag, User
from paperworks.page.web.deps import Page

_ENTRY: Any = Entry.__table__.c
_TAG: Any = EntryTag.__table__.c
LONGEST_TEXT = 600
"""More of an abstract than a card shows."""
_COLUMN_NAMES = (
    "id updated title published listed listed_known organisation works withdrawn upvotes upvotes_elsewhere comments "
    "comments_elsewhere slug arxiv author_count claims_held trend authors"
)
CARD_COLUMNS: tuple[Any, ...] = (
    *(getattr(_ENTRY, name) for name in _COLUMN_NAMES.split()),
    func.substr(func.coalesce(func.nullif(_ENTRY.summary, ""), _ENTRY.abstract), 1, LONGEST_TEXT).label("text"),
)
"""What a list reads of its entries, without making objects of them."""
_KEYS = len(CARD_COLUMNS) - 3
"""So many columns say whether a card is as it was: authors, abstract and tags do not change without ``updated``."""
_MARK = "\x00"


def cards_of(
    page: Page,
    session: OrmSession,
    entries: Sequence[Any],
    user: User | None,
    snippets: Sequence[Markup] | None = None,
    level: int = 2,
) -> list[Markup]:
    """The cards of entries (rows of ``CARD_COLUMNS``) as ``user`` sees them.

    ``snippets``, safe HTML of a search, stand in the place of the texts. ``level`` is that of the headings.
    """
    ids = [entry.id for entry in entries]
    voted, kept = reactions_of(session, user.id, ids) if user is not None and ids else (set[int](), set[int]())
    keys = [
        (*tuple(e)[:_KEYS], e.id in voted, e.id in kept, user is not None, level, snippets is not None) for e in entries
    ]
    found = [page.cards.get(key) for key in keys]
    missing = [entry.id for entry, parts in zip(entries, found, strict=True) if parts is None]
    tags = _tags(session, missing) if missing else {}
    macros: Any = page.templates.globals["m"]
    cards = []
    for at, (entry, key, known) in enumerate(zip(entries, keys, found, strict=True)):
        parts = known
        if parts is None:
            text = Markup(_MARK) if snippets is not None else None
            html = macros.card(entry, page, user, voted, kept, tags.get(entry.id, []), snippet=text, level=level)
            before, _, after = html.partition(_MARK)
            parts = page.cards.put(key, (before, after))
        cards.append(parts[0] + snippets[at] + parts[1] if snippets is not None else parts[0])
    return cards


def rows_of(session: OrmSession, ids: Sequence[int]) -> dict[int, Any]:
    """The rows of ``CARD_COLUMNS`` of those of these entries that may be shown, by id."""
    wanted = select(*CARD_COLUMNS).where(_ENTRY.id.in_(ids), AMONG_IDS)
    return {row.id: row for row in session.execute(wanted)} if ids else {}


def _tags(session: OrmSession, ids: Sequence[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    wanted = select(_TAG.entry_id, _TAG.tag).where(_TAG.entry_id.in_(ids)).order_by(_TAG.entry_id, _TAG.tag)
    for identity, tag in session.execute(wanted):
        found.setdefault(identity, []).append(tag)
    return found
