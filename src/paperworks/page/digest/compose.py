"""The mails: plain text and HTML of the same content, from templates beside the page's own."""

from __future__ import annotations

from collections.abc import Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from paperworks.page.database import Entry
from paperworks.page.links import paper_path
from paperworks.page.settings import Settings
from paperworks.page.tex import to_plain

TEMPLATES = Path(__file__).parents[1] / "web" / "templates" / "mail"


def compose_confirmation(
    settings: Settings, email: str, frequency: str, tags: Sequence[str], link: str
) -> EmailMessage:
    """The mail that asks for consent."""
    about = {"frequency": frequency, "tags": list(tags), "link": link, "address": settings.address()}
    return _message(email, f"Confirm your {frequency} papers", "confirm", about)


def compose_digest(
    settings: Settings, email: str, frequency: str, period: str, entries: Sequence[Entry], unsubscribe: str
) -> EmailMessage:
    """The digest of one period. ``unsubscribe`` is the link of one click (RFC 8058)."""
    first = entries[0].title if entries else ""
    more = f" and {len(entries) - 1} more" if len(entries) > 1 else ""
    about = {
        "frequency": frequency,
        "period": period,
        "entries": list(entries),
        "unsubscribe": unsubscribe,
        "address": settings.address(),
    }
    message = _message(email, f"{_short(to_plain(first))}{more}", "digest", about)
    message["List-Unsubscribe"] = f"<{unsubscribe}>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message["List-Id"] = f"Paperworks {frequency} digest <{frequency}.digest.paperworks>"
    message["Precedence"] = "bulk"
    return message


def _message(email: str, subject: str, template: str, about: dict[str, Any]) -> EmailMessage:
    message = EmailMessage()
    local, _, domain = email.rpartition("@")
    message["To"] = Address(username=local, domain=domain)
    message["Subject"] = " ".join(subject.split())
    message.set_content(_templates().get_template(f"{template}.txt").render(about))
    message.add_alternative(_templates().get_template(f"{template}.html").render(about), subtype="html")
    return message


@lru_cache(maxsize=1)
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = to_plain
    environment.globals["paper_path"] = paper_path
    return environment


def _short(text: str, limit: int = 70) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1].rsplit(" ", 1)[0] + "…"
