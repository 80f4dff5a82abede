"""Running a paper from the page, over HTTP: form, upload, progress, report, files; and who may see what."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import threading
import zipfile
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from web_helpers import LOCAL, PASSWORD, PUBLIC, Browser, Elements, Mailbox, WordEncoder, become_member

from paperworks.page.database import Entry, Job, Upload, open_database
from paperworks.page.jobs import Worker
from paperworks.page.search import open_search
from paperworks.page.settings import Settings, load_settings
from paperworks.page.web.app import create_app
from paperworks.runs import Store

FORM = "/papers/0001.00001/run"


def make_app(settings: Settings, root: Path) -> FastAPI:
    database = open_database(settings.database_url)
    with database.session() as session:
        session.add(
            Entry(
                key="arxiv:0001.00001",
                arxiv="0001.00001",
                slug="tiny-paper",
                title="A tiny paper",
                listed=date(2020, 1, 2),
                works=True,
            )
        )
    search = open_search(database, WordEncoder())
    return create_app(settings, database=database, store=Store(root), search=search, mailer=Mailbox(), seed=False)


@pytest.fixture
def reader(home: Path, tiny_paper: Path) -> Browser:
    """The reader of a page on their own machine, with the tiny paper in the feed."""
    return Browser(make_app(load_settings(), home), LOCAL)


@pytest.fixture
def public(home: Path, tiny_paper: Path) -> FastAPI:
    settings = load_settings(
        public=True,
        secret_key="a secret of a test, long enough to be one",
        allowed_hosts=("papers.example",),
        base_url=PUBLIC,
    )
    return make_app(settings, home)


def ask(browser: Browser, files: dict | None = None, source: str = FORM, **fields: str):  # type: ignore[no-untyped-def]
    origin = str(browser.base_url).rstrip("/")
    data = {"csrf": browser.token(source), **fields}
    return browser.post(FORM, data=data, files=files, headers={"Origin": origin})


def work(browser: Browser) -> None:
    page = browser.page
    assert Worker(page.database, page.store, page.settings).run_one()


def job_of(browser: Browser) -> Job:
    with browser.page.database.reading() as session:
        job = session.scalar(select(Job))
    assert job is not None
    return job


def test_the_form_has_every_option_with_its_default(reader: Browser) -> None:
    elements = Elements(reader.get(FORM).text)
    inputs = {a["name"]: a for a in elements.named("input") if a.get("name")}
    assert inputs["n"]["value"] == "5"
    assert (inputs["n"]["min"], inputs["n"]["max"]) == ("1", "1000")
    assert inputs["names"]["value"] == "a, b"
    assert inputs["loud"]["type"] == "checkbox"
    assert "checked" not in inputs["loud"]
    assert inputs["file:where"]["type"] == "file"
    assert "device" not in inputs
    labels = {a.get("for") for a in elements.named("label")}
    assert {f"o-{n}" for n in ("n", "names", "seed", "where", "mode")} <= labels


def test_a_run_from_form_to_files(reader: Browser) -> None:
    waiting = ask(reader, n="4", loud="on", **{"flag:loud": "1"})
    assert waiting.status_code == 200
    assert "Waiting for a free worker" in waiting.text
    work(reader)
    job = job_of(reader)
    assert job.config["loud"] is True
    done = reader.get(f"/runs/{job.id}")
    assert "Counted 4 things" in done.text
    assert "What the paper claims" in done.text
    (figure_path,) = [a["src"] or "" for a in Elements(done.text).named("img") if "/figures/" in (a["src"] or "")]
    figure = reader.get(figure_path)
    assert figure.headers["content-type"].startswith("image/svg+xml")
    assert figure.headers["content-security-policy"].startswith("default-src 'none'")
    count = reader.get(f"/runs/{job.id}/files/count.txt")
    assert count.text == "4"
    assert "attachment" in count.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(reader.get(f"/runs/{job.id}/files.zip").content)) as archive:
        assert sorted(archive.namelist()) == ["big.bin", "count.txt"]
    report = reader.get(f"/runs/{job.id}/report")
    assert "sandbox" in report.headers["content-security-policy"]
    assert "Counted 4 things" in report.text
    assert reader.get(f"/runs/{job.id}/report.json").json()["metrics"]["things"] == 4
    assert "Counted 4 things" in reader.get("/runs").text


def test_only_the_runs_own_files_are_given(reader: Browser) -> None:
    ask(reader)
    work(reader)
    (folder,) = reader.page.store.runs.glob(f"{job_of(reader).run_id}/files")
    (folder / "model" / "deep").mkdir(parents=True)
    (folder / "model" / "deep" / "weights.bin").write_bytes(b"12")
    packed = reader.get(f"/runs/{job_of(reader).id}/files/model")
    with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
        assert archive.namelist() == ["deep/weights.bin"]
    for name in ("", "%2e", "%2e%2e", "model%2f%2e%2e"):
        assert reader.get(f"/runs/{job_of(reader).id}/files/{name}").status_code == 404
    for name in ("../run.json", "%2e%2e/run.json", "/etc/passwd", "nothing", "..%2frun.json"):
        assert reader.get(f"/runs/{job_of(reader).id}/files/{name}").status_code == 404
        assert reader.get(f"/runs/{job_of(reader).id}/figures/{name}").status_code == 404


def test_an_unticked_box_is_off(reader: Browser) -> None:
    ask(reader, **{"flag:loud": "1"})
    assert job_of(reader).config["loud"] is False


def test_an_upload_is_handed_to_the_recipe_as_a_file_of_the_page(reader: Browser) -> None:
    ask(reader, files={"file:where": ("../../my data.csv", b"a\n1\n")})
    job = job_of(reader)
    path = reader.page.settings.folder / job.config["where"]
    assert path.read_text() == "a\n1\n"
    assert path.is_relative_to(reader.page.settings.folder / "uploads")
    assert len(job.uploads) == 1


def test_bad_options_come_back_with_the_form_and_what_was_typed(reader: Browser) -> None:
    answer = ask(reader, n="0", names="mine")
    assert answer.status_code == 422
    assert "n: found" in answer.text
    inputs = {a["name"]: a for a in Elements(answer.text).named("input") if a.get("name")}
    assert inputs["names"]["value"] == "mine"
    answer = ask(reader, n="0", files={"file:where": ("x.csv", b"1")})
    assert answer.status_code == 422
    assert not list((reader.page.settings.folder / "uploads").glob("*"))
    answer = ask(reader, files={"file:where": ("x.py", b"1")})
    assert "of kind .py" in answer.text


def test_a_form_without_its_token_is_refused(reader: Browser) -> None:
    assert reader.post(FORM, data={"n": "1"}).status_code == 403
    ask(reader)
    assert reader.post(f"/runs/{job_of(reader).id}/cancel").status_code == 403


def test_progress_as_events(reader: Browser) -> None:
    ask(reader, n="4", pause="0.2")
    job = job_of(reader)
    thread = threading.Thread(target=work, args=[reader])
    thread.start()
    answer = reader.get(f"/runs/{job.id}/events")
    thread.join()
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = [
        dict(line.split(": ", 1) for line in b.split("\n")) for b in answer.text.split("\n\n") if b.startswith("id")
    ]
    kinds = [json.loads(b["data"]).get("kind") or json.loads(b["data"])["status"] for b in blocks]
    assert kinds[-1] == "finished"
    assert "progress" in kinds
    rest = reader.get(f"/runs/{job.id}/events", headers={"Last-Event-ID": blocks[-1]["id"]})
    assert '"kind"' not in rest.text
    assert "finished" in rest.text


def test_a_running_page_shows_where_it_is_and_can_be_cancelled(reader: Browser) -> None:
    ask(reader, n="500", pause="0.05")
    job = job_of(reader)
    thread = threading.Thread(target=work, args=[reader])
    thread.start()
    while "of 500" not in (text := reader.get(f"/runs/{job.id}").text):
        assert thread.is_alive()
    assert "counting" in text
    assert '<noscript><meta http-equiv="refresh"' in text
    asked = reader.submit(f"/runs/{job.id}/cancel")
    assert "Stopping at its next checkpoint" in asked.text or "Cancelled" in asked.text
    thread.join(timeout=20)
    assert "Cancelled" in reader.get(f"/runs/{job.id}").text


def test_a_public_page_runs_bundled_inputs_for_those_who_are_logged_in(public: FastAPI, password_hash: str) -> None:
    visitor, member = Browser(public, PUBLIC), Browser(public, PUBLIC)
    become_member(member, password_hash)
    assert "Log in to run it" in visitor.get(FORM).text
    assert visitor.post(FORM, data={"n": "1"}, follow_redirects=False).status_code in (303, 403)
    assert "file:where" not in member.get(FORM).text
    refused = ask(member, files={"file:where": ("x.csv", b"1")}, source="/account")
    assert refused.status_code == 422
    with member.page.database.reading() as session:
        assert session.scalar(select(Upload)) is None
    ask(member, n="3", source="/account")
    work(member)
    assert "Counted 3 things" in visitor.get(f"/runs/{job_of(member).id}").text
    assert visitor.post(f"/runs/{job_of(member).id}/cancel", follow_redirects=False).status_code in (303, 403)


def test_runs_on_an_upload_are_for_their_owner_only(
    home: Path, tiny_paper: Path, password_hash: str, public: FastAPI
) -> None:
    public.state.page.settings = public.state.page.settings.model_copy(update={"uploads": True})
    owner, other, visitor = (Browser(public, PUBLIC) for _ in range(3))
    for browser in (owner, other):
        become_member(browser, password_hash)
    ask(owner, files={"file:where": ("x.csv", b"1")}, source="/account")
    work(owner)
    job = job_of(owner)
    assert owner.get(f"/runs/{job.id}").status_code == 200
    for browser in (other, visitor):
        for part in ("", "/events", "/report", "/report.json", "/files/count.txt", "/files.zip"):
            assert browser.get(f"/runs/{job.id}{part}").status_code == 404
        assert job.id not in browser.get("/runs").text
    assert other.submit(f"/runs/{job.id}/cancel", "/account").status_code == 404


def test_papers_that_are_not_here_cannot_be_run(reader: Browser) -> None:
    assert reader.get("/papers/9999.99999/run").status_code == 404
    assert reader.get("/runs/" + "0" * 32).status_code == 404


def test_an_archive_of_files_is_made_while_it_is_sent(reader: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """No copy on the disk, whoever reads however slowly, and the length is known before."""
    ask(reader, n="1")
    work(reader)
    job = job_of(reader)
    (folder,) = reader.page.store.runs.glob(f"{job.run_id}/files")
    (folder / "weights").mkdir()
    for number in range(3):
        (folder / "weights" / f"größe {number}.bin").write_bytes(os.urandom(1_000_000))
    (folder / "key").symlink_to(reader.page.settings.folder / "secret-key")
    monkeypatch.setattr("tempfile.mkstemp", None)
    monkeypatch.setattr("tempfile.TemporaryFile", None)
    monkeypatch.setattr("tempfile.NamedTemporaryFile", None)
    answer = reader.get(f"/runs/{job.id}/files.zip", headers={"Accept-Encoding": "gzip"})
    assert len(answer.content) == int(answer.headers["content-length"])
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == 5
        assert archive.read("weights/größe 2.bin") == (folder / "weights" / "größe 2.bin").read_bytes()


def test_run_again_opens_the_form_as_it_was(reader: Browser) -> None:
    ask(reader, n="7", names="x, y", loud="on", files={"file:where": ("データ.csv", b"1")}, **{"flag:loud": "1"})
    job = job_of(reader)
    cancelled = reader.get(f"/runs/{job.id}")
    assert "Delete this run and its upload" in cancelled.text
    with reader.page.database.session() as session:
        session.get_one(Job, job.id).status = "failed"
    (link,) = [a["href"] or "" for a in Elements(reader.get(f"/runs/{job.id}").text).named("a") if "again=" in str(a)]
    form = reader.get(link)
    inputs = {a["name"]: a for a in Elements(form.text).named("input") if a.get("name")}
    assert (inputs["n"]["value"], inputs["names"]["value"]) == ("7", "x, y")
    assert "checked" in inputs["loud"]
    assert inputs["upload:where"]["value"] == job.uploads[0]
    assert "データ.csv, which you sent before" in form.text
    again = ask(reader, n="8", **{"upload:where": job.uploads[0]})
    assert again.status_code == 200
    with reader.page.database.reading() as session:
        newest = session.scalars(select(Job).order_by(Job.created.desc())).first()
    assert newest is not None
    assert (newest.config["n"], newest.config["where"]) == ("8", job.config["where"])
    assert newest.uploads == job.uploads
    stranger = ask(reader, n="8", **{"upload:where": "0" * 32})
    assert stranger.status_code == 200  # no such upload of this reader: the option keeps its default
    assert reader.get(f"{FORM}?again=nothing").status_code == 404


def test_a_run_is_deleted_by_its_owner_only(public: FastAPI, password_hash: str) -> None:
    public.state.page.settings = public.state.page.settings.model_copy(update={"uploads": True})
    owner, other = Browser(public, PUBLIC), Browser(public, PUBLIC)
    for browser in (owner, other):
        become_member(browser, password_hash)
    ask(owner, source="/account")
    job = job_of(owner)
    assert "Delete this run" not in other.get(f"/runs/{job.id}").text
    assert other.submit(f"/runs/{job.id}/delete", "/account").status_code == 403
    ask(owner, files={"file:where": ("x.csv", b"1")}, source="/account")
    with owner.page.database.reading() as session:
        (private,) = [j for j in session.scalars(select(Job)) if j.uploads]
    assert other.submit(f"/runs/{private.id}/delete", "/account").status_code == 404
    for each in (job, private):
        assert owner.submit(f"/runs/{each.id}/delete", "/account").url.path == "/runs"
        assert owner.get(f"/runs/{each.id}").status_code == 404
    assert not list((owner.page.settings.folder / "uploads").glob("*"))


def test_an_ended_account_leaves_no_run_on_its_uploads(public: FastAPI, password_hash: str) -> None:
    public.state.page.settings = public.state.page.settings.model_copy(update={"uploads": True})
    owner, visitor = Browser(public, PUBLIC), Browser(public, PUBLIC)
    become_member(owner, password_hash)
    ask(owner, source="/account")
    bundled = job_of(owner)
    ask(owner, files={"file:where": ("x.csv", b"1")}, source="/account")
    said = owner.get("/account").text
    assert "your uploaded files and all runs on them" in said
    assert "Runs on the inputs that the page brings stay, without your name" in said
    ended = owner.submit("/account/delete", "/account", **{"delete-password": PASSWORD})
    assert ended.status_code == 200
    with owner.page.database.reading() as session:
        (left,) = session.scalars(select(Job))
        assert (left.id, left.user_id) == (bundled.id, None)
        assert session.scalar(select(Upload)) is None
    assert not list((owner.page.settings.folder / "uploads").glob("*"))
    assert visitor.get(f"/runs/{bundled.id}").status_code == 200


def test_what_is_no_id_of_a_run_is_not_found(reader: Browser) -> None:
    for name in ("%00", "x", "0" * 32, "%2e%2e", "0" * 31 + "%00", "é"):
        for part in ("", "/events", "/files.zip", "/report"):
            assert reader.get(f"/runs/{name}{part}").status_code == 404, name
    ask(reader)
    work(reader)
    for name in ("%00", "count.txt%00", "x%00/y"):
        assert reader.get(f"/runs/{job_of(reader).id}/files/{name}").status_code == 404
        assert reader.get(f"/runs/{job_of(reader).id}/figures/{name}").status_code == 404


def test_views_say_when_to_come_back_while_the_database_is_locked(reader: Browser) -> None:
    settings = reader.page.settings
    reader.page.database = open_database(settings.database_url, busy_seconds=0.05)
    token = reader.token(FORM)
    with closing(sqlite3.connect(settings.folder / "page.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refused = reader.post(FORM, data={"csrf": token})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert "Nothing was changed" in refused.text
        assert "X-Frame-Options" in refused.headers
        assert reader.get(FORM).status_code == 200  # who only reads waits for no writer
        other.execute("ROLLBACK")
    assert reader.post(FORM, data={"csrf": token}).status_code == 200
