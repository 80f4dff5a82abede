"""Running a paper from the page: the form, the run with its live progress, its report and files."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zipfile import ZIP_STORED

from fastapi import APIRouter
from sqlalchemy import or_, select
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from zipstream import ZipStream

from paperworks.catalog import Paper
from paperworks.errors import InputError
from paperworks.page.community.limits import Limit
from paperworks.page.database import Entry, Job, Upload, User, is_unavailable
from paperworks.page.jobs import JobWatch, cancel_job, create_job, form_fields, job_record, remove_job, save_upload
from paperworks.page.jobs.events import POLL_SECONDS
from paperworks.page.jobs.forms import form_text
from paperworks.page.jobs.storage import ENDED, remove_uploads
from paperworks.page.jobs.uploads import reference_of
from paperworks.page.jobs.workplace import PathHider, Workplace
from paperworks.page.web.addresses import job_path
from paperworks.page.web.deps import (
    TOKEN_FIELD,
    CheckedForm,
    Page,
    SignedIn,
    ThePage,
    Viewer,
    check_rate,
    redirect,
    render,
    require_user,
)
from paperworks.page.web.lookup import find_entry
from paperworks.runs.recipe import load_recipe
from paperworks.runs.render import format_row, option_lines, usage_lines
from paperworks.runs.report import Report

router = APIRouter(include_in_schema=False)

RUNS = Limit("runs", 60, 3600, "runs")
SHOWN_RUNS = 50
FIRST_FIELDS = 6
JOB_ID = re.compile(r"[0-9a-f]{32}")
STREAM_SECONDS = 300
# A report is one self-contained file: its own styles, its figures as data, no script, no origin of ours.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'self'"


@router.get("/papers/{paper_id:paper}/run")
def form(request: Request, page: ThePage, user: Viewer, paper_id: str, again: str = "") -> Response:
    """The form of a paper's recipe; with ``again``, the id of a run, filled with its options and uploads."""
    entry, paper = _runnable(page, paper_id)
    if not again:
        return _show_form(request, page, entry, paper, {})
    job, _ = _visible(request, page, user, again)
    kept = _kept_uploads(page, user, job.uploads)
    values = {name: value if isinstance(value, str) else form_text(value) for name, value in job.config.items()}
    fields = {name: upload for name, value in values.items() for upload in kept if upload.id in value}
    return _show_form(
        request, page, entry, paper, {n: v for n, v in values.items() if not v.startswith("uploads/")}, kept=fields
    )


@router.post("/papers/{paper_id:paper}/run")
def start(request: Request, page: ThePage, given: CheckedForm, user: SignedIn, paper_id: str) -> Response:
    """Queue a run."""
    entry, paper = _runnable(page, paper_id)
    check_rate(request, RUNS, str(user.id))
    values = {k: v for k, v in given.items() if isinstance(v, str) and k != TOKEN_FIELD and ":" not in k}
    # A box that is not ticked is not sent; its hidden companion says that the form had it.
    values |= {
        k.removeprefix("flag:"): values.get(k.removeprefix("flag:"), "off") for k in given if k.startswith("flag:")
    }
    again = {k.removeprefix("upload:"): str(v) for k, v in given.items() if k.startswith("upload:") and v}
    reused = {upload.id: upload for upload in _kept_uploads(page, user, [*again.values()])}
    files = {n: reference_of(page.settings, reused[i]) for n, i in again.items() if i in reused}
    uploads = {n: reused[i] for n, i in again.items() if i in reused}
    sent: list[str] = []
    try:
        for name, file in given.items():
            if isinstance(file, UploadFile) and file.filename:
                name = name.removeprefix("file:")
                upload, files[name] = save_upload(
                    page.database, page.settings, name, file.filename, _chunks(file), user.id
                )
                sent.append(upload.id)
                uploads[name] = upload
        used = sorted({upload.id for upload in uploads.values()})
        job = create_job(page.database, page.settings, paper.slug, values, files, user.id, used)
    except InputError as error:
        remove_uploads(page.database, page.settings, sent)
        kept = {name: upload for name, upload in uploads.items() if upload.id not in sent}
        said = PathHider(page.settings, page.store)(str(error))
        return _show_form(request, page, entry, paper, values, said, 422, kept)
    return redirect(job_path(job.id))


@router.get("/runs")
def runs(request: Request, page: ThePage, user: Viewer) -> Response:
    """The newest runs: everybody's on bundled inputs, and one's own. Without accounts all are the owner's."""
    if not page.settings.public:
        require_user(request)
    own = Job.user_id == user.id if user is not None else Job.user_id.is_(None)
    with page.database.reading() as session:
        rows = session.execute(
            select(Job, Entry)
            .join(Entry, Entry.id == Job.entry_id)
            .where(or_(own, Job.status == "finished"))
            .order_by(Job.created.desc(), Job.id)
            .limit(4 * SHOWN_RUNS)
        ).all()
    seen = [(job, entry) for job, entry in rows if _may_see(job, user)][:SHOWN_RUNS]
    return render(request, "jobs/list.html", jobs=seen)


