"""Columns that cannot be the label of a classifier are refused with what they are."""

from __future__ import annotations

import pytest

from paperworks.errors import InputError
from paperworks.inputs.labels import require_classes


def test_classes_are_what_rows_share() -> None:
    require_classes([i % 10 for i in range(20)])
    require_classes(range(19))  # too few rows to tell
    require_classes(["a", "b"] * 500 + [f"rare {i}" for i in range(400)])
    with pytest.raises(
        InputError, match=r"label: found 11 different numbers in 20 rows, such as '0.5'; expected classes"
    ):
        require_classes([i % 11 + 0.5 for i in range(20)])
    with pytest.raises(InputError, match="target: found 30 different values in 30 rows, such as 'n0'"):
        require_classes([f"n{i}" for i in range(30)], "target")
