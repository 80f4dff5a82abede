"""What uploads and runs take is bounded, and all of it can be removed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from page_databases import both_databases
from sqlalchemy import select

from paperworks.cli.page import clean as clean_command
from paperworks.errors import InputError
from paperworks.page.database import Database, Job, Upload, User, now
from paperworks.page.jobs import Worker, cancel_job, clean, create_job, remove_account_files, remove_job, save_upload
from paperworks.page.jobs import storage as storage_module
from paperworks.page.jobs import uploads as uploads_module
from paperworks.page.jobs.storage import room_left
from paperworks.page.jobs.uploads import reference_of, safe_name
from paperworks.page.jobs.workplace import Workplace
from paperworks.page.sandbox.confinement import NONE
from paperworks.page.settings import Settings, load_settings
from paperworks.runs import Store
from paperworks.runs.engine import LocalEngine


@pytest.fixture
def send(database: Database, settings: Settings) -> Callable[..., tuple[Upload, str]]:
    def save(content: bytes = b"1234567890", name: str = "x.csv", user: int = 1, **given: int) -> tuple[Upload, str]:
        bounded = settings.model_copy(update=given)
        return save_upload(database, bounded, "where", name, [content], user)

    return save


@pytest.fixture
def ask(database: Database, settings: Settings) -> Callable[..., Job]:
    def create(upload: tuple[Upload, str] | None = None, user: int = 1, **values: str) -> Job:
        files = {"where": upload[1]} if upload else {}
        return create_job(database, settings, "tiny-paper", values, files, user, [upload[0].id] if upload else [])

    return create


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without a process of their own: how they are started is tested elsewhere."""

    def execute(worker: Worker, job: Job, workplace: Workplace, run_id: str) -> None:
        with contextlib.chdir(worker._settings.folder):  # options name uploads from there
            LocalEngine().execute(workplace.store, run_id)

    monkeypatch.setattr(Worker, "_run", execute)


def folders(settings: Settings, kind: str) -> list[Path]:
    place = settings.folder / kind
    return list(place.iterdir()) if place.exists() else []


def rows(database: Database, table: type[Job] | type[Upload]) -> int:
    with database.reading() as session:
        return len(session.scalars(select(table)).all())


@both_databases
def test_quotas_of_an_account_and_of_all(
    database: Database, settings: Settings, send: Callable[..., tuple[Upload, str]]
) -> None:
    with database.session() as session:
        session.add(User(id=2, name="other"))
    bounds = {"account_bytes": 25, "total_bytes": 35}
    send(**bounds)
    send(**bounds)
    with pytest.raises(InputError, match=r"where: found more than 5 bytes"):
        send(**bounds)
    send(b"12345", **bounds)
    with pytest.raises(InputError, match="no room left for your files and runs"):
        send(b"1", **bounds)
    send(user=2, **bounds)
    with pytest.raises(InputError, match="no room left"):  # 35 are everybody's
        send(b"1", user=2, **bounds)
    with database.reading() as session:
        assert room_left(session, settings.model_copy(update=bounds), 2) == 0
    assert len(folders(settings, "uploads")) == 4


def test_an_account_without_room_starts_no_run(database: Database, settings: Settings, ask: Callable[..., Job]) -> None:
    job = ask()
    with database.session() as session:
        session.get_one(Job, job.id).bytes = settings.total_bytes
    with pytest.raises(InputError, match="run: found no room left"):
        ask()


def test_an_archive_of_little_unpacks_to_little(send: Callable[..., tuple[Upload, str]], settings: Settings) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", bytes(60_000_000))
    assert len(out.getvalue()) < 100_000
    with pytest.raises(InputError, match="unpacks to more than"):
        send(out.getvalue(), "x.zip")
    assert folders(settings, "uploads") == []
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/a.csv", "1,2\n" * 5000)
    upload, reference = send(out.getvalue(), "x.zip")
    assert upload.bytes < 1000 < upload.stored == 20_000  # the archive itself is not kept
    assert reference == reference_of(settings, upload) == f"uploads/{upload.id}/unpacked/m"
    with pytest.raises(InputError, match="unpacks to more than"):
        send(out.getvalue(), "x.zip", account_bytes=30_000, total_bytes=30_000)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("データ表.csv", "データ表.csv"),
        ("größe.csv", "größe.csv"),
        ("gro\u0308ße.csv", "größe.csv"),
        ("данные 2024.CSV", "данные 2024.CSV"),
        ("C:\\Users\\me\\my table.csv", "my table.csv"),
        ("../../x.csv", "x.csv"),
        (".hidden.csv", "hidden.csv"),
        ("a\u202evsc.csv", "a_vsc.csv"),
        ("a\x00b\n.csv", "a_b .csv"),
        ("表" * 200 + ".csv", "表" * 65 + ".csv"),
    ],
)
def test_names_of_every_script_are_kept(name: str, kept: str) -> None:
    assert safe_name("where", name) == kept


def test_an_upload_of_a_name_of_every_script_reaches_its_run(
    send: Callable[..., tuple[Upload, str]],
    ask: Callable[..., Job],
    database: Database,
    settings: Settings,
    store: Store,
) -> None:
    job = ask(send(name="データ表.csv"), n="1")
    Worker(database, store, settings).run_one()
    with database.reading() as session:
        ended = session.get_one(Job, job.id)
    assert ended.status == "finished", ended.message
    options = json.loads((store.find(ended.run_id or "").folder / "report.json").read_text())["origin"]["options"]
    assert options["where"] == "データ表.csv"


