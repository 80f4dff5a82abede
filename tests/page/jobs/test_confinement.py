"""A run that was made to do what an attacker wants reads no secret, reaches no network, writes in its folder only."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paperworks.errors import InputError
from paperworks.page.check import check_page
from paperworks.page.database import Database, Job
from paperworks.page.jobs import Worker, check_confinement, create_job, save_upload
from paperworks.page.jobs import worker as worker_module
from paperworks.page.jobs.workplace import PathHider, Workplace, open_below
from paperworks.page.sandbox import bubblewrap, confinement, landlock
from paperworks.page.sandbox.confinement import NONE, Confinement
from paperworks.page.settings import Settings, load_settings
from paperworks.runs import Store

SPY = '''
"""Whoever wrote the upload decides what this does: as if a reader of files had been misled."""
from __future__ import annotations
import json, os, signal, socket
from pathlib import Path
from pydantic import Field
from paperworks import runs


class Config(runs.Config):
    where: Path | None = Field(None, description="what to try")


def attempt(call):
    try:
        return repr(call())[:200]
    except BaseException as error:
        return f"refused: {type(error).__name__}"


def connect(kind, address):
    with socket.socket(kind, socket.SOCK_STREAM) as client:
        client.settimeout(2)
        client.connect(address)


def run(config, run):
    """Try it."""
    wanted = json.loads(config.where.read_text())
    found = {"environment": dict(os.environ), "own": attempt(config.where.read_text)}
    for path in wanted["read"]:
        found["read " + path] = attempt(lambda: Path(path).read_bytes())
        found["list " + path] = attempt(lambda: os.listdir(Path(path).parent))
    for path in wanted["write"]:
        found["write " + path] = attempt(lambda: Path(path).write_text("taken"))
    found["connect"] = attempt(lambda: connect(socket.AF_INET, ("127.0.0.1", wanted["port"])))
    found["connect file"] = attempt(lambda: connect(socket.AF_UNIX, wanted["socket"]))
    found["environment of the server"] = attempt(lambda: Path(f"/proc/{wanted['server']}/environ").read_bytes())
    found["signal"] = attempt(lambda: os.kill(wanted["server"], 0))
    (run.files / "found.json").write_text(json.dumps(found))
    if wanted["links"]:
        os.symlink(wanted["read"][0], run.files / "key.txt")
        os.symlink(wanted["read"][0], run.folder / "more")
        os.mkfifo(run.files / "pipe")
    if wanted.get("say"):
        raise ValueError(f"cannot read {config.where.absolute()}")
    return runs.Report(f"Tried {config.where.absolute()}")
'''
OWN = (
    "HOME TMPDIR XDG_CACHE_HOME XDG_DATA_HOME MPLCONFIGDIR PYTHONDONTWRITEBYTECODE PYTHONSAFEPATH PAPERWORKS_HOME "
    "PWD LC_CTYPE"
)
KINDS = [
    pytest.param(Confinement("bubblewrap", ""), id="bubblewrap"),
    pytest.param(Confinement("Landlock", ""), id="Landlock"),
]


@pytest.fixture
def spy(tiny_paper: Path) -> None:
    (tiny_paper / "recipe.py").write_text(SPY)


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """A server of this machine: by a port, and by a file as PostgreSQL's."""
    place = f"/tmp/spy-{os.getpid()}.sock"  # short: a socket's path has at most 107 bytes
    with socket.create_server(("127.0.0.1", 0)) as port, socket.socket(socket.AF_UNIX) as file:
        file.bind(place)
        file.listen()
        yield port.getsockname()[1], place
    os.unlink(place)


@pytest.fixture
def try_all(
    spy: None, settings: Settings, database: Database, store: Store, listening: tuple[int, str], tmp_path: Path
) -> Callable[..., tuple[Job, dict[str, Any]]]:
    def ask(kind: Confinement, **more: Any) -> tuple[Job, dict[str, Any]]:
        settings.signing_key()
        _, reference = save_upload(database, settings, "where", "other.json", [b'"a secret of another reader"'], 1)
        wanted = {
            "read": [
                str(settings.folder / "secret-key"),
                str(settings.folder / "page.sqlite"),
                str(settings.folder / reference),
                str(tmp_path / "mine.txt"),
            ],
            "write": [str(settings.folder / "page.sqlite"), str(tmp_path / "new.txt"), "/usr/new.txt", "/etc/new.txt"],
            "port": listening[0],
            "socket": listening[1],
            "server": os.getpid(),
            "links": False,
            **more,
        }
        (tmp_path / "mine.txt").write_text("a secret of the owner")
        content = json.dumps(wanted).encode()
        upload, reference = save_upload(database, settings, "where", "spy.json", [content], 1)
        job = create_job(database, settings, "tiny-paper", {}, {"where": reference}, 1, [upload.id])
        Worker(database, store, settings, kind).run_one()
        with database.reading() as session:
            ended = session.get(Job, job.id)
        assert ended is not None
        if ended.run_id is None or not (store.runs / ended.run_id).is_dir():
            return ended, {}
        return ended, json.loads((store.runs / ended.run_id / "files" / "found.json").read_text())

    return ask


def require(kind: Confinement) -> None:
    refused = bubblewrap.why_not() if kind.kind == "bubblewrap" else landlock.why_not()
    if refused:
        pytest.skip(refused)


