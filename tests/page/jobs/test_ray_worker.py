"""A page whose workers give runs to a Ray cluster."""

from __future__ import annotations

import json
import os

import pytest

pytest.importorskip("ray", reason="the extra 'ray' is not installed")

from paperworks.page.database import Database, Job
from paperworks.page.jobs import Worker, create_job, job_record, save_upload
from paperworks.page.settings import Settings
from paperworks.runs import Store
from ray_cluster import TwoNodes


@pytest.mark.over_budget("starts a cluster")
def test_jobs_of_the_page_run_on_a_cluster(database: Database, settings: Settings, store: Store) -> None:
    with TwoNodes({"PYTHONPATH": os.environ["PYTHONPATH"]}) as nodes:
        on_cluster = settings.model_copy(update={"ray_address": nodes.address})
        upload, reference = save_upload(database, on_cluster, "where", "rows.csv", [b"a,b\n1,2\n"], 1)
        good = create_job(database, on_cluster, "tiny-paper", {"n": "3"}, {"where": reference}, 1, [upload.id])
        bad = create_job(database, on_cluster, "tiny-paper", {"mode": "fail"}, {}, 1)
        worker = Worker(database, store, on_cluster)
        assert worker.run_one()
        assert worker.run_one()
    with database.session() as session:
        done, failed = session.get(Job, good.id), session.get(Job, bad.id)
    assert done is not None
    assert failed is not None
    assert (done.status, done.message) == ("finished", "Counted 3 things")
    assert (failed.status, failed.message) == ("failed", "it broke")
    record = job_record(store, done)
    assert record is not None
    assert json.loads((record.folder / "report.json").read_text())["metrics"]["things"] == 3
    assert (record.folder / "files" / "where.txt").read_text() == "a,b\n1,2\n"
    assert str(settings.folder) not in (record.folder / "report.json").read_text()
