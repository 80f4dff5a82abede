"""Jobs: one worker each, limits, cancelling, and nothing lost when server or worker are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psutil
import pytest
from page_databases import both_databases
from sqlalchemy import select

from paperworks.errors import InputError
from paperworks.page.database import Database, Entry, Job, now
from paperworks.page.jobs import Worker, cancel_job, create_job, job_events, job_record
from paperworks.page.jobs import queue as queue_module
from paperworks.page.jobs.queue import ATTEMPTS, WAITING_PER_USER, claim_job, end_job, heartbeat
from paperworks.page.jobs.workplace import Workplace
from paperworks.page.settings import Settings, environment_of
from paperworks.runs import Store


def ask(database: Database, settings: Settings, user_id: int | None = 1, **values: str) -> Job:
    return create_job(database, settings, "tiny-paper", values, {}, user_id)


def load(database: Database, job_id: str) -> Job:
    with database.session() as session:
        job = session.get(Job, job_id)
        assert job is not None
        return job


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


def start_worker(settings: Settings) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "paperworks.page.server", "runs"]
    return subprocess.Popen(command, env=os.environ | environment_of(settings))


@both_databases
def test_a_job_ends_in_the_command_lines_report(database: Database, settings: Settings, store: Store) -> None:
    job = ask(database, settings, n="4", names="x, y", loud="on")
    assert Worker(database, store, settings).run_one()
    done = load(database, job.id)
    assert (done.status, done.message) == ("finished", "Counted 4 things")
    record = job_record(store, done)
    assert record is not None
    options = json.loads((record.folder / "config.json").read_text())
    assert (options["n"], options["names"], options["loud"]) == (4, ["x", "y"], True)
    assert json.loads((record.folder / "report.json").read_text())["metrics"]["things"] == 4
    with database.session() as session:
        assert session.scalar(select(Entry.runs)) == 1
    assert not Worker(database, store, settings).run_one()


@pytest.mark.parametrize(
    ("mode", "message"), [("fail", "it broke"), ("bad", "where: found nothing; expected something")]
)
def test_a_failing_run_says_why(database: Database, settings: Settings, store: Store, mode: str, message: str) -> None:
    job = ask(database, settings, mode=mode)
    Worker(database, store, settings).run_one()
    done = load(database, job.id)
    assert (done.status, done.message) == ("failed", message)
    with database.session() as session:
        assert session.scalar(select(Entry.runs)) == 0


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"n": "0"}, "n"),
        ({"n": "many"}, "n"),
        ({"n": "13"}, "options"),
        ({"other": "1"}, "other"),
        ({"mode": "x"}, "mode"),
        ({"where": "/etc"}, "where"),
        ({"names": "a, /etc/passwd"}, "names"),
        ({"names": "http://x"}, "names"),
        ({"names": "~/x"}, "names"),
        ({"names": "a/../../b"}, "names"),
    ],
)
def test_bad_options_are_told_before_anything_is_queued(
    database: Database, settings: Settings, values: dict[str, str], field: str
) -> None:
    with pytest.raises(InputError) as caught:
        create_job(database, settings, "tiny-paper", values, {}, 1)
    assert str(caught.value).startswith(field)
    with database.session() as session:
        assert session.scalar(select(Job)) is None


def test_a_user_has_a_bounded_number_of_runs_waiting(database: Database, settings: Settings) -> None:
    for _ in range(WAITING_PER_USER):
        ask(database, settings)
    with pytest.raises(InputError, match="that wait or run"):
        ask(database, settings)


@both_databases
def test_two_workers_never_take_one_job(database: Database, settings: Settings) -> None:
    jobs = {create_job(database, settings, "tiny-paper", {}, {}, None).id for _ in range(5)}
    taken: list[str] = []

    def take(number: int) -> None:
        while (job := claim_job(database, f"w{number}", now())) is not None:
            taken.append(job.id)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(take, range(4)))
    assert sorted(taken) == sorted(jobs)


@both_databases
def test_a_stale_job_goes_to_another_worker_and_is_given_up_in_the_end(database: Database, settings: Settings) -> None:
    job = ask(database, settings)
    moment = now()
    for attempt in range(ATTEMPTS):
        taken = claim_job(database, f"w{attempt}", moment)
        assert taken is not None
        assert taken.attempts == attempt + 1
        assert claim_job(database, "other", moment + timedelta(seconds=1)) is None
        moment += timedelta(seconds=queue_module.STALE_SECONDS + 1)
    assert heartbeat(database, job.id, "w0", moment) is True  # it was taken away from the first one
    assert end_job(database, job.id, "w0", "finished", "late") is False
    assert claim_job(database, "last", moment) is None
    assert load(database, job.id).status == "failed"


@both_databases
def test_cancelling_waiting_and_running_jobs(database: Database, settings: Settings, store: Store) -> None:
    waiting, running = ask(database, settings), ask(database, settings, n="500", pause="0.05")
    cancel_job(database, settings, waiting.id)
    assert load(database, waiting.id).status == "cancelled"
    worker = Worker(database, store, settings)
    thread = threading.Thread(target=worker.run_one)
    thread.start()
    work = Workplace(settings, running.id)
    wait_for(lambda: load(database, running.id).run_id and list(work.store.working.glob("*/events.jsonl")))
    cancel_job(database, settings, running.id)
    thread.join(timeout=20)
    assert load(database, running.id).status == "cancelled"
    assert not work.root.exists()
    assert store.records() == []


@pytest.mark.parametrize(
    ("limits", "values", "message"),
    [
        ({"run_seconds": 1}, {"n": "500", "pause": "0.1"}, "time limit"),
        ({"run_memory_bytes": 400 * 2**20}, {"mode": "hog"}, "memory limit"),
        ({"run_disk_bytes": 2_000}, {"n": "200", "pause": "0.05"}, "disk limit"),
    ],
)
def test_limits(
    database: Database, settings: Settings, store: Store, limits: dict[str, int], values: dict[str, str], message: str
) -> None:
    bounded = settings.model_copy(update=limits)
    job = ask(database, bounded, **values)
    Worker(database, store, bounded).run_one()
    assert load(database, job.id).status == "failed"
    assert message in load(database, job.id).message


@both_databases
def test_kill_9_of_a_worker_loses_nothing(
    database: Database, settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ask(database, settings, n="30", pause="0.1")
    process = start_worker(settings)
    wait_for(lambda: load(database, job.id).run_id is not None)
    run_id = load(database, job.id).run_id
    assert run_id is not None
    marks = lambda: list(Workplace(settings, job.id).store.state(run_id).glob("*.done"))  # noqa: E731
    wait_for(lambda: len(marks()) >= 3)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(c.is_running() and c.status() != psutil.STATUS_ZOMBIE for c in children), 10)
    done = len(marks())
    assert load(database, job.id).status == "running"
    monkeypatch.setattr(queue_module, "STALE_SECONDS", 0.0)
    assert Worker(database, store, settings).run_one()
    ended = load(database, job.id)
    assert (ended.status, ended.run_id, ended.attempts) == ("finished", run_id, 2)
    record = job_record(store, ended)
    assert record is not None
    assert record.metrics["fresh"] <= 30 - done + 1


def test_a_run_that_finished_before_its_worker_could_say_so_is_counted_once(
    database: Database, settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ask(database, settings)
    worker = Worker(database, store, settings)
    monkeypatch.setattr("paperworks.page.jobs.worker.end_job", lambda *a: False)  # it dies here
    worker.run_one()
    monkeypatch.undo()
    monkeypatch.setenv("PAPERWORKS_HOME", str(store.root))
    monkeypatch.setattr(queue_module, "STALE_SECONDS", 0.0)
    assert Worker(database, store, settings).run_one()
    assert load(database, job.id).status == "finished"
    assert len(store.records()) == 1
    with database.session() as session:
        assert session.scalar(select(Entry.runs)) == 1


def test_events_can_be_taken_up_where_they_were_lost(database: Database, settings: Settings, store: Store) -> None:
    job = ask(database, settings, n="4", pause="0.3")
    thread = threading.Thread(target=Worker(database, store, settings).run_one)
    thread.start()
    seen = list(job_events(database, store, settings, job.id))
    thread.join()
    kinds = [e.content.get("kind") for e in seen if e.kind == "run"]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert "progress" in kinds
    assert [e.content["status"] for e in seen if e.kind == "status"][-1] == "finished"
    middle = next(e for e in seen if e.content.get("kind") == "progress")
    again = list(job_events(database, store, settings, job.id, after=middle.position))
    assert again[-2].content["kind"] == "finished"
    assert all(e.content.get("kind") != "started" for e in again)
    assert list(job_events(database, store, settings, "0" * 32)) == []
