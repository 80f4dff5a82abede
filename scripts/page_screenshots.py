"""Pictures of the page, from a private page with the catalogue's papers, in the Chromium of this machine.

    python scripts/page_screenshots.py [--out docs/screenshots] [--all FOLDER] [--paper slicegpt]

A server is started in a folder of its own, with the catalogue's papers listed in the last days, as if they had just
been imported. The reader votes and comments, runs a paper on its bundled input, subscribes, and gets a digest by a mail
server in this process. Feed, search, paper, run in progress, report and mail are taken at phone width (390) and wide
(1440), light and dark. ``--out`` gets the small set that docs/page.md shows, with few colours so that it stays small;
``--all`` gets every picture, and a report and a paper as they are printed (PDF).
"""

from __future__ import annotations

import argparse
import email
import email.policy
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from paperworks import catalog

ROOT = Path(__file__).resolve().parent.parent
WIDTHS = {"phone": {"width": 390, "height": 844}, "wide": {"width": 1440, "height": 900}}
SCHEMES = ("light", "dark")
SHOWN = (
    "feed-wide-light",
    "feed-phone-dark",
    "search-wide-dark",
    "search-phone-light",
    "paper-wide-light",
    "paper-phone-light",
    "run-wide-light",
    "run-phone-dark",
    "report-wide-dark",
    "report-phone-light",
    "mail-wide-light",
    "mail-phone-light",
    "form-wide-light",
    "form-phone-dark",
    "api-wide-light",
    "comparisons-wide-light",
    "comparisons-phone-dark",
    "collection-wide-light",
    "collection-phone-light",
)
COLOURS = 96
MOST_BYTES = 150_000
QUERY = "make a language model smaller"
RUN_SECONDS = 900


