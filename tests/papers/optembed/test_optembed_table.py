"""Masks, thresholds and the compact table: exact."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.optembed import CompactEmbedding, FieldEncoder, OptEmbedding, make_model, with_compact_table
from paperworks.papers.optembed.models import MODELS, pairs
from paperworks.papers.optembed.table import StepWithSurrogate

FIELDS = [5, 9, 3]


def random_ids(rows: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([rng.integers(0, size, rows) for size in FIELDS], 1))


def masked(name: str, seed: int = 0, pruned: str = "zero", **options: object):
    torch.manual_seed(seed)
    table = OptEmbedding(FIELDS, 8, pruned=pruned, **options)
    model = make_model(name, table, FIELDS, 8, hidden=(7, 4))
    model(random_ids(64))  # statistics of the norms
    kept = torch.rand(sum(FIELDS)) < 0.6
    table.fix(kept, [3, 8, 1])
    return model.eval(), table, kept


def test_the_surrogate_slope_is_the_papers() -> None:
    z = torch.tensor([0.0, 0.2, -0.2, 0.4, 0.7, -0.7, 1.0, 1.2], requires_grad=True)
    step = StepWithSurrogate.apply(z)
    assert step.tolist() == [0, 1, 0, 1, 1, 0, 1, 1]
    step.sum().backward()
    assert z.grad.tolist() == pytest.approx([2, 1.2, 1.2, 0.4, 0.4, 0.4, 0.4, 0])


def test_gradients_reach_thresholds_and_rows_through_the_norm() -> None:
    table = OptEmbedding([1], 2, dimensions=False)
    with torch.no_grad():
        table.weight.copy_(torch.tensor([[0.3, -0.2]]))
        table.thresholds.fill_(0.4)
    table(torch.zeros(1, 1, dtype=torch.long)).sum().backward()
    # z = 0.5 - 0.4, slope 2 - 0.4 = 1.6; sum of the row 0.1: dL/dt = -1.6 * 0.1, dL/dw = 1 + 1.6 * 0.1 * sign(w)
    assert table.thresholds.grad.tolist() == pytest.approx([-0.16])
    assert table.weight.grad.flatten().tolist() == pytest.approx([1.16, 0.84])


def test_full_dimensions_and_low_thresholds_are_an_ordinary_table() -> None:
    torch.manual_seed(0)
    table = OptEmbedding(FIELDS, 8).eval()
    ids = random_ids(50)
    plain = nn.functional.embedding(ids + table.offsets, table.weight)
    assert torch.equal(table(ids), plain)
    with torch.no_grad():
        table.thresholds.fill_(-1.0)
    assert table.row_mask().all()
    with torch.no_grad():
        table.thresholds.fill_(float("inf"))
    assert not table.row_mask().any()
    assert not table(ids).any()


def test_a_row_at_its_threshold_is_pruned_and_nan_is_said() -> None:
    table = OptEmbedding([2], 2, dimensions=False)
    with torch.no_grad():
        table.weight.copy_(torch.tensor([[0.5, 0.5], [0.5, 0.6]]))
        table.thresholds.fill_(1.0)
    assert table.row_mask().tolist() == [False, True]
    with torch.no_grad():
        table.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        table.row_mask()


def test_every_sample_and_field_draws_its_dimension_uniformly() -> None:
    torch.manual_seed(0)
    table = OptEmbedding([1, 1], 4, rows=False)
    with torch.no_grad():
        table.weight.fill_(1.0)
    draws = 50_000
    lengths = table(torch.zeros(draws, 2, dtype=torch.long)).sum(-1).detach()
    for number in range(1, 5):
        share = float((lengths == number).float().mean())
        assert abs(share - 1 / 4) < 4 * (0.25 * 0.75 / (2 * draws)) ** 0.5
    assert float(lengths.mean() / 4) == pytest.approx((4 + 1) / (2 * 4), abs=0.005)
    # one draw for both fields of a sample would make this 1, a draw for the batch a constant
    assert abs(float(torch.corrcoef(lengths.T)[0, 1])) < 0.02


def test_thresholds_by_value_and_a_rescaled_masked_norm() -> None:
    table = OptEmbedding([3], 4, threshold="feature", masked_norm=True)
    assert table.thresholds.shape == (3,)
    with torch.no_grad():
        table.weight.fill_(0.5)
        table.thresholds.copy_(torch.tensor([1.9, 2.1, 1.9]))
    found = table(torch.tensor([[0], [1], [2]] * 50)).abs().sum((1, 2))
    # the norm of d coordinates times 4 / d is that of the whole row here, whatever d was drawn
    assert (found.reshape(-1, 3) > 0).float().mean(0).tolist() == [1, 0, 1]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("pruned", ["zero", "oov"])
def test_the_compact_model_gives_the_masked_models_logits(name: str, pruned: str) -> None:
    model, table, kept = masked(name, pruned=pruned)
    ids = random_ids(1000)
    small = with_compact_table(model, name, (7, 4))
    with torch.no_grad():
        assert torch.allclose(model(ids), small(ids), atol=1e-6, rtol=0)
    counts = [int(part.sum()) for part in torch.split(kept, FIELDS)]
    assert small.embedding.counted_parameters() == table.parameters_kept() == 3 * counts[0] + 8 * counts[1] + counts[2]


@pytest.mark.parametrize("name", ["fnn", "ipnn", "deepfm", "dcn", "fm"])
def test_first_layers_lose_the_columns_of_padding(name: str) -> None:
    model, table, _ = masked(name)
    compact, ids = table.compact(), random_ids(200)
    vectors = table(ids)
    if name == "fm":  # inner products need the common coordinates only
        found = sum(
            (a[:, : min(a.shape[1], b.shape[1])] * b[:, : min(a.shape[1], b.shape[1])]).sum(1)
            for i, a in enumerate(compact.vectors(ids))
            for b in compact.vectors(ids)[i + 1 :]
        )
        assert torch.allclose(found, pairs(vectors), atol=1e-6)
        return
    if name == "ipnn":
        first = model.layers[0]
        flat = nn.Linear(24, first.out_features)
        with torch.no_grad():
            flat.weight.copy_(first.weight[:, :24])
            flat.bias.copy_(first.bias)
    else:
        flat = model.layers[0]
    cut = compact.slice_first_linear(flat)
    assert cut.in_features == 3 + 8 + 1
    with torch.no_grad():
        assert torch.allclose(cut(compact.concatenated(ids)), flat(vectors.flatten(1)), atol=1e-6, rtol=0)


def test_a_pruned_row_is_a_deleted_value() -> None:
    _model, table, kept = masked("deepfm")
    ids = random_ids(300)
    gone = ~kept[ids + table.offsets]
    vectors = table(ids)
    assert not vectors[gone].any()
    assert vectors[~gone].abs().sum(-1).all()


def test_the_folder_gives_the_same_table_and_counts_its_parameters(tmp_path) -> None:
    _, table, _ = masked("fnn", pruned="oov")
    compact = table.compact()
    compact.save_pretrained(tmp_path / "e")
    again = CompactEmbedding.from_pretrained(tmp_path / "e")
    ids = random_ids(100)
    assert torch.equal(again(ids), compact(ids))
    stored = load_file(tmp_path / "e" / "embedding.safetensors")
    assert sum(v.numel() for n, v in stored.items() if n.startswith("table.")) == compact.counted_parameters()
    assert [t["embedding_dim"] for t in compact.torchrec_tables()] == [3, 8, 1]
    (tmp_path / "e" / "embedding.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="a folder with embedding"):
        CompactEmbedding.from_pretrained(tmp_path / "e")
    with pytest.raises(InputError, match="nothing is overwritten"):
        compact.save_pretrained(tmp_path / "e")


def test_a_fixed_table_gets_no_gradient_where_it_is_masked() -> None:
    model, table, kept = masked("fnn")
    model.train()
    model(random_ids(64)).sum().backward()
    reached = table.weight.grad != 0
    assert not reached[~kept].any()
    assert not reached[:5, 3:].any()
    assert not reached[14:, 1:].any()
    assert table.thresholds.grad is None


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.integers(1, 5),
    st.integers(0, 2**20),
    st.sampled_from(["zero", "oov"]),
)
def test_any_mask_makes_an_equal_compact_table(sizes: list[int], dim: int, seed: int, pruned: str) -> None:
    rng = torch.Generator().manual_seed(seed)
    table = OptEmbedding(sizes, dim, pruned=pruned).eval()
    table.fix(torch.rand(sum(sizes), generator=rng) < 0.5, torch.randint(1, dim + 1, (len(sizes),), generator=rng))
    ids = torch.stack([torch.randint(0, size, (20,), generator=rng) for size in sizes], 1)
    assert torch.equal(table(ids), table.compact()(ids))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: OptEmbedding([], 4), "field_dims"),
        (lambda: OptEmbedding([3, 0], 4), "field_dims"),
        (lambda: OptEmbedding([3], 0), "dim"),
        (lambda: OptEmbedding([3], 4, norm=3), "norm"),
        (lambda: OptEmbedding([3], 4, pruned="gone"), "pruned"),
        (lambda: OptEmbedding([3], 4, threshold="row"), "threshold"),
        (lambda: OptEmbedding([3], 4, rows=False, masked_norm=True), "masked_norm"),
        (lambda: OptEmbedding([3, 2], 4)(torch.tensor([[0, 2]])), "field 1"),
        (lambda: OptEmbedding([3, 2], 4)(torch.tensor([[-1, 0]])), "field 0"),
        (lambda: OptEmbedding([3, 2], 4)(torch.tensor([[0]])), "an id for each field"),
        (lambda: OptEmbedding([3, 2], 4).set_candidate([5, 1]), "dimensions"),
        (lambda: OptEmbedding([3, 2], 4).set_candidate([1]), "dimensions"),
        (lambda: OptEmbedding([3], 4).compact()(torch.tensor([[3]])), "field 0"),
        (lambda: OptEmbedding([3], 4).compact().slice_first_linear(nn.Linear(5, 2)), "linear"),
        (lambda: make_model("xdeepfm", OptEmbedding([3], 4), [3], 4), "deepfm"),
    ],
)
def test_bad_input_is_named(call, named: str) -> None:
    with pytest.raises(InputError, match=named):
        call()


@pytest.mark.parametrize(
    "kind", ["datetime64[s]", "datetime64[ns]", "datetime64[ns, Europe/Berlin]", "timedelta64[ms]"]
)
def test_times_have_buckets_of_equal_counts(kind: str) -> None:
    seconds = np.arange(6400) * 3600
    times = pd.to_timedelta(seconds, unit="s") if "delta" in kind else pd.to_datetime(seconds, unit="s", utc=True)
    if "delta" not in kind and "Berlin" not in kind:
        times = times.tz_convert(None)
    frame = pd.DataFrame({"when": pd.Series(times).astype(kind)})
    encoder = FieldEncoder(numbers="log").fit(frame)
    ids = encoder.transform(frame)[:, 0]
    assert (encoder.fields_[0].kind, len(set(ids))) == ("quantile", 32)
    assert (np.diff(np.flatnonzero(np.diff(ids))) == 200).all()
    again = FieldEncoder.from_json(encoder.to_json())
    np.testing.assert_array_equal(again.transform(frame)[:, 0], ids)
    frame.loc[0, "when"] = pd.NaT
    assert encoder.transform(frame)[0, 0] == encoder.field_dims_[0] - 1


def test_a_category_that_is_no_column_is_named() -> None:
    with pytest.raises(InputError, match="categorical: found 'b'; expected a column of the table: a"):
        FieldEncoder(categorical=["b"]).fit(pd.DataFrame({"a": [1, 2]}))