@router.get("/runs/{job_id}")
def run(request: Request, page: ThePage, user: Viewer, job_id: str) -> Response:
    """One run: its progress while it works, its report when it is done."""
    job, entry = _visible(request, page, user, job_id)
    record = job_record(page.store, job)
    report = Report.load(record.folder) if job.status == "finished" and record is not None else None
    about: dict[str, Any] = {"job": job, "entry": entry, "report": report, "mine": _is_owner(job, user)}
    if report is not None:
        about |= {
            "tables": [(t, [format_row(t, row) for row in t.rows]) for t in report.tables],
            "figures": list(zip(report.figures, report.figure_names(), strict=True)),
            "usage": usage_lines(report),
            "options": option_lines(report),
        }
    elif job.status not in ENDED:
        about["position"] = _so_far(page, job)
    return render(request, "jobs/run.html", **about)


def _so_far(page: Page, job: Job) -> dict[str, Any]:
    """What the run did last, for a page that is shown before (or without) live events."""
    watch = JobWatch(page.database, page.store, page.settings, job.id)
    events = [e.content for e in watch.poll() if e.kind == "run"]
    progress = next((e for e in reversed(events) if e["kind"] == "progress"), None)
    steps = [e["text"] for e in events if e["kind"] == "step"]
    return {"progress": progress, "steps": steps[-8:]}


@router.get("/runs/{job_id}/events")
def events(request: Request, page: ThePage, user: Viewer, job_id: str) -> Response:
    """Live progress as server-sent events; a browser that reconnects goes on where it was."""
    job, _ = _visible(request, page, user, job_id)
    last = request.headers.get("last-event-id", request.query_params.get("after", "0"))
    watch = JobWatch(page.database, page.store, page.settings, job.id, int(last) if last.isdigit() else 0)

    async def stream() -> AsyncIterator[str]:
        waited = 0.0
        quiet = 0.0
        while waited < STREAM_SECONDS and not await request.is_disconnected():
            try:
                new = await run_in_threadpool(watch.poll)
            except SQLAlchemyError as error:
                if not is_unavailable(error):
                    raise
                new = []  # the run goes on, and so does the reader's wait
            for event in new:
                yield f"id: {event.position}\nevent: {event.kind}\ndata: {json.dumps(event.content)}\n\n"
            if watch.ended:
                return
            quiet = 0.0 if new else quiet + POLL_SECONDS
            if quiet > 15:
                quiet = 0.0
                yield ": still here\n\n"
            await asyncio.sleep(POLL_SECONDS)
            waited += POLL_SECONDS

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Content-Encoding": "identity"}
    return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


@router.post("/runs/{job_id}/cancel")
def cancel(request: Request, page: ThePage, given: CheckedForm, user: SignedIn, job_id: str) -> Response:
    """Ask a run of one's own to end."""
    job, _ = _visible(request, page, user, job_id)
    if not _is_owner(job, user):
        raise HTTPException(403, "Only who started a run may end it.")
    cancel_job(page.database, page.settings, job.id)
    return redirect(job_path(job.id))


@router.post("/runs/{job_id}/delete")
def delete(request: Request, page: ThePage, given: CheckedForm, user: SignedIn, job_id: str) -> Response:
    """Remove a run of one's own, with its files and its upload. One that is not done is ended by that."""
    job, _ = _visible(request, page, user, job_id)
    if not _is_owner(job, user):
        raise HTTPException(403, "Only who started a run may remove it.")
    if job.run_id is not None and job.status == "running":
        Workplace(page.settings, job.id).request_cancel(job.run_id)
    remove_job(page.database, page.store, page.settings, job.id)
    return redirect("/runs")


@router.get("/runs/{job_id}/report")
def report(request: Request, page: ThePage, user: Viewer, job_id: str) -> Response:
    """The same self-contained report that the command line makes."""
    folder = _finished(request, page, user, job_id)
    return FileResponse(
        folder / "report.html",
        media_type="text/html",
        headers={"Content-Security-Policy": REPORT_POLICY, "X-Frame-Options": "SAMEORIGIN"},
    )


@router.get("/runs/{job_id}/report.json")
def report_json(request: Request, page: ThePage, user: Viewer, job_id: str) -> Response:
    """The report as JSON."""
    return FileResponse(_finished(request, page, user, job_id) / "report.json", media_type="application/json")


