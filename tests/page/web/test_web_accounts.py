"""Accounts through the browser: sign-up, log-in, reset, changes, the end; and what nobody can learn or log."""

from __future__ import annotations

import logging
import re
import time

import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from sqlalchemy import func, select
from web_helpers import PASSWORD, PUBLIC, Browser, Mailbox, become_member

from paperworks.page.community import limits
from paperworks.page.database import Comment, Entry, Session, Subscription, User, Vote, now
from paperworks.page.mail import signed_token


def test_a_local_page_has_no_accounts(local: Browser) -> None:
    for path in ("/sign-up", "/forgotten"):
        assert local.get(path).status_code == 404
    assert local.submit("/log-out", "/account").status_code == 404
    assert local.submit("/account/delete", "/account").status_code == 404
    with local.page.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(User)) == 1


def test_the_local_user_chooses_a_name(local: Browser) -> None:
    assert "Your name was changed" in local.submit("/account/name", "/account", name="Ada L.").text
    assert 'value="Ada L."' in local.get("/account").text
    assert local.submit("/account/name", "/account", name="\u200b\u200b\u200b").status_code == 422
    local.submit("/account/name", "/account", name="You")


def test_sign_up_makes_an_account_when_the_link_is_followed(visitor: Browser, mailbox: Mailbox) -> None:
    address = "Ada.Newcomer@Example.ORG"
    answer = visitor.submit("/sign-up", "/sign-up", email=address)
    assert "Look into your mailbox" in answer.text
    assert mailbox.messages[-1]["To"] == "Ada.Newcomer@example.org"
    with visitor.page.database.reading() as session:
        assert session.scalar(select(User).where(func.lower(User.email) == address.lower())) is None
    link = mailbox.link("/sign-up")
    for fields, said in (
        ({"name": "x", "password": PASSWORD, "again": PASSWORD}, "name: found"),
        ({"name": "Ada N", "password": "short", "again": "short"}, "password: found 5 characters"),
        ({"name": "Ada N", "password": PASSWORD, "again": PASSWORD + "1"}, "again: found"),
        ({"name": "Ada N", "password": "aaaaaaaaaaaa", "again": "aaaaaaaaaaaa"}, "guessed first"),
        ({"name": "Ada N", "password": "password1234", "again": "password1234"}, "guessed first"),
    ):
        answer = visitor.submit(link, link, **fields)
        assert answer.status_code == 422
        assert said in answer.text
        assert fields["password"] not in answer.text
    answer = visitor.submit(link, link, name=" Ada   N ", password=PASSWORD, again=PASSWORD)
    assert 'aria-label="Ada N: your pages"' in answer.text
    with visitor.page.database.reading() as session:
        user = session.scalar(select(User).where(User.email == "Ada.Newcomer@example.org"))
    assert user is not None
    assert user.password is not None
    assert user.password.startswith("$argon2id$")
    again = visitor.submit(link, link, name="Ada M", password=PASSWORD, again=PASSWORD)
    assert again.status_code == 422
    assert "followed before" in again.text


def test_a_name_is_given_once(member: Browser, mailbox: Mailbox, public_app: FastAPI) -> None:
    assert member.submit("/account/name", "/account", name="Grace Hopper").status_code == 200
    other = Browser(public_app, PUBLIC)
    other.submit("/sign-up", "/sign-up", email="grace2@example.org")
    link = mailbox.link("/sign-up")
    answer = other.submit(link, link, name="GRACE hopper", password=PASSWORD, again=PASSWORD)
    assert answer.status_code == 422
    assert "nobody here has yet" in answer.text


def test_passwords_are_hashed_at_the_recommended_cost(real_hasher: PasswordHasher) -> None:
    """RFC 9106, second recommended option: 64 MiB, three passes. The other tests take less, to be quick."""
    assert (real_hasher.memory_cost, real_hasher.time_cost, real_hasher.type.name) == (65536, 3, "ID")


@pytest.mark.parametrize("path", ["/sign-up/", "/forgotten/"])
def test_links_of_another_page_or_purpose_or_time_are_refused(visitor: Browser, path: str) -> None:
    other = "reset" if path == "/sign-up/" else "sign-up"
    for token in ("x", signed_token(visitor.page.settings, other, "a@b.example")):
        answer = visitor.get(path + token)
        assert answer.status_code == 422
        assert "link: found" in answer.text


def test_old_links_are_refused(visitor: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    token = signed_token(visitor.page.settings, "sign-up", "late@example.org")
    later = time.time() + 25 * 3600
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: later)
    assert "has expired" in visitor.get(f"/sign-up/{token}").text


