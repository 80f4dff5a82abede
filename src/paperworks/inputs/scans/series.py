"""DICOM series: which files belong together, in which order, and what is wrong with them.

A series is ordered by the positions in its headers, never by file names. One that has a gap, a slice twice, a tilted
gantry or slices of several sizes is refused: a volume made of it would be false without a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.scans.geometry import Geometry, Volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_SAME_MM = 0.01
"""Slices closer than this are at one place."""
_UNEVEN = 0.02
"""Share of the spacing by which distances of neighbouring slices may differ."""
_SHIFT_MM = 0.1
"""How far slices may be shifted against each other within their planes, beyond which the gantry was tilted."""
_TILT_DEGREES = 0.1


@dataclass(frozen=True)
class DicomSeries:
    """The images of one series, in the order of their places along the axis of the slices.

    Attributes
    ----------
    slices : pydicom data sets, one per slice.
    geometry : of the stored arrays ``[columns, rows, slices]``, in RAS millimetres.
    """

    slices: list[Any]
    geometry: Geometry

    @property
    def modality(self) -> str:
        """Such as PT or CT."""
        return str(self.slices[0].get("Modality", ""))

    @property
    def patient(self) -> str:
        """The patient id of the headers, or an empty text."""
        return str(self.slices[0].get("PatientID", "") or "")

    @property
    def uid(self) -> str:
        """The UID of the series."""
        return str(self.slices[0].get("SeriesInstanceUID", ""))

    def volume(self) -> Volume:
        """Stored values times slope plus intercept, each slice with its own; float32, in the stored orientation.

        Raises InputError for pixels that do not decode, and for a slice without slope or intercept.
        """
        planes = [_rescaled(one) for one in self.slices]
        return Volume(np.stack(planes, axis=-1), self.geometry)


def list_series(folder: str | Path, field: str = "folder") -> dict[str, list[Any]]:
    """The DICOM files below a folder by SeriesInstanceUID, headers only; other files are passed over.

    Raises InputError naming ``field``: no such folder, or no DICOM file in it.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    place = Path(folder).expanduser()
    if not place.exists():
        raise InputError(field, f"{place}, no such folder", "a folder of DICOM files")
    found: dict[str, list[Any]] = {}
    bare = 0
    for file in [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file()):
        if file.name == "DICOMDIR" or file.name.startswith("."):
            continue
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True)
            uid = str(header.get("SeriesInstanceUID", ""))
        except InvalidDicomError:
            with file.open("rb") as start:
                bare += _begins_a_data_set(start.read(4))
            continue
        except Exception as error:  # pydicom lets many kinds through for damaged files
            found_words = f"{file}, a damaged DICOM file ({type(error).__name__})"
            raise InputError(field, found_words, "whole DICOM files") from None
        if uid:
            found.setdefault(uid, []).append(header)
    if not found and bare:
        words = f"{place}, with {bare} bare DICOM data set(s), without the mark DICM in front"
        raise InputError(field, words, "files of DICOM's part 10 (such as DCMTK's dcmconv writes of these)")
    if not found and place.is_file():
        raise InputError(field, f"{place}, which is no DICOM file", "NIfTI (.nii, .nii.gz), or DICOM files of one scan")
    if not found:
        raise InputError(field, f"{place}, without a DICOM file", "DICOM files of one scan")
    return found


def _begins_a_data_set(head: bytes) -> bool:
    """Whether the first tag is of group 2 or 8, as in a data set that lacks the head of a DICOM file."""
    return head[:2] in (b"\x02\x00", b"\x08\x00") and head[3:] == b"\x00"


def read_series(source: str | Path | Sequence[Any], modality: str = "", field: str = "folder") -> DicomSeries:
    """The one series of a modality, checked and in order.

    Parameters
    ----------
    source : a folder (searched with all below it), or pydicom data sets of one series.
    modality : PT, CT, ...; empty where there is one series only.

    Raises
    ------
    InputError : none or several such series; no position, orientation or spacing; several patients, sizes, spacings or
        orientations; a tilted gantry; a slice twice; a gap, or fewer slices than the headers say; several times
        (dynamic, 4-D); enhanced multi-frame files.
    """
    found = isinstance(source, (str, Path))
    headers = _chosen(list_series(source, field), modality, field) if found else list(source)  # type: ignore[arg-type]
    if not headers:
        raise InputError(field, "no image", "the images of one series")
    _check_alike(headers, field)
    order, geometry = _ordered(headers, field)
    return DicomSeries([headers[i] for i in order], geometry)


