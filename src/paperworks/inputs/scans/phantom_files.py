"""Simulated scans on disk: NIfTI, DICOM series, RTSTRUCT and DICOM SEG, with a table of the cases."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.scans.geometry import Geometry, Volume
from paperworks.inputs.scans.nifti import write_nifti
from paperworks.inputs.scans.phantom import PhantomSettings, SimulatedScan, phantom_cases
from paperworks.inputs.scans.series import LPS_TO_RAS
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import write_text

FORMATS = ("nifti", "rtstruct", "seg")
COLUMNS = ("pet", "ct", "mask", "patient_id", "case_id", "center", "disease")
_ROOT = "1.2.826.0.1.3680043.8.498."
_START = datetime(2000, 1, 1, 10, 0, 0)
_WEIGHT, _DOSE, _HALF_LIFE, _DELAY = 72.5, 3.2e8, 6586.2, 3600.0


def write_default_phantom(folder: Path, progress: Progress = no_progress) -> None:
    """What ``paperworks data get petct-phantom`` makes: 24 scans, every third one as NIfTI, RTSTRUCT, DICOM SEG."""
    settings = PhantomSettings(size=48, slices=40, thickness=7.5)
    scans = progress(phantom_cases(24, 0, settings), "writing simulated scans", 24)
    write_phantom(folder, scans)
    note = "Simulated PET/CT scans: no patient, nothing clinical. cases.csv lists them.\n"
    write_text(folder / "README.txt", note)


def write_phantom(folder: str | Path, scans: Iterable[SimulatedScan], formats: tuple[str, ...] = FORMATS) -> Path:
    """Write scans into a folder, in the formats by turns, and ``cases.csv`` with their paths; returns the table.

    NIfTI: ``case-001/ct.nii.gz``, ``pet.nii.gz`` (SUV), ``mask.nii.gz``. The others: ``case-002/PT``, ``case-002/CT``
    with a file per slice, and ``mask.dcm``, an RTSTRUCT or DICOM SEG.
    """
    odd = [name for name in formats if name not in FORMATS]
    if odd or not formats:
        raise InputError("formats", formats, f"some of {', '.join(FORMATS)}")
    place, rows = Path(folder), list[dict[str, str]]()
    for number, scan in enumerate(scans):
        kind = formats[number % len(formats)]
        own = place / f"case-{number + 1:03d}"
        own.mkdir(parents=True, exist_ok=True)
        if kind == "nifti":
            names = {"pet": "pet.nii.gz", "ct": "ct.nii.gz", "mask": "mask.nii.gz"}
            for name, volume in (("pet", scan.pet), ("ct", scan.ct), ("mask", scan.mask)):
                write_nifti(volume, own / names[name])
        else:
            names = {"pet": "PT", "ct": "CT", "mask": "mask.dcm"}
            write_dicom_case(own, scan, kind, number)
        whose = {"patient_id": scan.patient_id, "case_id": scan.case_id, "center": scan.center, "disease": scan.disease}
        rows.append({name: f"{own.name}/{file}" for name, file in names.items()} | whose)
    with (place / "cases.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return place / "cases.csv"


def write_dicom_case(folder: Path, scan: SimulatedScan, kind: str, number: int = 0) -> None:
    """PET series ``PT``, CT series ``CT`` and the mask ``mask.dcm`` (kind ``rtstruct`` or ``seg``) of one scan."""
    uids = {name: f"{_ROOT}{number + 1}.{place}" for place, name in enumerate(("study", "frame", "pet", "ct", "mask"))}
    write_pet_series(folder / "PT", scan.pet, patient=scan.patient_id, uids=uids)
    write_ct_series(folder / "CT", scan.ct, patient=scan.patient_id, uids=uids)
    (write_rtstruct if kind == "rtstruct" else write_seg)(folder / "mask.dcm", scan.mask, scan.patient_id, uids)


def write_pet_series(
    folder: Path, pet: Volume, *, patient: str = "phantom", uids: dict[str, str] | None = None
) -> None:
    """A PET series in Bq/ml: 16 bits, a slope of its own in every slice. ``pet`` is in SUV, its axes nearest to RAS."""
    factor = _WEIGHT * 1000 / (_DOSE * 2 ** (-_DELAY / _HALF_LIFE))
    for number, header, plane in _slices(folder, pet, patient, "PT", uids or {}):
        activity = plane / factor
        slope = max(float(activity.max()), 1.0) / 65535
        header.RescaleSlope, header.RescaleIntercept = f"{slope:.10g}"[:16], "0"
        # the slope that was written, not the one that was meant: it has 16 characters
        stored = np.round(activity / float(header.RescaleSlope)).clip(0, 65535).astype(np.uint16)
        header.Units, header.DecayCorrection = "BQML", "START"
        header.CorrectedImage = ["DECY", "ATTN", "SCAT"]
        header.NumberOfSlices = pet.array.shape[2]
        header.PatientWeight = f"{_WEIGHT}"
        header.RadiopharmaceuticalInformationSequence = [_injection()]
        _save(folder / f"IM{number:04d}.dcm", header, stored, signed=False)


def write_ct_series(folder: Path, ct: Volume, *, patient: str = "phantom", uids: dict[str, str] | None = None) -> None:
    """A CT series in HU, rounded to whole numbers."""
    for number, header, plane in _slices(folder, ct, patient, "CT", uids or {}):
        header.RescaleSlope, header.RescaleIntercept, header.RescaleType = "1", "-1024", "HU"
        stored = np.round(plane + 1024).clip(-32768, 32767).astype(np.int16)
        _save(folder / f"IM{number:04d}.dcm", header, stored, signed=True)


def write_rtstruct(path: Path, mask: Volume, patient: str = "phantom", uids: dict[str, str] | None = None) -> None:
    """The mask as the contours of one structure, along the edges of its pixels: filled, they give the same mask."""
    from pydicom.dataset import Dataset

    known = uids or {}
    header = _common("RTSTRUCT", "1.2.840.10008.5.1.4.1.1.481.3", patient, known, known.get("mask", f"{_ROOT}0.5"))
    header.StructureSetLabel = "lesions"
    roi, observed, contours = Dataset(), Dataset(), Dataset()
    roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = 1, "lesion", "AUTOMATIC"
    roi.ReferencedFrameOfReferenceUID = header.FrameOfReferenceUID
    observed.ObservationNumber, observed.ReferencedROINumber = 1, 1
    observed.RTROIInterpretedType, observed.ROIInterpreter = "", ""
    contours.ReferencedROINumber = 1
    items = []
    for k in np.flatnonzero(mask.array.any((0, 1))):
        for loop in outlines(mask.array[:, :, k]):
            points = mask.geometry.points(np.c_[loop, np.full(len(loop), k)]) @ LPS_TO_RAS[:3, :3]
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{v:.6f}"[:16] for v in points.ravel()]
            items.append(contour)
    contours.ContourSequence = items
    header.StructureSetROISequence, header.ROIContourSequence = [roi], [contours]
    header.RTROIObservationsSequence = [observed]
    _write(path, header)


def write_seg(path: Path, mask: Volume, patient: str = "phantom", uids: dict[str, str] | None = None) -> None:
    """The mask as a binary DICOM SEG with one segment; planes without a voxel have no frame."""
    from pydicom.dataset import Dataset

    known = uids or {}
    header = _common("SEG", "1.2.840.10008.5.1.4.1.1.66.4", patient, known, known.get("mask", f"{_ROOT}0.5"))
    planes = np.flatnonzero(mask.array.any((0, 1)))
    stored = np.stack([_as_rows(mask.array[:, :, k]) for k in planes])
    header.Rows, header.Columns, header.NumberOfFrames = stored.shape[1], stored.shape[2], len(planes)
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 1
    header.HighBit = header.PixelRepresentation = 0
    header.SegmentationType, header.LossyImageCompression = "BINARY", "00"
    segment = Dataset()
    segment.SegmentNumber, segment.SegmentLabel, segment.SegmentAlgorithmType = 1, "lesion", "MANUAL"
    segment.SegmentedPropertyCategoryCodeSequence = [_code("49755003", "Morphologically Abnormal Structure")]
    segment.SegmentedPropertyTypeCodeSequence = [_code("52988006", "Lesion")]
    header.SegmentSequence = [segment]
    header.ContentLabel, header.InstanceNumber = "LESIONS", 1
    grid = _stored_grid(mask.geometry)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    row, column, spacing = _directions(grid)
    orientation.ImageOrientationPatient = _texts([*row, *column])
    measures.PixelSpacing, measures.SliceThickness = _texts([spacing[1], spacing[0]]), f"{spacing[2]:.6g}"
    measures.SpacingBetweenSlices = f"{spacing[2]:.6g}"
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    header.SharedFunctionalGroupsSequence = [shared]
    _add_dimensions(header)
    frames = []
    for place, k in enumerate(planes, 1):
        frame, position, which, content = Dataset(), Dataset(), Dataset(), Dataset()
        content.DimensionIndexValues = [1, place]
        frame.FrameContentSequence = [content]
        position.ImagePositionPatient = _texts(_position(grid, int(k)))
        which.ReferencedSegmentNumber = 1
        frame.PlanePositionSequence, frame.SegmentIdentificationSequence = [position], [which]
        frames.append(frame)
    header.PerFrameFunctionalGroupsSequence = frames
    bits = np.packbits(stored.ravel(), bitorder="little").tobytes()
    header.PixelData = bits + b"\0" * (len(bits) % 2)
    header["PixelData"].VR = "OB"
    _write(path, header)


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Closed paths ``[n, 2]`` along the edges of the pixels of a mask ``[X, Y]``; pixel (i, j) has its centre there."""
    padded = np.pad(mask.astype(bool), 1)
    # directed edges with the mask on their left, from corner to corner
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def add(where: np.ndarray, start: tuple[int, int], end: tuple[int, int]) -> None:
        for a, b in np.argwhere(where).tolist():
            following.setdefault((a + start[0], b + start[1]), []).append((a + end[0], b + end[1]))

    add(padded[:, 1:] & ~padded[:, :-1], (0, 1), (1, 1))
    add(padded[:-1] & ~padded[1:], (1, 0), (1, 1))
    add(padded[:, :-1] & ~padded[:, 1:], (1, 1), (0, 1))
    add(padded[1:] & ~padded[:-1], (1, 1), (1, 0))
    found = []
    while following:
        start = next(iter(following))
        path, here = [start], start
        while True:
            nexts = following[here]
            onward = nexts.pop()
            if not nexts:
                del following[here]
            if onward == start:
                break
            path.append(onward)
            here = onward
        found.append(np.array(path, dtype=float) - 1.5)
    return found


