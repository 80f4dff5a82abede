"""Papers by mail, over HTTP: asking, confirming, ending with a button or from the mail program."""

from __future__ import annotations

import re

from sqlalchemy import select
from web_helpers import PUBLIC, Browser, Mailbox

from paperworks.page.database import Subscription
from paperworks.page.digest import manage_link


def links(mailbox: Mailbox) -> str:
    body = mailbox.messages[-1].get_body(("plain",))
    assert body is not None
    found = re.search(rf"{PUBLIC}(/digest/confirm/\S+)", body.get_content())
    assert found is not None
    return found[1]


def subscription(browser: Browser, email: str) -> Subscription | None:
    with browser.page.database.reading() as session:
        return session.scalar(select(Subscription).where(Subscription.email == email))


def test_from_asking_to_ending(visitor: Browser, mailbox: Mailbox) -> None:
    asked = visitor.submit("/digest", "/digest", email="One@Example.org", frequency="weekly", tag="garden")
    assert "Look into your mailbox" in asked.text
    link = links(mailbox)
    assert visitor.get(link).status_code == 200
    assert subscription(visitor, "One@example.org") is None  # a scanner that follows links confirms nothing
    assert "Subscribed" in visitor.submit(link, link).text
    row = subscription(visitor, "One@example.org")
    assert row is not None
    assert (row.frequency, row.tags) == ("weekly", ["garden"])
    end = manage_link(visitor.page.settings, row).removeprefix(PUBLIC)
    assert "Unsubscribe" in visitor.get(end).text
    row = subscription(visitor, "One@example.org")
    assert row is not None
    assert row.ended is None
    assert "Unsubscribed" in visitor.post(end, data={}).text
    row = subscription(visitor, "One@example.org")
    assert row is not None
    assert row.ended is not None


def test_one_click_from_a_mail_program(visitor: Browser, mailbox: Mailbox) -> None:
    visitor.submit("/digest", "/digest", email="two@example.org", frequency="daily")
    link = links(mailbox)
    visitor.submit(link, link)
    row = subscription(visitor, "two@example.org")
    assert row is not None
    end = manage_link(visitor.page.settings, row).removeprefix(PUBLIC)
    program = Browser(visitor.app, PUBLIC)  # type: ignore[arg-type]
    answer = program.post(end, data={"List-Unsubscribe": "One-Click"})
    assert (answer.status_code, answer.text) == (200, "Unsubscribed.\n")
    row = subscription(visitor, "two@example.org")
    assert row is not None
    assert row.ended is not None


def test_the_answer_does_not_tell_who_is_subscribed(visitor: Browser, mailbox: Mailbox) -> None:
    first = visitor.submit("/digest", "/digest", email="three@example.org", frequency="daily")
    link = links(mailbox)
    visitor.submit(link, link)
    again = visitor.submit("/digest", "/digest", email="three@example.org", frequency="daily")
    other = visitor.submit("/digest", "/digest", email="fours@example.org", frequency="daily")
    assert again.text == first.text
    assert again.text == other.text.replace("fours@", "three@")


def test_bad_input_and_links(visitor: Browser, mailbox: Mailbox) -> None:
    sent = len(mailbox.messages)
    for fields, found in (
        ({"email": "nobody"}, "email: found"),
        ({"email": "a@b.c", "tag": "nonsense"}, "tags: found"),
        ({"email": "a@b.c", "frequency": "hourly"}, "frequency: found"),
    ):
        answer = visitor.submit("/digest", "/digest", **{"frequency": "daily", **fields})
        assert answer.status_code == 422
        assert found in answer.text
    for path in ("/digest/confirm/x", "/digest/unsubscribe/x"):
        assert visitor.get(path).status_code == 422
    assert visitor.post("/digest/unsubscribe/x", data={}).status_code == 422
    assert visitor.post("/digest", data={"email": "a@b.c"}).status_code == 403
    assert len(mailbox.messages) == sent


def test_one_mailbox_is_not_flooded(visitor: Browser, mailbox: Mailbox) -> None:
    codes = [
        visitor.submit("/digest", "/digest", email="full@example.org", frequency="daily").status_code for _ in range(5)
    ]
    assert codes == [200, 200, 200, 429, 429]
