"""Medical scans: NIfTI, DICOM series, RTSTRUCT and DICOM SEG, in one geometry; PET in SUV.

geometry.py      where voxels are, in mm; reorientation to RAS; resampling to another grid
nifti.py         NIfTI files
series.py        DICOM series: which files, in which order, and what is wrong with them
suv.py           PET series in standardised uptake values (body weight)
segmentations.py RTSTRUCT and DICOM SEG as masks
cases.py         PET, CT and mask of one scan on the PET's grid, and their table
phantom.py       simulated scans
phantom_files.py simulated scans on disk, in these formats
pseudonyms.py    identifiers that name nobody

Arrays are ``[X, Y, Z]``: right to left, back to front, feet to head (RAS, as NIfTI has it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.inputs.scans.case_tables import find_cases, read_cases
    from paperworks.inputs.scans.cases import Case, read_case
    from paperworks.inputs.scans.geometry import Geometry, Volume, resample
    from paperworks.inputs.scans.nifti import read_nifti, write_nifti
    from paperworks.inputs.scans.phantom import PhantomSettings, phantom_cases
    from paperworks.inputs.scans.phantom_files import write_phantom
    from paperworks.inputs.scans.pseudonyms import pseudonym
    from paperworks.inputs.scans.segmentations import read_rtstruct, read_segmentation
    from paperworks.inputs.scans.series import DicomSeries, list_series, read_series
    from paperworks.inputs.scans.suv import dicom_to_suv, suv_factor
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "Case",
    "DicomSeries",
    "Geometry",
    "PhantomSettings",
    "Volume",
    "dicom_to_suv",
    "find_cases",
    "list_series",
    "phantom_cases",
    "pseudonym",
    "read_case",
    "read_cases",
    "read_nifti",
    "read_rtstruct",
    "read_segmentation",
    "read_series",
    "resample",
    "suv_factor",
    "write_nifti",
    "write_phantom",
]
