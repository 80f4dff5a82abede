"""A mailbox that a real SMTP server fills, and subscriptions."""

from __future__ import annotations

import email
import email.policy
from datetime import date
from email.message import EmailMessage

from aiosmtpd.smtp import SMTP, Envelope, Session

from paperworks.page.database import Database, Subscription, now

TODAY = date(2026, 3, 4)


class Mailbox:
    """Keeps what arrives; ``answer`` may be changed to refuse all, or single mailboxes named in ``refuse``."""

    def __init__(self) -> None:
        self.received: list[tuple[str, EmailMessage]] = []
        self.answer = "250 OK"
        self.refuse: set[str] = set()
        self.port = 0

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list) -> str:
        if address in self.refuse:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.answer.startswith("250"):
            message = email.message_from_bytes(envelope.content, policy=email.policy.default)
            self.received.append((envelope.rcpt_tos[0], message))
        return self.answer

    def to(self, address: str) -> list[EmailMessage]:
        return [m for a, m in self.received if a == address]


def add_subscription(database: Database, address: str, frequency: str = "daily", tags: tuple[str, ...] = ()) -> int:
    with database.session() as session:
        row = Subscription(email=address, frequency=frequency, tags=list(tags), confirmed=now())
        session.add(row)
        session.flush()
        return row.id