def _slices(folder: Path, volume: Volume, patient: str, modality: str, uids: dict[str, str]) -> Iterable[Any]:
    """(number, header, plane ``[rows, columns]``) of every slice, without pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = {"PT": "1.2.840.10008.5.1.4.1.1.128", "CT": "1.2.840.10008.5.1.4.1.1.2"}[modality]
    series = uids.get({"PT": "pet", "CT": "ct"}[modality], f"{_ROOT}0.{len(modality)}.{ord(modality[0])}")
    grid = _stored_grid(volume.geometry)
    row, column, spacing = _directions(grid)
    for k in range(volume.array.shape[2]):
        # files are named from the head to the feet: whoever orders them by name turns the scan over
        number = volume.array.shape[2] - k
        header = _common(modality, kind, patient, uids, f"{series}.{number}")
        header.SeriesInstanceUID, header.InstanceNumber = series, number
        header.ImageOrientationPatient = _texts([*row, *column])
        header.ImagePositionPatient = _texts(_position(grid, k))
        header.PixelSpacing, header.SliceThickness = _texts([spacing[1], spacing[0]]), f"{spacing[2]:.6g}"
        header.AcquisitionDate, header.AcquisitionTime = _START.strftime("%Y%m%d"), _START.strftime("%H%M%S")
        yield number, header, _as_rows(volume.array[:, :, k])


def _common(modality: str, kind: str, patient: str, uids: dict[str, str], instance: str) -> Any:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta: Any = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, instance
    meta.TransferSyntaxUID, meta.ImplementationClassUID = ExplicitVRLittleEndian, f"{_ROOT}1"
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID, header.Modality = kind, instance, modality
    header.PatientName, header.PatientID = "Phantom^Simulated", patient
    header.PatientBirthDate, header.PatientSex = "", "O"
    header.StudyInstanceUID = uids.get("study", f"{_ROOT}0.1")
    header.SeriesInstanceUID = uids.get("mask", f"{_ROOT}0.5")
    header.FrameOfReferenceUID = uids.get("frame", f"{_ROOT}0.2")
    header.StudyDate = header.SeriesDate = _START.strftime("%Y%m%d")
    header.StudyTime = header.SeriesTime = _START.strftime("%H%M%S")
    header.StudyID = header.AccessionNumber = header.ReferringPhysicianName = ""
    header.Manufacturer, header.SeriesNumber = "simulated", 1
    return header


def _injection() -> Any:
    from pydicom.dataset import Dataset

    injection, code = Dataset(), Dataset()
    injection.Radiopharmaceutical = "FDG"
    injection.RadiopharmaceuticalStartTime = (_START - timedelta(seconds=_DELAY)).strftime("%H%M%S")
    injection.RadionuclideTotalDose, injection.RadionuclideHalfLife = f"{_DOSE:.0f}", f"{_HALF_LIFE}"
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "C-111A1", "SRT", "^18^Fluorine"
    injection.RadionuclideCodeSequence = [code]
    return injection


def _add_dimensions(header: Any) -> None:
    """The frames' dimensions: number of the segment, and position."""
    from pydicom.dataset import Dataset

    organisation = Dataset()
    organisation.DimensionOrganizationUID = f"{_ROOT}0.9"
    header.DimensionOrganizationSequence = [organisation]
    dimensions = []
    for pointer, group in ((0x0062000B, 0x0062000A), (0x00200032, 0x00209113)):
        dimension = Dataset()
        dimension.DimensionIndexPointer, dimension.FunctionalGroupPointer = pointer, group
        dimension.DimensionOrganizationUID = organisation.DimensionOrganizationUID
        dimensions.append(dimension)
    header.DimensionIndexSequence = dimensions


