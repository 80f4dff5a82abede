"""Sending each digest once, whatever happens to the senders.

    claim (a row, unique per subscription and period)  ->  handed over  ->  sent

A mail counts for an SMTP server only when the line with the single dot has arrived. The row is therefore written as
*handed over* after the content and before that line, and as *sent* after the server's answer. A sender that dies while
the row says *claimed* has delivered nothing: the next one sends it. One that dies while it says *handed over* may have
delivered: it is never sent again, and is reported. So nobody gets a digest twice, and one can be missed only by a death
between two system calls.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import smtplib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from functools import partial
from select import select as select_io
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from paperworks.page.database import Database, Delivery, Subscription, now, rows_changed
from paperworks.page.digest.choose import Vectors, choose_papers
from paperworks.page.digest.compose import compose_digest
from paperworks.page.digest.subscriptions import manage_link
from paperworks.page.mail import Mailer
from paperworks.page.settings import Settings
from paperworks.runs import Progress, no_progress

STALE_SECONDS = 300.0
"""A claim that is this old belongs to a sender that died."""
ATTEMPTS = 5
REPEAT_DAYS = 30
"""A paper is not mailed to the same subscription again within this time."""

log = logging.getLogger("paperworks.page.digest")


@dataclass
class SendOutcome:
    """What a round of sending did: addresses per outcome. ``unknown``: a sender died while the server answered."""

    sent: list[str] = field(default_factory=list)
    already: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    messages: list[EmailMessage] = field(default_factory=list)
    """The messages of a dry run."""


def period_of(frequency: str, moment: datetime) -> str:
    """The name of the period of a moment: ``2026-11-23`` for daily, ``2026-W48`` for weekly mails (UTC, ISO weeks)."""
    day = moment.astimezone(UTC).date()
    year, week, _ = day.isocalendar()
    return day.isoformat() if frequency == "daily" else f"{year}-W{week:02d}"


def send_digests(
    database: Database,
    settings: Settings,
    mailer: Mailer,
    frequency: str,
    moment: datetime | None = None,
    dry_run: bool = False,
    vectors: Vectors | None = None,
    progress: Progress = no_progress,
) -> SendOutcome:
    """Send every due digest of ``frequency`` for the period of ``moment`` (by default now).

    Any number of senders may run at once. ``dry_run`` composes what would be sent and changes nothing. ``vectors``
    makes the choice diverse (see ``choose_papers``). A server that refuses one mail does not stop the others; a failed
    mail is tried again by the next round, at most 5 times.
    """
    moment = moment or now()
    period = period_of(frequency, moment)
    sender = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    outcome = SendOutcome()
    with database.reading() as session:
        due = list(
            session.scalars(
                select(Subscription)
                .where(
                    Subscription.frequency == frequency,
                    Subscription.confirmed.is_not(None),
                    Subscription.ended.is_(None),
                )
                .order_by(Subscription.id)
            )
        )
    for subscription in progress(due, "digests"):
        if dry_run:
            _, message = _compose(database, settings, subscription, period, moment, vectors)
            if message is None:
                outcome.empty.append(subscription.email)
            else:
                outcome.messages.append(mailer.prepare(message) if mailer.configured else message)
            continue
        delivery = _claim(database, settings, subscription, period, sender, outcome)
        if delivery is None:
            continue
        entries, message = _compose(database, settings, subscription, period, moment, vectors)
        if message is None:
            _mark(database, delivery, sender, "empty")
            outcome.empty.append(subscription.email)
            continue
        message["Message-ID"] = delivery.message_id
        try:
            _transmit(mailer, message, partial(_mark, database, delivery, sender, "handed over", entries=entries))
        except _ClaimLost:
            outcome.already.append(subscription.email)
        except _DeliveryUnknown as error:
            log.warning("digest %s to subscription %s: %s", period, subscription.id, error)
            outcome.unknown.append(subscription.email)
        except (smtplib.SMTPException, OSError) as error:
            _mark(database, delivery, sender, "failed", str(error))
            outcome.failed.append((subscription.email, str(error)))
        else:
            _mark(database, delivery, sender, "sent")
            outcome.sent.append(subscription.email)
    return outcome


class _DeliveryUnknown(Exception):
    """The connection broke after the message was complete and before the server answered."""


def _compose(
    database: Database,
    settings: Settings,
    subscription: Subscription,
    period: str,
    moment: datetime,
    vectors: Vectors | None,
) -> tuple[list[int], EmailMessage | None]:
    with database.reading() as session:
        earlier = session.scalars(
            select(Delivery.entries).where(
                Delivery.subscription_id == subscription.id,
                Delivery.period != period,
                Delivery.changed > moment - timedelta(days=REPEAT_DAYS),
            )
        )
        seen = sorted({entry for entries in earlier for entry in entries})
        day = moment.astimezone(UTC).date()
        chosen = choose_papers(session, subscription.tags, day, subscription.frequency, vectors, seen=seen)
        if not chosen:
            return [], None
        link = manage_link(settings, subscription)
        message = compose_digest(settings, subscription.email, subscription.frequency, period, chosen, link)
        return [e.id for e in chosen], message


def _claim(
    database: Database,
    settings: Settings,
    subscription: Subscription,
    period: str,
    sender: str,
    outcome: SendOutcome,
) -> Delivery | None:
    """The row of a mail that this sender is to send, or None if it was sent or another sender has it."""
    domain = urlsplit(settings.address()).hostname or "localhost"
    fresh = Delivery(
        subscription_id=subscription.id,
        period=period,
        sender=sender,
        message_id=f"<digest.{period}.{subscription.id}@{domain}>",
        attempts=1,
    )
    try:
        with database.session() as session:
            session.add(fresh)
        return fresh
    except IntegrityError:
        pass
    with database.session() as session:
        row = session.scalar(
            select(Delivery).where(Delivery.subscription_id == subscription.id, Delivery.period == period)
        )
        assert row is not None  # rows are never deleted while their subscription lives
        free = (row.status == "failed" and row.attempts < ATTEMPTS) or (
            row.status == "claimed" and row.changed < now() - timedelta(seconds=STALE_SECONDS)
        )
        if not free:
            (outcome.unknown if row.status == "handed over" else outcome.already).append(subscription.email)
            return None
        taking = (
            update(Delivery)
            .where(Delivery.id == row.id, Delivery.status == row.status, Delivery.changed == row.changed)
            .values(status="claimed", sender=sender, attempts=row.attempts + 1, changed=now())
        )
        if not rows_changed(session, taking):
            outcome.already.append(subscription.email)
            return None
    with database.reading() as session:
        return session.get(Delivery, row.id)


def _mark(
    database: Database, delivery: Delivery, sender: str, status: str, error: str = "", entries: list[int] | None = None
) -> None:
    changes: dict[str, Any] = {"status": status, "error": error, "changed": now()}
    if entries is not None:
        changes["entries"] = entries
    with database.session() as session:
        marking = (
            update(Delivery)
            .where(
                Delivery.id == delivery.id, Delivery.sender == sender, Delivery.status.in_(("claimed", "handed over"))
            )
            .values(**changes)
        )
        if not rows_changed(session, marking):
            raise _ClaimLost(f"delivery {delivery.id} was taken by another sender")


class _ClaimLost(smtplib.SMTPException):
    """Another sender took this mail because this one was silent for too long."""


def _transmit(mailer: Mailer, message: EmailMessage, before_end: Callable[[], None]) -> None:
    """Send one mail, calling ``before_end`` when all but its last line has gone out."""
    mailer.prepare(message)
    recipient = message["To"].addresses[0].addr_spec
    sender = message["From"].addresses[0].addr_spec
    with mailer.connect() as client:
        international = not (recipient + sender).isascii()
        if international and not client.has_extn("smtputf8"):
            raise smtplib.SMTPNotSupportedError("the server takes no addresses outside ASCII (SMTPUTF8)")
        content = message.as_bytes(policy=SMTP.clone(utf8=international))
        code, answer = client.mail(sender, ["SMTPUTF8"] if international else [])
        if code != 250:
            raise smtplib.SMTPSenderRefused(code, answer, sender)
        code, answer = client.rcpt(recipient)
        if code not in (250, 251):
            raise smtplib.SMTPRecipientsRefused({recipient: (code, answer)})
        client.putcmd("data")
        code, answer = client.getreply()
        if code != 354:
            raise smtplib.SMTPDataError(code, answer)
        lines = re.sub(rb"(?m)^\.", b"..", content)  # RFC 5321, 4.5.2: a line with a single dot would end the mail
        client.send(lines if lines.endswith(b"\r\n") else lines + b"\r\n")
        try:
            _require_connection(client)
            before_end()
        except BaseException:
            client.close()  # unfinished, so the server drops it
            raise
        client.send(b".\r\n")  # where this fails, the server never had the whole mail
        try:
            code, answer = client.getreply()
        except (smtplib.SMTPServerDisconnected, OSError) as error:
            raise _DeliveryUnknown(f"the connection ended before the server answered: {error}") from None
        if code != 250:
            raise smtplib.SMTPDataError(code, answer)


def _require_connection(client: smtplib.SMTP) -> None:
    """Raise if the server is known to be gone: what was sent may still lie in this machine's buffers."""
    connection = client.sock
    if connection is None or isinstance(connection, ssl.SSLSocket):
        return
    readable, _, _ = select_io([connection], [], [], 0)
    if readable and not connection.recv(1, socket.MSG_PEEK):
        raise smtplib.SMTPServerDisconnected("the server ended the connection in the middle of the mail")
