"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any

from paperworks.inputs.scans import PhantomSettings, phantom_cases, write_phantom


def options(folder: Path) -> list[dict[str, Any]]:
    """Eight small scans on disk in all formats, one epoch."""
    settings = PhantomSettings(size=16, slices=20)
    table = write_phantom(folder / "scans", phantom_cases(8, 0, settings), ("nifti", "nifti", "rtstruct", "seg"))
    return [
        {
            "cases": str(table),
            "image_size": 16,
            "network": "small",
            "epochs": 1,
            "n_boot": 20,
            "test_size": 0.4,
            "batch_size": 32,
        }
    ]
