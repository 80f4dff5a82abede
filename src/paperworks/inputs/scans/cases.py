"""One scan of one patient: PET in SUV, CT in HU and lesion mask on the grid of the PET, from any files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.scans.geometry import Geometry, Volume, resample
from paperworks.inputs.scans.nifti import is_nifti, read_nifti
from paperworks.inputs.scans.segmentations import RTSTRUCT, SEGMENTATION, read_segmentation
from paperworks.inputs.scans.series import list_series, read_series
from paperworks.inputs.scans.suv import suv_factor

CT_OUTSIDE = -1024.0
"""HU of voxels that the CT does not cover."""
LEAST_SUV = -1.0
"""Noise may bring values below 0, but not below this."""
MOST_SUV = 2000.0
"""Larger values of a NIfTI file are Bq/ml."""
MOST_CT_MINIMUM = -200.0
_ROLES = {
    "pet": ("suv", "pet", "pt"),
    "ct": ("ctres", "ct"),
    "mask": ("seg", "mask", "label", "labels", "lesion", "lesions", "rtstruct"),
}


@dataclass(frozen=True)
class Case:
    """A scan.

    Attributes
    ----------
    pet : SUV, float32 ``[X, Y, Z]`` (RAS).
    ct : HU on the grid of the PET, float32; None if there is none.
    mask : lesions on the grid of the PET, bool; None if there is none.
    patient_id, case_id, center, disease : whose scan it is. A patient can have several scans.
    notes : what a user should know about how it was read; no identifiers.
    provenance : how SUV were computed; no identifiers and no dates.
    """

    pet: Volume
    ct: Volume | None = None
    mask: Volume | None = None
    patient_id: str = ""
    case_id: str = ""
    center: str = ""
    disease: str = ""
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def geometry(self) -> Geometry:
        """The grid of the PET, on which CT and mask are, too."""
        return self.pet.geometry

    @property
    def affine(self) -> np.ndarray:
        """From voxel indices to millimetres (RAS), float64 ``[4, 4]``."""
        return self.geometry.affine

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along the axes, mm."""
        return self.geometry.spacing

    def with_spacing(self, spacing: Sequence[float | None]) -> Case:
        """The scan on a grid of another spacing in mm; None keeps that of an axis. Unchanged where it has this spacing.

        ``read_case(..., spacing=...)`` takes the CT from its own grid at once, which loses less.
        """
        grid = self.geometry.with_spacing(spacing)
        if np.allclose(grid.spacing, self.spacing):
            return self
        ct = None if self.ct is None else resample(self.ct, grid, outside=CT_OUTSIDE)
        mask = None if self.mask is None else resample(self.mask, grid, linear=False)
        return replace(self, pet=resample(self.pet, grid), ct=ct, mask=mask)


