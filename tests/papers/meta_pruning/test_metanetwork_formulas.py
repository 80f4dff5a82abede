"""One layer of message passing beside its formulas, written out edge by edge."""

from __future__ import annotations

import pytest
import torch

from paperworks.papers.meta_pruning.graph import Block
from paperworks.papers.meta_pruning.metanetwork import VARIANCE_FLOOR, _Convolution


def written_out(
    convolution: _Convolution, x: torch.Tensor, a: torch.Tensor, edges: list[tuple[int, int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """``edges`` are (source, target): message lin2(x)[t] lin1(x)[s] a, change of the edge lin3(x)[s] lin4(x)[t] a."""
    lin1, lin2, lin3, lin4 = convolution.parts
    messages: dict[int, list[torch.Tensor]] = {}
    changes = []
    for number, (s, t) in enumerate(edges):
        messages.setdefault(t, []).append(lin2(x[t]) * lin1(x[s]) * a[number])
        changes.append(lin3(x[s]) * lin4(x[t]) * a[number])
    rows = []
    for node in range(len(x)):
        if node not in messages:
            rows.append(torch.zeros(4 * x.shape[1], dtype=x.dtype))
            continue
        here = torch.stack(messages[node])
        variance = here.var(0, unbiased=False)
        deviation = torch.where(variance > VARIANCE_FLOOR, variance, 0.0).sqrt()
        rows.append(torch.cat([here.mean(0), deviation, here.amax(0), here.amin(0)]))
    return convolution.combine(torch.stack(rows)), torch.stack(changes)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("against", [False, True])
def test_a_layer_is_that_of_the_formulas_along_and_against_the_edges(full: bool, against: bool) -> None:
    torch.manual_seed(0)
    convolution = _Convolution(4).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    target, source = torch.tensor([2, 3, 4]), torch.tensor([0, 1])
    pairs = [(t, s) for t in target.tolist() for s in source.tolist()]
    a = 3 * torch.randn(len(pairs), 4, dtype=torch.float64)
    if full:
        block = Block(0, len(pairs), target, source, True)
    else:
        block = Block(0, len(pairs), torch.tensor([t for t, _ in pairs]), torch.tensor([s for _, s in pairs]), False)
    nodes, changes = convolution(x, a, (block,), against=against)
    expected = written_out(convolution, x, a, [(t, s) if against else (s, t) for t, s in pairs])
    torch.testing.assert_close(nodes, expected[0])
    torch.testing.assert_close(changes, expected[1])
