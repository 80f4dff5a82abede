"""Journeys in a real browser: with scripts and without, and no accessibility fault on any page (axe-core)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from web_helpers import PASSWORD

from catalogue_papers import measured_paper
from paperworks.page.database import Entry, User, now

sync_api = pytest.importorskip("playwright.sync_api")
sync_api.expect.set_options(timeout=15_000)
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
# The background services of the browser look up hosts that are none of this test's business.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"width": 390, "height": 844}
WIDE = {"width": 1440, "height": 900}


@pytest.fixture(scope="module")
def chromium() -> Iterator:  # type: ignore[type-arg]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium) -> Iterator:  # type: ignore[type-arg, no-untyped-def]
    """A tab without errors and warnings in its console: a refused script or style would be said there."""
    context = chromium.new_context(viewport=WIDE, reduced_motion="reduce")
    context.set_default_timeout(15_000)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    context.close()
    assert said == []


@pytest.fixture(scope="module")
def account(public_app: FastAPI, password_hash: str) -> str:
    """The address of an account of the public page."""
    with public_app.state.page.database.session() as session:
        session.add(User(email="journey@example.org", name="Journey", password=password_hash, confirmed=now()))
    return "journey@example.org"


def faults(tab, *rules: str) -> list[str]:  # type: ignore[no-untyped-def]
    """Faults of accessibility, serious or worse, that axe-core finds in a page by some of its rules, or by all."""
    if not tab.evaluate("typeof axe === 'object'"):
        tab.evaluate(AXE)  # through the protocol of the browser: the page's policy lets no other script in
    # Without selectors, which axe would make of every element that it looked at.
    options = {"resultTypes": ["violations"], "selectors": False} | ({"runOnly": list(rules)} if rules else {})
    result = tab.evaluate("options => axe.run(document, options)", options)
    return [
        f"{tab.url}: {v['id']}: {node['html'][:160]}"
        for v in result["violations"]
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"]
    ]


def log_in(tab, server: str, email: str) -> None:  # type: ignore[no-untyped-def]
    tab.get_by_label("E-mail address").fill(email)
    tab.get_by_label("Password").fill(PASSWORD)
    tab.get_by_role("button", name="Log in").click()


def test_read_search_open_comment_vote_and_log_out(tab, public_server: str, account: str, public_app: FastAPI) -> None:  # type: ignore[no-untyped-def]
    paper = measured_paper()
    tab.goto(public_server)
    tab.get_by_role("link", name="Show more").click()
    sync_api.expect(tab.locator("article.card")).to_have_count(60)
    tab.get_by_label("Works here").check()
    tab.wait_for_url("**/?works=1*")
    sync_api.expect(tab.locator("article.card", has_text=paper.title)).to_be_visible()
    assert tab.locator("article.card").count() < 60

    tab.keyboard.press("/")
    tab.keyboard.type("gardens")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/search?q=gardens*")
    sync_api.expect(tab.locator("mark").first).to_have_text("gardens")
    tab.get_by_label("Search papers").fill(paper.purpose)
    sync_api.expect(tab.locator("#found h2")).to_contain_text(paper.purpose[:40])  # a long query is shortened
    tab.locator(".card-title a", has_text=paper.title).click()
    sync_api.expect(tab.get_by_role("heading", level=1)).to_contain_text(paper.title)

    tab.get_by_role("link", name="Log in to upvote").click()
    log_in(tab, public_server, account)
    tab.wait_for_url(f"**/papers/{paper.arxiv}")
    vote = tab.locator(".paper-head .vote")
    sync_api.expect(vote).to_have_attribute("aria-pressed", "false")
    before = int(vote.inner_text() or 0)
    vote.click()
    sync_api.expect(vote).to_have_attribute("aria-pressed", "true")
    sync_api.expect(vote).to_have_text(str(before + 1))

    tab.get_by_label("Your comment").fill("A **journey**")
    tab.get_by_role("button", name="Comment").click()
    mine = tab.locator(".comment", has_text="A journey")
    sync_api.expect(mine.locator(".prose strong")).to_have_text("journey")
    mine.get_by_text("Edit", exact=True).click()
    mine.get_by_label("Your comment").fill("A longer journey")
    mine.get_by_role("button", name="Save").click()
    sync_api.expect(tab.locator(".comment", has_text="A longer journey")).to_be_visible()
    tab.on("dialog", lambda dialog: dialog.accept())
    tab.locator(".comment", has_text="A longer journey").get_by_role("button", name="Delete").click()
    sync_api.expect(tab.get_by_text("Nobody has said anything yet")).to_be_visible()

    tab.reload()
    sync_api.expect(tab.locator(".paper-head .vote")).to_have_attribute("aria-pressed", "true")
    tab.locator(".menu > summary").click()
    tab.get_by_role("button", name="Log out").click()
    sync_api.expect(tab.get_by_role("link", name="Log in", exact=True)).to_be_visible()
    with public_app.state.page.database.reading() as session:
        entry = session.scalar(select(Entry).where(Entry.slug == paper.slug))
        assert entry is not None
        assert (entry.upvotes, entry.comments) == (before + 1, 0)


def test_the_same_without_scripts(chromium, local_server: str, local_link: str) -> None:  # type: ignore[no-untyped-def]
    context = chromium.new_context(viewport=PHONE, java_script_enabled=False)
    context.set_default_timeout(15_000)
    tab = context.new_page()
    tab.goto(local_link)
    tab.get_by_role("link", name="Show more").click()
    tab.wait_for_url("**/?cursor=*")
    tab.get_by_text("Filters").click()
    tab.get_by_label("Works here").check()
    tab.get_by_role("button", name="Apply").click()
    tab.wait_for_url("**/?works=1*")
    tab.get_by_label("Search papers").fill("imported paper number 20")
    tab.get_by_label("Search papers").press("Enter")
    tab.get_by_role("link", name="Imported paper number 20 of interest", exact=True).click()
    vote = tab.locator(".paper-head .vote")
    before = int(vote.inner_text() or 0)
    vote.click()
    sync_api.expect(tab.locator(".paper-head .vote")).to_have_text(str(before + 1))
    tab.get_by_label("Your comment").fill("Without scripts")
    tab.get_by_role("button", name="Comment").click()
    tab.wait_for_url("**/papers/2611.00020#comment-*")
    sync_api.expect(tab.locator(".comment", has_text="Without scripts")).to_be_visible()
    context.close()


PAGES = [
    "/",
    "/search?q=gardens",
    f"/papers/{measured_paper().arxiv}",
    "/tags",
    "/results?tag=pruning",
    "/comparisons",
    "/about",
    "/account",
    "/submit",
    "/api",
    "/digest",
    "/moderation",
    "/papers/2611.77777",
    "/bookmarks",
    "/collections",
    "/?period=week",
    f"/papers/{measured_paper().arxiv}/run",
    "/runs",
    "/nope",
]


def test_no_page_has_a_fault_of_accessibility_or_is_wider_than_a_phone(
    chromium, local_server: str, local_link: str
) -> None:  # type: ignore[no-untyped-def]
    context = chromium.new_context(viewport=PHONE, reduced_motion="reduce")
    tab = context.new_page()
    tab.goto(local_link)
    found = []
    for path in PAGES:
        tab.goto(local_server + path)
        tab.evaluate("document.querySelectorAll('details').forEach(node => { node.open = true; })")
        found += faults(tab)
        if tab.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append(f"{path} is wider than the screen")
    context.close()
    assert found == []


def test_text_can_be_read_in_the_dark(chromium, local_server: str, local_link: str) -> None:  # type: ignore[no-untyped-def]
    context = chromium.new_context(viewport=WIDE, color_scheme="dark", reduced_motion="reduce")
    tab = context.new_page()
    tab.goto(local_link)
    found = []
    for path in ("/?works=1", "/papers/2401.15024", "/account"):
        tab.goto(local_server + path)
        found += faults(tab, "color-contrast")
    context.close()
    assert found == []


def test_the_pages_of_accounts_have_no_fault_of_accessibility(tab, public_server: str, account: str) -> None:  # type: ignore[no-untyped-def]
    found = []
    for path in ("/", "/sign-up", "/forgotten", "/log-in?next=/account"):
        tab.goto(public_server + path)
        found += faults(tab)
    log_in(tab, public_server, account)
    tab.wait_for_url("**/account")
    tab.get_by_text("Delete the account").click()
    tab.locator(".menu > summary").click()
    found += faults(tab)
    assert found == []


def test_the_theme_is_switched_and_kept(tab, local_server: str, local_link: str) -> None:  # type: ignore[no-untyped-def]
    tab.goto(local_link)
    background = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(background)
    tab.get_by_role("button", name="Dark or light").click()
    dark = tab.evaluate(background)
    assert dark != light
    tab.goto(f"{local_server}/about")
    assert tab.evaluate(background) == dark


def test_the_keyboard_reaches_everything(tab, local_server: str, local_link: str) -> None:  # type: ignore[no-untyped-def]
    tab.goto(local_link)
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"
    tab.keyboard.press("Tab")
    outline = tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    tab.locator(".menu > summary").focus()
    tab.keyboard.press("Enter")
    sync_api.expect(tab.get_by_role("link", name="Bookmarks")).to_be_visible()
    tab.keyboard.press("Escape")
    sync_api.expect(tab.get_by_role("link", name="Bookmarks")).to_be_hidden()