def read_case(
    path: str | Path | None = None,
    *,
    pet: str | Path | None = None,
    ct: str | Path | None = None,
    mask: str | Path | None = None,
    patient_id: str = "",
    case_id: str = "",
    center: str = "",
    disease: str = "",
    spacing: Sequence[float | None] | None = None,
    structures: str | None = None,
    resample_masks: bool = False,
) -> Case:
    """Read a scan.

    Parameters
    ----------
    path : a folder with one scan: NIfTI files (``*_0000`` CT and ``*_0001`` PET as nnU-Net names them; SUV, CTres, SEG
        as autoPET does; or names with pet, ct, mask), or DICOM files; in place of ``pet``, ``ct`` and ``mask``.
    pet : NIfTI file in SUV, or a DICOM folder with one PET series.
    ct : NIfTI file in HU, or a DICOM folder with one CT series.
    mask : NIfTI file (any value above 0 is lesion), RTSTRUCT or DICOM SEG.
    spacing : mm of the grid that everything is brought to; None keeps the PET's for an axis.
    structures : regular expression for the structures of an RTSTRUCT or SEG that are lesions.
    resample_masks : take over a NIfTI mask from a grid that is neither the PET's nor the CT's.

    Raises
    ------
    InputError : naming ``pet``, ``ct`` or ``mask``, for files that do not read, values that are no SUV or no HU, grids
        that do not agree, files of several patients. See ``read_series`` and ``suv_factor`` for DICOM.
    """
    files: dict[str, str | Path | None] = {"pet": pet, "ct": ct, "mask": mask}
    if path is not None:
        if any(value is not None for value in files.values()):
            raise InputError("path", "a folder, with single files beside it", "one of both")
        files = dict(files_of(Path(path).expanduser()))
    if files.get("pet") is None:
        raise InputError("pet", "none", "a NIfTI file in SUV, or a DICOM folder with a PET series")
    notes: list[str] = []
    volume, provenance, patients = _pet(Path(str(files["pet"])).expanduser(), notes)
    density = None
    if files.get("ct") is not None:
        density = _ct(Path(str(files["ct"])).expanduser(), patients)
    lesions = None
    if files.get("mask") is not None:
        source = Path(str(files["mask"])).expanduser()
        lesions = _mask(source, volume.geometry, density, structures, resample_masks, notes, patients)
    if len(patients - {""}) > 1:
        raise InputError("PatientID", "several in the files of one scan", "PET, CT and mask of one patient")
    if spacing is not None:
        grid = volume.geometry.with_spacing(spacing)
        volume = resample(volume, grid)
    else:
        grid = volume.geometry
    on_grid = None if density is None else resample(density, grid, outside=CT_OUTSIDE)
    marked = None if lesions is None else resample(lesions, grid, linear=False)
    known = next(iter(patients - {""}), "")
    patient = patient_id or known or case_id
    return Case(volume, on_grid, marked, patient, case_id or patient, center, disease, tuple(notes), provenance)


def case_of(scan: Any) -> Case:
    """A simulated scan as a case."""
    return Case(scan.pet, scan.ct, scan.mask, scan.patient_id, scan.case_id, scan.center, scan.disease)


def _pet(path: Path, notes: list[str]) -> tuple[Volume, dict[str, Any], set[str]]:
    provenance: dict[str, Any] = {}
    patients = {""}
    if is_nifti(path):
        volume = read_nifti(path, "pet")
        provenance["units"] = "SUV, as the NIfTI file has it"
    else:
        series = read_series(path, "PT", "pet")
        factor = suv_factor(series)
        volume = series.volume().to_ras()
        volume = volume.with_array((volume.array * np.float32(factor.factor)).astype(np.float32))
        provenance = {**factor.provenance, "factor": factor.factor}
        notes += factor.provenance.get("notes", [])
        patients.add(series.patient)
    check_suv(volume.array)
    return volume, provenance, patients


def check_suv(array: np.ndarray) -> None:
    """Raise InputError for values that cannot be SUV: NaN, below -1, or as large as Bq/ml."""
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise InputError("pet", f"{bad} voxels that are NaN or infinite", "finite SUV")
    low, high = float(array.min()), float(array.max())
    if low < LEAST_SUV:
        raise InputError("pet", f"SUV down to {low:.4g}", f"SUV of {LEAST_SUV:g} or more: noise only may be negative")
    if high > MOST_SUV:
        raise InputError(
            "pet", f"values up to {high:.4g}, Bq/ml it seems", "SUV (or the DICOM series, with its headers)"
        )


def _ct(path: Path, patients: set[str]) -> Volume:
    if is_nifti(path):
        volume = read_nifti(path, "ct")
    else:
        series = read_series(path, "CT", "ct")
        patients.add(series.patient)
        volume = series.volume().to_ras()
    check_hu(volume.array)
    return volume


def check_hu(array: np.ndarray) -> None:
    """Raise InputError for values that cannot be HU: NaN, or nothing as thin as air."""
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise InputError("ct", f"{bad} voxels that are NaN or infinite", "finite HU")
    low = float(array.min())
    if low > MOST_CT_MINIMUM:
        raise InputError("ct", f"values from {low:.4g} up", "HU: air is about -1000")


