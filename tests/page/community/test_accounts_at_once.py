"""Several people at once take one address, or one name: one of them gets it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from page_databases import both_databases
from sqlalchemy import func, select

from paperworks.errors import InputError
from paperworks.page.community import accounts
from paperworks.page.database import Database, User, open_database
from paperworks.page.mail import signed_token
from paperworks.page.settings import Settings

AT_ONCE = 6


@pytest.fixture
def settings(home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(accounts, "_hasher", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    return Settings(database=database_url)


def at_once(take: Callable[[int], object]) -> list[str]:
    """What several threads that begin together got: "" or the field of the error."""
    barrier = threading.Barrier(AT_ONCE)
    said: list[str] = []

    def run(number: int) -> None:
        barrier.wait()
        try:
            take(number)
            said.append("")
        except InputError as error:
            said.append(error.field)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(said)


def sign_up(database: Database, settings: Settings, email: str, name: str) -> None:
    token = signed_token(settings, "sign-up", email)
    with database.session() as session:
        accounts.create_user(session, settings, token, name, "correct horse battery")


def test_all_who_begin_together_sign_with_one_key(home: Path) -> None:
    settings = Settings(folder=home / "page")
    keys: set[bytes] = set()
    assert at_once(lambda _: keys.add(settings.signing_key())) == [""] * AT_ONCE
    assert len(keys) == 1
    assert keys == {Settings(folder=home / "page").signing_key()}
    assert [(p.name, p.stat().st_mode & 0o777) for p in (home / "page").iterdir()] == [("secret-key", 0o600)]


@both_databases
def test_one_address_is_one_account(settings: Settings) -> None:
    database = open_database(settings.database_url)
    said = at_once(lambda n: sign_up(database, settings, "a@example.org", f"Reader {n}"))
    assert said == ["", *["link"] * (AT_ONCE - 1)]
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(User)) == 1
    database.close()


@both_databases
def test_one_name_is_one_persons(settings: Settings) -> None:
    database = open_database(settings.database_url)
    said = at_once(lambda n: sign_up(database, settings, f"{n}@example.org", "Ada" if n % 2 else "ADA"))
    assert said == ["", *["name"] * (AT_ONCE - 1)]
    database.close()
