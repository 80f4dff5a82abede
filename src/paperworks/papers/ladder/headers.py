"""Headers of DICOM files as a metadata table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paperworks.errors import InputError
from paperworks.extras import require_extra
from paperworks.runs import Progress, no_progress

if TYPE_CHECKING:
    import pandas as pd

KEYWORDS = (
    "PatientAge",
    "PatientSex",
    "ViewPosition",
    "ImageLaterality",
    "BreastImplantPresent",
    "PhotometricInterpretation",
    "VOILUTFunction",
    "PresentationLUTShape",
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "KVP",
    "Rows",
    "Columns",
    "BitsStored",
)
"""What is read by default. Names, dates and ids of patients are not."""
_AGE = re.compile(r"(\d{3})([DWMY])")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


def read_dicom_headers(
    folder: str | Path, keywords: Sequence[str] = KEYWORDS, *, progress: Progress = no_progress
) -> pd.DataFrame:
    """One row per DICOM file below a folder: ``file``, and each keyword that any file has. Pixels are not read.

    Ages are in years. Files that are no DICOM are passed over. Raises InputError where none is.
    """
    require_extra("medical", "reading DICOM headers")
    import pandas as pd
    import pydicom
    from pydicom.errors import InvalidDicomError

    path = Path(folder).expanduser()
    if not path.is_dir():
        raise InputError("metadata", f"{path}, which is no folder", "a folder with DICOM files")
    rows: list[dict[str, Any]] = []
    for file in progress(sorted(p for p in path.rglob("*") if p.is_file()), "reading headers"):
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(keywords))
        except (InvalidDicomError, OSError, EOFError, ValueError, AttributeError):
            continue
        found = {k: _plain(k, header.get(k)) for k in keywords if header.get(k) not in (None, "")}
        rows.append({"file": file.relative_to(path).as_posix(), **found})
    if not rows:
        raise InputError("metadata", f"{path}, without a DICOM file", "a folder with DICOM files")
    return pd.DataFrame(rows)


def _plain(keyword: str, value: Any) -> Any:
    if keyword == "PatientAge":
        match = _AGE.fullmatch(str(value))
        return int(match[1]) * _YEARS[match[2]] if match else None
    if isinstance(value, (int, float)):
        return value
    try:
        return float(value) if type(value).__name__ in ("DSfloat", "DSdecimal", "IS") else str(value)
    except ValueError:
        return str(value)
