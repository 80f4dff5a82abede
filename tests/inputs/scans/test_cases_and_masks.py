"""Scans in every format come back as they were written; grids that differ are brought together or refused."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inputs.scans.scans_helpers import OBLIQUE, volume
from paperworks.errors import InputError
from paperworks.inputs.scans import (
    Geometry,
    PhantomSettings,
    Volume,
    find_cases,
    phantom_cases,
    pseudonym,
    read_case,
    read_cases,
    read_nifti,
    read_segmentation,
    resample,
    write_nifti,
    write_phantom,
)
from paperworks.inputs.scans.phantom_files import outlines, write_rtstruct, write_seg
from paperworks.inputs.scans.pseudonyms import refuse_identifiers
from paperworks.inputs.scans.segmentations import fill_polygon

SMALL = PhantomSettings(size=16, slices=20, second_scans=False)


def mask_like(scan: Volume, seed: int = 0) -> Volume:
    rng = np.random.default_rng(seed)
    array = rng.random(scan.array.shape) < 0.4
    array[:, :, 1] = False
    return Volume(array, scan.geometry)


def test_nifti_comes_back_exactly_also_when_turned(tmp_path: Path) -> None:
    scan = volume()
    write_nifti(scan, tmp_path / "a.nii.gz")
    read = read_nifti(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read.array, scan.array)
    np.testing.assert_allclose(read.geometry.affine, scan.geometry.affine, atol=1e-5)
    # stored with axes turned: LPS and slices first
    turned = np.ascontiguousarray(scan.array[::-1, ::-1].transpose(2, 0, 1))
    affine = OBLIQUE.copy()
    affine[:3, 0], affine[:3, 1] = -OBLIQUE[:3, 0], -OBLIQUE[:3, 1]
    affine[:3, 3] = scan.geometry.points([(6, 5, 0)])[0]
    affine = affine[:, [2, 0, 1, 3]]
    nibabel.save(nibabel.Nifti1Image(turned, affine), tmp_path / "b.nii")
    again = read_nifti(tmp_path / "b.nii")
    np.testing.assert_array_equal(again.array, scan.array)
    np.testing.assert_allclose(again.geometry.affine, scan.geometry.affine, atol=1e-4)


def test_a_nifti_file_by_the_other_name(tmp_path: Path) -> None:
    """Packed without .gz, as some downloads are unpacked by name alone; or not packed with it."""
    scan = volume()
    write_nifti(scan, tmp_path / "a.nii")
    write_nifti(scan, tmp_path / "b.nii.gz")
    nibabel.save(nibabel.Nifti2Image(scan.array, scan.geometry.affine), tmp_path / "c.nii.gz")
    for name in ("a.nii", "b.nii.gz", "c.nii.gz"):
        other = tmp_path / ("other-" + (f"{name}.gz" if name == "a.nii" else name.removesuffix(".gz")))
        other.write_bytes((tmp_path / name).read_bytes())
        np.testing.assert_array_equal(read_nifti(other).array, scan.array)


@pytest.mark.parametrize(
    ("slope", "expected"),
    [((0.5, -3.0), lambda v: v * 0.5 - 3), ((0.0, 5.0), lambda v: v), ((-1.0, 0.0), lambda v: -v)],
)
def test_whole_numbers_with_a_slope(tmp_path: Path, slope: Any, expected: Callable[[np.ndarray], np.ndarray]) -> None:
    """The header's slope and intercept, written byte by byte; a slope of 0 means none."""
    stored = np.arange(60, dtype=">i2").reshape(3, 4, 5)
    nibabel.save(nibabel.Nifti1Image(stored, np.eye(4), nibabel.Nifti1Header(endianness=">")), tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[112:120] = struct.pack(">ff", *slope)
    (tmp_path / "a.nii").write_bytes(bytes(data))
    np.testing.assert_allclose(read_nifti(tmp_path / "a.nii").array, expected(stored.astype(float)))


@pytest.mark.parametrize("kind", ["nifti", "rtstruct", "seg"])
def test_a_scan_comes_back_from_every_format(tmp_path: Path, kind: str) -> None:
    scan = next(iter(phantom_cases(1, 3, SMALL)))
    turn = Geometry(scan.pet.array.shape, OBLIQUE)
    scan = replace(scan, **{n: Volume(getattr(scan, n).array, turn) for n in ("pet", "ct", "mask")})
    table = write_phantom(tmp_path, [scan], formats=(kind,))
    row = read_cases(table)[0]
    case = read_case(pet=row["pet"], ct=row["ct"], mask=row["mask"], patient_id=row["patient_id"])
    assert case.mask is not None
    assert case.ct is not None
    np.testing.assert_array_equal(case.mask.array, scan.mask.array)
    np.testing.assert_allclose(case.geometry.affine, turn.affine, atol=1e-4)
    if kind == "nifti":
        np.testing.assert_array_equal(case.pet.array, scan.pet.array)
    else:
        largest = scan.pet.array.max((0, 1))
        assert (np.abs(case.pet.array - scan.pet.array).max((0, 1)) <= largest / 65535 * 0.51 + 1e-6).all()
        assert np.abs(case.ct.array - scan.ct.array).max() <= 0.5001
        assert "phantom" not in json.dumps(case.provenance).lower()
    same = read_case(tmp_path / "case-001")  # the folder alone
    np.testing.assert_array_equal(same.pet.array, case.pet.array)
    assert same.mask is not None
    np.testing.assert_array_equal(same.mask.array, scan.mask.array)


def test_highdicom_reads_our_segmentation_and_we_read_its(tmp_path: Path) -> None:
    highdicom = pytest.importorskip("highdicom")
    from pydicom import dcmread
    from pydicom.sr.codedict import codes

    scan = next(iter(phantom_cases(1, 5, SMALL)))
    write_phantom(tmp_path, [scan], formats=("seg",))
    read = highdicom.seg.segread(tmp_path / "case-001/mask.dcm").get_volume(combine_segments=True)
    assert (np.asarray(read.array) > 0).sum() == scan.mask.array.sum()
    images = [dcmread(f) for f in sorted((tmp_path / "case-001/PT").glob("*.dcm"), reverse=True)]
    stored = np.stack([scan.mask.array[::-1, ::-1, k].T for k in range(20)])
    description = highdicom.seg.SegmentDescription(
        1, "lesion", codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Lesion, "MANUAL"
    )
    theirs = highdicom.seg.Segmentation(
        images,
        stored.astype(np.uint8),
        "BINARY",
        [description],
        "1.2.3.4",
        1,
        "1.2.3.4.5",
        1,
        "maker",
        "model",
        "1",
        "0",
    )
    theirs.save_as(tmp_path / "theirs.dcm")
    mask = read_segmentation(tmp_path / "theirs.dcm", [scan.pet.geometry])
    np.testing.assert_array_equal(mask.array, scan.mask.array)


def test_contours_drawn_on_the_ct_reach_the_pet(tmp_path: Path) -> None:
    ct = Volume(np.zeros((24, 20, 10), np.float32), Geometry((24, 20, 10), np.diag([1.0, 1.0, 2.0, 1])))
    drawn = np.zeros(ct.array.shape, dtype=bool)
    drawn[4:16, 4:14, 2:8] = True
    pet = Geometry((8, 7, 5), np.array([[3.0, 0, 0, 1], [0, 3.0, 0, 1], [0, 0, 4.1, 0.3], [0, 0, 0, 1]]))
    for write in (write_rtstruct, write_seg):
        file = tmp_path / f"{write.__name__}.dcm"
        write(file, Volume(drawn, ct.geometry))
        found = read_segmentation(file, [pet, ct.geometry])
        expected = resample(Volume(drawn, ct.geometry), pet, linear=False)
        np.testing.assert_array_equal(found.array, expected.array)
        assert found.array.any()
    with pytest.raises(InputError, match="between the planes"):
        read_segmentation(tmp_path / "write_rtstruct.dcm", [pet])
    own = read_segmentation(tmp_path / "write_seg.dcm", [pet])  # a SEG has a grid of its own
    np.testing.assert_array_equal(own.array, expected.array)
    with pytest.raises(InputError, match="'node' in it"):
        read_segmentation(tmp_path / "write_rtstruct.dcm", [ct.geometry], names="node")


@settings(max_examples=40, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_outlines_filled_give_the_mask(mask: np.ndarray) -> None:
    found = np.zeros(mask.shape, dtype=bool)
    for loop in outlines(mask):
        found ^= fill_polygon(loop, mask.shape)
    np.testing.assert_array_equal(found, mask)


def test_polygons_against_matplotlib() -> None:
    from matplotlib.path import Path as Polygon

    rng = np.random.default_rng(0)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 30))
    corners = 15 + np.c_[np.cos(angles), np.sin(angles)] * rng.uniform(4, 13, (30, 1))
    centres = np.stack(np.meshgrid(np.arange(30), np.arange(30), indexing="ij"), -1).reshape(-1, 2)
    expected = Polygon(corners).contains_points(centres).reshape(30, 30)
    np.testing.assert_array_equal(fill_polygon(corners, (30, 30)), expected)


