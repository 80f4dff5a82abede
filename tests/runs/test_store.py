"""The store: runs appear whole or not at all, survive kill -9, and do not disturb each other."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.runs import Cancelled, ChildEngine, LocalEngine, Report, RunBusy, RunFailed, Store, load_recipe


@pytest.fixture
def store(home: Path, tiny_paper: Path) -> Store:
    return Store(home)


def create(store: Store, out: Path | None = None, **options: object) -> str:
    recipe = load_recipe("tiny-paper", "tiny_paper.recipe")
    return store.create("tiny-paper", recipe.module, recipe.config(**options), out)


def test_a_finished_run(store: Store) -> None:
    events: list[dict] = []
    record = LocalEngine().execute(store, create(store, n=7), events.append)
    assert record.status == "finished"
    assert record.headline == "Counted 7 things"
    assert record.metrics["things"] == 7
    names = {p.name for p in record.folder.iterdir()}
    assert names == {"run.json", "config.json", "events.jsonl", "report.json", "report.html", "figures", "files"}
    assert [e["done"] for e in events if e["kind"] == "progress"][-1] == 7
    logged = [json.loads(line)["kind"] for line in (record.folder / "events.jsonl").read_text().splitlines()]
    assert logged == [e["kind"] for e in events]
    assert logged[0] == "started"
    assert logged[-1] == "finished"
    assert not store.state(record.id).exists()
    usage = json.loads((record.folder / "report.json").read_text())["usage"]
    assert usage["files, bytes"] == 200_001
    assert usage["peak memory, bytes"] > 10**7


def test_the_index_is_rebuilt(store: Store) -> None:
    ids = [LocalEngine().execute(store, create(store, n=n)).id for n in (1, 2, 3)]
    before = store.records()
    (store.root / "index.sqlite").unlink()
    assert store.records() == before
    (store.root / "index.sqlite").write_bytes(b"this is no database" * 100)
    assert store.records() == before
    shutil.rmtree(store.runs / ids[0])
    assert {r.id for r in store.records()} == set(ids[1:])
    assert store.rebuild_index() == 2


def test_find(store: Store) -> None:
    first, second = (LocalEngine().execute(store, create(store)).id for _ in range(2))
    assert store.find(first).id == first
    assert store.find(second[-4:]).id == second
    assert store.find("last").status == "finished"
    with pytest.raises(InputError, match="fits 2 runs"):
        store.find("tiny")
    with pytest.raises(InputError, match="expected the id of a run"):
        store.find("nothing-like-it")


def test_removed_runs_are_gone_with_their_checkpoints(store: Store) -> None:
    kept, gone = (LocalEngine().execute(store, create(store)).id for _ in range(2))
    failed = create(store, mode="fail")
    with pytest.raises(RuntimeError):
        LocalEngine().execute(store, failed)
    state = store.state(failed)
    state.mkdir(parents=True, exist_ok=True)
    (state / "weights").write_bytes(b"x" * 5000)
    assert store.size(failed) > 5000
    assert store.remove(failed) > 5000
    assert store.remove(gone) > 200_000  # the file that the recipe makes
    assert [r.id for r in store.records()] == [kept]
    assert not state.exists()
    assert {p.name for folder in (store.runs, store.working, store.states) for p in folder.iterdir()} == {kept}
    with pytest.raises(InputError, match="expected the id of a run"):
        store.find(gone)


def test_a_run_that_is_executed_is_not_removed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paperworks.runs.store.CLAIM_SECONDS", 0.1)
    run_id = create(store)
    with store.claim(run_id), pytest.raises(RunBusy):
        store.remove(run_id)
    assert store.find(run_id).status == "waiting"


def test_a_removal_that_was_killed_is_finished_by_the_next_listing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = create(store, mode="fail")
    with pytest.raises(RuntimeError):
        LocalEngine().execute(store, run_id)
    store.state(run_id).mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(store, "_sweep", lambda: None)  # killed behind the rename
    store.remove(run_id)
    assert store.state(run_id).exists()
    monkeypatch.undo()
    assert store.records() == []
    assert not any(p for folder in (store.working, store.states) for p in folder.iterdir())


def test_a_failure_is_kept_and_can_be_resumed(store: Store) -> None:
    run_id = create(store, mode="fail")
    with pytest.raises(RuntimeError, match="it broke"):
        LocalEngine().execute(store, run_id)
    record = store.find(run_id)
    assert (record.status, record.headline) == ("failed", "it broke")
    config = store.working / run_id / "config.json"
    config.write_text(config.read_text().replace('"fail"', '"count"'))
    assert LocalEngine().execute(store, run_id).status == "finished"


def test_a_recipe_must_return_a_report(store: Store) -> None:
    with pytest.raises(TypeError, match="must return a Report"):
        LocalEngine().execute(store, create(store, mode="wrong"))
    assert not any(r.status == "finished" for r in store.records())


def test_cancel_and_resume_keep_what_was_done(store: Store, every_item_reported: None) -> None:
    run_id = create(store, n=20, pause=0.01)

    def stop_at_five(event: dict) -> None:
        if event["kind"] == "progress" and event["done"] >= 5:
            store.request_cancel(run_id)

    with pytest.raises(Cancelled):
        LocalEngine().execute(store, run_id, stop_at_five)
    assert store.find(run_id).status == "cancelled"
    done = len(list(store.state(run_id).iterdir()))
    assert done == 5
    record = LocalEngine().execute(store, run_id)
    assert record.metrics["fresh"] == 20 - done


def test_a_run_is_executed_once_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paperworks.runs.store.CLAIM_SECONDS", 0.1)
    run_id = create(store)
    with store.claim(run_id):
        assert store.find(run_id).status == "running"
        with pytest.raises(RunBusy):
            LocalEngine().execute(store, run_id)
    assert store.find(run_id).status == "waiting"


def test_many_runs_at_once(store: Store) -> None:
    ids = [create(store, n=3, seed=i) for i in range(12)]
    with ThreadPoolExecutor(6) as pool:
        records = list(pool.map(lambda i: LocalEngine().execute(store, i), ids))
    assert sorted(r.id for r in records) == sorted(ids)
    assert {r.id for r in store.records()} == set(ids)
    for number, record in zip(range(12), sorted(records, key=lambda r: ids.index(r.id)), strict=True):
        assert json.loads((record.folder / "config.json").read_text())["seed"] == number


def start(run_id: str, store: Store) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "paperworks.runs.child", str(store.root), run_id], env=os.environ)


def wait_for(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.01)


def test_kill_9_leaves_a_run_that_resumes(store: Store) -> None:
    run_id = create(store, n=40, pause=0.05)
    process = start(run_id, store)
    wait_for(lambda: len(list(store.state(run_id).glob("*.done"))) >= 3)
    assert store.find(run_id).status == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert store.find(run_id).status == "interrupted"
    assert not (store.runs / run_id).exists()
    done = len(list(store.state(run_id).glob("*.done")))
    record = LocalEngine().execute(store, run_id)
    assert record.metrics["fresh"] <= 40 - done + 1


@pytest.mark.parametrize("delay", np.linspace(0.0, 0.25, 8))
def test_killed_at_any_moment_no_run_looks_finished_that_is_not(store: Store, delay: float) -> None:
    run_id = create(store, n=5, pause=0.01)
    process = start(run_id, store)
    wait_for(lambda: (store.working / run_id / "events.jsonl").exists() or (store.runs / run_id).exists())
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    record = store.find(run_id)
    if record.status == "finished":
        assert (record.folder / "files" / "count.txt").read_text() == "5"
        assert (record.folder / "report.html").read_text().rstrip().endswith("</html>")
    else:
        assert record.status == "interrupted"
        assert LocalEngine().execute(store, run_id).status == "finished"


def test_child_engine_reports_like_the_local_one(store: Store) -> None:
    events: list[dict] = []
    record = ChildEngine().execute(store, create(store, n=4), events.append)
    assert record.metrics["things"] == 4
    assert events[-1]["kind"] == "finished"


def test_child_engine_passes_errors_on(store: Store) -> None:
    with pytest.raises(RunFailed, match="it broke") as caught:
        ChildEngine().execute(store, create(store, mode="fail"))
    assert "RuntimeError" in caught.value.__notes__[0]


def test_child_engine_time_limit(store: Store) -> None:
    run_id = create(store, n=1000, pause=0.1)
    with pytest.raises(RunFailed, match="time limit"):
        ChildEngine(seconds=1).execute(store, run_id)
    assert store.find(run_id).status == "failed"


def test_child_engine_memory_limit(store: Store) -> None:
    run_id = create(store, mode="hog")
    with pytest.raises(RunFailed, match="expected at most 400 MiB"):
        ChildEngine(seconds=60, memory_bytes=400 * 2**20).execute(store, run_id)
    assert "memory limit" in store.find(run_id).headline


@pytest.mark.parametrize("limits", [{"seconds": 0}, {"seconds": -1}, {"memory_bytes": 0}])
def test_child_engine_refuses_empty_limits(limits: dict) -> None:
    with pytest.raises(InputError, match="limit"):
        ChildEngine(**limits)


def test_child_engine_passes_bad_input_on_and_leaves_no_run(store: Store) -> None:
    with pytest.raises(InputError, match="where: found nothing; expected something") as caught:
        ChildEngine().execute(store, create(store, mode="bad"))
    assert (caught.value.field, caught.value.found) == ("where", "nothing")
    assert store.records() == []


def test_bad_input_leaves_a_run_only_where_there_are_checkpoints(store: Store) -> None:
    with pytest.raises(InputError):
        LocalEngine().execute(store, create(store, mode="bad"))
    assert store.records() == []
    run_id = create(store, mode="bad")
    store.state(run_id).mkdir(parents=True)
    (store.state(run_id) / "hours-of-work").write_text("x")
    about = json.loads((store.working / run_id / "run.json").read_text())
    about["started"] = (datetime.now(UTC) - timedelta(hours=3)).isoformat(timespec="seconds")
    assert about["seconds"] == 0.0  # the process was killed: nothing says how long it worked
    (store.working / run_id / "run.json").write_text(json.dumps(about))
    with pytest.raises(InputError):
        LocalEngine().execute(store, run_id)
    assert [(r.id, r.status) for r in store.records()] == [(run_id, "failed")]
    assert isinstance(store.error(run_id), InputError)


def test_bad_input_that_is_found_within_seconds_leaves_no_run(store: Store) -> None:
    """A recipe may have kept what it read before it came to the option that is refused."""
    run_id = create(store, mode="bad")
    store.state(run_id).mkdir(parents=True)
    (store.state(run_id) / "rows.npy").write_text("x")
    with pytest.raises(InputError):
        LocalEngine().execute(store, run_id)
    assert store.records() == []
    assert not store.state(run_id).exists()


@pytest.mark.parametrize("place", ["runs", "working"])
def test_stray_and_damaged_folders_are_named_and_disturb_nobody(store: Store, place: str) -> None:
    whole = LocalEngine().execute(store, create(store))
    waiting = create(store)
    (store.root / place / "my-notes").mkdir()
    damaged = store.root / place / ("tiny-paper-damaged")
    shutil.copytree(whole.folder if place == "runs" else store.working / waiting, damaged)
    (damaged / ("report.json" if place == "runs" else "run.json")).write_text('{"headline": ')
    (store.root / place / "a-file").write_text("x")
    records = {r.id: r for r in store.records()}
    assert {i: r.status for i, r in records.items()} == {
        whole.id: "finished",
        waiting: "waiting",
        "my-notes": "damaged",
        "tiny-paper-damaged": "damaged",
    }
    assert "no run.json" in records["my-notes"].headline
    assert {r.id for r in store.records("tiny-paper")} == {whole.id, waiting}
    assert store.find(whole.id).status == "finished"
    assert store.find("tiny-paper-damaged").status == "damaged"
    with pytest.raises(InputError):
        store.find("my-")  # never by a part of its name
    assert store.find("last").status != "damaged"
    assert store.rebuild_index() == 1
    store.remove("tiny-paper-damaged")
    assert not damaged.exists()


def test_a_store_that_cannot_be_written_can_be_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read-only and full disks, as SQLite and the lock see them (tests may run as a user whom no mode bit stops)."""
    finished, waiting = LocalEngine().execute(store, create(store)), create(store)
    before = store.records()
    index = (store.root / "index.sqlite").read_bytes()

    def refuse(*args: object, **more: object) -> None:
        raise OSError(30, "Read-only file system")

    for words in ("attempt to write a readonly database", "database or disk is full", "unable to open database file"):
        error = sqlite3.OperationalError(words)
        error.sqlite_errorname = "SQLITE_READONLY"

        def fail(*args: object, error: Exception = error, **more: object) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr("paperworks.runs.index.sqlite3.connect", fail)
            patch.setattr("filelock.FileLock.acquire", refuse)
            patch.setattr("shutil.rmtree", refuse)
            assert store.records() == before
            assert store.find(finished.id).metrics == finished.metrics
            assert store.find(waiting).status == "waiting"
    assert (store.root / "index.sqlite").read_bytes() == index
    assert not list(store.root.glob("index.broken*"))