@router.get("/runs/{job_id}/figures/{name}")
def figure(request: Request, page: ThePage, user: Viewer, job_id: str, name: str) -> Response:
    """A figure of the report."""
    folder = _finished(request, page, user, job_id) / "figures"
    return FileResponse(
        _below(folder, name), media_type="image/svg+xml", headers={"Cache-Control": "private, max-age=86400"}
    )


@router.get("/runs/{job_id}/files.zip")
def all_files(request: Request, page: ThePage, user: Viewer, job_id: str) -> Response:
    """Everything that the run made, in one archive."""
    return _packed(_finished(request, page, user, job_id) / "files", f"{job_id[:8]}.zip")


@router.get("/runs/{job_id}/files/{name:path}")
def file(request: Request, page: ThePage, user: Viewer, job_id: str, name: str) -> Response:
    """One file that the run made (a folder as a .zip): always a download, never shown under our origin."""
    path = _below(_finished(request, page, user, job_id) / "files", name, folders=True)
    if path.is_dir():
        return _packed(path, f"{path.name}.zip")
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)


def _show_form(
    request: Request,
    page: Page,
    entry: Entry,
    paper: Paper,
    values: dict[str, str],
    error: str = "",
    status: int = 200,
    kept: Mapping[str, Upload] | None = None,
) -> Response:
    recipe = load_recipe(paper.slug, f"{paper.module}.recipe")
    fields = form_fields(recipe.config, page.settings.uploads_allowed)
    fields.sort(key=lambda f: f.name == "seed")  # of least interest to most
    return render(
        request,
        "jobs/form.html",
        status,
        entry=entry,
        paper=paper,
        first=fields[:FIRST_FIELDS],
        more=fields[FIRST_FIELDS:],
        values=values,
        error=error,
        kept=kept or {},
    )


def _runnable(page: Page, paper_id: str) -> tuple[Entry, Paper]:
    with page.database.reading() as session:
        entry = find_entry(session, paper_id)
    paper = page.papers.get(entry.slug or "")
    if paper is None or not paper.has_recipe:
        raise HTTPException(404, "No paper that can be run here has this address.")
    return entry, paper


def _visible(request: Request, page: Page, user: User | None, job_id: str) -> tuple[Job, Entry]:
    if not page.settings.public:
        user = require_user(request)
    if not JOB_ID.fullmatch(job_id):
        raise HTTPException(404, "No run has this address.")
    with page.database.reading() as session:
        found = session.execute(
            select(Job, Entry).join(Entry, Entry.id == Job.entry_id).where(Job.id == job_id)
        ).one_or_none()
    if found is None or not _may_see(found[0], user):
        raise HTTPException(404, "No run has this address.")
    return found[0], found[1]


def _finished(request: Request, page: Page, user: User | None, job_id: str) -> Path:
    job, _ = _visible(request, page, user, job_id)
    record = job_record(page.store, job)
    if job.status != "finished" or record is None:
        raise HTTPException(404, "This run has no report yet.")
    return record.folder


def _kept_uploads(page: Page, user: User | None, ids: Sequence[str]) -> list[Upload]:
    """Those uploads that are the user's and still here."""
    if user is None or not page.settings.uploads_allowed:
        return []
    with page.database.reading() as session:
        return list(session.scalars(select(Upload).where(Upload.id.in_(ids), Upload.user_id == user.id)))


def _is_owner(job: Job, user: User | None) -> bool:
    return user is not None and job.user_id == user.id


def _may_see(job: Job, user: User | None) -> bool:
    """What was made from somebody's own file is theirs; runs on bundled inputs are everybody's."""
    return not job.uploads or _is_owner(job, user)


def _packed(folder: Path, name: str) -> Response:
    """All files of a folder in one archive, which is made while it is sent."""
    # Stored, not deflated: weights and arrays do not shrink. And so its length is known before.
    archive = ZipStream(compress_type=ZIP_STORED, sized=True)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            archive.add_path(path, str(path.relative_to(folder)), recurse=False)
    headers = {
        "Content-Length": str(len(archive)),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}",
        "Content-Encoding": "identity",
    }
    return StreamingResponse(archive, media_type="application/zip", headers=headers)


def _below(folder: Path, name: str, folders: bool = False) -> Path:
    root = folder.resolve()
    path = (folder / name).resolve()
    allowed = path.is_file() or (folders and path.is_dir() and path != root)
    if not path.is_relative_to(root) or not allowed:
        raise HTTPException(404, "This run has no such file.")
    return path


def _chunks(file: UploadFile) -> Iterator[bytes]:
    file.file.seek(0)
    while chunk := file.file.read(1 << 20):
        yield chunk
