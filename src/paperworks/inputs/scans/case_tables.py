"""Tables of scans: a CSV, a frame, rows, or what the folders of a data set say; a row per scan."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from paperworks.errors import InputError, nearest
from paperworks.inputs.scans.cases import files_of
from paperworks.inputs.scans.nifti import is_nifti

COLUMNS = ("pet", "ct", "mask", "patient_id", "case_id", "center", "disease")


def find_cases(folder: str | Path, field: str = "cases") -> list[dict[str, str]]:
    """The scans below a folder, as rows of a table of cases.

    nnU-Net's layout (``imagesTr``, ``labelsTr``), or a folder per scan. With folders of patients around the folders of
    scans (autoPET), the outer folder is the patient; otherwise the scan's folder is taken for its patient.
    """
    place = Path(folder).expanduser()
    if (place / "imagesTr").is_dir():
        rows = []
        for pet in sorted((place / "imagesTr").glob("*_0001.nii*")):
            name = pet.name.split("_0001.nii")[0]
            suffix = pet.name[len(name) + 5 :]
            ct, mask = pet.with_name(f"{name}_0000{suffix}"), place / "labelsTr" / f"{name}{suffix}"
            row = {"pet": str(pet), "patient_id": name, "case_id": name}
            row |= {role: str(file) for role, file in (("ct", ct), ("mask", mask)) if file.is_file()}
            rows.append(row)
    else:
        rows = list(_scan_folders(place))
    if not rows:
        raise InputError(field, f"{place}, without scans", "a table of cases, or a folder with a folder per scan")
    return rows


def _scan_folders(place: Path) -> Iterator[dict[str, str]]:
    for outer in sorted(p for p in place.iterdir() if p.is_dir()):
        inner = sorted(p for p in outer.iterdir() if p.is_dir())
        nested = [p for p in inner if any(is_nifti(f) for f in p.iterdir() if f.is_file())]
        for scan in nested or [outer]:
            files = {role: str(file) for role, file in files_of(scan).items() if file is not None}
            case = f"{outer.name}/{scan.name}" if nested else outer.name
            yield {**files, "patient_id": outer.name, "case_id": case}


def read_cases(source: Any, field: str = "cases") -> list[dict[str, str]]:
    """A table of cases as rows: columns pet, ct, mask, patient_id, case_id, center, disease.

    Parameters
    ----------
    source : CSV file (paths relative to it), a folder with scans, a data frame, or rows.

    Raises
    ------
    InputError : no column ``pet`` or ``patient_id``, a row without one of them, an unknown column, a scan twice.
    """
    base = Path()
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        if path.is_dir():
            table = path / "cases.csv"
            if not table.is_file():
                return find_cases(path, field)
            path = table
        base, rows = path.parent, _read_csv(path, field)
    elif hasattr(source, "to_dict"):
        rows = source.to_dict("records")
    else:
        rows = [dict(row) for row in source]
    if not rows:
        raise InputError(field, "no rows", "a row per scan")
    for name in rows[0]:
        if name not in COLUMNS:
            raise InputError(
                field, f"a column {name!r}", f"columns of {', '.join(COLUMNS)}{nearest(str(name), COLUMNS)}"
            )
    return _checked(rows, base, field)


def _checked(rows: Sequence[Mapping[str, Any]], base: Path, field: str) -> list[dict[str, str]]:
    found = []
    for number, row in enumerate(rows, 1):
        values = {str(k): "" if v is None or v != v else str(v).strip() for k, v in row.items()}
        for name in ("pet", "patient_id"):
            if not values.get(name):
                raise InputError(field, f"row {number} without {name}", "pet and patient_id in every row")
        for name in ("pet", "ct", "mask"):
            if values.get(name):
                values[name] = str(base / Path(values[name]).expanduser())
        values["case_id"] = values.get("case_id") or f"{values['patient_id']}/{number}"
        found.append(values)
    for name in ("case_id", "pet"):
        if len({row[name] for row in found}) < len(found):
            raise InputError(field, f"a {name} in two rows", "every scan once")
    return found


def _read_csv(path: Path, field: str) -> list[dict[str, Any]]:
    from paperworks.inputs.kinds import require_text

    if not path.is_file():
        raise InputError(field, f"{path}, no such file", "a CSV table of cases, or a folder with scans")
    with path.open("rb") as data:
        require_text(path, data.read(1 << 16), "a CSV table of cases, or a folder with scans")
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            first = lines.readline()
            lines.seek(0)
            delimiter = max(",;\t", key=first.count)
            reader = csv.DictReader(lines, delimiter=delimiter)
            rows = [dict(row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(field, f"{path}, which does not read as CSV ({error})", "a CSV table in UTF-8") from None
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise InputError(
                field, f"row {number} with more or fewer cells than the header", "rows as long as the header"
            )
    return rows
