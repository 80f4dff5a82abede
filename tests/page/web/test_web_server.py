"""The real server with its worker, a real browser, a real mail server; and what is left when all of it is killed."""

from __future__ import annotations

import email
import email.policy
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path

import httpx
import psutil
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import select

from paperworks.page.database import Job, open_database
from paperworks.page.jobs import queue
from paperworks.page.settings import load_settings

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
FORM = "/papers/0001.00001/run"


class Post:
    """What the mail server took."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"


class Server:
    """``paperworks page`` as a process of its own."""

    def __init__(self, port: int, smtp_port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._port = port
        self._environment = os.environ | {
            "PAPERWORKS_PAGE_SMTP_URL": f"smtp://127.0.0.1:{smtp_port}",
            "PAPERWORKS_PAGE_MAIL_FROM": "papers@example.org",
        }
        self.start()

    def start(self) -> None:
        code = "from paperworks.cli import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "page", "--port", str(self._port)],
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        printed = re.search(r"http://\S+", self.process.stdout.readline())
        assert printed is not None
        self.link = printed[0]
        assert self.link.startswith(self.address)

    def tree(self) -> list[psutil.Process]:
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def stop(self, number: int) -> None:
        left = self.tree()
        self.process.send_signal(number)
        self.process.wait(timeout=30)
        until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in left))


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.1)


@pytest.fixture
def post() -> Iterator[Post]:
    handler = Post()
    with socket.create_server(("127.0.0.1", 0)) as free:
        handler.port = free.getsockname()[1]  # type: ignore[attr-defined]
    controller = Controller(handler, hostname="127.0.0.1", port=handler.port)  # type: ignore[attr-defined]
    controller.start()
    yield handler
    controller.stop()


@pytest.fixture
def server(home: Path, tiny_paper: Path, post: Post) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = Server(port, post.port)  # type: ignore[attr-defined]
    yield running
    if running.process.poll() is None:
        running.stop(signal.SIGTERM)


def start_run(client: httpx.Client, **options: str) -> str:
    token = re.search(r'name="csrf" value="([^"]+)"', client.get(FORM).text)
    assert token is not None
    answer = client.post(FORM, data={"csrf": token[1], **options})
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def give_no_sign_of_life(seconds: float) -> None:
    """What the database says of a worker so many seconds after it was killed."""
    database = open_database(load_settings().database_url)
    with database.session() as session:
        (job,) = session.scalars(select(Job))
        assert job.status == "running"
        job.heartbeat -= timedelta(seconds=seconds)
    database.close()


@pytest.mark.over_budget("starts the page's command twice, as its user does")
@pytest.mark.usefixtures("without_encoder")
def test_kill_9_of_server_and_worker_in_the_middle_of_a_run(server: Server, home: Path) -> None:
    with httpx.Client(base_url=server.address, timeout=60) as client:
        client.get(server.link)
        run = start_run(client, n="40", pause="0.1")
        marks = lambda: list((home / "page" / "work").glob("*/state/*/*.done"))  # noqa: E731
        until(lambda: len(marks()) >= 3)
        server.stop(signal.SIGKILL)  # its worker and the run's own process end with it
        done = len(marks())
        assert 3 <= done < 40
        give_no_sign_of_life(queue.STALE_SECONDS)
        server.start()
        until(lambda: re.search("Running|Counted 40 things", client.get(run).text))
        until(lambda: "Counted 40 things" in client.get(run).text, 90)
        fresh = client.get(run + "/report.json").json()["metrics"]["fresh"]
        assert fresh <= 40 - done + 1
    runs = [p for p in (home / "runs").iterdir() if not p.name.startswith(".")]
    assert len(runs) == 1
    server.stop(signal.SIGINT)
    assert server.process.returncode in (0, -signal.SIGINT, 130)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_running_a_paper_and_subscribing_in_a_browser(server: Server, post: Post) -> None:
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.set_default_timeout(30_000)
        page.goto(server.link)
        page.goto(server.address + FORM)
        page.get_by_label("n", exact=True).fill("25")
        page.get_by_text("More options").click()
        page.get_by_label("pause", exact=True).fill("0.2")
        page.get_by_role("button", name="Run", exact=True).click()
        expect(page.locator("[data-state]")).to_have_text("Running", timeout=60_000)
        expect(page.locator("[data-count]")).to_have_text(re.compile(r"\d+ of 25"), timeout=60_000)
        first = page.locator("[data-count]").text_content()
        expect(page.locator("[data-count]")).not_to_have_text(first or "")  # it moves without a reload
        page.reload()
        expect(page.locator("[data-count]")).to_have_text(re.compile(r"\d+ of 25"))
        steps = page.locator("[data-steps] li").all_text_contents()
        assert len(steps) == len(set(steps))  # the stream tells again what the page came with
        expect(page.get_by_role("heading", name="Counted 25 things")).to_be_visible(timeout=60_000)
        plot = page.get_by_role("img", name="A line. It rises")
        plot.scroll_into_view_if_needed()
        # decoded: the report stands before its pictures are loaded
        assert plot.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        with page.expect_download() as download:
            page.get_by_role("link", name="count.txt").click()
        assert Path(download.value.path()).read_text() == "25"

        page.get_by_role("navigation", name="Main").get_by_role("link", name="Digest").click()
        page.get_by_label("E-mail address").fill("reader@example.org")
        page.get_by_label("testing", exact=True).check()
        page.get_by_role("button", name="Subscribe").click()
        expect(page.get_by_role("heading", name="Look into your mailbox")).to_be_visible()
        body = post.mails[-1].get_body(("plain",))
        assert body is not None
        link = re.search(r"http://\S+/digest/confirm/\S+", body.get_content())
        assert link is not None
        page.goto(link[0])
        page.get_by_role("button", name="Yes, send them").click()
        expect(page.get_by_role("heading", name="Subscribed")).to_be_visible()
        assert said == []
        browser.close()