def test_resampling() -> None:
    shape = (9, 8, 7)
    i, j, k = np.meshgrid(*map(np.arange, shape), indexing="ij")
    scan = Volume((2 * i - 3 * j + 0.5 * k).astype(np.float32), Geometry(shape, OBLIQUE))
    grid = Geometry((4, 5, 3), OBLIQUE @ np.array([[1, 0, 0, 1.5], [0, 1, 0, 0.25], [0, 0, 2, 1.0], [0, 0, 0, 1]]))
    found = resample(scan, grid)
    i, j, k = np.meshgrid(*map(np.arange, grid.shape), indexing="ij")
    expected = 2 * (i + 1.5) - 3 * (j + 0.25) + 0.5 * (2 * k + 1)  # linear values stay linear
    np.testing.assert_allclose(found.array, expected, atol=1e-4)
    away = Geometry((2, 2, 2), OBLIQUE + np.array([[0, 0, 0, 1000.0]] * 3 + [[0, 0, 0, 0]]))
    assert (resample(scan, away, outside=-1024).array == -1024).all()
    whole = scan.geometry.with_spacing((3.0, None, 6.6))
    assert whole.shape == (4, 8, 4)
    assert whole.spacing == pytest.approx((3.0, 2.0, 6.6))


def test_grids_that_differ(tmp_path: Path) -> None:
    scan = volume()
    write_nifti(scan, tmp_path / "pet.nii.gz")
    ct = volume((9, 9, 9), low=-1000, high=300)
    write_nifti(ct, tmp_path / "ct.nii.gz")
    write_nifti(Volume(np.ones((9, 9, 9), bool), ct.geometry), tmp_path / "mask.nii.gz")
    case = read_case(tmp_path)  # the mask has the grid of the CT
    assert case.mask is not None
    assert case.ct is not None
    assert case.mask.array.shape == case.ct.array.shape == scan.array.shape
    assert "grid of the CT" in case.notes[0]
    with pytest.raises(InputError, match=r"mask: .*9 x 9 x 9 voxels.*7 x 6 x 5 voxels"):
        read_case(pet=tmp_path / "pet.nii.gz", mask=tmp_path / "mask.nii.gz")
    taken = read_case(pet=tmp_path / "pet.nii.gz", mask=tmp_path / "mask.nii.gz", resample_masks=True)
    assert taken.mask is not None
    coarse = read_case(tmp_path, spacing=(3, 4, None))
    assert coarse.pet.array.shape == coarse.mask.array.shape == (4, 3, 5)  # type: ignore[union-attr]