class Post:
    """What the mail server took."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextmanager
def private_page(home: Path, smtp: int) -> Iterator[str]:
    """The address of a page that is served as long as the block."""
    port = free_port()
    os.environ.update(
        {
            "PAPERWORKS_HOME": str(home),
            "PAPERWORKS_PAGE_SMTP_URL": f"smtp://127.0.0.1:{smtp}",
            "PAPERWORKS_PAGE_MAIL_FROM": "Paperworks <papers@example.org>",
            "PAPERWORKS_PAGE_DIGEST_HOUR": "0",
        }
    )
    code = "from paperworks.cli import main; main()"
    command = [sys.executable, "-c", code, "page", "--no-token", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def list_papers() -> None:
    """Put the catalogue's papers on the days of the last two weeks, those that work on the latest."""
    from sqlalchemy import select

    from paperworks.page.database import Entry, now, open_database
    from paperworks.page.feed import refresh_trends
    from paperworks.page.settings import load_settings

    database = open_database(load_settings().database_url)
    with database.session() as session:
        order = select(Entry).order_by(Entry.works.desc(), Entry.claims_held.desc(), Entry.id)
        for n, entry in enumerate(session.scalars(order)):
            entry.listed, entry.listed_known = now().date() - timedelta(days=n // 3), True
        refresh_trends(session, now())
    database.close()


class Pictures:
    """Takes one view in every width and scheme. Each has a context of its own, as a reader of that kind would."""

    def __init__(self, browser: Browser, folder: Path) -> None:
        self._folder = folder
        self.contexts: dict[str, BrowserContext] = {
            f"{width}-{scheme}": browser.new_context(
                viewport=size, color_scheme=scheme, device_scale_factor=1 if width == "wide" else 1.5
            )  # type: ignore[arg-type]
            for width, size in WIDTHS.items()
            for scheme in SCHEMES
        }

    def take(self, name: str, address: str, ready: str = "main") -> None:
        """One picture per context: what is seen first, and (in ``--all``) the whole page."""
        for kind, context in self.contexts.items():
            tab = context.new_page()
            tab.goto(address)
            tab.wait_for_selector(ready)
            self._save(tab, f"{name}-{kind}")
            tab.close()

    def take_html(self, name: str, html: str) -> None:
        """The same of a text that no server gives: a mail."""
        for kind, context in self.contexts.items():
            tab = context.new_page()
            tab.set_content(html)
            self._save(tab, f"{name}-{kind}")
            tab.close()

    def _save(self, tab: Page, name: str) -> None:
        tab.evaluate("document.fonts.ready")
        tab.wait_for_load_state("networkidle")  # pictures of cards are fetched when they come into sight
        wide = tab.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        if wide:
            print(f"{name}: the page is wider than the screen", file=sys.stderr)
        tab.screenshot(path=self._folder / f"{name}.png")
        tab.screenshot(path=self._folder / f"{name}-whole.png", full_page=True)


def use(tab: Page, address: str, paper: str, post: Post, pictures: Pictures) -> str:
    """Do what a reader does; returns the address of the run that was taken while it ran."""
    for path in (paper, "/papers/2402.02750", "/papers/2404.02078"):
        tab.goto(address + path)
        if tab.locator(".paper-head .vote").count():
            tab.locator(".paper-head .vote").click()
            tab.wait_for_selector('.paper-head .vote[aria-pressed="true"]')
    tab.goto(address + paper)
    tab.get_by_label("Your comment").fill(
        "What happens with *tied embeddings*: is the head sliced by the same directions as the embedding, "
        "or does it get its own `Q`?"
    )
    tab.get_by_role("button", name="Comment").click()
    tab.wait_for_selector(".comment")
    tab.goto(address + paper + "/run")
    tab.get_by_role("button", name="Run", exact=True).click()
    tab.wait_for_url("**/runs/*")
    run = tab.url
    tab.locator("[data-steps] li").nth(1).wait_for(timeout=RUN_SECONDS * 1000)
    pictures.take("run", run)
    tab.goto(address + "/digest")
    tab.get_by_label("E-mail address").fill("reader@example.org")
    tab.get_by_role("button", name="Subscribe").click()
    body = _body(post, "plain", "/digest/confirm/")
    link = re.search(r"http://\S+/digest/confirm/\S+", body)
    assert link is not None
    tab.goto(link[0])
    tab.get_by_role("button", name="Yes, send them").click()
    tab.goto(run)
    tab.wait_for_selector("h1.headline", timeout=RUN_SECONDS * 1000)
    return run


def collect(tab: Page, address: str, papers: list[str]) -> str:
    """Make a collection of papers that anybody with its address can read; returns the address."""
    tab.goto(address + papers[0])
    tab.get_by_label("Title of a new collection").fill("Smaller language models")
    tab.get_by_role("button", name="Make it").click()
    for path in papers[1:]:
        tab.goto(address + path)
        tab.get_by_role("button", name="Add to Smaller language models").click()
    tab.goto(address + "/collections")
    tab.get_by_role("link", name="Smaller language models").click()
    tab.wait_for_selector(".card")
    return tab.url


def _body(post: Post, kind: str, having: str, seconds: float = 120) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for mail in reversed(post.mails):
            part = mail.get_body((kind,))
            if part is not None and having in part.get_content():
                return part.get_content()
        time.sleep(0.3)
    raise TimeoutError(f"no mail with {having}")


def small(file: Path) -> bytes:
    """The picture with few colours."""
    image = Image.open(file).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> int:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screenshots")
    parser.add_argument("--all", type=Path, help="a folder for every picture")
    parser.add_argument("--paper", default="/papers/2401.15024", help="path of the paper that is run")
    given = parser.parse_args()
    post = Post()
    controller = Controller(post, hostname="127.0.0.1", port=free_port())
    controller.start()
    with tempfile.TemporaryDirectory() as work:
        folder = given.all or Path(work) / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        with private_page(Path(work) / "home", controller.port) as address, sync_playwright() as playwright:
            list_papers()
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
            )
            pictures = Pictures(browser, folder)
            tab = browser.new_page()
            tab.set_default_timeout(120_000)
            run = use(tab, address, given.paper, post, pictures)
            pictures.take("report", run, "h1.headline")
            pictures.take("feed", address + "/", ".card")
            pictures.take("search", f"{address}/search?q={QUERY.replace(' ', '+')}", ".card")
            pictures.take("paper", address + given.paper, ".paper-head")
            pictures.take("form", address + given.paper + "/run", "form.sheet")
            pictures.take("comparisons", f"{address}/comparisons", "table")
            papers = [given.paper, *(f"/papers/{paper.arxiv}" for paper in catalog.papers(tag="language-models"))]
            pictures.take("collection", collect(tab, address, list(dict.fromkeys(papers))[:4]), ".card")
            pictures.take("api", f"{address}/api", ".route")
            pictures.take("nothing", f"{address}/search?q=zzzz&mode=words", ".empty")
            pictures.take("bookmarks", f"{address}/bookmarks", ".empty")
            for name, path in (("report", run), ("paper", address + given.paper)):
                tab.goto(path)
                tab.pdf(path=folder / f"{name}.pdf", format="A4", prefer_css_page_size=True)
            digest = [sys.executable, "-c", "from paperworks.cli import main; main()", "digest", "send"]
            subprocess.run(digest, check=False, capture_output=True)
            pictures.take_html("mail", _body(post, "html", "/digest/unsubscribe/"))
            browser.close()
        controller.stop()
        given.out.mkdir(parents=True, exist_ok=True)
        for name in SHOWN:
            content = small(folder / f"{name}.png")
            if len(content) > MOST_BYTES:
                print(f"{name}: {len(content):,} bytes", file=sys.stderr)
            (given.out / f"{name}.png").write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