def test_a_cancelled_run_leaves_nothing(
    database: Database, settings: Settings, send: Callable[..., tuple[Upload, str]], ask: Callable[..., Job]
) -> None:
    shared = send()
    job, other = ask(shared), ask(shared)
    cancel_job(database, settings, job.id)
    assert len(folders(settings, "uploads")) == 1  # the other run needs it
    cancel_job(database, settings, other.id)
    assert folders(settings, "uploads") == []
    assert (rows(database, Job), rows(database, Upload)) == (2, 0)


@both_databases
def test_a_run_is_removed_with_its_upload(
    in_process: None,
    database: Database,
    settings: Settings,
    store: Store,
    send: Callable[..., tuple[Upload, str]],
    ask: Callable[..., Job],
) -> None:
    job = ask(send(), n="1")
    Worker(database, store, settings, NONE).run_one()
    with database.reading() as session:
        assert session.get_one(Job, job.id).bytes > 200_000
    assert len(store.records()) == 1
    remove_job(database, store, settings, job.id)
    assert store.records() == []
    assert folders(settings, "uploads") == folders(settings, "work") == []
    assert (rows(database, Job), rows(database, Upload)) == (0, 0)
    remove_job(database, store, settings, job.id)  # twice is once


def test_a_run_that_is_removed_while_it_works_leaves_nothing(
    in_process: None,
    database: Database,
    settings: Settings,
    store: Store,
    ask: Callable[..., Job],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = ask(n="1")
    worker = Worker(database, store, settings, NONE)
    real = worker._run

    def removed_meanwhile(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        with database.session() as session:
            session.delete(session.get_one(Job, job.id))

    monkeypatch.setattr(worker, "_run", removed_meanwhile)
    worker.run_one()
    assert store.records() == []
    assert folders(settings, "work") == []


def test_an_account_goes_with_the_runs_on_its_uploads(
    database: Database, settings: Settings, send: Callable[..., tuple[Upload, str]], ask: Callable[..., Job]
) -> None:
    with database.session() as session:
        session.add(User(id=2, name="other"))
    bundled, own = ask(), ask(send())
    send()
    others = ask(send(user=2), user=2)
    remove_account_files(database, Store(), settings, 1)
    with database.reading() as session:
        assert set(session.scalars(select(Job.id))) == {bundled.id, others.id}
        assert own.id not in set(session.scalars(select(Job.id)))
    assert len(folders(settings, "uploads")) == rows(database, Upload) == 1


def end(database: Database, job: Job, days: float) -> None:
    with database.session() as session:
        row = session.get_one(Job, job.id)
        row.status, row.finished = "failed", now() - timedelta(days=days)


def test_what_is_old_or_has_no_name_is_removed(
    database: Database,
    settings: Settings,
    store: Store,
    send: Callable[..., tuple[Upload, str]],
    ask: Callable[..., Job],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old, new, waiting = ask(send()), ask(send()), ask(send())
    end(database, old, 31)
    end(database, new, 29)
    unused, _ = send()
    with database.session() as session:
        session.get_one(Upload, unused.id).created = now() - timedelta(days=2)
    send()  # its run may be asked for in a moment
    Workplace(settings, waiting.id).make()
    Workplace(settings, new.id).make()
    (settings.folder / "uploads" / ".left.1-ab.partial").mkdir()
    hours_ago = time.time() - 2 * 3600
    for folder in (*folders(settings, "uploads"), *folders(settings, "work")):
        os.utime(folder, (hours_ago, hours_ago))
    assert clean(database, store, settings, now(), dry_run=True).runs == 0  # by default nothing of one's own is old
    foreseen = clean(database, store, settings, now(), days=30, dry_run=True)
    removed = clean(database, store, settings, now(), days=30)
    assert foreseen == removed
    assert (removed.runs, removed.uploads, removed.leftovers, removed.bytes) == (1, 1, 2, 20)
    with database.reading() as session:
        assert set(session.scalars(select(Job.id))) == {new.id, waiting.id}
    assert len(folders(settings, "uploads")) == rows(database, Upload) == 3
    assert [folder.name for folder in folders(settings, "work")] == [waiting.id]
    clean_command(days=20, json=True)
    assert json.loads(capsys.readouterr().out)["runs"] == 1
    with pytest.raises(InputError, match="days"):
        clean_command(days=-1)


def test_the_stated_retention(home: Path) -> None:
    public = {"public": True, "secret_key": "a secret of a test, long enough to be one", "allowed_hosts": ("x.org",)}
    assert load_settings().days_kept == 0
    assert load_settings(**public).days_kept == 30
    assert load_settings(**public, keep_days=0).days_kept == 0
    assert load_settings(keep_days=7).days_kept == 7
    assert load_settings(**public).bytes_per_account == 5 * 2**30
    assert load_settings().bytes_per_account == load_settings().total_bytes


def test_ids_are_never_paths(settings: Settings) -> None:
    for bad in ("..", "a/b", "", "0" * 31, "../" + "0" * 29):
        with pytest.raises(ValueError, match="not the id"):
            storage_module.upload_folder(settings, bad)
        with pytest.raises(ValueError, match="not the id"):
            storage_module.work_folder(settings, bad)
    assert uploads_module.is_archive("X.ZIP")


@pytest.mark.parametrize("suffix", ["mid", "musicxml", "mxl", "xml", "krn", "abc", "mei"])
def test_scores_of_music_are_data(suffix: str) -> None:
    assert safe_name("where", f"piece.{suffix}") == f"piece.{suffix}"
