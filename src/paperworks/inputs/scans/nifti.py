"""NIfTI files as volumes, and back."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.scans.geometry import Geometry, Volume
from paperworks.runs.files import new_file

SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".img.gz")
_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}


def is_nifti(path: Path) -> bool:
    """Whether a name is one of a NIfTI file."""
    return path.name.lower().endswith(SUFFIXES)


def read_nifti(path: str | Path, field: str = "path") -> Volume:
    """A 3-D NIfTI image, scaled as its header says, with axes nearest to RAS; float32.

    Raises
    ------
    InputError : naming ``field``: no such file, no NIfTI, 4-D (a fourth axis of length 1 is dropped), complex or colour
        values, no place in space (neither sform nor qform), or an affine without an inverse.
    """
    from nibabel.filebasedimages import ImageFileError

    source = Path(path).expanduser()
    if not source.is_file():
        raise InputError(field, f"{source}, no such file", "a NIfTI file (.nii, .nii.gz)")
    try:
        image: Any = _load(source)
        header, shape = image.header, tuple(image.shape)
        kind = image.get_data_dtype()
        if kind.fields or np.issubdtype(kind, np.complexfloating):
            raise InputError(field, f"{source}, with values of type {kind}", "one real number per voxel")
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) != 3:
            found = f"{source}, {len(shape)}-D ({' x '.join(map(str, shape))})"
            raise InputError(field, found, "a 3-D volume: one time point, one channel")
        array = np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
        affine = np.array(image.affine, dtype=np.float64)
    except InputError:
        raise
    except (
        ImageFileError,
        OSError,
        ValueError,
        EOFError,
        KeyError,
        AttributeError,
        TypeError,
        ArithmeticError,
    ) as error:
        words = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(field, f"{source}, which does not read ({words})", "a NIfTI file (.nii, .nii.gz)") from None
    except Exception as error:  # zlib.error and others that the format's readers let through
        raise InputError(field, f"{source}, damaged ({type(error).__name__})", "a whole NIfTI file") from None
    if hasattr(header, "get_xyzt_units"):
        try:
            affine[:3] *= _MM.get(header.get_xyzt_units()[0], 1.0)
        except KeyError:
            raise InputError(field, f"{source}, with an unknown unit of length", "mm, metres or microns") from None
    if "sform_code" in header and not (int(header["sform_code"]) or int(header["qform_code"])):
        raise InputError(
            field, f"{source}, without a place in space (sform and qform are 0)", "an affine in its header"
        )
    if 0 in shape:
        raise InputError(field, f"{source}, {' x '.join(map(str, shape))} voxels", "at least one voxel on each axis")
    try:
        geometry = Geometry((shape[0], shape[1], shape[2]), affine)
    except InputError as error:
        raise InputError(field, f"{source}: {error.found}", error.expected) from None
    return Volume(array, geometry).to_ras()


def _load(source: Path) -> Any:
    """The image of nibabel; a single file is unpacked if its content is packed, whatever its name says."""
    import nibabel

    name = source.name.lower()
    with source.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if not name.endswith((".nii", ".nii.gz")) or packed == name.endswith(".gz"):
        return nibabel.load(source)
    data = gzip.decompress(source.read_bytes()) if packed else source.read_bytes()
    second = 540 in (int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big"))  # the header's size
    return (nibabel.Nifti2Image if second else nibabel.Nifti1Image).from_bytes(data)


def write_nifti(volume: Volume, path: str | Path) -> Path:
    """Write a volume as NIfTI-1 to a new file: bool as uint8, everything else in its own type, without scaling."""
    import nibabel

    target = Path(path)
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    image = nibabel.Nifti1Image(array, volume.geometry.affine, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.geometry.affine, 1)
    image.set_qform(volume.geometry.affine, 1)
    data = image.to_bytes()
    with new_file(target) as aside:
        # no name and no time in the compressed file: the same volume gives the same bytes
        aside.write_bytes(gzip.compress(data, 6, mtime=0) if target.name.endswith(".gz") else data)
    return target
