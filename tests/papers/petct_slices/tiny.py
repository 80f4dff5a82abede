"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any

from paperworks.inputs.scans import Case, PhantomSettings, phantom_cases, write_phantom

SMALL: dict[str, Any] = {
    "image_size": 16,
    "network": "small",
    "epochs": 1,
    "n_boot": 20,
    "test_size": 0.4,
    "batch_size": 32,
}


def options(folder: Path) -> list[dict[str, Any]]:
    """Eight small scans on disk in all formats, one epoch."""
    settings = PhantomSettings(size=16, slices=20)
    table = write_phantom(folder / "scans", phantom_cases(8, 0, settings), ("nifti", "nifti", "rtstruct", "seg"))
    return [{"cases": str(table), **SMALL}]


def beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Options beside which one that no set has is read."""
    from paperworks.papers.petct_slices import SliceClassifier, SliceTable

    scans = phantom_cases(6, 0, PhantomSettings(size=16, slices=20))
    cases = [Case(s.pet, s.ct, s.mask, s.patient_id, s.case_id, s.center, s.disease) for s in scans]
    slices = SliceTable.from_cases(cases, size=16)
    model = SliceClassifier(network="small", image_size=16, epochs=1, batch_size=64).fit(slices)
    model.save_pretrained(folder / "classifier")
    pet = next((folder / "scans").rglob("*pet*.nii*"))
    return {
        "pet": {"model": str(folder / "classifier")},
        "ct": {"model": str(folder / "classifier"), "pet": str(pet)},
        "key_file": {"model": str(folder / "classifier"), "pet": str(pet)},
        # not the bundled scans, which are larger, and the network that has a backbone
        "backbone": {"cases": str(folder / "scans" / "cases.csv"), **SMALL, "network": "resnet18"},
    }
