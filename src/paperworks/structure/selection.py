"""Taking rows and columns of a matrix, as fast as memory allows: columns one by one are the dear case."""

from __future__ import annotations

import torch

BLOCKS = (128, 64, 32, 16)
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def select(tensor: torch.Tensor, axis: int, index: torch.Tensor) -> torch.Tensor:
    """``tensor.index_select(axis, index)``, bit for bit: a contiguous copy of the positions ``index`` (int64)."""
    index = index.to(tensor.device)
    plain = tensor.ndim == 2 and tensor.is_contiguous() and tensor.device.type == "cpu"
    if not plain or tensor.numel() * len(index) == 0 or tensor.requires_grad or tensor.element_size() not in INTEGERS:
        return tensor.index_select(axis, index)
    return _select(tensor.view(INTEGERS[tensor.element_size()]), axis, index).view(tensor.dtype)


def _select(tensor: torch.Tensor, axis: int, index: torch.Tensor) -> torch.Tensor:
    rows, columns = tensor.shape
    if axis in (0, -2):
        return torch.index_select(tensor, 0, index, out=tensor.new_empty(len(index), columns))
    out = tensor.new_empty(rows, len(index))
    for size in BLOCKS:
        blocks = _blocks(index, size) if columns % size == 0 else None
        if blocks is not None:
            wide = tensor.view(rows, columns // size, size)
            torch.index_select(wide, 1, blocks, out=out.view(rows, len(blocks), size))
            return out
    # index_select copies single columns through strides, one thread; gather of integers takes a quarter of its time
    return torch.gather(tensor, 1, index.expand(rows, -1), out=out)


def _blocks(index: torch.Tensor, size: int) -> torch.Tensor | None:
    """Numbers of the aligned blocks of ``size`` that ``index`` consists of, or None."""
    if len(index) % size:
        return None
    runs = index.view(-1, size)
    first = runs[:, :1]
    if bool((first % size).any()) or not bool((runs == first + torch.arange(size, device=index.device)).all()):
        return None
    return first.flatten() // size
