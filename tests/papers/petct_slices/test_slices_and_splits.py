"""Labels, stored slices, preprocessing and splits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from papers.petct_slices.petct_helpers import SIZE, cases, flat_case, table
from paperworks.errors import InputError
from paperworks.papers.petct_slices import (
    SliceClassifier,
    SliceTable,
    leave_center_out,
    measured_leak,
    patient_folds,
    patient_split,
    slice_split,
)
from paperworks.papers.petct_slices.preprocessing import channel_names, display, resize, resize_mask, stack_channels
from paperworks.papers.petct_slices.splits import checked


def test_a_slice_is_positive_exactly_where_the_mask_has_a_voxel() -> None:
    scans = cases(8)
    rows = table().rows
    expected = np.concatenate([c.mask.array.any((0, 1)) for c in scans])  # type: ignore[union-attr]
    np.testing.assert_array_equal(rows["label"], expected.astype(int))
    voxels = np.concatenate([c.mask.array.sum((0, 1)) for c in scans])  # type: ignore[union-attr]
    np.testing.assert_array_equal(rows["n_voxels"], voxels)
    np.testing.assert_allclose(rows["area_mm2"], voxels * (420 / SIZE) ** 2)
    np.testing.assert_array_equal(table().labels_of(3), (voxels >= 3).astype(int))


def test_edges_components_and_lesion_suv() -> None:
    planes, mask = np.ones((6, 6, 7), np.float32), np.zeros((6, 6, 7), bool)
    mask[1, 1, 1:5] = mask[4, 4, 3] = True
    mask[2, 2, 6] = True
    planes[4, 4, 3] = 9
    rows = SliceTable.from_cases([flat_case(planes, mask)], size=8).rows
    assert rows["edge"].tolist() == [False, True, False, False, True, False, True]
    assert rows["components"].tolist() == [0, 1, 1, 2, 1, 0, 1]
    assert rows["suv_max"].tolist()[3] == 9
    assert rows["area_mm2"].tolist()[:4] == [0, 4, 4, 8]
    assert rows["z_mm"].tolist() == [0, 3, 6, 9, 12, 15, 18]
    assert rows["feature_suv_max"].tolist() == [1, 1, 1, 9, 1, 1, 1]


def test_resizing_is_torchs_without_antialiasing() -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, 17, 23)).astype(np.float32)
    for size in (9, 17, 40):
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(images)[:, None], (size, size), mode="bilinear", align_corners=False
        )
        np.testing.assert_allclose(resize(images, size), expected[:, 0].numpy(), atol=1e-5)
        nearest = torch.nn.functional.interpolate(torch.from_numpy(images)[:, None], (size, size), mode="nearest-exact")
        np.testing.assert_array_equal(resize_mask(images, size), nearest[:, 0].numpy())


def test_slices_are_turned_for_display() -> None:
    plane = np.arange(6).reshape(3, 2)
    np.testing.assert_array_equal(display(plane), np.fliplr(np.rot90(plane, 3)))


def test_windows_and_channels() -> None:
    pet, ct = np.array([[[0, 25.0], [50, 80]]]), np.array([[[-900, 0.0], [250, 500]]])
    options = {"pet_window": (0.0, 50.0), "ct_window": (-500.0, 500.0), "scale": "window", "statistics": None}
    found = stack_channels({"pet": pet, "ct": ct}, ("pet", "ct", "pet"), normalise=False, **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(found[0, 0], [[0, 0.5], [1, 1]])
    np.testing.assert_allclose(found[0, 1], [[0, 0.5], [0.75, 1]])
    options |= {"scale": "patient", "statistics": np.array([[25.0, 5.0]])}
    found = stack_channels({"pet": pet}, ("pet",), normalise=False, **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(found[0, 0], [[-5, 0], [5, 11]])
    assert channel_names("petct", None) == ("pet", "ct")
    with pytest.raises(InputError, match="channels"):
        channel_names("petct", "pet,pet")
    with pytest.raises(InputError, match="channels"):
        channel_names("pet", "pet,mri")


def test_the_patients_own_scale_is_of_all_the_scans_of_a_patient() -> None:
    scans = cases(8)
    twice = [c for c in scans if c.patient_id == "phantom-003"]
    assert len(twice) == 2
    values = np.concatenate([c.pet.array.ravel() for c in twice]).astype(np.float64)
    mine = table().statistics[table().patients == "phantom-003"]
    np.testing.assert_allclose(mine, np.tile([values.mean(), values.std()], (len(mine), 1)), rtol=1e-5)


def test_slices_kept_on_disk_are_those_in_memory(tmp_path: Path) -> None:
    scans = cases(3)
    kept = SliceTable.from_cases(scans, size=SIZE, store=tmp_path / "a")
    again = SliceTable.from_cases(scans, size=SIZE, store=tmp_path / "a")
    rows = np.array([50, 3, 21])
    for name in ("pet", "ct", "mask"):
        np.testing.assert_array_equal(again.images(name, rows), table().images(name, rows))
    assert kept.rows.equals(again.rows)
    half = SliceTable.from_cases(scans, size=SIZE, store=tmp_path / "b", dtype="float16")
    np.testing.assert_allclose(half.images("pet", rows), kept.images("pet", rows), rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="store"):
        SliceTable.from_cases(scans, size=32, store=tmp_path / "a")


def test_a_store_of_other_scans_or_of_another_reading_is_refused(tmp_path: Path) -> None:
    scans = cases(3)
    SliceTable.from_cases(scans[:2], size=16, store=tmp_path)
    for other, options in (
        (scans[1:], {}),
        ([replace(scans[0], center="elsewhere"), scans[1]], {}),
        (scans[:2], {"spacing": (8, 8, None)}),
        (scans[:2], {"dtype": "float16"}),
    ):
        with pytest.raises(InputError, match=r"store: found .*with slices of another scan"):
            SliceTable.from_cases(other, size=16, store=tmp_path, **options)  # type: ignore[arg-type]
    assert len(SliceTable.from_cases(scans, size=16, store=tmp_path)) > 0  # a scan more is added


def test_scans_in_memory_are_brought_to_the_spacing_of_the_table() -> None:
    scan = cases(1)[0]
    x, y, z = scan.spacing
    coarse = SliceTable.from_cases([scan], size=16, spacing=(2 * x, 2 * y, 3 * z))
    moved = scan.with_spacing((2 * x, 2 * y, 3 * z))
    assert moved.spacing == pytest.approx((2 * x, 2 * y, 3 * z))
    assert len(coarse) == moved.pet.array.shape[2] < scan.pet.array.shape[2] / 2
    assert set(coarse.rows["thickness_mm"].round(6)) == {round(3 * z, 6)}
    assert scan.with_spacing((None, None, z)) is scan
    classifier = SliceClassifier(image_size=16, network="small", spacing=(2 * x, 2 * y, 3 * z))
    assert len(classifier.table_of(scan)) == len(classifier.table_of(moved)) == len(coarse)


def test_no_patient_is_on_both_sides_and_strata_keep_their_shares() -> None:
    many = SliceTable.from_cases(cases(40), size=16)
    train, test = patient_split(many, 0.25, seed=3)
    assert not set(many.patients[train]) & set(many.patients[test])
    assert len(train) + len(test) == len(many)
    whose = many.rows.iloc[test].drop_duplicates("patient_id")
    assert len(whose) == round(0.25 * many.rows["patient_id"].nunique())
    assert abs((whose["center"] == "A").mean() - 0.5) <= 0.15
    assert measured_leak(many, train, test).patient_share == 0
    again = patient_split(many, 0.25, seed=3)
    np.testing.assert_array_equal(again[1], test)
    assert not np.array_equal(patient_split(many, 0.25, seed=4)[1], test)
    for inner, held in patient_folds(many, 4):
        assert not set(many.patients[inner]) & set(many.patients[held])
    train, test = leave_center_out(many, "B")
    assert set(many.rows["center"].iloc[test]) == {"B"}
    assert set(many.rows["center"].iloc[train]) == {"A"}


def test_a_split_by_slice_must_be_asked_for_and_is_measured() -> None:
    with pytest.raises(InputError, match="split: found slice"):
        slice_split(table())
    train, test, leak = slice_split(table(), 0.2, allow_leakage=True)
    assert not set(train) & set(test)
    assert leak.patient_share == 1
    assert leak.median_slices == 1
    assert leak.median_mm == 5
    with pytest.raises(InputError, match="patient\\(s\\) in training and test"):
        checked(table(), (train, test))


def test_grouping_by_scan_leaks() -> None:
    rows = table().rows
    scan = rows["case_id"].to_numpy()
    test = np.flatnonzero(scan == "phantom-003-1")
    train = np.flatnonzero(scan != "phantom-003-1")
    assert measured_leak(table(), train, test).patient_share == 1
    with pytest.raises(InputError, match="group by patient, not by scan"):
        checked(table(), (train, test))


def test_what_cannot_be_read() -> None:
    scans = cases(2)
    empty = [replace(c, mask=c.mask.with_array(np.zeros_like(c.mask.array))) for c in scans]  # type: ignore[union-attr]
    with pytest.raises(InputError, match="empty masks for all scans"):
        SliceTable.from_cases(empty, size=SIZE)
    with pytest.raises(InputError, match="row 2 without a mask"):
        SliceTable.from_cases([scans[0], replace(scans[1], mask=None)], size=SIZE)
    with pytest.raises(InputError, match="test_center"):
        leave_center_out(table(), "Z")
    with pytest.raises(InputError, match="at least two"):
        patient_split(SliceTable.from_cases(scans[:1], size=SIZE))
    without = SliceTable.from_cases([replace(scans[0], ct=None)], size=SIZE)
    with pytest.raises(InputError, match="scan 1 without CT"):
        without.images("ct", np.arange(2))


def test_messages_do_not_repeat_paths(tmp_path: Path) -> None:
    (tmp_path / "DOE_JOHN.nii").write_bytes(b"nothing")
    with pytest.raises(InputError, match="row 1: pet") as caught:
        SliceTable.from_cases([{"pet": str(tmp_path / "DOE_JOHN.nii"), "patient_id": "1"}], size=SIZE)
    assert "DOE" not in str(caught.value)