def test_a_run_finishes_though_the_index_is_full(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = create(store)

    def fail(*args: object, **more: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorname = "SQLITE_FULL"
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("paperworks.runs.index.sqlite3.connect", fail)
        assert LocalEngine().execute(store, run_id).status == "finished"
    assert store.find(run_id).status == "finished"


def test_a_full_disk_is_the_error_that_is_raised(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = create(store)

    def full(*args: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("paperworks.runs.store.write_text", full)
    monkeypatch.setattr("paperworks.runs.report.Report.save", full)
    with pytest.raises(OSError, match="No space left on device"):
        LocalEngine().execute(store, run_id)
    monkeypatch.undo()
    assert store.find(run_id).status == "interrupted"


def test_a_stop_while_the_report_is_written_lets_it_finish(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[dict] = []
    save = Report.save

    def interrupted(self: Report, folder: Path) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        save(self, folder)

    monkeypatch.setattr(Report, "save", interrupted)
    assert LocalEngine().execute(store, create(store), events.append).status == "finished"
    assert "the report is being written" in next(e["text"] for e in events if e["kind"] == "stopping")


def test_publish_overwrites_nothing(store: Store, tmp_path: Path) -> None:
    record = LocalEngine().execute(store, create(store))
    out = tmp_path / "out"
    out.mkdir()
    store.publish(record.id, out)  # an empty folder may be used
    assert {p.name for p in out.iterdir()} == {"big.bin", "count.txt", "report.html", "report.json"}
    with pytest.raises(InputError, match=f"nothing is overwritten.*the result is kept: paperworks open {record.id}"):
        store.publish(record.id, out)
    with pytest.raises(InputError, match=f"File name too long.*paperworks open {record.id}"):
        store.publish(record.id, tmp_path / ("x" * 300))
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
