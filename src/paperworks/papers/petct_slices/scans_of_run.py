"""The scans that a run reads, under pseudonyms, and what it writes about their slices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks import inputs, runs
from paperworks.errors import InputError
from paperworks.inputs.scans import Case, PhantomSettings, phantom_cases, pseudonym, read_cases
from paperworks.papers.petct_slices.config import Config
from paperworks.papers.petct_slices.slice_table import SliceTable
from paperworks.papers.petct_slices.thresholds import ZRange

if TYPE_CHECKING:
    import pandas as pd

NOTICE = "Research software, not a medical device: nothing here may decide about a patient."
SIMULATED = "The scans are simulated. Nothing here is clinical evidence."
_COLUMNS = ("patient_id", "case_id", "center", "disease", "row", "slice", "z_mm", "label", "n_voxels", "edge")


def read_table(config: Config, run: runs.Run, *, size: int, require_masks: bool, spacing: Any = None) -> SliceTable:
    """The slices of the run's scans; ids are pseudonyms from here on, also in what is kept for a resumption."""
    try:
        return SliceTable.from_cases(
            _sources(config, run),
            size=size,
            store=run.state / "slices",
            spacing=spacing if spacing is not None else config.grid,
            structures=config.structures,
            resample_masks=config.resample_masks,
            require_masks=require_masks,
            progress=run.progress,
        )
    except InputError as error:
        if config.pet is None:
            raise
        raise InputError(error.field.removeprefix("row 1: "), error.found, error.expected) from None


def _sources(config: Config, run: runs.Run) -> list[Any]:
    key = _key(config)

    def short(kind: str, identifier: str) -> str:
        return identifier if config.keep_ids else pseudonym(identifier, key, kind)

    if config.pet is not None:
        row = {"pet": config.pet, "patient_id": "scan", "case_id": "scan"}
        return [row | ({"ct": config.ct} if config.ct is not None else {})]
    if config.cases == "phantom":
        settings = PhantomSettings(size=max(config.size, 16) if config.size <= 64 else 64)
        run.step("simulating scans")
        scans = phantom_cases(config.phantom_cases, config.seed, settings)
        cases = [Case(s.pet, s.ct, s.mask, s.patient_id, s.case_id, s.center, s.disease) for s in scans]
        return [replace(c, patient_id=short("p", c.patient_id), case_id=short("s", c.case_id)) for c in cases]
    source = inputs.path(config.cases) if config.cases == "petct-phantom" else Path(config.cases)
    rows = read_cases(source)
    return [row | {"patient_id": short("p", row["patient_id"]), "case_id": short("s", row["case_id"])} for row in rows]


def _key(config: Config) -> str:
    if config.key_file is None:
        return ""
    try:
        secret = Path(config.key_file).expanduser().read_bytes()
    except OSError as error:
        found = f"{config.key_file} ({error.strerror})"
        raise InputError("key_file", found, "a file with a secret text") from None
    if not secret.strip():
        raise InputError("key_file", "an empty file", "a file with a secret text")
    return secret.hex()


def write_slices(path: Path, rows: pd.DataFrame, probabilities: np.ndarray, threshold: float) -> None:
    """A CSV row per slice: pseudonyms, place, probability, and whether it is marked; the label where there is one.

    Raises InputError if the file's name has the id of a patient or of a scan in it.
    """
    from paperworks.inputs.scans.pseudonyms import refuse_identifiers

    refuse_identifiers(path, {str(value) for name in ("patient_id", "case_id") for value in set(rows[name])})
    table = rows[[name for name in _COLUMNS if name in rows]].copy()
    table["probability"], table["marked"] = probabilities, (probabilities >= threshold).astype(int)
    if (table["label"] < 0).all():
        table = table.drop(columns=["label", "n_voxels", "edge"])
    table.to_csv(path, index=False)


def write_ranges(path: Path, ranges: list[ZRange]) -> None:
    """A CSV row per run of marked slices."""
    import pandas as pd

    columns = ["case_id", "first", "last", "from_mm", "to_mm", "highest"]
    pd.DataFrame([[getattr(r, c) for c in columns] for r in ranges], columns=columns).to_csv(path, index=False)


def ranges_table(ranges: list[ZRange], most: int = 20) -> runs.Table:
    """The surest runs of marked slices."""
    shown = sorted(ranges, key=lambda r: -r.highest)[:most]
    note = "Heights of the outer faces, in the coordinates of the scan (towards the head)."
    if not ranges:
        note = "No slice reached the threshold."
    if len(ranges) > most:
        note += f" The {most} surest of {len(ranges)}; all are in ranges.csv."
    return runs.Table(
        "Where lesions may be",
        ["scan", "slices", "from, mm", "to, mm", "highest probability"],
        [[r.case_id, f"{r.first} to {r.last}", round(r.from_mm, 1), round(r.to_mm, 1), r.highest] for r in shown],
        note,
    )


def require_options(config: Config) -> None:
    """Raise InputError for a threshold or a backbone that is none, before the scans are read."""
    from paperworks.papers.petct_slices.network import read_backbone
    from paperworks.papers.petct_slices.thresholds import RULES, choose_threshold

    try:
        choose_threshold(np.array([0, 1]), np.array([0.2, 0.8]), config.threshold)
    except InputError:
        raise InputError("threshold", repr(config.threshold), RULES) from None
    if config.backbone is not None:
        read_backbone(Path(config.backbone).expanduser())
        if config.architecture != "resnet18":
            raise InputError("network", config.architecture, "resnet18, with a backbone")
