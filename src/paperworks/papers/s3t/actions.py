"""What can be done with a trained folder: delete, verify, serve, status, retrain; and the plan before it."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.s3t.config import Config
from paperworks.papers.s3t.formats import FORMAT, UNSEALED_TIME
from paperworks.papers.s3t.manifest import Manifest
from paperworks.papers.s3t.planner import plan
from paperworks.papers.s3t.store import Folder
from paperworks.papers.s3t.verification import verify_folder
from paperworks.runs.files import write_text

if TYPE_CHECKING:
    from paperworks.papers.s3t.system import Status

MOST_ROWS = 100
"""Rows of a table in a report; files have all."""


def read_key(config: Config) -> bytes | None:
    """The secret of the manifest."""
    if config.key_file is None:
        return None
    try:
        found = config.key_file.expanduser().read_bytes().strip()
    except OSError as error:
        raise InputError("key_file", f"{config.key_file} ({error.strerror})", "a readable file") from None
    if not found:
        raise InputError("key_file", f"{config.key_file}, which is empty", "a secret")
    return found


def read_ids(config: Config) -> list[str]:
    """Ids of the options and of the file, each once."""
    found = list(config.ids)
    if config.ids_file is not None:
        try:
            found += config.ids_file.expanduser().read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("ids_file", f"{config.ids_file} ({error})", "a readable text file, an id a line") from None
    return list(dict.fromkeys(line.strip() for line in found if line.strip()))


def delete(config: Config, run: runs.Run) -> runs.Report:
    """Deactivate and erase what was trained on some records."""
    folder, ids = _folder(config), read_ids(config)
    run.step(f"deleting {len(ids)} records")
    started = time.perf_counter()
    receipt = folder.delete(ids)
    took = (time.perf_counter() - started) * 1000
    manifest = folder.read()
    found = _status(manifest)
    write_text(run.files / "receipt.json", receipt.model_dump_json(indent=1) + "\n")
    rows: list[list[Any]] = [[c.shard, _name(c.order), c.before, c.after] for c in receipt.cuts]
    notes = [f"{len(receipt.repeated)} of the ids were deleted before: nothing was done for them"] * bool(
        receipt.repeated
    )
    notes.append(
        "Erased are the tensors in this folder. Copies elsewhere are yours to erase: the data, backups and snapshots, "
        "caches, exported adapters, checkpoints of the training; records.csv of the training has ids and labels."
    )
    return runs.Report(
        headline=f"Deleted {len(receipt.records)} records in {took:.0f} ms without training: "
        f"{len(receipt.cuts)} sequences lost blocks; {_outlook(found)}",
        metrics={
            "deleted": len(receipt.records),
            "repeated": len(receipt.repeated),
            "milliseconds": took,
            "live shards": len(found.live_shards),
            "expected requests": found.expected_requests,
        },
        tables=[
            runs.Table(
                "Sequences that lost blocks",
                ["shard", "order of slices", "blocks before", "after"],
                rows[:MOST_ROWS],
                "Blocks are undone from the first slice that holds a deleted record.",
            ),
            _status_table(manifest, found),
        ],
        files=[runs.ReportFile("receipt.json", "the receipt: what was hit, cut and erased; chained to the one before")],
        notes=notes,
    )


def verify(config: Config, run: runs.Run) -> runs.Report:
    """Check a folder; raises InputError where something is not as it was written."""
    folder, ids = _folder(config), read_ids(config)
    run.step(f"verifying {folder.path}")
    found = verify_folder(folder, ids)
    if not found.ok:
        more = f" (and {len(found.problems) - 3} more)" if len(found.problems) > 3 else ""
        raise InputError("folder", "; ".join(found.problems[:3]) + more, "a folder as fit wrote it")
    states = list(found.records.values())
    counts = [f"{states.count(s)} {s}" for s in ("deleted", "not served", "served") if states.count(s)]
    asked = f"; of {len(ids)} ids: {', '.join(counts)}" if ids else ""
    rows: list[list[Any]] = [[i, s, found.receipts.get(i)] for i, s in found.records.items()]
    notes = []
    if found.erasing:
        notes.append(
            f"{len(found.erasing)} files or folders on the disk are not served: a deletion was stopped after its "
            "decision, a retraining was stopped, or somebody put them there. Any delete or serve erases them: "
            f"{', '.join(found.erasing[:3])}"
        )
    if found.format <= UNSEALED_TIME:
        notes.append(
            f"The manifest is of format {found.format}, whose digest leaves out when it was made. The next deletion or "
            f"retraining writes format {FORMAT}, which seals everything."
        )
    return runs.Report(
        headline=f"Verified: {found.stages} live stages have the tensors that were trained, on no deleted record; the "
        f"state is that after {found.deletions} deletions{asked}",
        metrics={"stages": found.stages, "deletions": found.deletions, "problems": 0, "erasing": len(found.erasing)},
        tables=[
            runs.Table(
                "Records",
                ["id", "state", "receipt"],
                rows[:MOST_ROWS],
                "served: its slice is in a live block. not served: its slice is in none.",
            )
        ]
        if rows
        else [],
        notes=notes,
    )


def status(config: Config, run: runs.Run) -> runs.Report:
    """What is live, and for how long."""
    manifest = _folder(config).read()
    found = _status(manifest)
    return runs.Report(
        headline=f"{found.deleted} records deleted; {_outlook(found)}",
        metrics={
            "deleted": found.deleted,
            "live shards": len(found.live_shards),
            "expected requests": found.expected_requests,
        },
        tables=[_status_table(manifest, found)],
    )


def serve(config: Config, run: runs.Run) -> runs.Report:
    """Answer records with what is live."""
    import numpy as np
    import pandas as pd

    from paperworks.metrics import wilson_interval
    from paperworks.papers.s3t.examples import codes_of, read_records
    from paperworks.papers.s3t.system import S3T

    assert config.folder is not None
    run.step(f"loading {config.folder}")
    system = S3T.load(config.folder, key=read_key(config), device=config.device, progress=run.progress)
    manifest = system.manifest
    records = read_records(config, run, manifest.extra)
    if manifest.task == "language":
        loss = system.token_loss(records.examples)
        return runs.Report(
            headline=f"Perplexity {np.exp(loss):.2f} of {len(records.ids)} texts by {len(manifest.live_shards)} shards",
            metrics={"loss": loss, "perplexity": float(np.exp(loss))},
        )
    run.step(f"answering {len(records.ids):,} records")
    probabilities = system.predict_proba(records.examples)
    best = probabilities.argmax(1)
    table = pd.DataFrame(
        {
            "id": records.ids,
            "prediction": [manifest.classes[c] for c in best],
            "probability": probabilities.max(1).round(6),
        }
    )
    write_text(run.files / "predictions.csv", table.to_csv(index=False))
    metrics, right = {"records": float(len(table)), "live shards": float(len(manifest.live_shards))}, ""
    if records.labels is not None and all(label is not None and label == label for label in records.labels):
        hits = int((best == codes_of(records.labels, manifest.classes)).sum())
        interval = wilson_interval(hits, len(best))
        metrics["accuracy"] = interval.estimate
        right = f"; {interval.estimate:.1%} as labelled ({interval.low:.1%} to {interval.high:.1%})"
    return runs.Report(
        headline=f"Answered {len(table):,} records with {len(manifest.live_shards)} of {manifest.system.n_shards} "
        f"shards{right}",
        metrics=metrics,
        tables=[_status_table(manifest, system.status())],
        files=[runs.ReportFile("predictions.csv", "id, predicted class and its probability")],
    )


def retrain(config: Config, run: runs.Run) -> runs.Report:
    """Train the shards again that serve nothing, on the records that are left."""
    import warnings

    from paperworks.papers.s3t.examples import codes_of, read_records
    from paperworks.papers.s3t.system import S3T

    assert config.folder is not None
    system = S3T.load(config.folder, key=read_key(config), device=config.device, progress=run.progress)
    manifest = system.manifest
    records = read_records(config, run, manifest.extra)
    rows = manifest.extra.get("rows")
    if rows is not None and len(records.ids) != rows:
        expected = f"{rows} rows as at fit: ids are row numbers, deleted records stay in the file; or fit with --id"
        raise InputError("data", f"{len(records.ids)} rows", expected)
    known = manifest.records.keys()
    keep = [row for row, name in enumerate(records.ids) if manifest.key(name) in known]
    left = len(records.ids) - len(keep)
    from paperworks.classification import take_rows

    labels = None if records.labels is None else codes_of([records.labels[r] for r in keep], manifest.classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shards = system.retrain(
            take_rows(records.examples, keep),
            labels,
            [records.ids[r] for r in keep],
            owners=None if records.owners is None else [records.owners[r] for r in keep],
            risk=None if records.risk is None else records.risk[keep],
            same_records=rows is not None,
            checkpoint_dir=run.state / "stages",
            progress=run.progress,
        )
    found = system.status()
    notes = [f"{left} records were not in the training: they were left out"] * (left > 0)
    return runs.Report(
        headline=f"Trained {len(shards)} shards again without the {found.deleted} deleted records; {_outlook(found)}",
        metrics={"shards": len(shards), "expected requests": found.expected_requests},
        tables=[_status_table(system.manifest, found)],
        notes=notes,
    )


def plan_budget(config: Config, run: runs.Run) -> runs.Report:
    """Shards, slices and sequences for a budget."""
    records = config.records
    if records is None:
        from paperworks.papers.s3t.examples import read_records

        records = len(read_records(config, run).ids)
    found = plan(
        records=records,
        layers=config.layers,
        budget_gpu_hours=config.gpu_hours,
        storage=None if config.storage is None else config.storage * 1e6,
        seconds_per_record=config.seconds_per_record,
        epochs=config.epochs,
        adapter_bytes=config.adapter_size * 1e6,
        layers_per_slice=config.layers_per_slice,
        max_shards=config.max_shards,
        keep=10,
    )
    best = found[0]
    rows: list[list[Any]] = [
        [
            p.n_shards,
            p.n_slices,
            p.budget,
            p.layers_per_slice,
            p.requests,
            p.requests_std,
            p.sisa_requests,
            p.hours,
            p.storage / 1e6,
            p.passes,
        ]
        for p in found
    ]
    return runs.Report(
        headline=f"{best.n_shards} shards of {best.n_slices} slices with {best.budget} sequences each: "
        f"{best.requests:.0f} requests before a retraining (SISA {best.sisa_requests:.0f}), {best.hours:.2f} hours, "
        f"{best.storage / 1e6:.0f} MB",
        metrics={
            "shards": best.n_shards,
            "slices": best.n_slices,
            "sequences": best.budget,
            "requests": best.requests,
            "hours": best.hours,
            "megabytes": best.storage / 1e6,
        },
        tables=[
            runs.Table(
                "Plans within the budget",
                [
                    "shards",
                    "slices",
                    "sequences",
                    "layers per slice",
                    "requests",
                    "std",
                    "SISA",
                    "hours",
                    "MB",
                    "passes over the data",
                ],
                rows,
                "Requests before a retraining are the closed form for uniform requests. Passes are relative to one "
                "fine-tuning with as many epochs. More shards mean smaller ones: watch the accuracy.",
            )
        ],
    )


def _folder(config: Config) -> Folder:
    assert config.folder is not None
    return Folder(Path(config.folder), read_key(config))


def _status(manifest: Manifest) -> Status:
    from paperworks.papers.s3t.status import status_of

    return status_of(manifest)


def _outlook(found: Status) -> str:
    if found.retrain_due:
        return "no shard is live: RETRAINING IS DUE"
    live = f"{len(found.live_shards)} of {len(found.depth)} shards are live"
    if math.isinf(found.expected_requests):
        return f"{live}; by the risks a retraining is never due"
    return f"{live}, for {found.expected_requests:.1f} further requests in expectation"


def _status_table(manifest: Manifest, found: Status) -> runs.Table:
    slices = manifest.system.n_slices
    rows: list[list[Any]] = []
    for shard, depth in enumerate(found.depth):
        serving = manifest.serving(shard)
        rows.append(
            [
                shard,
                f"{depth} of {slices}",
                "none" if serving is None else _name(serving.order),
                len(found.sequences[shard]),
                ", ".join(map(str, found.dead[shard])) or "none",
            ]
        )
    columns = ["shard", "live blocks", "served order", "live sequences", "dead slices"]
    return runs.Table("What is served", columns, rows[:MOST_ROWS])


def _name(order: tuple[int, ...]) -> str:
    return "-".join(map(str, order))
