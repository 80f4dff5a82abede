"""A database that is locked, full or away stops nothing for good: loops try again, views say when to come back."""

from __future__ import annotations

import importlib.util
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError

from paperworks.errors import InputError
from paperworks.page import loops, server
from paperworks.page.database import Database, Entry, Job, User, is_unavailable, now, open_database
from paperworks.page.jobs import Worker, create_job
from paperworks.page.jobs.queue import claim_job, end_job
from paperworks.page.settings import Settings
from paperworks.runs import Store

SCRIPT = Path(__file__).parents[2] / "scripts" / "temporary_postgres.py"


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


@contextmanager
def write_lock(file: Path) -> Iterator[None]:
    """What another program does that holds SQLite's write lock."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "FIRST_SECONDS", 0.02)
    monkeypatch.setattr(loops, "LONGEST_SECONDS", 0.2)


def fill(database: Database) -> None:
    with database.session() as session:
        session.add(Entry(key="arxiv:0001.00001", slug="tiny-paper", title="A tiny paper", listed=date(2020, 1, 2)))
        session.add(User(id=1, name="reader"))


class NoRuns(Worker):
    """A worker whose jobs are done at once."""

    def _execute(self, job, workplace):  # type: ignore[no-untyped-def]
        return "finished", "done"


@pytest.fixture
def page(home: Path, tiny_paper: Path) -> tuple[Database, Settings]:
    settings = Settings()
    database = open_database(settings.database_url, busy_seconds=0.05)
    fill(database)
    return database, settings


def statuses(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(select(Job.status)))


def test_a_worker_outlives_a_locked_database(page: tuple[Database, Settings], quick: None) -> None:
    database, settings = page
    job = create_job(database, settings, "tiny-paper", {}, {}, 1)
    worker = NoRuns(database, Store(), settings)
    thread = threading.Thread(target=worker.run_forever)
    with write_lock(settings.folder / "page.sqlite"):
        thread.start()
        time.sleep(0.5)
        assert statuses(database) == ["queued"]
        assert thread.is_alive()
    until(lambda: statuses(database) == ["finished"])
    worker.stop()
    thread.join()
    assert job.id


def test_the_outcome_of_a_run_waits_for_the_database(page: tuple[Database, Settings], quick: None) -> None:
    database, settings = page
    create_job(database, settings, "tiny-paper", {}, {}, 1)
    locked, ended = threading.Event(), threading.Event()

    class Locked(NoRuns):
        def _execute(self, job, workplace):  # type: ignore[no-untyped-def]
            locked.set()
            ended.wait(5)
            return "finished", "hours of work"

    thread = threading.Thread(target=Locked(database, Store(), settings).run_one)
    thread.start()
    locked.wait(5)
    with write_lock(settings.folder / "page.sqlite"):
        ended.set()
        time.sleep(0.4)
        assert thread.is_alive()
    thread.join(10)
    with database.reading() as session:
        assert session.scalar(select(Job.message)) == "hours of work"


def test_a_worker_outlives_a_postgresql_that_is_away(home: Path, tiny_paper: Path, quick: None) -> None:
    spec = importlib.util.spec_from_file_location("temporary_postgres", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    if script.binaries() is None:
        pytest.skip("no PostgreSQL on this machine")
    with script.temporary_postgres() as postgres:
        settings = Settings(database=postgres.url)
        database = open_database(settings.database_url)
        fill(database)
        worker = NoRuns(database, Store(), settings)
        thread = threading.Thread(target=worker.run_forever)
        thread.start()
        create_job(database, settings, "tiny-paper", {}, {}, 1)
        until(lambda: statuses(database) == ["finished"])
        postgres.stop()
        with pytest.raises(SQLAlchemyError) as caught:
            statuses(database)
        assert is_unavailable(caught.value)
        time.sleep(0.5)
        assert thread.is_alive()
        postgres.start()
        create_job(database, settings, "tiny-paper", {}, {}, 1)
        until(lambda: statuses(database) == ["finished", "finished"])
        worker.stop()
        thread.join()
        database.close()


def test_a_loop_goes_on_after_any_error_and_waits_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    waited: list[float] = []
    monkeypatch.setattr(stop, "wait", lambda seconds: waited.append(seconds))
    outcomes = iter([OSError(), ValueError(), RuntimeError(), True, KeyError(), False])

    def turn() -> bool:
        outcome = next(outcomes, None)
        if outcome is None:
            stop.set()
            return True
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    loops.run_loop("a test", turn, stop, idle_seconds=7)
    assert waited == [0.5, 1.0, 2.0, 0.5, 7]
    backoff = loops.Backoff(stop)
    waited.clear()
    for _ in range(12):
        backoff.wait()
    assert max(waited) == loops.LONGEST_SECONDS


def test_a_process_whose_worker_ended_ends(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever watches over it starts another."""
    codes: list[int] = []
    monkeypatch.setattr(Worker, "run_forever", lambda self: None)
    monkeypatch.setattr(server.os, "_exit", codes.append)
    monkeypatch.setattr(server.signal, "signal", lambda *_: None)
    server.work(Settings())
    assert codes == [1]


def test_what_is_a_database_that_is_away(page: tuple[Database, Settings]) -> None:
    database, settings = page

    def error_of(call: Callable[[], object]) -> SQLAlchemyError:
        with pytest.raises(SQLAlchemyError) as caught:
            call()
        return caught.value

    def execute(*statements: str) -> None:
        with database.session() as session:
            for statement in statements:
                session.execute(text(statement))

    with write_lock(settings.folder / "page.sqlite"):
        assert is_unavailable(error_of(lambda: execute("DELETE FROM jobs")))
    grow = [f"INSERT INTO import_states (source, cursor) VALUES ('{n}', zeroblob(100000))" for n in range(20)]
    assert is_unavailable(error_of(lambda: execute("PRAGMA max_page_count = 1", *grow)))
    assert not is_unavailable(error_of(lambda: execute("SELECT * FROM nothing")))
    assert not is_unavailable(error_of(lambda: execute("INSERT INTO users (id, name) VALUES (1, 'again')")))
    assert not is_unavailable(ValueError())


def test_a_file_that_cannot_be_a_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="database"):
        open_database(f"sqlite:///{tmp_path / 'file' / 'page.sqlite'}")


def test_a_job_that_was_claimed_before_the_lock_is_ended_once(page: tuple[Database, Settings]) -> None:
    database, settings = page
    create_job(database, settings, "tiny-paper", {}, {}, 1)
    job = claim_job(database, "one", now())
    assert job is not None
    assert end_job(database, job.id, "one", "finished", "x", 12)
    assert not end_job(database, job.id, "one", "failed", "y")
