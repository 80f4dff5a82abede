"""Mails of what is trending: subscriptions confirmed from the mailbox, a diverse choice of papers, sending once."""

from paperworks.page.digest.choose import choose_papers
from paperworks.page.digest.compose import compose_digest
from paperworks.page.digest.send import SendOutcome, period_of, send_digests
from paperworks.page.digest.subscriptions import confirm, manage_link, subscribe, unsubscribe

__all__ = [
    "SendOutcome",
    "choose_papers",
    "compose_digest",
    "confirm",
    "manage_link",
    "period_of",
    "send_digests",
    "subscribe",
    "unsubscribe",
]
