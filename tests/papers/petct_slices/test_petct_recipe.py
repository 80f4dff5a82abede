"""The recipe on files in every format: what it writes, what it leaves out, what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.inputs.scans import PhantomSettings, phantom_cases, read_case, write_phantom
from paperworks.papers.petct_slices import SliceClassifier, training_run
from paperworks.papers.petct_slices.config import Config
from paperworks.papers.petct_slices.recipe import run as recipe
from paperworks.runs import Report, Run, build_config

QUICK: dict[str, Any] = {
    "image_size": 16,
    "network": "small",
    "epochs": 1,
    "n_boot": 10,
    "test_size": 0.4,
    "device": "cpu",
}
assert training_run  # its imports belong to no test


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine scans; every third as NIfTI, RTSTRUCT and SEG."""
    folder = tmp_path_factory.mktemp("scans")
    return write_phantom(folder, phantom_cases(9, 0, PhantomSettings(size=16, slices=20)))


@pytest.fixture(scope="module")
def trained(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """The folder of a run on these scans, and its report."""
    folder = tmp_path_factory.mktemp("run") / "run"
    return folder, start(folder, cases=str(scans))


def start(folder: Path, **options: Any) -> Report:
    return recipe(build_config(Config, QUICK | options), Run(folder))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_it_trains_tests_and_writes(trained: tuple[Path, Report]) -> None:
    folder, report = trained
    files = folder / "files"
    assert {f.path for f in report.files} == {p.name for p in files.iterdir()}
    slices = rows(files / "slices.csv")
    test = {row["patient_id"] for row in slices}
    assert len(test) == 3
    assert all(0 <= float(row["probability"]) <= 1 for row in slices)
    content = json.loads((files / "evaluation.json").read_text())
    assert content["slices"] == len(slices)
    assert content["metrics"]["AUROC"] == report.metrics["AUROC"]
    assert report.lead[0].startswith("Research software, not a medical device")
    assert report.cards()[0][1] == "AUROC on slices of test patients"
    assert "simple baselines" in report.headline


def test_nothing_that_is_written_names_a_patient(trained: tuple[Path, Report]) -> None:
    folder, report = trained
    written = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert any("scan-00008" in str(p) for p in written)  # also what is kept for a resumption
    for secret in (b"phantom-0", b"Phantom^", b"20000101", b"IM00"):
        assert not [p.name for p, data in written.items() if secret in data]
    assert "phantom-0" not in json.dumps(report.to_dict())


def test_ids_can_be_kept_or_hidden_by_a_secret(scans: Path, tmp_path: Path) -> None:
    from paperworks.papers.petct_slices.scans_of_run import _sources as sources

    (tmp_path / "key").write_text("secret")
    found = []
    for options in ({}, {"keep_ids": True}, {"key_file": str(tmp_path / "key")}):
        config = build_config(Config, QUICK | {"cases": str(scans)} | options)
        found.append([row["patient_id"] for row in sources(config, Run(tmp_path / "r"))])  # type: ignore[arg-type]
    assert found[1][0] == "phantom-000"
    assert len({ids[0] for ids in found}) == 3
    assert all(len(set(ids)) == len(set(found[1])) for ids in found)
    for bad in ("absent", "empty"):
        (tmp_path / "empty").write_text(" ")
        config = build_config(Config, QUICK | {"cases": str(scans), "key_file": str(tmp_path / bad)})
        with pytest.raises(InputError, match="key_file"):
            sources(config, Run(tmp_path / "r"))  # type: ignore[arg-type]


def test_a_trained_classifier_marks_scans_of_any_form(
    trained: tuple[Path, Report], scans: Path, tmp_path: Path
) -> None:
    model = trained[0] / "files/classifier"
    report = start(tmp_path / "a", model=str(model), pet=str(scans.parent / "case-002/PT"))
    marked = rows(tmp_path / "a/files/slices.csv")
    assert len(marked) == 20
    assert "label" not in marked[0]
    case = read_case(pet=scans.parent / "case-002/PT")
    expected = SliceClassifier.from_pretrained(model, "cpu").predict_proba(case)
    np.testing.assert_allclose([float(row["probability"]) for row in marked], expected, atol=1e-6)
    assert report.metrics["marked slices"] == sum(int(row["marked"]) for row in marked)
    whole = start(tmp_path / "b", model=str(model), cases=str(scans.parent))
    assert len(rows(tmp_path / "b/files/slices.csv")) == 180
    assert "AUROC" in whole.metrics


def test_a_split_by_slice_says_that_it_overestimates(scans: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="split: found slice"):
        build_config(Config, {"split": "slice"})
    report = start(tmp_path / "a", cases=str(scans), split="slice", allow_leakage=True)
    assert "These figures overestimate" in report.lead[1]
    assert "100.0%" in report.lead[1]
    assert "that it trained on" in report.headline


def test_another_center_tests(scans: Path, tmp_path: Path) -> None:
    start(tmp_path / "a", cases=str(scans), split="center", test_center="B", n_boot=0)
    assert {row["center"] for row in rows(tmp_path / "a/files/slices.csv")} == {"B"}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"split": "center"}, "test_center"),
    ({"test_center": "A"}, "test_center"),
    ({"pet": "x.nii"}, "model"),
    ({"ct": "x.nii"}, "pet"),
    ({"pet_window": "5,1"}, "pet_window"),
    ({"spacing": "-1,2,0"}, "spacing"),
]


@pytest.mark.parametrize(("options", "field"), WRONG, ids=[f for _, f in WRONG])
def test_options_that_do_not_go_together(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        build_config(Config, options)
    assert caught.value.field == field


@cache
def copied(scans: Path, folder: Path) -> Path:
    shutil.copytree(scans.parent, folder)
    return folder


def test_files_that_lie_name_their_row(scans: Path, tmp_path: Path) -> None:
    folder = copied(scans, tmp_path / "spoilt")
    (folder / "case-002/PT/IM0007.dcm").unlink()
    with pytest.raises(InputError, match=r"row 2: pet: found a gap") as caught:
        start(tmp_path / "a", cases=str(folder / "cases.csv"))
    assert str(folder) not in str(caught.value)
    image = nibabel.load(folder / "case-001/pet.nii.gz")
    nibabel.save(nibabel.Nifti1Image(image.get_fdata() - 5, image.affine), folder / "case-001/pet.nii.gz")
    with pytest.raises(InputError, match="row 1: pet: found SUV down to -5"):
        start(tmp_path / "b", cases=str(folder / "cases.csv"))


def test_a_threshold_that_is_none_is_refused_before_the_work(scans: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="threshold"):
        start(tmp_path / "a", cases=str(scans), threshold="high")
    assert not (tmp_path / "a/state/slices").exists()