BAD: list[tuple[str, Any, str]] = [
    ("pet", np.full((4, 4, 4), np.nan, np.float32), "NaN"),
    ("pet", np.full((4, 4, 4), -3, np.float32), "SUV down to -3"),
    ("pet", np.full((4, 4, 4), 9000, np.float32), "Bq/ml"),
    ("pet", np.ones((4, 4, 4, 3), np.float32), "4-D"),
    ("ct", np.full((4, 4, 4), 100, np.float32), "air is about -1000"),
    ("mask", np.full((4, 4, 4), -1, np.float32), "values down to -1"),
]


@pytest.mark.parametrize(("name", "array", "words"), BAD, ids=[w for _, _, w in BAD])
def test_values_that_are_not_what_they_should_be(tmp_path: Path, name: str, array: np.ndarray, words: str) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), tmp_path / "pet.nii")
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii")
    with pytest.raises(InputError, match=words):
        read_case(tmp_path)


def test_nnunet_and_autopet_names(tmp_path: Path) -> None:
    scan, ct = volume(), volume(low=-1000)
    mask = mask_like(scan)
    (tmp_path / "n/imagesTr").mkdir(parents=True)
    (tmp_path / "n/labelsTr").mkdir()
    write_nifti(ct, tmp_path / "n/imagesTr/a_0000.nii.gz")
    write_nifti(scan, tmp_path / "n/imagesTr/a_0001.nii.gz")
    write_nifti(mask, tmp_path / "n/labelsTr/a.nii.gz")
    rows = read_cases(find_cases(tmp_path / "n"))
    assert [Path(rows[0][name]).name for name in ("ct", "pet", "mask")] == [
        "a_0000.nii.gz",
        "a_0001.nii.gz",
        "a.nii.gz",
    ]
    scan_folder = tmp_path / "auto/PETCT_1/2001-study"
    scan_folder.mkdir(parents=True)
    for name, one in (("SUV", scan), ("PET", scan), ("CTres", ct), ("CT", ct), ("SEG", mask)):
        write_nifti(one, scan_folder / f"{name}.nii.gz")
    found = find_cases(tmp_path / "auto")
    assert found[0]["patient_id"] == "PETCT_1"
    assert [Path(found[0][name]).name for name in ("pet", "ct")] == ["SUV.nii.gz", "CTres.nii.gz"]


