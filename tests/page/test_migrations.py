"""A database is brought to the newest tables, whatever version it has; one that has them is only looked at."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from page_databases import both_databases, fresh_postgres
from sqlalchemy import inspect, text

from paperworks.page.database import Base, connection, open_database
from paperworks.page.settings import Settings


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(connection.MIGRATIONS))
    return config


def test_the_names_of_the_files_say_the_newest_version() -> None:
    assert connection.newest_version() == ScriptDirectory.from_config(alembic_config()).get_current_head()


def require_migration(url: str, version: str) -> None:
    """An empty database that gets the tables of a version is brought to the newest ones when it is opened."""
    config = alembic_config()
    with open_database(url, migrate=False).engine.connect() as opened:
        config.attributes["connection"] = opened
        command.upgrade(config, version)
    database = open_database(url)
    found = inspect(database.engine)
    for table in Base.metadata.sorted_tables:
        assert {column["name"] for column in found.get_columns(table.name)} == set(table.columns.keys()), table.name
    with database.engine.connect() as opened:
        assert opened.execute(text("SELECT version_num FROM alembic_version")).scalar() == connection.newest_version()
    database.close()


@pytest.mark.parametrize("version", ["0001", "0003"])
def test_an_older_database_gets_the_newest_tables(tmp_path: Path, version: str) -> None:
    require_migration(f"sqlite:///{tmp_path / 'page.sqlite'}", version)


def test_so_does_one_of_postgresql() -> None:
    with fresh_postgres(empty=True) as url:
        require_migration(url, "0001")


@both_databases
def test_a_database_with_the_newest_tables_is_opened_without_alembic(
    home: object, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = Settings(database=database_url).database_url
    open_database(url).close()
    for name in [name for name in sys.modules if name.split(".")[0] == "alembic"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "alembic", None)
    open_database(url).close()
