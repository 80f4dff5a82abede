"""Fields of several values, eight bits, the export for other libraries, and the rivals that choose by gradient."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.optembed import (
    Clicks,
    ClickTraining,
    CompactEmbedding,
    FieldEncoder,
    OptEmbedding,
    PEPEmbedding,
    QREmbedding,
    make_model,
    read_clicks,
)
from paperworks.papers.optembed.bags import Bags
from paperworks.papers.optembed.baselines import random_masks, row_counts
from paperworks.papers.optembed.models import MODELS
from paperworks.papers.optembed.relaxed import (
    ChoiceTraining,
    RelaxedTable,
    dimension_masks,
    field_masks,
    likeliest_dimensions,
    likeliest_fields,
)
from paperworks.papers.optembed.workbench import AUTODIM, AUTOFIELD, OTHERS, UNIFORM, Bench

SIZES, SLOTS = [5, 9, 7], [1, 3, 2]


def ids(rows: int, seed: int = 0) -> torch.Tensor:
    """Ids [rows, 6]; in the second and third field some places are empty, in some rows all of them."""
    rng = np.random.default_rng(seed)
    columns = []
    for size, slots in zip(SIZES, SLOTS, strict=True):
        own = rng.integers(0, size, (rows, slots))
        columns.append(np.where((rng.random((rows, slots)) < 0.4) & (slots > 1), -1, own))
    return torch.from_numpy(np.concatenate(columns, 1))


def by_hand(table: OptEmbedding, rows: torch.Tensor) -> torch.Tensor:
    """One row and value after the other."""
    kept, starts, at = table.row_mask(), np.cumsum([0, *SIZES]), 0
    found = torch.zeros(len(rows), len(SIZES), table.dim)
    for field, slots in enumerate(SLOTS):
        for row in range(len(rows)):
            values = [int(v) for v in rows[row, at : at + slots] if v >= 0]
            vectors = [
                table.weight[starts[field] + v]
                if kept[starts[field] + v]
                else (torch.zeros(table.dim) if table.oov is None else table.oov[field])
                for v in values
            ]
            if vectors:
                stacked = torch.stack(vectors)
                found[row, field] = stacked.sum(0) if table.bags.pooling == "sum" else stacked.mean(0)
        at += slots
    return found * (torch.arange(table.dim) < table.candidate[:, None])


@pytest.mark.parametrize("pooling", ["sum", "mean"])
@pytest.mark.parametrize("pruned", ["zero", "oov"])
def test_bags_are_pooled_and_the_compact_table_pools_the_same(pooling: str, pruned: str) -> None:
    torch.manual_seed(0)
    table = OptEmbedding(SIZES, 8, slots=SLOTS, pooling=pooling, pruned=pruned).eval()
    table.fix(torch.rand(sum(SIZES)) < 0.6, [3, 8, 1])
    rows = ids(40)
    compact = table.compact()
    with torch.no_grad():
        assert torch.allclose(table(rows), by_hand(table, rows), atol=1e-6)
        assert torch.allclose(compact(rows), table(rows), atol=1e-6)
    cut = torch.cat([table(rows)[:, field, :d] for field, d in enumerate([3, 8, 1])], 1)
    assert torch.allclose(compact.concatenated(rows), cut, atol=1e-6)


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_the_export_is_what_an_embedding_bag_of_torch_loads(pooling: str, tmp_path) -> None:
    torch.manual_seed(1)
    table = OptEmbedding(SIZES, 8, slots=SLOTS, pooling=pooling, pruned="oov")
    table.fix(torch.rand(sum(SIZES)) < 0.6, [3, 8, 1])
    table.compact().save_pretrained(tmp_path / "e")
    compact = CompactEmbedding.from_pretrained(tmp_path / "e")
    names, rows = ["shop", "tags", "words"], ids(30)
    state, expected, at = compact.torchrec_state(names), compact.vectors(rows), 0
    for field, one in enumerate(compact.torchrec_tables(names)):
        bag = nn.EmbeddingBag(one["num_embeddings"], one["embedding_dim"], mode=pooling)
        bag.load_state_dict({"weight": state[f"embedding_bags.{one['name']}.weight"]})
        own = rows[:, at : at + SLOTS[field]]
        lengths = (own >= 0).sum(1)
        places = torch.split(compact.places, SIZES)[field]
        found = bag(places[own[own >= 0]], torch.cumsum(lengths, 0).int() - lengths.int())
        assert torch.allclose(found, expected[field], atol=1e-6)
        assert torch.equal(compact.embedding_bags()[field].weight, bag.weight)
        at += SLOTS[field]
    with pytest.raises(InputError, match="3 different names"):
        compact.torchrec_tables(["a", "a", "b"])


def test_eight_bits_are_within_half_a_step_and_keep_zeros(tmp_path) -> None:
    torch.manual_seed(2)
    table = OptEmbedding(SIZES, 8, slots=SLOTS, pruned="oov")
    table.fix(torch.rand(sum(SIZES)) < 0.6, [3, 8, 2])
    compact = table.compact()
    eight = compact.quantized()
    assert eight.values.dtype == torch.int8
    assert eight.quantized() is eight
    for own, coded, scales in zip(compact.tables, eight.tables, eight.factors, strict=True):
        step = own.abs().amax(0) / 127
        assert torch.allclose(scales[: own.shape[1]], step)
        assert ((own - coded * step).abs() <= step / 2 + 1e-7).all()
    rows = ids(50)
    assert torch.equal(eight(rows) == 0, compact(rows) == 0)
    eight.save_pretrained(tmp_path / "e")
    again = CompactEmbedding.from_pretrained(tmp_path / "e")
    assert torch.equal(again(rows), eight(rows))
    assert torch.equal(
        torch.cat([v.flatten() for v in again.vectors(rows)]), torch.cat([v.flatten() for v in eight.vectors(rows)])
    )
    stored = (tmp_path / "e" / "embedding.safetensors").stat().st_size
    vectors_of_pruned_and_scales = sum([3, 8, 2]) * (1 + 4)
    assert stored - compact.counted_parameters() - 4 * sum(SIZES) - vectors_of_pruned_and_scales < 1500  # names
    assert all(b.weight.dtype == torch.float32 for b in eight.embedding_bags())


@pytest.mark.parametrize("name", MODELS)
def test_models_pool_the_linear_term_and_reach_all_values(name: str) -> None:
    torch.manual_seed(0)
    table = OptEmbedding(SIZES, 4, slots=SLOTS, rows=False, dimensions=False)
    model = make_model(name, table, SIZES, 4, hidden=(6,)).eval()
    rows = ids(60)
    swapped = rows.clone()
    swapped[:, [1, 2, 3]] = rows[:, [3, 1, 2]]  # the order of values in a bag does not count
    with torch.no_grad():
        assert torch.allclose(model(rows), model(swapped), atol=1e-6)
        if name in ("fm", "deepfm"):
            empty = rows.clone()
            empty[:, 1:] = -1
            expected = model.linear.weight[rows[:, 0], 0] + model.bias
            assert torch.allclose(model._wide(empty), expected)


def test_cells_of_several_values_become_columns(tmp_path) -> None:
    table = pd.DataFrame(
        {
            "tags": ["a|b", "b| c |c|d", None, "", "a", "a|b"],
            "list": [[1, 2], [2], [], None, [1, 1, 3], [1, 2]],
            "x": list("pqpqpq"),
        }
    )
    encoder = FieldEncoder(several=["tags"], most_values=3).fit(table)
    assert [(f.kind, f.slots) for f in encoder.fields_] == [("several", 3), ("several", 3), ("category", 1)]
    assert encoder.fields_[0].vocabulary == {"a": 0, "b": 1, "c": 2}  # d is there once only: unknown
    found = encoder.transform(table)
    assert found[:, :3].tolist() == [[0, 1, -1], [1, 2, 2], [-1] * 3, [-1] * 3, [0, -1, -1], [0, 1, -1]]
    assert found[4, 3:6].tolist() == [0, 0, 2]  # 3 is unknown
    again = FieldEncoder.from_json(encoder.to_json())
    assert np.array_equal(again.transform(table), found)
    assert again.bags("mean") == Bags((3, 3, 1), "mean")
    table["y"] = [0, 1] * 3
    table.to_parquet(tmp_path / "t.parquet")
    for source in (table, tmp_path / "t.parquet"):
        read = read_clicks(source, "y", several=("tags",))
        assert read.encoder.slots_ == [4, 1, 3]
        assert "list has up to 3 values a row." in read.notes
    with pytest.raises(InputError, match="several: found 'tag'"):
        FieldEncoder(several=["tag"]).fit(table)
    for options in ({"separator": ""}, {"most_values": 0}):
        with pytest.raises(InputError, match=next(iter(options))):
            FieldEncoder(**options)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: OptEmbedding(SIZES, 4, slots=[1, 2]), "slots"),
        (lambda: OptEmbedding(SIZES, 4, slots=[0, 1, 1]), "slots"),
        (lambda: OptEmbedding(SIZES, 4, pooling="max"), "pooling"),
        (lambda: OptEmbedding([3, 2], 4, slots=[1, 2])(torch.tensor([[-1, 0, 1]])), "-1 in field 0"),
        (lambda: OptEmbedding([3, 2], 4, slots=[1, 2])(torch.tensor([[0, -2, 1]])), "-2 in field 1"),
        (
            lambda: OptEmbedding([3, 2], 4, slots=[1, 2])(torch.tensor([[0, 1]])),
            r"columns of the fields' values \[1, 2\]",
        ),
        (lambda: OptEmbedding([3, 2], 4)(torch.tensor([[0.5, 1.0]])), "whole numbers"),
        (lambda: CompactEmbedding([torch.full((2, 2), float("nan"))], [torch.tensor([0, 1])], 2), "finite"),
        (
            lambda: CompactEmbedding([torch.zeros(2, 2, dtype=torch.int8)], [torch.tensor([0, 1])], 2),
            "int8 with scales",
        ),
    ],
)
def test_bad_bags_are_named(call, named: str) -> None:
    with pytest.raises(InputError, match=named):
        call()


def test_rivals_on_bags_look_up_the_same_rows() -> None:
    rows, bags = ids(40), Bags.of(3, SLOTS, "mean")
    counts = row_counts(rows.numpy(), SIZES, bags)
    assert counts.sum() == int((rows >= 0).sum())
    assert counts[5] == int((rows[:, 1:4] == 0).sum())
    pep = PEPEmbedding(SIZES, 4, start=-30.0, bags=bags)
    plain = OptEmbedding(SIZES, 4, rows=False, dimensions=False, slots=SLOTS, pooling="mean").eval()
    hashed, relaxed = QREmbedding(SIZES, 4, 84, bags), RelaxedTable(SIZES, field_masks(4), bags).eval()
    with torch.no_grad():
        plain.weight.copy_(pep.weight)
        relaxed.weight.copy_(pep.weight)
        for field in range(3):
            hashed.remainder[field].weight.copy_(torch.split(pep.weight, SIZES)[field])
        expected = plain(rows)
        assert torch.allclose(pep(rows), expected, atol=1e-6)
        assert torch.allclose(hashed(rows), expected, atol=1e-6)
        assert torch.allclose(relaxed(rows), expected / 2, atol=1e-6)  # both choices are as likely


def test_likeliest_dimensions_are_those_of_brute_force_at_their_price() -> None:
    candidates, masks = dimension_masks(6)
    assert candidates == [1, 2, 4, 6]
    assert masks.sum(1).tolist() == candidates
    logits, rows = torch.randn(4, 4, generator=torch.Generator().manual_seed(5)), [3, 50, 7, 20]
    logs = logits.log_softmax(1)

    def of(chosen: tuple[int, ...]) -> tuple[float, int]:
        size = sum(rows[i] * candidates[k] for i, k in enumerate(chosen))
        return float(sum(logs[i, k] for i, k in enumerate(chosen))), size

    every = [of(chosen) for chosen in itertools.product(range(4), repeat=4)]
    for budget in (80, 120, 200, 300, 480):
        found = likeliest_dimensions(logits, candidates, rows, budget)
        value, size = of(tuple(candidates.index(d) for d in found))
        assert size <= budget
        # nothing as small as what was found is likelier
        assert value >= max(v for v, s in every if s <= size) - 1e-5
    with pytest.raises(InputError, match=r"79 parameters.*80 or more"):
        likeliest_dimensions(logits, candidates, rows, 79)


def test_likeliest_fields_fit_into_the_budget() -> None:
    logits = torch.tensor([[0.0, 3.0], [0.0, 2.0], [0.0, 1.0]])
    assert likeliest_fields(logits, [10, 100, 5], 2, 40) == [True, False, True]
    with pytest.raises(InputError, match="10 or more"):
        likeliest_fields(logits, [10, 100, 5], 2, 9)


def clicks(rows: int, seed: int) -> Clicks:
    """The first field decides; the second is noise."""
    rng = np.random.default_rng(seed)
    values = np.stack([rng.integers(0, 6, rows), rng.integers(0, 6, rows)], 1)
    return Clicks(values, (values[:, 0] > 2).astype(np.int8))


def test_choices_learn_which_field_counts_from_validation_rows_alone() -> None:
    torch.manual_seed(0)
    table = RelaxedTable([6, 6], field_masks(4))
    model = make_model("fnn", table, [6, 6], 4, hidden=())
    with torch.no_grad():
        table.weight[:6] = torch.tensor([-1.0, -1, -1, 1, 1, 1])[:, None]
        table.weight[6:] = torch.randn(6, 4)
        model.output.weight.fill_(0.5)
    choices = ChoiceTraining(model, table, clicks(400, 0), 128, 0)
    before = {name: value.clone() for name, value in model.named_parameters()}
    model.train()
    for step in range(60):
        choices.after_step(step, 0.0, 0.0)
    kept = table.logits.softmax(1)[:, 1]
    assert kept[0] > 0.6 > 0.5 > kept[1]
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    again = ChoiceTraining(model, RelaxedTable([6, 6], field_masks(4)), clicks(400, 0), 128, 0)
    again.load_state_dict(choices.state_dict())
    assert torch.equal(again.choice, choices.choice)


def test_every_rival_is_no_larger_than_the_found_table() -> None:
    rows = clicks(120, 0)
    bench = Bench(
        rows, clicks(60, 1), clicks(60, 2), [6, 6], "fnn", 4, (4,), ClickTraining(epochs=1, batch_size=64), device="cpu"
    )
    found = OptEmbedding([6, 6], 4)
    found.fix(torch.arange(12) % 6 > 0, [4, 4])
    for name in OTHERS:
        size, scores = bench.baseline(name, found)
        assert size <= found.parameters_kept()
        assert 0 <= scores["auc"] <= 1
    found.fix(torch.arange(12) < 3, [3, 1])
    for name in (UNIFORM, AUTODIM, AUTOFIELD):
        with pytest.raises(InputError, match="budget"):
            bench.baseline(name, found)
    kept, dimensions = random_masks(found, np.random.default_rng(0))
    assert found.parameters_kept() >= sum(d * int(k.sum()) for d, k in zip(dimensions, kept.split(6), strict=True))
