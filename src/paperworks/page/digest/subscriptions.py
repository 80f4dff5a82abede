"""Who gets which digest. A subscription counts once its owner followed the link in the mailbox (double opt-in)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.message import EmailMessage

from sqlalchemy import select
from sqlalchemy.orm import Session as OrmSession

from paperworks.errors import InputError
from paperworks.page.database import Database, EntryTag, Subscription, now
from paperworks.page.digest.compose import compose_confirmation
from paperworks.page.mail import Mailer, read_token, signed_token
from paperworks.page.settings import Settings

CONFIRM_SECONDS = 7 * 24 * 3600
FREQUENCIES = ("daily", "weekly")

# One mailbox, no comments, no quoting: what a person types. Control characters could write mail headers.
_ADDRESS = re.compile(
    r"[^@\s\x00-\x1f\x7f,;:<>()\[\]\"\\]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)


def normal_address(field: str, address: str) -> str:
    """The address with its domain in lower case; raises InputError for what is not one mailbox."""
    stripped = address.strip()
    if len(stripped) > 254 or not _ADDRESS.fullmatch(stripped):
        raise InputError(field, repr(address[:80]), "one e-mail address, name@host")
    local, _, domain = stripped.rpartition("@")
    return f"{local}@{domain.lower()}"


def subscribe(
    database: Database, settings: Settings, mailer: Mailer, address: str, frequency: str, tags: Sequence[str]
) -> EmailMessage:
    """Ask an address for its consent; returns the mail that was sent.

    Whether the address is known already makes no difference to what the caller sees. Nothing of an existing
    subscription changes before the new link is followed.
    """
    email = normal_address("email", address)
    if frequency not in FREQUENCIES:
        raise InputError("frequency", repr(frequency), "daily or weekly")
    with database.reading() as session:
        chosen = _known_tags(session, tags)
    token = signed_token(settings, "confirm", {"email": email, "frequency": frequency, "tags": chosen})
    message = compose_confirmation(settings, email, frequency, chosen, f"{settings.address()}/digest/confirm/{token}")
    mailer.send(message)
    return message


def confirm(database: Database, settings: Settings, token: str) -> Subscription:
    """Begin (or change, or begin again) the subscription that a confirmation link stands for."""
    asked = read_token(settings, "confirm", token, CONFIRM_SECONDS)
    with database.session() as session:
        row = session.scalar(select(Subscription).where(Subscription.email == asked["email"]))
        if row is None:
            row = Subscription(email=asked["email"])
            session.add(row)
        row.frequency, row.tags = asked["frequency"], asked["tags"]
        row.confirmed, row.ended = now(), None
    return row


def manage_link(settings: Settings, subscription: Subscription) -> str:
    """The address that ends a subscription: shown with a button, or posted to by a mail program (RFC 8058)."""
    # Of the confirmation's second, not only of the id: an old mail cannot end a subscription that was begun anew.
    begun = int(subscription.confirmed.timestamp()) if subscription.confirmed else 0
    token = signed_token(settings, "unsubscribe", [subscription.id, begun])
    return f"{settings.address()}/digest/unsubscribe/{token}"


def unsubscribe(database: Database, settings: Settings, token: str) -> Subscription:
    """End the subscription of a link; ending it twice is no error."""
    subscription_id, begun = read_token(settings, "unsubscribe", token)
    with database.session() as session:
        row = session.get(Subscription, subscription_id)
        if row is None or row.confirmed is None or int(row.confirmed.timestamp()) != begun:
            raise InputError("link", "one of an earlier subscription", "the link in the newest mail")
        row.ended = row.ended or now()
    return row


def _known_tags(session: OrmSession, tags: Sequence[str]) -> list[str]:
    wanted = sorted({t.strip().lower() for t in tags if t.strip()})
    if not wanted:
        return []
    known = set(session.scalars(select(EntryTag.tag).where(EntryTag.tag.in_(wanted)).distinct()))
    unknown = [t for t in wanted if t not in known]
    if unknown:
        raise InputError("tags", ", ".join(unknown), "tags of the feed")
    return wanted
