"""Layer by layer is the same as all at once, with the right mask and the right position for every token."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_transformers import KINDS, outputs, tiny, token_ids

from paperworks.errors import InputError
from paperworks.structure import FAMILIES, ActivationStore, LayerContexts, SecondMoment, TokenBatches, fold_norms


def _padded(left: bool):
    ids = token_ids(6, 20)
    mask = torch.ones_like(ids)
    for row, count in enumerate((0, 3, 7, 1, 0, 12)):
        mask[row, slice(None, count) if left else slice(20 - count, None)] = 0
    return ids, mask


@pytest.mark.parametrize("left", [None, True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_layers_called_one_by_one_compute_what_the_model_computes(kind, left):
    family = FAMILIES[kind]
    if left and kind == "bert":
        pytest.skip("encoders count positions from the first column")
    ids, mask = (token_ids(6, 20), None) if left is None else _padded(left)
    tokens = TokenBatches(ids, mask, batch_size=4)
    model = fold_norms(tiny(kind))
    contexts = LayerContexts(model, family, tokens)
    found = []
    with torch.no_grad():
        for batch in range(len(tokens)):
            x = contexts.embed(batch)
            x = model.get_submodule(family.embedding_norm)(x) if family.embedding_norm else x
            for index, layer in enumerate(model.get_submodule(family.layers)):
                x = layer(x, **contexts.context(index, batch, x))
            if family.head:
                x = model.get_submodule(family.head)(model.get_submodule(family.final_norm)(x))
            found.append(x)
    given = {} if mask is None else {"attention_mask": mask}
    if mask is not None and family.head:
        given["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    expected = outputs(model, ids, **given)
    kept = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    torch.testing.assert_close(torch.cat(found)[kept], expected[kept], rtol=1e-5, atol=1e-5)


def test_sliding_and_full_attention_layers_get_their_own_masks():
    changes = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
    model = fold_norms(tiny("qwen2", layer_types=["full_attention", "sliding_attention", "full_attention"], **changes))
    ids = token_ids(2, 20)
    contexts = LayerContexts(model, FAMILIES["qwen2"], TokenBatches(ids))
    masks = [contexts.context(i, 0, torch.zeros(1))["attention_mask"] for i in range(3)]
    assert masks[0] is None
    assert masks[2] is None
    assert masks[1] is not None
    assert int(masks[1][0, 0, -1].sum()) == 4


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_stream_on_disk_is_the_stream_in_memory(tmp_path, dtype, durable):
    ids, mask = _padded(True)
    tokens = TokenBatches(ids, mask, batch_size=4)
    memory = ActivationStore(tokens, 8, dtype, 10**9)
    disk = ActivationStore(tokens, 8, dtype, 0, tmp_path, tmp_path if durable else None)
    size = ids.numel() * 8 * torch.empty(0, dtype=dtype).element_size()
    assert memory.spilled_bytes == 0
    assert disk.spilled_bytes == size * (2 if durable else 1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for store in (memory, disk):
            store.start_layer()
        for _ in range(2):
            for batch in range(len(tokens)):
                x = torch.randn(tokens.rows(batch).stop - tokens.rows(batch).start, 20, 8, generator=generator).to(
                    dtype
                )
                for store in (memory, disk):
                    store.write(batch, x)
            for store in (memory, disk):
                store.finish_block()
            for batch in range(len(tokens)):
                assert torch.equal(memory.read(batch), disk.read(batch))
                assert not memory.read(batch)[mask[tokens.rows(batch)] == 0].any()
        for store in (memory, disk):
            store.finish_layer()
    disk.close()
    assert len(list(tmp_path.iterdir())) == (2 if durable else 0)


def test_the_stream_in_front_of_a_layer_outlives_a_half_done_layer(tmp_path):
    tokens = TokenBatches(token_ids(4, 6), batch_size=2)
    first = ActivationStore(tokens, 8, torch.float32, 0, None, tmp_path)
    first.start_layer()
    for batch in range(2):
        first.write(batch, torch.full((2, 6, 8), 1.0))
    first.finish_block()
    live = first.finish_layer()
    first.start_layer()
    first.write(0, torch.full((2, 6, 8), 2.0))
    first.finish_block()
    first.write(0, torch.full((2, 6, 8), 3.0))  # killed here
    first.close()
    again = ActivationStore(tokens, 8, torch.float32, 0, None, tmp_path)
    again.start_layer(live)
    assert all(bool((again.read(batch) == 1).all()) for batch in range(2))


def test_second_moments_leave_padding_out_and_are_not_centred():
    _, mask = _padded(False)
    x = torch.randn(6, 20, 5, generator=torch.Generator().manual_seed(0)) + 3
    moment = SecondMoment(5, torch.device("cpu"))
    moment.update(x[:4], mask[:4])
    moment.update(x[4:], mask[4:])
    rows = x.double()[mask.bool()].numpy()
    torch.testing.assert_close(moment.matrix, torch.from_numpy(rows.T @ rows), rtol=1e-12, atol=0)
    assert moment.count == mask.sum()
    moment.update(x[:1] * float("inf"), None)
    with pytest.raises(InputError, match="activations at layer 3"):
        moment.check("layer 3")


@pytest.mark.parametrize(
    ("calibration", "mask", "size", "field"),
    [
        (torch.zeros(2, 3), None, 1, "calibration"),
        (torch.zeros(3, dtype=torch.int64), None, 1, "calibration"),
        (torch.zeros(0, 3, dtype=torch.int64), None, 1, "calibration"),
        ({"attention_mask": torch.ones(2, 3)}, None, 1, "calibration"),
        (torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 4), 1, "attention_mask"),
        (torch.ones(2, 3, dtype=torch.int64), 2 * torch.ones(2, 3), 1, "attention_mask"),
        (torch.ones(2, 3, dtype=torch.int64), torch.tensor([[1, 1, 0], [0, 0, 0]]), 1, "attention_mask"),
        (torch.ones(2, 3, dtype=torch.int64), None, 0, "batch_size"),
        (torch.full((2, 3), 96), None, 1, "calibration"),
        (torch.full((2, 3), -1), None, 1, "calibration"),
        (torch.ones(2, 65, dtype=torch.int64), None, 1, "calibration"),
    ],
)
def test_tokens_that_cannot_be_used_are_refused(calibration, mask, size, field):
    with pytest.raises(InputError) as caught:
        TokenBatches(calibration, mask, size).check(tiny("gpt2").config, FAMILIES["gpt2"])
    assert caught.value.field == field


def test_a_mask_of_ones_is_no_mask():
    ids = token_ids(3, 5)
    assert TokenBatches({"input_ids": ids, "attention_mask": torch.ones_like(ids)}).mask is None
    assert TokenBatches(copy.copy(ids)).count == 15
