"""Collections: papers that a reader puts together under a title, and shares or keeps."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session as OrmSession

from paperworks.errors import InputError
from paperworks.page.database import Collection, CollectionEntry, Entry, User, now

MOST_COLLECTIONS = 100
MOST_ENTRIES = 500
LONGEST_TITLE = 120
LONGEST_TEXT = 2000
SHARED_SHOWN = 60


@dataclass(frozen=True)
class Listed:
    """A collection in a list, with how many papers it has; ``holds``, whether a paper that was asked about is one."""

    collection: Collection
    papers: int
    holds: bool = False


def create_collection(session: OrmSession, user: User, title: str, text: str = "", shared: bool = False) -> Collection:
    """Make an empty collection. Raises InputError for a title or text that cannot be used, or one too many."""
    own = select(func.count()).select_from(Collection).where(Collection.user_id == user.id)
    if (session.scalar(own) or 0) >= MOST_COLLECTIONS:
        raise InputError("title", f"{MOST_COLLECTIONS} collections of yours", "fewer; remove one first")
    made = Collection(id=secrets.token_urlsafe(12), user_id=user.id)
    _write(made, title, text, shared)
    session.add(made)
    session.flush()
    return made


def edit_collection(session: OrmSession, collection: Collection, title: str, text: str, shared: bool) -> None:
    """Give a collection another title or text, or share it or no longer. Raises InputError."""
    _write(collection, title, text, shared)
    session.flush()


def remove_collection(session: OrmSession, collection: Collection) -> None:
    """Remove a collection; its papers stay where they are."""
    session.execute(delete(Collection).where(Collection.id == collection.id))


def set_collected(session: OrmSession, collection: Collection, entry_id: int, on: bool) -> None:
    """Put an entry into a collection, or take it out; twice changes nothing. Raises InputError if it is full."""
    if on:
        if _size(session, collection.id) >= MOST_ENTRIES:
            raise InputError("collection", f"one of {MOST_ENTRIES} papers", "a smaller one")
        insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
        values = {"collection_id": collection.id, "entry_id": entry_id, "created": now()}
        session.execute(insert(CollectionEntry).values(**values).on_conflict_do_nothing())
    else:
        session.execute(
            delete(CollectionEntry).where(
                CollectionEntry.collection_id == collection.id, CollectionEntry.entry_id == entry_id
            )
        )
    session.execute(update(Collection).where(Collection.id == collection.id).values(changed=now()))


def find_collection(session: OrmSession, name: str, user: User | None) -> Collection | None:
    """The collection of this id if the user may see it: it is theirs, or shared."""
    found = session.get(Collection, name)
    if found is None or not (found.shared or (user is not None and found.user_id == user.id)):
        return None
    return found


def entries_of(session: OrmSession, collection: Collection) -> list[int]:
    """The ids of the papers of a collection, what was put in last first; hidden ones are left out."""
    return list(
        session.scalars(
            select(Entry.id)
            .join(CollectionEntry, CollectionEntry.entry_id == Entry.id)
            .where(CollectionEntry.collection_id == collection.id, Entry.hidden.is_(False))
            .order_by(CollectionEntry.created.desc(), Entry.id.desc())
        )
    )


def own_collections(session: OrmSession, user_id: int, entry_id: int | None = None) -> list[Listed]:
    """The collections of a user, changed last first; with ``entry_id``, whether each holds that entry."""
    asked = select(Collection).where(Collection.user_id == user_id)
    held: set[str] = set()
    if entry_id is not None:
        held = set(session.scalars(select(CollectionEntry.collection_id).where(CollectionEntry.entry_id == entry_id)))
    return _listed(session, list(session.scalars(asked.order_by(Collection.changed.desc(), Collection.id))), held)


def shared_collections(session: OrmSession) -> list[Listed]:
    """The newest shared collections that have papers."""
    filled = select(CollectionEntry.collection_id)
    asked = select(Collection).where(Collection.shared.is_(True), Collection.id.in_(filled))
    newest = asked.order_by(Collection.changed.desc(), Collection.id).limit(SHARED_SHOWN)
    return _listed(session, list(session.scalars(newest)), set())


def _listed(session: OrmSession, collections: list[Collection], held: set[str]) -> list[Listed]:
    counts = dict(
        session.execute(
            select(CollectionEntry.collection_id, func.count())
            .join(Entry, Entry.id == CollectionEntry.entry_id)
            .where(CollectionEntry.collection_id.in_([c.id for c in collections]), Entry.hidden.is_(False))
            .group_by(CollectionEntry.collection_id)
        )
        .tuples()
        .all()
    )
    return [Listed(c, counts.get(c.id, 0), c.id in held) for c in collections]


def _size(session: OrmSession, collection_id: str) -> int:
    asked = select(func.count()).select_from(CollectionEntry).where(CollectionEntry.collection_id == collection_id)
    return session.scalar(asked) or 0


def _write(collection: Collection, title: str, text: str, shared: bool) -> None:
    title = " ".join("".join(c if c.isprintable() else " " for c in title).split())
    text = "".join(c for c in text.replace("\r\n", "\n") if c == "\n" or c.isprintable()).strip()
    if not 1 <= len(title) <= LONGEST_TITLE:
        found = f"{len(title)} characters" if title else "nothing"
        raise InputError("title", found, f"1 to {LONGEST_TITLE} characters")
    if len(text) > LONGEST_TEXT:
        raise InputError("text", f"{len(text)} characters", f"at most {LONGEST_TEXT}")
    collection.title, collection.text, collection.shared, collection.changed = title, text, shared, now()
