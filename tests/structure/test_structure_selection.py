"""Selection of rows and columns is index_select, bit for bit."""

from __future__ import annotations

import pytest
import torch

from paperworks.structure.selection import select


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("positions", ["single", "blocks", "shifted", "partial", "none"])
def test_selection_is_index_select(dtype: torch.dtype, axis: int, positions: str) -> None:
    tensor = torch.randn(256, 256, generator=torch.Generator().manual_seed(0)).to(dtype)
    every = torch.arange(256)
    index = {
        "single": every[::3],
        "blocks": torch.cat([every[32:64], every[128:192]]),
        "shifted": every[8:136],
        "partial": torch.cat([every[:16], every[33:49]]),
        "none": every[:0],
    }[positions]
    found = select(tensor, axis, index)
    assert found.dtype == dtype
    assert found.is_contiguous()
    assert torch.equal(found, tensor.index_select(axis, index))
    assert found.untyped_storage().nbytes() == found.numel() * found.element_size()


def test_other_layouts_are_selected_as_well() -> None:
    matrix = torch.randn(64, 48, generator=torch.Generator().manual_seed(1))
    index = torch.arange(0, 64, 2)
    assert torch.equal(select(matrix.t(), 1, index), matrix.t().index_select(1, index))
    assert torch.equal(select(matrix[:, 0], 0, index), matrix[::2, 0])
