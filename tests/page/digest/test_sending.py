"""Subscribing with consent, and each mail once: with two senders, refusals, broken connections and kill -9."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from digest_helpers import TODAY, Mailbox, add_subscription
from hypothesis import given
from hypothesis import strategies as st
from page_databases import both_databases
from sqlalchemy import select, update

from paperworks.errors import InputError
from paperworks.page.database import Database, Delivery, Entry, Subscription, now
from paperworks.page.digest import compose_digest, confirm, period_of, send_digests, subscribe, unsubscribe
from paperworks.page.digest import send as sending
from paperworks.page.digest.subscriptions import CONFIRM_SECONDS, normal_address
from paperworks.page.mail import Mailer, read_token, signed_token
from paperworks.page.settings import Settings, environment_of, load_settings

NOON = datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC)


def link(message, kind: str) -> str:
    found = re.search(rf"https://papers\.example\.org/digest/{kind}/(\S+)", message.get_body(("plain",)).get_content())
    assert found is not None
    return found.group(1)


def statuses(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(select(Delivery.status).order_by(Delivery.id)))


def test_double_opt_in(database: Database, settings: Settings, mailer: Mailer, mailbox: Mailbox) -> None:
    subscribe(database, settings, mailer, " Reader@Example.ORG ", "weekly", ["tag1", "TAG2 "])
    with database.reading() as session:
        assert session.scalar(select(Subscription)) is None  # nothing is kept before consent
    (mail,) = mailbox.to("Reader@example.org")
    row = confirm(database, settings, link(mail, "confirm"))
    assert (row.frequency, row.tags, row.ended) == ("weekly", ["tag1", "tag2"], None)
    confirm(database, settings, link(mail, "confirm"))
    with database.reading() as session:
        assert len(list(session.scalars(select(Subscription)))) == 1


def test_a_link_is_for_one_purpose_and_a_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    token = signed_token(settings, "confirm", {"a": 1})
    assert read_token(settings, "confirm", token) == {"a": 1}
    for bad in (token[:-1], token + "x", "", "x.y.z"):
        with pytest.raises(InputError, match="did not make"):
            read_token(settings, "confirm", bad)
    with pytest.raises(InputError, match="did not make"):
        read_token(settings, "unsubscribe", token)
    later = time.time() + CONFIRM_SECONDS + 10
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(InputError, match="expired"):
        read_token(settings, "confirm", token, CONFIRM_SECONDS)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a",
        "a@",
        "@b",
        "a b@c.d",
        "a@b\nBcc: x@y.z",
        "a@b,c@d",
        "<a@b>",
        "a@-b.c",
        "a@b..c",
        "x" * 65 + "@b.c",
        "a@" + "b" * 250 + ".c",
    ],
)
def test_addresses_that_are_refused(database: Database, settings: Settings, mailer: Mailer, address: str) -> None:
    with pytest.raises(InputError, match="email"):
        subscribe(database, settings, mailer, address, "daily", [])


@given(st.emails())
def test_addresses_that_people_have_keep_their_mailbox(address: str) -> None:
    local, _, domain = address.rpartition("@")
    try:
        assert normal_address("email", address) == f"{local}@{domain.lower()}"
    except InputError:
        assert set(local) & set(',;:<>()[]"\\ ') or len(local) > 64


def test_bad_choices(database: Database, settings: Settings, mailer: Mailer) -> None:
    with pytest.raises(InputError, match="frequency"):
        subscribe(database, settings, mailer, "a@b.c", "hourly", [])
    with pytest.raises(InputError, match="tags: found nonsense"):
        subscribe(database, settings, mailer, "a@b.c", "daily", ["nonsense", "tag1"])


@both_databases
def test_a_digest_in_both_forms_with_one_click_to_end_it(
    database: Database, settings: Settings, mailer: Mailer, mailbox: Mailbox
) -> None:
    add_subscription(database, "a@example.org", tags=("tag1",))
    assert send_digests(database, settings, mailer, "daily", NOON).sent == ["a@example.org"]
    (mail,) = mailbox.to("a@example.org")
    plain, html = (mail.get_body((kind,)).get_content() for kind in ("plain", "html"))
    assert "Paper 1: <b>on</b> things & more" in plain
    assert "Paper 1: &lt;b&gt;on&lt;/b&gt; things &amp; more" in html
    assert "<b>on</b>" not in html
    assert "https://papers.example.org/papers/2601.00001" in plain
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    token = link(mail, "unsubscribe")
    assert mail["List-Unsubscribe"] == f"<https://papers.example.org/digest/unsubscribe/{token}>"
    assert mail["From"] == "Paperworks <papers@example.org>"
    unsubscribe(database, settings, token)
    unsubscribe(database, settings, token)
    assert send_digests(database, settings, mailer, "daily", NOON + timedelta(days=1)).sent == []
    # Begun anew, the old mail's link no longer ends it.
    with database.session() as session:
        session.execute(update(Subscription).values(ended=None, confirmed=now() + timedelta(seconds=5)))
    with pytest.raises(InputError, match="earlier subscription"):
        unsubscribe(database, settings, token)


def test_papers_are_not_mailed_twice(database: Database, settings: Settings, mailer: Mailer, mailbox: Mailbox) -> None:
    add_subscription(database, "a@example.org")
    for days in range(3):
        send_digests(database, settings, mailer, "daily", NOON + timedelta(days=days))
    shown = [re.findall(r"Paper (\d+):", m.get_body(("plain",)).get_content()) for m in mailbox.to("a@example.org")]
    assert [len(s) for s in shown] == [5, 5, 5]
    assert len({n for s in shown for n in s}) == 15


def test_dry_run_changes_nothing(database: Database, settings: Settings, mailer: Mailer, mailbox: Mailbox) -> None:
    add_subscription(database, "a@example.org")
    add_subscription(database, "b@example.org", tags=("unused",))
    outcome = send_digests(database, settings, mailer, "daily", NOON, dry_run=True)
    assert [m["To"] for m in outcome.messages] == ["a@example.org"]
    assert outcome.empty == ["b@example.org"]
    assert (mailbox.received, statuses(database)) == ([], [])


def test_periods() -> None:
    assert period_of("daily", NOON) == "2026-03-04"
    assert period_of("weekly", NOON) == "2026-W10"
    assert period_of("weekly", datetime(2027, 1, 2, tzinfo=UTC)) == "2026-W53"


@both_databases
def test_many_senders_at_once_send_each_mail_once(
    database: Database, settings: Settings, mailer: Mailer, mailbox: Mailbox
) -> None:
    addresses = [f"r{n}@example.org" for n in range(12)]
    for address in addresses:
        add_subscription(database, address)
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda _: send_digests(database, settings, mailer, "daily", NOON), range(4)))
    assert sorted(a for o in outcomes for a in o.sent) == sorted(addresses)
    assert sorted(a for a, _ in mailbox.received) == sorted(addresses)
    assert send_digests(database, settings, mailer, "daily", NOON).already == addresses


def test_a_refused_mail_does_not_stop_the_others_and_is_tried_again(
    database: Database, settings: Settings, mailer: Mailer, mailbox: Mailbox
) -> None:
    for address in ("gone@example.org", "here@example.org"):
        add_subscription(database, address)
    mailbox.refuse = {"gone@example.org"}
    outcome = send_digests(database, settings, mailer, "daily", NOON)
    assert outcome.sent == ["here@example.org"]
    assert outcome.failed[0][0] == "gone@example.org"
    assert "no such mailbox" in outcome.failed[0][1]
    mailbox.refuse = set()
    assert send_digests(database, settings, mailer, "daily", NOON).sent == ["gone@example.org"]
    assert len(mailbox.to("gone@example.org")) == 1


def test_a_server_that_always_refuses_is_left_alone_in_the_end(
    database: Database, settings: Settings, mailer: Mailer, mailbox: Mailbox
) -> None:
    add_subscription(database, "a@example.org")
    mailbox.answer = "451 later"
    tries = [len(send_digests(database, settings, mailer, "daily", NOON).failed) for _ in range(sending.ATTEMPTS + 2)]
    assert tries == [1] * sending.ATTEMPTS + [0, 0]


def test_lines_with_a_single_dot_do_not_end_the_mail(
    database: Database, settings: Settings, mailer: Mailer, mailbox: Mailbox
) -> None:
    from email.message import EmailMessage

    message = EmailMessage()
    message["To"], message["Subject"] = "a@example.org", "dots"
    text = "one\n.\n..two\n.three\nend\n"
    message.set_content(text)
    marks: list[str] = []
    sending._transmit(mailer, message, lambda: marks.append("complete"))
    assert mailbox.to("a@example.org")[0].get_content().replace("\r\n", "\n") == text
    assert marks == ["complete"]


class Breaking(threading.Thread):
    """An SMTP server that takes everything but says no more once a message is complete (or begun)."""

    def __init__(self, break_at: str) -> None:
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.break_at = break_at
        self.reached = threading.Event()
        self.complete = 0
        self.silent = False

    def run(self) -> None:
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.talk, args=(client,), daemon=True).start()

    def talk(self, client: socket.socket) -> None:
        stream = client.makefile("rwb")

        def say(text: str) -> None:
            stream.write(f"{text}\r\n".encode())
            stream.flush()

        say("220 here")
        while line := stream.readline():
            command = line[:4].upper()
            if command == b"DATA":
                say("354 go on")
                while (line := stream.readline()) not in (b".\r\n", b""):
                    if self.break_at == "content":
                        self.reached.set()
                        if self.silent:
                            time.sleep(60)
                        client.shutdown(socket.SHUT_RDWR)
                        return
                self.complete += 1
                self.reached.set()
                if self.silent:
                    time.sleep(60)
                client.shutdown(socket.SHUT_RDWR)
                return
            say("221 bye" if command == b"QUIT" else "250 OK")


def server(break_at: str, settings: Settings) -> tuple[Breaking, Settings]:
    broken = Breaking(break_at)
    broken.start()
    return broken, load_settings(
        smtp_url=f"smtp://127.0.0.1:{broken.port}", mail_from=settings.mail_from, base_url=settings.base_url
    )


def test_a_connection_that_ends_without_an_answer_is_never_tried_again(
    database: Database, settings: Settings, mailer: Mailer, mailbox: Mailbox
) -> None:
    add_subscription(database, "a@example.org")
    _, broken = server("answer", settings)
    assert send_digests(database, broken, Mailer(broken), "daily", NOON).unknown == ["a@example.org"]
    assert send_digests(database, settings, mailer, "daily", NOON).unknown == ["a@example.org"]
    assert mailbox.received == []
    assert statuses(database) == ["handed over"]


def test_a_connection_that_ends_in_the_middle_is_tried_again(
    database: Database, settings: Settings, mailer: Mailer, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_subscription(database, "a@example.org")
    gone, broken = server("content", settings)
    check = sending._require_connection

    def later(client: smtplib.SMTP) -> None:
        assert gone.reached.wait(10)
        time.sleep(0.2)
        check(client)

    monkeypatch.setattr(sending, "_require_connection", later)
    assert len(send_digests(database, broken, Mailer(broken), "daily", NOON).failed) == 1
    monkeypatch.setattr(sending, "_require_connection", check)
    assert send_digests(database, settings, mailer, "daily", NOON).sent == ["a@example.org"]
    assert len(mailbox.received) == 1


@pytest.mark.parametrize("stage", ["answer", "content"])
def test_kill_9_half_way(
    database: Database,
    settings: Settings,
    mailer: Mailer,
    mailbox: Mailbox,
    stage: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_subscription(database, "a@example.org")
    slow, other = server(stage, settings)
    slow.silent = True
    code = (
        "import sys, time, datetime\n"
        "from paperworks.page.database import open_database\n"
        "from paperworks.page.digest import send_digests, send\n"
        "from paperworks.page.mail import Mailer\n"
        "from paperworks.page.settings import load_settings\n"
        "s = load_settings()\n"
        "if sys.argv[1] == 'content':\n"
        "    send._mark = lambda *a, **k: time.sleep(60)\n"  # dies before it could say that it is handing over
        f"noon = datetime.datetime.fromisoformat('{NOON}')\n"
        "send_digests(open_database(s.database_url), s, Mailer(s), 'daily', noon)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, stage], env=os.environ | environment_of(other))
    assert slow.reached.wait(30)
    process.send_signal(signal.SIGKILL)
    process.wait()
    monkeypatch.setattr(sending, "STALE_SECONDS", 0.0)
    outcome = send_digests(database, settings, mailer, "daily", NOON)
    if stage == "content":
        assert slow.complete == 0
        assert outcome.sent == ["a@example.org"]
        assert len(mailbox.received) == 1
    else:
        assert slow.complete == 1
        assert outcome.unknown == ["a@example.org"]
        assert mailbox.received == []


@both_databases
def test_a_claim_that_is_fresh_belongs_to_its_sender(database: Database, settings: Settings, mailer: Mailer) -> None:
    number = add_subscription(database, "a@example.org")
    with database.session() as session:
        row = Delivery(subscription_id=number, period="2026-03-04", sender="other", message_id="<1@x>", attempts=1)
        session.add(row)
    assert send_digests(database, settings, mailer, "daily", NOON).already == ["a@example.org"]
    with database.session() as session:
        session.execute(update(Delivery).values(changed=now() - timedelta(seconds=sending.STALE_SECONDS + 1)))
    assert send_digests(database, settings, mailer, "daily", NOON).sent == ["a@example.org"]


def test_a_page_without_a_server_says_so(home, database: Database) -> None:
    with pytest.raises(InputError, match="smtp_url"):
        subscribe(database, load_settings(), Mailer(load_settings()), "a@example.org", "daily", [])


def test_a_password_is_not_sent_to_another_machine_in_clear(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain:
        def __init__(self, *a: object, **k: object) -> None: ...
        def __enter__(self):
            return self

        def __exit__(self, *a: object) -> None: ...
        def ehlo(self) -> None: ...
        def has_extn(self, name: str) -> bool:
            return False

        def login(self, *a: object) -> None:
            raise AssertionError("the password was sent")

    monkeypatch.setattr(smtplib, "SMTP", Plain)
    far = load_settings(smtp_url="smtp://me:hunter2@mail.example.org:25", mail_from="a@example.org")
    with pytest.raises(InputError, match="TLS"), Mailer(far).connect():
        pass
    assert "hunter2" not in repr(far)


def test_links_lead_to_papers_with_and_without_an_arxiv_id(settings: Settings) -> None:
    entries = [
        Entry(id=41, arxiv=None, title=r"Of $\mathcal{O}(n)$", abstract="", summary="", works=False, tags=[]),
        Entry(id=42, arxiv="math.GT/0309136", title="An old one", abstract="", summary="", works=False, tags=[]),
    ]
    message = compose_digest(
        settings, "a@example.org", "daily", "2026-03-04", entries, "https://papers.example.org/end"
    )
    for kind in ("plain", "html"):
        text = message.get_body((kind,)).get_content()
        for path in ("/papers/p41", "/papers/math.GT/0309136"):
            assert f"https://papers.example.org{path}" in text
        assert "Of 𝒪(n)" in text
