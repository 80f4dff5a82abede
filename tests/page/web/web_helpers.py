"""What the tests of the web server share: readers, mailboxes, and a search without a large model."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Sequence
from email.message import EmailMessage
from html.parser import HTMLParser
from itertools import count

import numpy as np
from fastapi import FastAPI
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket
from starlette.testclient import TestClient

from paperworks.page.access import owner_cookie
from paperworks.page.community import accounts
from paperworks.page.database import User, now
from paperworks.page.mail import Mailer
from paperworks.page.web.deps import SESSION_COOKIE, Page

LOCAL = "http://127.0.0.1"
PUBLIC = "https://papers.example"
PASSWORD = "correct horse battery"
_numbers = count(1)


class WordEncoder:
    """Sentences as the normalised sums of pseudo-random vectors of their words: like words, like vectors."""

    name = "words"
    dimensions = 32

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
                row += np.random.default_rng(seed).standard_normal(self.dimensions).astype(np.float32)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


class CompiledTemplates(BytecodeCache):
    """What Jinja compiles, kept for the pages that this process opens later."""

    def __init__(self) -> None:
        self._code: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._code:
            bucket.bytecode_from_string(self._code[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._code[bucket.key] = bucket.bytecode_to_string()


class Mailbox(Mailer):
    """Keeps the messages instead of handing them to a server."""

    configured = True  # type: ignore[assignment]

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []

    def send(self, message: EmailMessage) -> None:
        self.messages.append(message)

    def link(self, path: str) -> str:
        """The path of the link in the newest mail."""
        found = re.search(rf"{PUBLIC}({path}/\S+)", self.messages[-1].get_content())
        assert found is not None
        return found[1]


class Browser(TestClient):
    """A reader without scripts: follows redirects, keeps cookies, fills the token of a form in.

    On a page without accounts it is the owner's browser, unless ``owner`` is False.
    """

    def __init__(self, app: FastAPI, base_url: str = LOCAL, owner: bool = True, **options: object) -> None:
        number = next(_numbers)  # an address of its own: limits per address are not shared between tests
        address = f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"
        super().__init__(app, base_url=base_url, client=(address, 50000), **options)  # type: ignore[arg-type]
        self.page: Page = app.state.page
        if owner and not self.page.settings.public:
            self.cookies.set(self.page.owner_cookie_name, owner_cookie(self.page.key))

    def token(self, path: str = "/account") -> str:
        """The token of the forms of a page."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.get(path).text)
        assert found is not None, path
        return found[1]

    def submit(self, path: str, source: str = "/about", **fields: str):  # type: ignore[no-untyped-def]
        """Post a form as the page ``source`` would."""
        origin = str(self.base_url).rstrip("/")
        return self.post(
            path,
            data={"csrf": self.token(source), **fields},
            headers={"Origin": origin, "Referer": origin + source},
        )

    def htmx(self, path: str, source: str = "/about", **fields: str):  # type: ignore[no-untyped-def]
        """Post as htmx does."""
        headers = {"HX-Request": "true", "X-CSRF-Token": self.token(source)}
        return self.post(path, data=fields, headers=headers)

    def sign_up(self, mailbox: Mailbox, name: str | None = None, password: str = PASSWORD) -> str:
        """Make an account through the mail, and be logged in; returns the address."""
        number = next(_numbers)
        email = f"reader{number}@example.org"
        assert self.submit("/sign-up", "/sign-up", email=email).status_code == 200
        link = mailbox.link("/sign-up")
        answer = self.submit(link, link, name=name or f"Reader {number}", password=password, again=password)
        assert answer.status_code == 200, answer.text
        return email


def become_member(browser: Browser, password_hash: str) -> str:
    """Log a new user in without the mail and without the cost of a password; returns the address."""
    number = next(_numbers)
    email = f"member{number}@example.org"
    with browser.page.database.session() as session:
        user = User(email=email, name=f"Member {number}", password=password_hash, confirmed=now())
        session.add(user)
        session.flush()
        token = accounts.open_session(session, user)
    browser.cookies.set(browser.page.cookie(SESSION_COOKIE), token, domain="papers.example")
    return email


class Elements(HTMLParser):
    """The elements of a page: (tag, attributes)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a tag."""
        return [attributes for name, attributes in self.found if name == tag]


def titles(text: str) -> list[str]:
    found = re.findall(r'class="card-title"><a href="[^"]+">(.+?)</a>', text)
    return [html.unescape(title) for title in found]


def next_page(html: str) -> str | None:
    found = re.search(r'<p class="more"><a class="button quiet" href="([^"]+)"', html)
    return found[1].replace("&amp;", "&") if found else None


def all_titles(local: Browser, path: str | None) -> list[str]:
    """Titles of a listing and of the pages that follow it."""
    found: list[str] = []
    while path is not None:
        text = local.get(path).text
        found += titles(text)
        path = next_page(text)
    return found