def require(header: Any, name: str, field: str = "") -> Any:
    """The value of a DICOM attribute. Raises InputError with its name and tag where it is missing or empty."""
    from pydicom.datadict import tag_for_keyword

    value = header.get(name)
    if value is None or value == "":
        tag = tag_for_keyword(name)
        where = f" ({tag >> 16:04X},{tag & 0xFFFF:04X})" if tag is not None else ""
        raise InputError(field or name, f"a header without {name}{where}", f"a series whose headers have {name}")
    return value


def numbers(header: Any, name: str, count: int, field: str = "") -> np.ndarray:
    """Numbers of a DICOM attribute. Raises InputError where they are missing, of another count or not finite."""
    value = require(header, name, field)
    try:
        found = np.atleast_1d(np.array(value, dtype=np.float64))
    except (TypeError, ValueError):
        raise InputError(field or name, f"{name} = {value!s:.60}", f"{count} numbers") from None
    if found.shape != (count,) or not np.isfinite(found).all():
        raise InputError(field or name, f"{name} = {value!s:.60}", f"{count} finite numbers")
    return found


def _chosen(series: dict[str, list[Any]], modality: str, field: str) -> list[Any]:
    wanted = [headers for headers in series.values() if modality in ("", str(headers[0].get("Modality", "")))]
    # screenshots, projections and localisers are no slices of the scan
    fitting = [kept for headers in wanted if (kept := [h for h in headers if _is_slice(h)])]
    kinds = Counter(str(headers[0].get("Modality", "?")) for headers in series.values())
    there = ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items()))
    if not fitting:
        raise InputError(field, f"no series of modality {modality} (there are: {there})", f"one {modality} series")
    if len(fitting) > 1:
        sizes = ", ".join(str(len(headers)) for headers in fitting)
        found = f"{len(fitting)} {modality} series, of {sizes} images"
        raise InputError(field, found, "one series: give the folder of the one that is meant")
    return fitting[0]


def _is_slice(header: Any) -> bool:
    kind = {str(value).upper() for value in header.get("ImageType") or ()}
    return not str(header.get("SOPClassUID", "")).startswith(_SECONDARY_CAPTURE) and not kind & {"LOCALIZER", "MIP"}


def _check_alike(headers: list[Any], field: str) -> None:
    if any(int(h.get("NumberOfFrames", 1) or 1) > 1 for h in headers):
        raise InputError(field, "an enhanced (multi-frame) image", "one file per slice (convert it to classic DICOM)")
    if len({str(h.get("PatientID", "")) for h in headers}) > 1:
        raise InputError(field, "images of several patients in one series", "images of one patient")
    for name in ("Rows", "Columns"):
        if len({int(require(h, name, field)) for h in headers}) > 1:
            raise InputError(field, f"slices with several values of {name}", "slices of one size")
    for name, count, tolerance in (("PixelSpacing", 2, 1e-4), ("ImageOrientationPatient", 6, 1e-4)):
        values = np.stack([numbers(h, name, count, field) for h in headers])
        if np.abs(values - values[0]).max() > tolerance:
            raise InputError(field, f"slices with several values of {name}", f"one {name} in a series")
    if numbers(headers[0], "PixelSpacing", 2, field).min() <= 0:
        raise InputError(field, "a PixelSpacing of 0 or less", "millimetres above 0")


