"""Sending mail through any SMTP server, and the signed tokens that mailed links carry."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import Any
from urllib.parse import unquote, urlsplit

from itsdangerous import BadSignature, SignatureExpired, URLSafeTimedSerializer

from paperworks.errors import InputError
from paperworks.page.database import now
from paperworks.page.settings import Settings

SMTP_SECONDS = 30
SMTP_PORTS = {"smtp": 25, "smtps": 465}


def signed_token(settings: Settings, purpose: str, payload: Any) -> str:
    """A URL-safe token that only this page can have made, for one purpose (``confirm``, ``unsubscribe``, ...)."""
    return URLSafeTimedSerializer(settings.signing_key(), salt=f"paperworks.{purpose}").dumps(payload)


def read_token(settings: Settings, purpose: str, token: str, max_age: float | None = None) -> Any:
    """The payload of a token of ``signed_token``.

    Raises InputError("link", ...) for one that was changed, made for another purpose, or is older than ``max_age``
    seconds.
    """
    serializer = URLSafeTimedSerializer(settings.signing_key(), salt=f"paperworks.{purpose}")
    try:
        return serializer.loads(token, max_age=None if max_age is None else int(max_age))
    except SignatureExpired:
        raise InputError("link", "one that has expired", "a newer one: ask for another mail") from None
    except BadSignature:
        raise InputError("link", "one that this page did not make", "the whole link as it stands in the mail") from None


class Mailer:
    """Hands messages to the SMTP server of the settings.

    ``smtp://`` uses STARTTLS where the server offers it, and demands it before a password is sent to another machine;
    ``smtps://`` speaks TLS from the start. Certificates are verified.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def configured(self) -> bool:
        """Whether an SMTP server and a sender are set."""
        return bool(self._settings.smtp_url.get_secret_value() and self._settings.mail_from)

    def prepare(self, message: EmailMessage) -> EmailMessage:
        """Complete the headers that every mail has: From, Date, Message-ID."""
        if not self.configured:
            raise InputError("smtp_url", "nothing", "the SMTP server and the sender (mail_from) of the page's mails")
        if "From" not in message:
            message["From"] = self._settings.mail_from
        if "Date" not in message:
            message["Date"] = format_datetime(now())
        if "Message-ID" not in message:
            message["Message-ID"] = make_msgid(domain=urlsplit(self._settings.address()).hostname or "localhost")
        return message

    @contextmanager
    def connect(self) -> Iterator[smtplib.SMTP]:
        """A connection that is ready to send; for many messages in a row."""
        if not self.configured:
            raise InputError("smtp_url", "nothing", "the SMTP server of the page's mails, smtp://host:port")
        parts = urlsplit(self._settings.smtp_url.get_secret_value())
        assert parts.hostname is not None  # checked with the settings
        port = parts.port or SMTP_PORTS[parts.scheme]
        context = ssl.create_default_context()
        client: smtplib.SMTP
        if parts.scheme == "smtps":
            client = smtplib.SMTP_SSL(parts.hostname, port, timeout=SMTP_SECONDS, context=context)
        else:
            client = smtplib.SMTP(parts.hostname, port, timeout=SMTP_SECONDS)
        with client:
            client.ehlo()
            encrypted = parts.scheme == "smtps"
            if not encrypted and client.has_extn("starttls"):
                client.starttls(context=context)
                client.ehlo()
                encrypted = True
            if parts.username:
                if not encrypted and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
                    raise InputError(
                        "smtp_url", "a server without TLS", "smtps:// or STARTTLS before a password is sent"
                    )
                client.login(unquote(parts.username), unquote(parts.password or ""))
            yield client

    def send(self, message: EmailMessage) -> None:
        """Send one message. Raises smtplib.SMTPException or OSError when the server does not take it."""
        self.prepare(message)
        with self.connect() as client:
            client.send_message(message)