def test_tables_of_cases(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("pet;patient_id\nx.nii;1\ny.nii;1\n")
    rows = read_cases(tmp_path / "a.csv")
    assert [row["case_id"] for row in rows] == ["1/1", "1/2"]
    for text, words in [
        ("pet,patient_id\nx.nii,\n", "row 1 without patient_id"),
        ("pet,patient_id\nx.nii,1\nx.nii,2\n", "a pet in two rows"),
        ("pet,pateint_id\nx.nii,1\n", "did you mean 'patient_id'"),
        ("pet,patient_id\nx.nii,1,2\n", "more or fewer cells"),
        ("pet,patient_id\n", "no rows"),
    ]:
        (tmp_path / "b.csv").write_text(text)
        with pytest.raises(InputError, match=words):
            read_cases(tmp_path / "b.csv")


def test_pseudonyms() -> None:
    assert pseudonym("MRN 123") == pseudonym("MRN 123") != pseudonym("MRN 124")
    assert pseudonym("MRN 123", "salt") != pseudonym("MRN 123")
    assert "123" not in pseudonym("123")[:5]
    with pytest.raises(InputError, match="identifier"):
        refuse_identifiers("/x/doe_john_slices.csv", ["DOE_JOHN"])
    refuse_identifiers("/x/1.csv", ["1"])


def test_the_phantom_is_what_it_says() -> None:
    scans = list(phantom_cases(6, 1, PhantomSettings(size=32, slices=60)))
    again = next(iter(phantom_cases(1, 1, PhantomSettings(size=32, slices=60))))
    np.testing.assert_array_equal(scans[0].pet.array, again.pet.array)
    assert [s.patient_id for s in scans].count("phantom-003") == 2
    assert {s.center for s in scans} == {"A", "B"}
    positive = np.mean([s.mask.array.any((0, 1)).mean() for s in scans])
    assert 0.1 < positive < 0.35
    for scan in scans:
        inside, flesh = scan.mask.array, (scan.ct.array > -100) & (scan.ct.array < 150) & ~scan.mask.array
        assert scan.pet.array[inside].mean() > 2 * scan.pet.array[flesh].mean() - 1
        assert scan.ct.array.min() < -900