def _mask(
    path: Path,
    grid: Geometry,
    ct: Volume | None,
    structures: str | None,
    resample_masks: bool,
    notes: list[str],
    patients: set[str],
) -> Volume:
    grids = [grid] if ct is None else [grid, ct.geometry]
    if not is_nifti(path):
        import pydicom

        file = _mask_file(path)
        read = read_segmentation(file, grids, names=structures)
        patients.add(str(pydicom.dcmread(file, stop_before_pixels=True).get("PatientID", "") or ""))
        return read
    stored = read_nifti(path, "mask")
    if not np.isfinite(stored.array).all():
        raise InputError("mask", "voxels that are NaN or infinite", "0 outside of lesions, other values inside")
    if float(stored.array.min()) < 0:
        raise InputError("mask", f"values down to {float(stored.array.min()):.4g}", "0 outside of lesions")
    volume = stored.with_array(stored.array > 0)
    if volume.geometry.matches(grid):
        return Volume(volume.array, grid)
    on_ct = ct is not None and volume.geometry.matches(ct.geometry)
    if not on_ct and not resample_masks:
        found = f"a grid of {volume.geometry.describe()}"
        raise InputError("mask", found, f"the grid of the PET: {grid.describe()} (or of the CT; or resample_masks)")
    notes.append(f"the mask was taken over from {'the grid of the CT' if on_ct else 'another grid'} (nearest voxel)")
    return volume


def _mask_file(path: Path) -> Path:
    """The RTSTRUCT or SEG file; of a folder, the one that is in it."""
    if not path.is_dir():
        if not path.is_file():
            raise InputError("mask", f"{path}, no such file", "NIfTI, RTSTRUCT or DICOM SEG")
        return path
    masks = _masks_in(list_series(path, "mask"))
    if len(masks) != 1:
        raise InputError("mask", f"{len(masks)} RTSTRUCT or SEG files in a folder", "one")
    return masks[0]


def _masks_in(series: Mapping[str, list[Any]]) -> list[Path]:
    kinds = (RTSTRUCT, SEGMENTATION)
    return [Path(h.filename) for hs in series.values() for h in hs if str(h.get("SOPClassUID", "")) in kinds]


def files_of(folder: Path) -> Mapping[str, Path | None]:
    """PET, CT and mask in the folder of one scan."""
    if not folder.is_dir():
        raise InputError("path", f"{folder}, no such folder", "a folder with one scan")
    names = sorted(p for p in folder.iterdir() if p.is_file() and is_nifti(p))
    if names:
        return _by_name(names, folder)
    series = list_series(folder, "path")
    kinds = {str(headers[0].get("Modality", "")) for headers in series.values()}
    masks = _masks_in(series)
    if "PT" not in kinds:
        raise InputError(
            "path", f"{folder}, without a PET", "NIfTI files of PET, CT and mask, or a PET series in DICOM"
        )
    if len(masks) > 1:
        raise InputError("path", f"{len(masks)} RTSTRUCT or SEG files", "one, or the option mask")
    return {"pet": folder, "ct": folder if "CT" in kinds else None, "mask": masks[0] if masks else None}


def _by_name(files: list[Path], folder: Path) -> dict[str, Path | None]:
    stems = {file: file.name.lower().split(".nii")[0].split(".hdr")[0] for file in files}
    found: dict[str, Path | None] = {}
    for role, suffix in (("ct", "_0000"), ("pet", "_0001")):
        fitting = [file for file, stem in stems.items() if stem.endswith(suffix)]
        if len(fitting) == 1:
            found[role] = fitting[0]
    if len(found) == 2:  # as nnU-Net names them; what has no number is the mask
        rest = [file for file in files if file not in found.values()]
        found["mask"] = rest[0] if len(rest) == 1 else None
        return found
    for role, words in _ROLES.items():
        for word in words:  # the first word that fits: SUV before PET, which may be Bq/ml
            fitting = [file for file, stem in stems.items() if word in _words(stem)]
            if len(fitting) > 1:
                raise InputError("path", f"{len(fitting)} files named {word} in {folder}", f"one {role}")
            if fitting:
                found[role] = fitting[0]
                break
    if "pet" not in found:
        raise InputError(
            "path", f"{folder}, without a PET (names with pet, suv or _0001)", "files named by what they are"
        )
    return found


def _words(stem: str) -> list[str]:
    for mark in "-_. ":
        stem = stem.replace(mark, " ")
    return stem.split()