def _code(value: str, meaning: str) -> Any:
    from pydicom.dataset import Dataset

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "SCT", meaning
    return code


def _stored_grid(geometry: Geometry) -> Geometry:
    """The grid in DICOM's coordinates (LPS), of an array turned to columns from right to left and rows to the back."""
    affine = LPS_TO_RAS @ geometry.affine
    x, y, _ = geometry.shape
    turned = affine.copy()
    turned[:3, :2] = -affine[:3, :2]
    turned[:3, 3] = affine[:3] @ np.array([x - 1, y - 1, 0, 1])
    return Geometry(geometry.shape, turned)


def _as_rows(plane: np.ndarray) -> np.ndarray:
    """A slice ``[X, Y]`` in RAS as rows from front to back and columns from the patient's right to left."""
    return np.ascontiguousarray(plane[::-1, ::-1].T)


def _directions(grid: Geometry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    spacing = np.array(grid.spacing)
    axes = grid.affine[:3, :3] / spacing
    return axes[:, 0], axes[:, 1], spacing


def _position(grid: Geometry, k: int) -> list[float]:
    return [float(v) for v in grid.points([(0, 0, k)])[0]]


def _texts(values: Iterable[float]) -> list[str]:
    """Decimal strings of at most 16 characters, as DICOM wants them."""
    found = []
    for value in values:
        text = f"{value + 0.0:.9f}"
        found.append(text[:16] if len(text) > 16 else text)
    return found


def _save(path: Path, header: Any, stored: np.ndarray, *, signed: bool) -> None:
    header.Rows, header.Columns = stored.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, int(signed)
    header.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
    _write(path, header)


def _write(path: Path, header: Any) -> None:
    header.save_as(path, enforce_file_format=True)
