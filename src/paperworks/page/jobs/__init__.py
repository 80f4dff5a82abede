"""Runs asked for on the page.

    form ──values, uploads──> create_job ──row──> Worker ──child process with limits──> the store of runs
                                                     │
    browser <──server-sent events── job_events <── events.jsonl of the run

A job is a row of the database. Its run works in a folder of its own, confined where the system can (``page.sandbox``),
and is moved to the store of runs, the same as the command line's, when it has finished. A worker that dies leaves a row
whose heartbeat grows old: another takes it and resumes the run from its checkpoints.
"""

from paperworks.page.jobs.events import JobEvent, JobWatch, job_events
from paperworks.page.jobs.forms import FormField, form_fields, read_form
from paperworks.page.jobs.queue import cancel_job, create_job, job_record
from paperworks.page.jobs.storage import clean, remove_account_files, remove_job
from paperworks.page.jobs.uploads import save_upload
from paperworks.page.jobs.worker import Worker, check_confinement

__all__ = [
    "FormField",
    "JobEvent",
    "JobWatch",
    "Worker",
    "cancel_job",
    "check_confinement",
    "clean",
    "create_job",
    "form_fields",
    "job_events",
    "job_record",
    "read_form",
    "remove_account_files",
    "remove_job",
    "save_upload",
]
