"""Settings that cannot work are refused at the start, in words."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from paperworks.errors import InputError
from paperworks.page.database import open_database
from paperworks.page.server import keep_private
from paperworks.page.settings import Settings, environment_of, load_settings

PUBLIC = {
    "public": True,
    "secret_key": "a secret of a test, long enough to be one",
    "allowed_hosts": ("papers.example.org",),
}


@pytest.mark.parametrize(
    "host",
    ["*", "*.example.org", "https://x.org/y", "x.org/y", "x.org:8000", "", " ", "x org", "-x.org", "x..org", "x" * 300],
)
def test_a_host_is_a_name(host: str) -> None:
    with pytest.raises(InputError, match=r"allowed_hosts: .*papers\.example\.org"):
        load_settings(**PUBLIC | {"allowed_hosts": (host,)})


def test_hosts_that_are_names(home: Path) -> None:
    for host in (
        "papers.example.org",
        "localhost",
        "xn--gre-6ka8i.example",
        "192.0.2.1",
        "[2001:db8::1]",
        "A1.example",
    ):
        assert load_settings(**PUBLIC | {"allowed_hosts": (host,)}).hosts == (host,)


@pytest.mark.parametrize(
    "sender",
    [
        "papers",
        "papers@",
        "@example.org",
        "a@b@c.org",
        "a@example.org, b@example.org",
        "a@x.org\nBcc: b@x.org",
        "Papers",
    ],
)
def test_a_sender_is_an_address(sender: str) -> None:
    with pytest.raises(InputError, match="mail_from"):
        load_settings(mail_from=sender)


def test_senders_that_are_addresses(home: Path) -> None:
    for sender in ("papers@example.org", "Papers <papers@example.org>", "'Größe & Co' <p+q@mail.example.org>"):
        assert load_settings(mail_from=sender).mail_from == sender


@pytest.mark.parametrize("key", ["short", "s" * 40, "ab" * 30, "0123456701234567" * 4])
def test_a_key_is_random(key: str) -> None:
    with pytest.raises(InputError, match="secret_key") as caught:
        load_settings(**PUBLIC | {"secret_key": key})
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["x.org", "ftp://x.org", "https://", "https://x.org/papers", "https://x.org?a=1", "https://a b", "http://["],
)
def test_a_base_is_an_address_without_a_path(address: str) -> None:
    with pytest.raises(InputError, match="base_url"):
        load_settings(base_url=address)


@pytest.mark.parametrize(
    "given", [{"trusted_proxies": ("proxy",)}, {"keep_days": -1}, {"account_bytes": 0}, {"connections_per_address": -1}]
)
def test_other_values_that_cannot_be(given: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(given))):
        load_settings(**given)


def test_settings_survive_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(
        **PUBLIC, trusted_proxies=("10.0.0.0/8", "::1"), keep_days=3, asks_token=False, unconfined_uploads=True
    )
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_what_a_page_keeps_is_for_its_user_only(home: Path) -> None:
    settings = Settings()
    settings.folder.mkdir(parents=True)
    settings.folder.chmod(0o755)
    (settings.folder / "page.sqlite").touch(0o644)
    before = os.umask(0o022)
    try:
        keep_private(settings)
        settings.signing_key()
        database = open_database(settings.database_url)
        with database.session():
            (settings.folder / "uploads").mkdir()
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in settings.folder.iterdir()}
        database.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(settings.folder.stat().st_mode) == 0o700
    assert modes["uploads"] == 0o700
    assert {"page.sqlite", "page.sqlite-wal", "secret-key"} <= set(modes)
    assert {mode for name, mode in modes.items() if name != "uploads"} == {0o600}