def body(html: str) -> str:
    """A page without what differs at every answer: tokens of forms and addresses."""
    return re.sub(r'value="[^"]*"|[\w.]+@[\w.]+', "", html)


def test_no_answer_tells_whether_an_address_has_an_account(
    visitor: Browser, member: Browser, mailbox: Mailbox, password_hash: str
) -> None:
    known = become_member(member, password_hash)
    pages = []
    for email in (known, "nobody@example.org"):
        signed = visitor.submit("/sign-up", "/sign-up", email=email)
        reset = visitor.submit("/forgotten", "/forgotten", email=email)
        entered = visitor.submit("/log-in", "/log-in", email=email, password="not the password")
        pages.append([(a.status_code, body(a.text)) for a in (signed, reset, entered)])
    assert pages[0] == pages[1]
    assert "nobody@example.org" not in [m["To"] for m in mailbox.messages if "forgot" in m.get_content()]
    assert any("You have one already" in m.get_content() for m in mailbox.messages if m["To"] == known)


def test_a_log_in_costs_one_password_check_either_way(
    visitor: Browser, member: Browser, password_hash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paperworks.page.community import accounts

    known = become_member(member, password_hash)
    checks: list[str] = []
    real = accounts._hasher

    class Counting:
        def verify(self, known_hash: str, password: str) -> bool:
            checks.append(known_hash.split("$")[3])  # the cost's parameters
            return real.verify(known_hash, password)

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

    monkeypatch.setattr(accounts, "_hasher", Counting())
    for email in (known, "nobody@example.org"):
        assert "No account has this address" in visitor.submit("/log-in", "/log-in", email=email, password="no").text
    assert len(checks) == 2
    assert checks[0] == checks[1]


def test_log_in_and_log_out(visitor: Browser, member: Browser, password_hash: str) -> None:
    email = become_member(member, password_hash)
    answer = visitor.submit(
        "/log-in", "/log-in?next=%2Fbookmarks", email=email.upper(), password=PASSWORD, next="/bookmarks"
    )
    assert str(answer.url).endswith("/bookmarks")
    cookie = visitor.cookies["__Host-paperworks-session"]
    with visitor.page.database.reading() as session:
        assert cookie not in list(session.scalars(select(Session.token_hash)))
    assert "Log out" in visitor.get("/").text
    visitor.submit("/log-out", "/account")
    assert "Log in" in visitor.get("/").text
    visitor.cookies.set("__Host-paperworks-session", cookie, domain="papers.example")
    assert "Log in" in visitor.get("/").text, "the session has ended on the server too"


def test_a_new_log_in_is_a_new_session(visitor: Browser, member: Browser, password_hash: str) -> None:
    email = become_member(member, password_hash)
    visitor.get("/log-in")
    visitor.cookies.set("__Host-paperworks-session", "chosen by an attacker", domain="papers.example")
    visitor.submit("/log-in", "/log-in", email=email, password=PASSWORD)
    assert "chosen by an attacker" not in [c.value for c in visitor.cookies.jar if not c.domain.startswith(".")]
    assert "/account" in str(visitor.get("/account").url)


def test_sessions_expire(member: Browser) -> None:
    with member.page.database.session() as session:
        for row in session.scalars(select(Session)):
            row.expires = now()
    assert "Log in" in member.get("/").text


def test_too_many_tries_are_refused_where_they_come_from_and_lock_nobody_else_out(
    public_app: FastAPI, visitor: Browser, member: Browser, password_hash: str
) -> None:
    email = become_member(member, password_hash)
    for _ in range(limits.LOG_IN_TO.count):
        visitor.submit("/log-in", "/log-in", email=email, password="wrong")
    owner = Browser(public_app, PUBLIC)
    assert "Log out" in owner.submit("/log-in", "/log-in", email=email, password=PASSWORD).text
    answer = visitor.submit("/log-in", "/log-in", email=email, password=PASSWORD)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= limits.LOG_IN_TO.seconds
    assert "Too many tries to log in" in answer.text


def test_mails_are_limited_per_address(visitor: Browser, mailbox: Mailbox) -> None:
    most = limits.MAIL_TO.count
    answers = [visitor.submit("/sign-up", "/sign-up", email="flood@example.org") for _ in range(most + 1)]
    assert [a.status_code for a in answers] == [200] * most + [429]
    assert len([m for m in mailbox.messages if m["To"] == "flood@example.org"]) == most


@pytest.mark.parametrize("email", ["", "x", "a@b@c", "a b@c.example", "a@b.example\nBcc: c@d", "a@" + "b" * 300])
def test_what_is_no_address_gets_no_mail(visitor: Browser, mailbox: Mailbox, email: str) -> None:
    before = len(mailbox.messages)
    for path in ("/sign-up", "/forgotten"):
        assert visitor.submit(path, path, email=email).status_code == 422
    assert len(mailbox.messages) == before


def test_a_page_without_a_mail_server_says_so(visitor: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mailbox, "configured", False)
    assert "SMTP" in visitor.get("/sign-up").text
    assert visitor.submit("/sign-up", "/sign-up", email="a@example.org").status_code == 503


def test_a_forgotten_password_is_chosen_anew_once_and_ends_all_sessions(
    visitor: Browser, member: Browser, mailbox: Mailbox, password_hash: str
) -> None:
    email = become_member(member, password_hash)
    visitor.submit("/forgotten", "/forgotten", email=email)
    link = mailbox.link("/forgotten")
    assert visitor.submit(link, link, password="short", again="short").status_code == 422
    new = "four quite other words"
    assert "Log out" in visitor.submit(link, link, password=new, again=new).text
    assert "Log in" in member.get("/").text
    assert visitor.get(link).status_code == 422
    visitor.submit("/log-out", "/account")
    assert visitor.submit("/log-in", "/log-in", email=email, password=PASSWORD).status_code == 422
    assert "Log out" in visitor.submit("/log-in", "/log-in", email=email, password=new).text


def test_a_password_is_changed_by_who_knows_it(
    public_app: FastAPI, visitor: Browser, member: Browser, password_hash: str
) -> None:
    email = become_member(member, password_hash)
    visitor.submit("/log-in", "/log-in", email=email, password=PASSWORD)
    new = "four quite other words"
    wrong = member.submit("/account/password", "/account", current="no", password=new, again=new)
    assert wrong.status_code == 422
    assert "not your password" in wrong.text
    right = member.submit("/account/password", "/account", current=PASSWORD, password=new, again=new)
    assert "Your password was changed" in right.text
    assert "Log out" in member.get("/").text, "this session goes on"
    assert "Log in" in visitor.get("/").text, "the others have ended"


def test_the_end_of_an_account(member: Browser, password_hash: str) -> None:
    email = become_member(member, password_hash)
    path = "/papers/2611.00004"
    member.submit(f"{path}/vote", path, on="1")
    member.submit(f"{path}/comments", path, text="to be forgotten")
    with member.page.database.session() as session:
        session.add(Subscription(email=email, confirmed=now()))
        entry = session.scalar(select(Entry).where(Entry.arxiv == "2611.00004"))
        assert entry is not None
        assert (entry.upvotes, entry.comments) == (1, 1)
        trend = entry.trend
    assert member.submit("/account/delete", "/account", **{"delete-password": "no"}).status_code == 422
    assert "Log in" in member.submit("/account/delete", "/account", **{"delete-password": PASSWORD}).text
    with member.page.database.reading() as session:
        entry = session.scalar(select(Entry).where(Entry.arxiv == "2611.00004"))
        assert entry is not None
        assert (entry.upvotes, entry.comments) == (0, 0)
        assert entry.trend < trend
        assert session.scalar(select(User).where(User.email == email)) is None
        assert session.scalar(select(Vote).where(Vote.entry_id == entry.id)) is None
        assert [c.text for c in session.scalars(select(Comment).where(Comment.entry_id == entry.id))] == [""]
        subscription = session.scalar(select(Subscription).where(Subscription.email == email))
        assert subscription is not None
        assert subscription.ended is not None
    assert "to be forgotten" not in member.get(path).text


def test_secrets_are_never_logged(
    visitor: Browser, mailbox: Mailbox, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: Mailbox, message: object) -> None:
        self.messages.append(message)  # type: ignore[arg-type]
        raise OSError("the mail server is away")

    with caplog.at_level(logging.DEBUG, logger="paperworks"), pytest.MonkeyPatch.context() as patch:
        email = visitor.sign_up(mailbox)
        patch.setattr(Mailbox, "send", refuse)
        visitor.submit("/log-out", "/account")
        assert visitor.submit("/forgotten", "/forgotten", email=email).status_code == 200
        visitor.submit("/log-in", "/log-in", email=email, password=PASSWORD + "!")
        visitor.submit("/log-in", "/log-in", email=email, password=PASSWORD)
    said = caplog.text + "".join(capfd.readouterr())
    assert "could not be sent" in said
    session = visitor.cookies["__Host-paperworks-session"]
    for secret in (PASSWORD, session, mailbox.link("/forgotten"), email):
        assert secret not in said
