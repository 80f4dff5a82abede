"""A page with papers and subscribers, and a real SMTP server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from digest_helpers import TODAY, Mailbox

from paperworks.page.database import Database, Entry, EntryTag, open_database
from paperworks.page.mail import Mailer
from paperworks.page.settings import Settings, load_settings


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    handler = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        handler.port = free.getsockname()[1]
    controller = Controller(handler, hostname="127.0.0.1", port=handler.port)
    controller.start()
    yield handler
    controller.stop()


@pytest.fixture
def settings(home: Path, mailbox: Mailbox, database_url: str) -> Settings:
    return load_settings(
        database=database_url,
        smtp_url=f"smtp://127.0.0.1:{mailbox.port}",
        mail_from="Paperworks <papers@example.org>",
        base_url="https://papers.example.org",
    )


@pytest.fixture
def mailer(settings: Settings) -> Mailer:
    return Mailer(settings)


@pytest.fixture
def database(settings: Settings) -> Database:
    """Forty papers of the last days, four tags, falling trend."""
    database = open_database(settings.database_url)
    with database.session() as session:
        for n in range(40):
            session.add(
                Entry(
                    key=f"arxiv:2601.{n:05d}",
                    arxiv=f"2601.{n:05d}",
                    title=f"Paper {n}: <b>on</b> things & more",
                    abstract=f"What paper {n} says.",
                    listed=TODAY - timedelta(days=n // 10),
                    trend=100.0 - n,
                    tags=[EntryTag(tag=f"tag{n % 4}")],
                )
            )
    return database
