"""Padding on the left gives the figures of padding on the right: losses, scores, statistics, perplexity."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_transformers import DECODERS, VOCAB, tiny

from paperworks.language import Calibration, perplexity
from paperworks.nn import model_inputs, tokens_first, without_padding
from paperworks.structure import LayerChange, TaylorScores, activation_scores, read_channels, units_of
from paperworks.training import distillation_loss, next_token_loss

LENGTHS = (14, 5, 9, 14)
Batch = dict[str, torch.Tensor]


def batches(width: int = 14) -> tuple[Batch, Batch]:
    """The same four sequences, padded on the right and on the left."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(3, VOCAB, (n,), generator=generator) for n in LENGTHS]
    right = {name: torch.zeros(len(rows), width, dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    left = {name: tensor.clone() for name, tensor in right.items()}
    for number, row in enumerate(rows):
        for batch, place in ((right, slice(0, len(row))), (left, slice(width - len(row), width))):
            batch["input_ids"][number, place] = row
            batch["attention_mask"][number, place] = 1
    return right, left


@pytest.fixture(scope="module", params=DECODERS)
def model(request: pytest.FixtureRequest) -> Any:
    return tiny(request.param)


def test_losses(model: Any) -> None:
    right, left = batches()
    for loss in (next_token_loss, distillation_loss(tiny(model.config.model_type), alpha=0.5, targets="next_token")):
        one, other = loss(model, right), loss(model, left)
        assert int(one[1]) == int(other[1]) == sum(LENGTHS) - len(LENGTHS)
        assert float(one[0]) == pytest.approx(float(other[0]), rel=1e-5)


def test_perplexity(model: Any) -> None:
    one, other = (perplexity(model, Calibration(b["input_ids"], b["attention_mask"])) for b in batches())
    assert one == pytest.approx(other, rel=1e-5)


def test_scores_and_statistics(model: Any) -> None:
    units = units_of(model, ["ffn", "kv_group"])
    found = []
    for batch in batches():
        with TaylorScores(model, units) as taylor:
            taylor.add(batch)
            scores = [taylor.scores(), activation_scores(model, units, [batch])]
        scores.append({key: read.wanda for key, read in read_channels(model, units, [batch]).items()})
        with LayerChange(model) as change, torch.no_grad():
            change.set_mask(batch["attention_mask"])
            model(**model_inputs(model, **batch))
        found.append((scores, change.importance()))
    for one, other in zip(*(scores for scores, _ in found), strict=True):
        for key in units:
            torch.testing.assert_close(one[key], other[key], rtol=2e-4, atol=1e-8)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-7)


def test_columns_of_padding_go_at_both_ends() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 0], [0, 1, 1, 0, 0]])
    batch = {"input_ids": torch.arange(10).reshape(2, 5), "attention_mask": mask}
    assert without_padding(batch)["input_ids"].tolist() == [[1, 2, 3], [6, 7, 8]]
    assert batch["input_ids"].gather(1, tokens_first(mask)).tolist() == [[2, 3, 4, 0, 1], [6, 7, 8, 9, 5]]
    one = {"input_ids": torch.arange(3)[None], "attention_mask": torch.tensor([[0, 0, 1]])}
    assert without_padding(one)["input_ids"].tolist() == [[1, 2]]