@pytest.mark.parametrize("kind", KINDS)
def test_a_misled_run_reaches_nothing(
    kind: Confinement,
    try_all: Callable[..., tuple[Job, dict[str, Any]]],
    tmp_path: Path,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require(kind)
    monkeypatch.setenv("PAPERWORKS_PAGE_SECRET_KEY", "in the environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "in the environment as well")
    job, found = try_all(kind, links=kind.kind == "bubblewrap")
    assert job.status == "finished", job.message
    assert "spy" in found["own"] or "read" in found["own"]  # it could read what it was given
    assert "in the environment" not in json.dumps(found["environment"])
    tried = {name: outcome for name, outcome in found.items() if name not in ("environment", "own")}
    assert len(tried) == 16
    allowed = {name: outcome for name, outcome in tried.items() if not outcome.startswith("refused")}
    assert "secret" not in json.dumps(list(allowed.values()))
    # The folder above a secret may be there, empty or made for it; a signal 0 says only that such a process exists.
    assert {name for name in allowed if not name.startswith(("list ", "signal"))} == set()
    assert not (tmp_path / "new.txt").exists()
    assert (tmp_path / "mine.txt").read_text() == "a secret of the owner"
    # What it left in its folder leads nowhere.
    assert job.run_id is not None
    left = list((store.runs / job.run_id).rglob("*"))
    assert not any(path.is_symlink() or path.is_fifo() for path in left)


@pytest.mark.parametrize("kind", [*KINDS, pytest.param(NONE, id="none")])
def test_readers_see_no_place_of_the_machine(
    kind: Confinement, try_all: Callable[..., tuple[Job, dict[str, Any]]], store: Store, home: Path
) -> None:
    if kind.confines:
        require(kind)
    job, found = try_all(kind)
    assert job.message == "Tried spy.json"
    assert "PAPERWORKS_PAGE_SECRET_KEY" not in found["environment"]
    assert set(found["environment"]) <= {*confinement.PASSED_ON.split(), *OWN.split()}
    assert job.run_id is not None
    folder = store.runs / job.run_id
    for name in ("report.json", "report.html", "events.jsonl", "config.json"):
        assert str(home) not in (folder / name).read_text(), name
    assert json.loads((folder / "report.json").read_text())["origin"]["options"]["where"] == "spy.json"
    failed, _ = try_all(kind, say=True)
    assert failed.message == "cannot read spy.json"


def test_a_public_page_takes_uploads_only_where_their_runs_are_confined(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = {
        "public": True,
        "secret_key": "a secret of a test, long enough to be one",
        "allowed_hosts": ("papers.example",),
        "no_mail": True,
    }
    monkeypatch.setattr(worker_module, "find_confinement", lambda: NONE)
    with pytest.raises(InputError, match=r"uploads: .*not confined.*bubblewrap.*--unconfined-uploads"):
        check_confinement(load_settings(**public, uploads=True))
    check_confinement(load_settings(**public, uploads=True, unconfined_uploads=True))
    check_confinement(load_settings(**public))
    on_cluster = {**public, "ray_address": "10.0.0.1:6379"}
    with pytest.raises(InputError, match=r"ray_address: .*not confined.*--unconfined-uploads"):
        check_confinement(load_settings(**on_cluster, uploads=True))
    check_confinement(load_settings(**on_cluster))
    check_confinement(load_settings())
    monkeypatch.setattr(worker_module, "find_confinement", lambda: Confinement("bubblewrap", ""))
    check_confinement(load_settings(**public, uploads=True))


def test_the_check_says_what_confines(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {found.what: found for found in check_page(load_settings())}
    assert said["confinement"].said == confinement.find_confinement().said
    assert said["database"].fine
    assert said["folder"].fine
    monkeypatch.setattr(bubblewrap, "why_not", lambda: "no bubblewrap")
    monkeypatch.setattr(landlock, "why_not", lambda: "no Landlock")
    confinement.find_confinement.cache_clear()
    try:
        found = confinement.find_confinement()
    finally:
        confinement.find_confinement.cache_clear()
    assert not found.confines
    assert "no bubblewrap; no Landlock" in found.said


def test_nothing_below_a_run_is_opened_through_a_link(settings: Settings, store: Store, tmp_path: Path) -> None:
    work = Workplace(settings, "0" * 32)
    work.make()
    folder = work.store.working / "run"
    folder.mkdir(parents=True)
    secret = tmp_path / "secret.jsonl"
    secret.write_text('{"kind": "step", "text": "secret"}\n')
    (folder / "events.jsonl").symlink_to(secret)
    (folder / "cancel").symlink_to(tmp_path / "made")
    (work.store.working / "elsewhere").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    for parts in (("run", "events.jsonl"), ("elsewhere", "secret.jsonl"), ("run", "pipe"), ("run", "nothing")):
        with pytest.raises(OSError, match=r".+"):
            open_below(work.root, ("working", *parts)).close()
    work.request_cancel("run")
    assert not (tmp_path / "made").exists()
    work.drop_links()
    assert list(folder.iterdir()) == []
    work.request_cancel("run")
    assert (folder / "cancel").is_file()
    assert secret.exists()


def test_paths_are_hidden_in_long_texts_quickly(settings: Settings, store: Store) -> None:
    hide = PathHider(settings, store)
    picture = "data:image/png;base64," + "abcd/efgh" * 100_000
    upload = f"{settings.folder}/uploads/{'a' * 32}/größe.csv"
    work = f"{settings.folder}/work/{'b' * 32}/working/x/files/y"
    assert hide(f"{picture} '{upload}' {work}") == f"{picture} 'größe.csv' working/x/files/y"