def _ordered(headers: list[Any], field: str) -> tuple[np.ndarray, Geometry]:
    """The order of the slices along their normal, and the grid; every irregularity is an error."""
    orientation = numbers(headers[0], "ImageOrientationPatient", 6, field)
    row, column = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if abs(row @ column) > 1e-3 or any(abs(length - 1) > 1e-3 for length in lengths):
        raise InputError(field, "an ImageOrientationPatient that is no pair of directions", "two unit vectors at 90°")
    normal = np.cross(row, column)
    positions = np.stack([numbers(h, "ImagePositionPatient", 3, field) for h in headers])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    along, positions = along[order], positions[order]
    _check_times(headers, along, field)
    steps = np.diff(along)
    if (steps < _SAME_MM).any():
        twice = int((steps < _SAME_MM).sum())
        raise InputError(field, f"{twice} slice(s) twice at one position", "every slice once: remove the duplicates")
    _check_tilt(headers[0], positions, normal, field)
    if len(headers) == 1:
        step = float(numbers(headers[0], "SliceThickness", 1, field)[0])
    else:
        step = float(np.median(steps))
        wrong = np.flatnonzero(np.abs(steps - step) > max(_UNEVEN * step, _SAME_MM))
        if len(wrong):
            at = int(wrong[0])
            found = f"a gap: {steps[at]:.4g} mm between slices {at + 1} and {at + 2}, elsewhere {step:.4g} mm"
            raise InputError(field, found, "evenly spaced slices, none missing")
        step = float((along[-1] - along[0]) / (len(along) - 1))
    said = {int(h.NumberOfSlices) for h in headers if h.get("NumberOfSlices")}
    if said and max(said) > len(headers):
        found = f"a gap: {len(headers)} of {max(said)} slices (NumberOfSlices)"
        raise InputError(field, found, "all slices of the series")
    between = numbers(headers[0], "PixelSpacing", 2, field)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * between[1], column * between[0]
    affine[:3, 2], affine[:3, 3] = normal * step, positions[0]
    shape = (int(headers[0].Columns), int(headers[0].Rows), len(headers))
    return order, Geometry(shape, LPS_TO_RAS @ affine)


def _check_times(headers: list[Any], along: np.ndarray, field: str) -> None:
    """A series in which every place occurs equally often, more than once, at several times is dynamic."""
    places = np.cumsum(np.r_[0, np.diff(along) >= _SAME_MM])
    often = set(np.bincount(places).tolist())
    if len(often) == 1 and often != {1}:
        times = {str(h.get(name, "")) for h in headers for name in ("FrameReferenceTime", "TemporalPositionIndex")}
        if len(times - {""}) > 1:
            found = f"a dynamic series: {max(often)} images at every position (4-D)"
            raise InputError(field, found, "a static scan: one image per position")


def _check_tilt(header: Any, positions: np.ndarray, normal: np.ndarray, field: str) -> None:
    offset = positions - positions[0]
    shift = offset - np.outer(offset @ normal, normal)
    largest = float(np.linalg.norm(shift, axis=1).max())
    tilt = float(header.get("GantryDetectorTilt", 0) or 0)
    straight = abs(normal[2]) > np.cos(np.deg2rad(_TILT_DEGREES / 2))
    if largest > _SHIFT_MM:
        angle = np.rad2deg(np.arctan2(largest, np.abs(offset @ normal).max()))
        found = (
            f"a tilted gantry: slices are shifted against each other by up to {largest:.3g} mm ({angle:.3g} degrees)"
        )
        raise InputError(field, found, "slices in line, as after resampling the tilt away")
    if abs(tilt) > _TILT_DEGREES and straight:
        found = f"GantryDetectorTilt {tilt:g} degrees, with an orientation and positions without a tilt"
        raise InputError(field, found, "positions and orientation that agree with the tilt")


def _rescaled(header: Any) -> np.ndarray:
    """One slice ``[columns, rows]``, rescaled, float32."""
    import pydicom

    slope = float(numbers(header, "RescaleSlope", 1)[0])
    intercept = float(numbers(header, "RescaleIntercept", 1)[0])
    if slope == 0:
        raise InputError("RescaleSlope", 0, "a slope other than 0")
    try:
        whole = header if "PixelData" in header else pydicom.dcmread(header.filename)
        pixels = whole.pixel_array
    except Exception as error:  # the decoders of pydicom raise many kinds
        words = (str(error).splitlines() or [""])[0][:120]
        expected = "pixels that pydicom decodes (uncompressed, or with pylibjpeg installed)"
        raise InputError("PixelData", f"{type(error).__name__}: {words}", expected) from None
    if pixels.ndim != 2:
        raise InputError("PixelData", f"an array of {pixels.ndim} axes", "one grey plane per file")
    return (pixels.T.astype(np.float64) * slope + intercept).astype(np.float32)
