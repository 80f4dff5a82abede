"""RTSTRUCT contours and DICOM SEG objects as masks on the grid of a scan."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.scans.geometry import Geometry, Volume, resample
from paperworks.inputs.scans.series import LPS_TO_RAS, numbers, require

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
NOT_LESIONS = re.compile(r"^\s*(body|external|skin|couch|table|patient)\b", re.IGNORECASE)
"""Names of structures that are never lesions; with ``names`` they are as any other."""
_NOT_LESION_TYPES = {"EXTERNAL", "SUPPORT", "FIXATION", "BOLUS", "MARKER", "ISOCENTER", "REGISTRATION"}
_ON_PLANE = 0.1
"""Contours lie on a plane of a grid if no point is farther from it than this share of the slices' distance."""
_ON_VOXEL = 0.05


def read_segmentation(
    path: str | Path, grids: Sequence[Geometry], *, names: str | None = None, field: str = "mask"
) -> Volume:
    """An RTSTRUCT or DICOM SEG file as a mask: the union of its structures, bool, on the first of ``grids``.

    Parameters
    ----------
    grids : the grid that is wanted, and others that the file may have been drawn on (the CT's), from which the mask
        is then taken over with the nearest voxel.
    names : regular expression for the names of the structures that count (searched, without case); None: all but the
        body's outline, tables, markers and the like.

    Raises
    ------
    InputError : naming ``field``: another kind of DICOM file, no structure of that name, contours that lie on no plane
        of a grid, or structures outside of the scan.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    source = Path(path).expanduser()
    try:
        data = pydicom.dcmread(source)
    except (OSError, InvalidDicomError) as error:
        raise InputError(field, f"{source} ({type(error).__name__})", "an RTSTRUCT or DICOM SEG file") from None
    kind = str(data.get("SOPClassUID", ""))
    if kind == RTSTRUCT:
        return read_rtstruct(data, grids, names=names, field=field)
    if kind == SEGMENTATION:
        return _read_seg(data, grids, names, field)
    found = f"{source}, a DICOM file of modality {data.get('Modality', '?')}"
    raise InputError(field, found, "an RTSTRUCT or DICOM SEG file")


def read_rtstruct(data: Any, grids: Sequence[Geometry], *, names: str | None = None, field: str = "mask") -> Volume:
    """The closed contours of an RTSTRUCT data set filled; see ``read_segmentation``.

    A voxel is inside if its centre is. Contours of one structure on one plane are combined by exclusive or, so that a
    contour within another is a hole.
    """
    structures = _structures(data, names, field)
    drawn = None
    for grid in grids:
        drawn = _fill(structures, grid)
        if drawn is not None:
            break
    if drawn is None:
        spacings = "; ".join(grid.describe() for grid in grids)
        raise InputError(field, "contours between the planes of the scan", f"contours drawn on its slices: {spacings}")
    if not drawn.array.any():
        raise InputError(field, "contours that cover no voxel of the scan", "structures drawn on this scan")
    return resample(drawn, grids[0], linear=False)


def _structures(data: Any, names: str | None, field: str) -> list[list[np.ndarray]]:
    """The closed contours, RAS millimetres ``[n, 3]``, of every structure that counts."""
    labels = {int(roi.ROINumber): str(roi.get("ROIName", "")) for roi in data.get("StructureSetROISequence") or ()}
    kinds = {
        int(one.get("ReferencedROINumber", -1)): str(one.get("RTROIInterpretedType", "") or "").upper()
        for one in data.get("RTROIObservationsSequence") or ()
    }
    found = []
    for roi in data.get("ROIContourSequence") or ():
        number = int(roi.get("ReferencedROINumber", -1))
        if not _counts(labels.get(number, ""), kinds.get(number, ""), names, field):
            continue
        contours = []
        for contour in roi.get("ContourSequence") or ():
            if str(contour.get("ContourGeometricType", "")).upper() not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
                continue
            points = np.array(require(contour, "ContourData", field), dtype=np.float64).reshape(-1, 3)
            if len(points) >= 3:
                contours.append(points @ LPS_TO_RAS[:3, :3])
        if contours:
            found.append(contours)
    if not found:
        wanted = "a structure with closed contours" if names is None else f"a structure whose name has {names!r} in it"
        raise InputError(field, f"{len(labels)} structures, none of them that", wanted)
    return found


def _counts(name: str, kind: str, names: str | None, field: str) -> bool:
    if names is None:
        return kind not in _NOT_LESION_TYPES and not NOT_LESIONS.search(name)
    try:
        return re.search(names, name, re.IGNORECASE) is not None
    except re.error as error:
        raise InputError("structures", f"{names!r} ({error})", "a regular expression") from None


def _fill(structures: list[list[np.ndarray]], grid: Geometry) -> Volume | None:
    """The structures on a grid; None if a contour lies on no plane of it."""
    mask = np.zeros(grid.shape, dtype=bool)
    for contours in structures:
        own: dict[int, np.ndarray] = {}
        for contour in contours:
            places = grid.indices(contour)
            plane = float(np.median(places[:, 2]))
            number = round(plane)
            if np.abs(places[:, 2] - number).max() > _ON_PLANE:
                return None
            if 0 <= number < grid.shape[2]:
                inside = fill_polygon(places[:, :2], grid.shape[:2])
                own[number] = own[number] ^ inside if number in own else inside
        for number, inside in own.items():
            mask[:, :, number] |= inside
    return Volume(mask, grid)


def fill_polygon(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The pixels whose centre is inside a closed polygon (even-odd rule).

    Parameters
    ----------
    points : corners ``[n, 2]`` in pixels; pixel (i, j) has its centre at (i, j).
    shape : of the image.

    Returns
    -------
    bool ``[shape]``.
    """
    inside = np.zeros(shape, dtype=bool)
    low = np.clip(np.floor(points.min(0)).astype(int), 0, np.array(shape))
    high = np.clip(np.ceil(points.max(0)).astype(int) + 1, 0, np.array(shape))
    if (high <= low).any():
        return inside
    x = np.arange(low[0], high[0])[:, None]
    y = np.arange(low[1], high[1])[None, :]
    found = np.zeros((x.size, y.size), dtype=bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            found ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    inside[low[0] : high[0], low[1] : high[1]] = found
    return inside


def _read_seg(data: Any, grids: Sequence[Geometry], names: str | None, field: str) -> Volume:
    chosen = {
        int(one.SegmentNumber)
        for one in data.get("SegmentSequence") or ()
        if _counts(str(one.get("SegmentLabel", "")), "", names, field)
    }
    if not chosen:
        wanted = "a segment" if names is None else f"a segment whose label has {names!r} in it"
        raise InputError(field, "no such segment", wanted)
    frames = _frames(data, chosen, field)
    for grid in grids:
        mask = _placed(frames, grid)
        if mask is not None:
            if not mask.any():
                raise InputError(field, "segments that cover no voxel of the scan", "a segmentation of this scan")
            return resample(Volume(mask, grid), grids[0], linear=False)
    return resample(_own_grid(frames, data, field), grids[0], linear=False)


def _frames(data: Any, chosen: set[int], field: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """(mask ``[columns, rows]``, affine from (column, row, 0, 1) to RAS) of every frame of the chosen segments."""
    kind = str(data.get("SegmentationType", "BINARY")).upper()
    try:
        pixels = data.pixel_array
    except Exception as error:  # the decoders of pydicom raise many kinds
        raise InputError(field, f"pixels that do not decode ({type(error).__name__})", "a whole DICOM SEG") from None
    if pixels.ndim == 2:
        pixels = pixels[None]
    if kind == "BINARY":
        masks = pixels > 0
    elif kind == "FRACTIONAL":
        masks = pixels >= 0.5 * float(require(data, "MaximumFractionalValue", field))
    else:
        raise InputError(field, f"a segmentation of type {kind}", "BINARY or FRACTIONAL")
    shared = (data.get("SharedFunctionalGroupsSequence") or [None])[0]
    found = []
    for mask, own in zip(masks, require(data, "PerFrameFunctionalGroupsSequence", field), strict=True):
        segment = _group(own, shared, "SegmentIdentificationSequence", field)
        if int(segment.ReferencedSegmentNumber) not in chosen:
            continue
        orientation = numbers(_group(own, shared, "PlaneOrientationSequence", field), "ImageOrientationPatient", 6)
        spacing = numbers(_group(own, shared, "PixelMeasuresSequence", field), "PixelSpacing", 2)
        position = numbers(_group(own, shared, "PlanePositionSequence", field), "ImagePositionPatient", 3)
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 1] = orientation[:3] * spacing[1], orientation[3:] * spacing[0]
        affine[:3, 2] = np.cross(orientation[:3], orientation[3:])
        affine[:3, 3] = position
        found.append((mask.T, LPS_TO_RAS @ affine))
    if not found:
        raise InputError(field, "no frame of that segment", "a segmentation with frames")
    return found


def _group(own: Any, shared: Any, name: str, field: str) -> Any:
    for group in (own, shared):
        if group is not None and group.get(name):
            return group.get(name)[0]
    raise InputError(field, f"a frame without {name}", "a complete DICOM SEG")


def _placed(frames: list[tuple[np.ndarray, np.ndarray]], grid: Geometry) -> np.ndarray | None:
    """The frames on a grid whose voxels they share; None if they lie between its voxels."""
    mask = np.zeros(grid.shape, dtype=bool)
    inverse = np.linalg.inv(grid.affine)
    for plane, affine in frames:
        across = inverse @ affine
        if np.abs(across[:3, :2] - np.round(across[:3, :2])).max() * max(plane.shape) > _ON_VOXEL:
            return None
        corners = np.array([(c, r, 0, 1) for c in (0, plane.shape[0] - 1) for r in (0, plane.shape[1] - 1)])
        places = corners @ across[:3].T
        if np.abs(places - np.round(places)).max() > _ON_VOXEL:
            return None
        columns, rows = np.nonzero(plane)
        if not len(columns):
            continue
        pixels = np.stack([columns, rows, np.zeros_like(rows), np.ones_like(rows)], 1)
        voxels = np.round(pixels @ across[:3].T).astype(int)
        inside = ((voxels >= 0) & (voxels < np.array(grid.shape))).all(1)
        mask[tuple(voxels[inside].T)] = True
    return mask


def _own_grid(frames: list[tuple[np.ndarray, np.ndarray]], data: Any, field: str) -> Volume:
    """A volume of the frames on a grid of their own: evenly spaced planes, those without a frame empty."""
    affine = frames[0][1].copy()
    normal = affine[:3, 2]
    if any(np.abs(other[:3, :2] - affine[:3, :2]).max() > 1e-4 for _, other in frames):
        raise InputError(field, "frames of several orientations or spacings", "frames of one orientation")
    along = np.array([other[:3, 3] @ normal for _, other in frames])
    steps = np.diff(np.unique(along.round(3)))
    shared = (data.get("SharedFunctionalGroupsSequence") or [None])[0]
    measures = _group(data.PerFrameFunctionalGroupsSequence[0], shared, "PixelMeasuresSequence", field)
    said = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness")
    step = float(steps.min()) if len(steps) else float(said or 1.0)
    places = (along - along.min()) / step
    if np.abs(places - np.round(places)).max() > _ON_PLANE:
        raise InputError(field, "frames at uneven distances", "frames on evenly spaced planes")
    planes = np.round(places).astype(int)
    mask = np.zeros((*frames[0][0].shape, int(planes.max()) + 1), dtype=bool)
    for (plane, _), number in zip(frames, planes, strict=True):
        mask[:, :, number] |= plane
    affine[:3, 3] = frames[int(along.argmin())][1][:3, 3]
    affine[:3, 2] = normal * step
    return Volume(mask, Geometry(mask.shape, affine))
