"""The parts of ATP against closed forms and real counts."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_transformers import VOCAB, tiny

from paperworks.errors import InputError
from paperworks.papers.atp import DecisionGenerator, KeptSize, ratio_loss
from paperworks.papers.atp.adapters import attach
from paperworks.papers.atp.data import as_examples
from paperworks.papers.atp.losses import growth, thresholds
from paperworks.papers.atp.settings import SPACES
from paperworks.pruning.sparsity import lora_group_norms, proximal_step
from paperworks.structure import KeepPlan, count, masked, prune, units_of

IDS = torch.arange(3, 27).view(2, 12) % VOCAB
KINDS = ("llama", "qwen2", "qwen3", "gpt2", "opt")


def spaces(kind: str) -> list[str]:
    """The spaces that a family can be searched in."""
    return [space for space in SPACES if (kind, space) != ("opt", "disp")]


CASES = [(kind, space) for kind in KINDS for space in spaces(kind)]


def random_masks(units: object, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for key, unit_set in units.items():  # type: ignore[attr-defined]
        mask = (torch.rand(unit_set.n_units, generator=generator) < 0.6).float()
        mask[0] = 1
        found[key] = mask
    return found


@given(st.floats(0.01, 1), st.floats(0.01, 1))
@settings(max_examples=50, deadline=None)
def test_ratio_loss(x: float, y: float) -> None:
    assert float(ratio_loss(x, x)) == pytest.approx(0, abs=1e-6)
    expected = math.log(max(x, y) / min(x, y))
    assert float(ratio_loss(torch.tensor(x).double(), y)) == pytest.approx(expected, abs=1e-6)
    assert float(ratio_loss(torch.tensor(y).double(), x)) == pytest.approx(expected, abs=1e-6)


def test_ratio_loss_of_the_paper() -> None:
    assert float(ratio_loss(0.5, 0.4)) == pytest.approx(0.22314, abs=1e-5)


@pytest.mark.parametrize(("kind", "space"), CASES)
def test_size_is_that_after_surgery(kind: str, space: str) -> None:
    model = tiny(kind)
    units = units_of(model, SPACES[space])
    size, masks = KeptSize(model, units), random_masks(units)
    assert float(size({k: torch.ones_like(m) for k, m in masks.items()})) == size.dense.prunable
    cut = prune(model, KeepPlan.from_masks(masks), inplace=False)
    assert float(size(masks)) == count(cut).prunable
    assert count(cut).parameters == sum(p.numel() for p in cut.parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("svd", [False, True])
def test_masks_of_ones_and_start_of_adapters(kind: str, svd: bool) -> None:
    model = tiny(kind)
    with torch.no_grad():
        before = model(input_ids=IDS).logits
    adapted = attach(model, rank=4, dropout=0.0, svd=svd, seed=0).eval()
    with torch.no_grad():
        plain = adapted(input_ids=IDS).logits
        assert torch.allclose(plain, before, atol=1e-4 if svd else 0)
        for space in spaces(kind):
            ones = {key: torch.ones(u.n_units) for key, u in units_of(adapted, SPACES[space]).items()}
            for base_only in (True, False):
                with masked(adapted, ones, base_only=base_only):
                    assert torch.equal(adapted(input_ids=IDS).logits, plain)


@pytest.mark.parametrize("kind", KINDS)
def test_lora_aware_forward_of_an_empty_adapter_is_the_plain_mask(kind: str) -> None:
    model = tiny(kind)
    expected = {}
    for space in spaces(kind):
        masks = random_masks(units_of(model, SPACES[space]))
        with torch.no_grad(), masked(model, masks):
            expected[space] = masks, model(input_ids=IDS).logits
    adapted = attach(model, rank=4, dropout=0.0, svd=False, seed=0).eval()
    for masks, logits in expected.values():
        with torch.no_grad(), masked(adapted, masks, base_only=True):
            assert torch.allclose(adapted(input_ids=IDS).logits, logits, atol=1e-5)


def test_a_pruned_unit_still_has_gradients_in_its_adapter() -> None:
    adapted = attach(tiny("llama"), rank=2, dropout=0.0, svd=True, seed=0)
    masks = {(1, "ffn"): torch.zeros(48)}
    masks[1, "ffn"][0] = 1
    with masked(adapted, masks, base_only=True):
        adapted(input_ids=IDS, labels=IDS).loss.backward()
    down = adapted.get_base_model().model.layers[1].mlp.down_proj
    assert down.lora_A["default"].weight.grad[:, 5].abs().sum() > 0


def test_dropout_is_behind_a() -> None:
    adapted = attach(tiny("llama"), rank=32, dropout=0.5, svd=False, seed=0).train()
    a = adapted.get_base_model().model.layers[0].mlp.up_proj.lora_A["default"]
    x = torch.randn(1, 32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = a(x)
    dropped = out == 0
    assert 4 < int(dropped.sum()) < 28
    assert torch.allclose(out[~dropped], (2 * x @ a.weight.T)[~dropped], atol=1e-5)


@given(st.floats(0, 5))
@settings(max_examples=15, deadline=None)
def test_proximal_step_is_the_closed_form(tau: float) -> None:
    adapted = attach(copy.deepcopy(MODEL), rank=2, dropout=0.0, svd=True, seed=0)
    units = units_of(adapted, ["ffn"], [0])
    before = lora_group_norms(adapted, units[0, "ffn"]).detach()
    proximal_step(adapted, units, {(0, "ffn"): torch.tensor([1, 7])}, tau)
    after = lora_group_norms(adapted, units[0, "ffn"]).detach()
    expected = before.clone()
    expected[[1, 7]] = (before[[1, 7]] - tau).clamp(min=0)
    assert torch.allclose(after, expected, atol=1e-5)


MODEL = tiny("llama")


def test_thresholds() -> None:
    dropped = {(0, "ffn"): torch.arange(3), (1, "ffn"): torch.arange(1), (2, "ffn"): torch.arange(0)}
    assert growth(0) == 0
    assert growth(1) == pytest.approx(50_000)
    found = thresholds(dropped, 1e-4, 1.0)
    assert found == pytest.approx({(0, "ffn"): 3.75, (1, "ffn"): 1.25, (2, "ffn"): 0.0})


@pytest.mark.parametrize(("generation", "head"), [(1, "separate"), (2, "mlp"), (2, "experts")])
def test_generator(generation: int, head: str) -> None:
    sizes = {(0, "ffn"): 5, (0, "v_channel"): 3, (1, "ffn"): 4}
    state = torch.get_rng_state()
    made = DecisionGenerator(sizes, generation=generation, head=head, seed=3)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), state)
    logits = made()
    assert {key: len(z) for key, z in logits.items()} == sizes
    sum(z.sum() for z in logits.values()).backward()
    assert made.encoder.layers[0].linear1.weight.grad.abs().sum() > 0
    if generation == 1:
        assert torch.allclose(made.inputs @ made.inputs.T, torch.eye(2), atol=1e-5)
        assert sum(p.numel() for p in made.heads.parameters()) == 64 * 12


@pytest.mark.parametrize("smoothing", ["momentum", "adaptive"])
def test_logits_are_smoothed(smoothing: str) -> None:
    made = DecisionGenerator({(0, "ffn"): 5}, generation=2, smoothing=smoothing, seed=0)  # type: ignore[arg-type]
    made.eval()
    new = made()[0, "ffn"].detach()
    before = torch.arange(1.0, 6.0)
    made.before.copy_(before[None])
    mu = 0.1
    if smoothing == "adaptive":
        mu += 0.8 * math.exp(-5 * float((before - new).norm() / before.norm()))
    assert torch.allclose(made()[0, "ffn"], (1 - mu) * before + mu * new, atol=1e-5)


@pytest.mark.parametrize(
    "data",
    [
        [],
        torch.zeros(0, 4, dtype=torch.int64),
        torch.zeros(2, 4),
        [{"text": "x"}],
        {"input_ids": IDS, "labels": torch.full_like(IDS, -100)},
    ],
)
def test_bad_examples(data: object) -> None:
    with pytest.raises(InputError) as found:
        as_examples(data, "train_dataset")
    assert found.value.field.startswith("train_dataset")


def test_rows_are_padded() -> None:
    found = as_examples([{"input_ids": [5, 6, 7]}, {"input_ids": [5, 6], "labels": [-100, 6]}], "x", 9)
    assert found.input_ids.tolist() == [[5, 6, 7], [5, 6, 9]]
    assert found.labels.tolist() == [[5, 6, 7], [-100, 6, -100]]
    assert found.targets == 3


def test_left_padding_loses_no_token() -> None:
    ids = torch.arange(1, 15).repeat(2, 1)
    mask = torch.ones_like(ids)
    mask[1, :12] = 0
    left = as_examples({"input_ids": ids, "attention_mask": mask}, "data")
    batch = left.batch([1], torch.device("cpu"))
    assert batch["input_ids"].tolist() == [[13, 14]]
    assert batch["labels"].tolist() == [[13, 14]]
    assert left.targets == 13 + 1
    assert left.batch([0, 1], torch.device("cpu"))["input_ids"].shape == (2, 14)
