"""The training loop: the same losses after a stop, the same step as a plain loop, the best weights, clean states."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from paperworks.errors import InputError
from paperworks.runs import Cancelled
from paperworks.training import TrainSettings, next_token_loss, train
from paperworks.training.checkpoints import read_checkpoint, write_checkpoint


def tiny(dropout: float = 0.0, seed: int = 0) -> LlamaForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=40,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                attention_dropout=dropout,
                tie_word_embeddings=False,
            )
        )


def tokens(n: int = 30, length: int = 12, seed: int = 1) -> torch.Tensor:
    return torch.randint(40, (n, length), generator=torch.Generator().manual_seed(seed))


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class StopAfter:
    """A progress that is cancelled before it hands out step ``n``."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, iterable: Iterable[Any], description: str, total: int | None = None) -> Iterable[Any]:
        for i, item in enumerate(iterable):
            if i == self.n:
                raise Cancelled
            yield item


SETTINGS = TrainSettings(
    steps=11, batch_size=2, accumulation=2, learning_rate=1e-2, schedule="wsd", warmup_steps=2, eval_every=3, seed=3
)


def held_out(model: torch.nn.Module) -> float:
    total, count = next_token_loss(model, {"input_ids": tokens(6, seed=9)})
    return float(total / count)


@pytest.mark.parametrize("stop", [1, 5, 6, 10])
def test_a_stopped_training_goes_on_with_the_same_losses(tmp_path: Path, stop: int) -> None:
    # dropout on: the random state must come back too
    whole, parts = tiny(0.2), tiny(0.2)
    expected = train(whole, tokens(), SETTINGS, evaluate=held_out)
    with pytest.raises(Cancelled):
        train(parts, tokens(), SETTINGS, evaluate=held_out, checkpoint_dir=tmp_path, progress=StopAfter(stop))
    again = tiny(0.2, seed=5)  # other weights: they must come from the checkpoint
    found = train(again, tokens(), SETTINGS, evaluate=held_out, checkpoint_dir=tmp_path)
    assert found.losses == expected.losses
    assert found.evals == expected.evals
    assert found.best_step == expected.best_step
    assert same(whole, again)


def test_a_finished_training_is_not_done_twice(tmp_path: Path) -> None:
    first, second = tiny(), tiny(seed=7)
    expected = train(first, tokens(), SETTINGS, checkpoint_dir=tmp_path)
    found = train(second, tokens(), SETTINGS, checkpoint_dir=tmp_path)
    assert found.losses == expected.losses
    assert same(first, second)


def test_one_step_is_the_step_of_a_plain_adamw_loop() -> None:
    data = tokens(4)
    plain, model = tiny(), tiny()
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in plain.parameters() if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for p in plain.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=1e-2,
        betas=(0.9, 0.95),
    )
    losses = []
    for _ in range(3):  # four examples in each step: their order does not matter
        loss = plain(input_ids=data, labels=data).loss
        losses.append(loss.item())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    settings = TrainSettings(steps=3, batch_size=4, learning_rate=1e-2, weight_decay=0.1, schedule="constant")
    found = train(model, data, settings)
    assert found.losses == pytest.approx(losses, rel=1e-5)
    for p, q in zip(plain.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-5)


def test_accumulation_gives_the_gradient_of_the_whole_batch_whatever_the_masks() -> None:
    mask = torch.ones(8, 12, dtype=torch.int64)
    mask[0, 2:] = 0  # one micro-batch has far fewer targets than the other
    mask[3, 5:] = 0
    data = {"input_ids": tokens(8), "attention_mask": mask}
    one, two = tiny(), tiny()
    first = train(one, data, TrainSettings(steps=4, batch_size=8, learning_rate=1e-2))
    second = train(two, data, TrainSettings(steps=4, batch_size=2, accumulation=4, learning_rate=1e-2))
    assert first.losses == pytest.approx(second.losses, rel=1e-5)
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-5)


def test_every_example_is_seen_once_in_an_epoch() -> None:
    seen: list[int] = []

    def note(model: torch.nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        seen.extend(batch["number"].tolist())
        return next_token_loss(model, {"input_ids": batch["input_ids"]})

    data = {"input_ids": tokens(9), "number": torch.arange(9)}
    train(tiny(), data, TrainSettings(epochs=2, batch_size=3), loss=note)
    assert sorted(seen[:9]) == sorted(seen[9:]) == list(range(9))
    assert seen[:9] != seen[9:]


def test_it_stops_early_and_keeps_the_best() -> None:
    values = iter([3.0, 2.0, 2.5, 2.25, 1.0])
    states = []

    def evaluate(model: torch.nn.Module) -> float:
        states.append({k: v.clone() for k, v in model.state_dict().items()})
        return next(values)

    model = tiny()
    found = train(model, tokens(), TrainSettings(steps=50, batch_size=2, eval_every=2, patience=2), evaluate=evaluate)
    assert found.evals == [(2, 3.0), (4, 2.0), (6, 2.5), (8, 2.25)]
    assert (found.steps, found.best_step, found.stopped_early) == (8, 4, True)
    assert all(torch.equal(v, states[1][k]) for k, v in model.state_dict().items())


def test_patience_survives_a_stop(tmp_path: Path) -> None:
    settings = TrainSettings(steps=50, batch_size=2, eval_every=2, patience=2)
    values = itertools.chain([3.0, 2.0, 2.5, 2.25], itertools.repeat(0.0))
    with pytest.raises(Cancelled):
        train(
            tiny(), tokens(), settings, evaluate=lambda m: next(values), checkpoint_dir=tmp_path, progress=StopAfter(7)
        )
    found = train(tiny(), tokens(), settings, evaluate=lambda m: next(values), checkpoint_dir=tmp_path)
    assert (found.steps, found.best_step, found.stopped_early) == (8, 4, True)


def test_global_randomness_and_the_model_s_state_are_left_as_they_were() -> None:
    model = tiny(0.2).eval()
    torch.manual_seed(11)
    before = torch.get_rng_state()
    train(model, tokens(), TrainSettings(steps=2, precision="bf16"))
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    assert "forward" not in vars(model)  # autocast does not stay on the model
    assert model(input_ids=tokens(1)).logits.dtype == torch.float32


def test_frozen_weights_stay(tmp_path: Path) -> None:
    model = tiny()
    frozen = model.model.embed_tokens.weight.requires_grad_(False)
    before = frozen.clone()
    train(model, tokens(), TrainSettings(steps=2), checkpoint_dir=tmp_path)
    assert torch.equal(frozen, before)
    saved = torch.load(tmp_path / "training.pt", weights_only=True)
    assert "model.embed_tokens.weight" not in saved["model"]


def test_a_generator_decides_in_place_of_the_seed() -> None:
    losses = [
        train(tiny(), tokens(), SETTINGS, generator=torch.Generator().manual_seed(seed)).losses for seed in (1, 1, 2)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    train(tiny(), tokens(), TrainSettings(steps=2), checkpoint_dir=tmp_path)
    with pytest.raises(InputError, match=r"checkpoint_dir: .*learning_rate 0.0002; expected .*learning_rate 0.1"):
        train(tiny(), tokens(), TrainSettings(steps=2, learning_rate=0.1), checkpoint_dir=tmp_path)
    with pytest.raises(InputError, match="examples 30"):
        train(tiny(), tokens(20), TrainSettings(steps=2), checkpoint_dir=tmp_path)
    (tmp_path / "training.pt").write_bytes(b"half")
    with pytest.raises(InputError, match="cannot be read"):
        train(tiny(), tokens(), TrainSettings(steps=2), checkpoint_dir=tmp_path)


def test_a_checkpoint_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    write_checkpoint(path, {"a": 1})
    with pytest.raises(Exception, match="pickle"):
        write_checkpoint(path, {"a": (i for i in range(3))})
    assert read_checkpoint(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["training.pt"]


@pytest.mark.parametrize(
    ("data", "field"),
    [(tokens(0), "data"), (tokens(3)[0], "data"), ({"a": tokens(2), "b": tokens(3)}, "data"), ([], "data")],
)
def test_bad_data(data: Any, field: str) -> None:
    with pytest.raises(InputError) as caught:
        train(tiny(), data, TrainSettings(steps=1))
    assert caught.value.field == field


def test_nothing_to_train_no_target_and_a_loss_that_is_not_finite() -> None:
    with pytest.raises(InputError, match="requires_grad"):
        train(tiny().requires_grad_(False), tokens(), TrainSettings(steps=1))
    nothing = {"input_ids": tokens(4), "labels": torch.full((4, 12), -100)}
    with pytest.raises(InputError, match="no target"):
        train(tiny(), nothing, TrainSettings(steps=1))
    model = tiny()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(InputError, match=r"learning_rate: found .*nan at step 1"):
        train(model, tokens(), TrainSettings(steps=1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"steps": 0},
        {"schedule": "steps"},
        {"precision": "int8"},
        {"decay_fraction": 1.5},
        {"betas": (0.9, 1.0)},
        {"patience": -1},
    ],
)
def test_settings_out_of_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        TrainSettings(**wrong)
    assert caught.value.field == next(iter(wrong))


def test_a_step_does_not_search_for_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate's own optimiser step looks for an optional package twice in every step."""
    searched: list[str] = []
    find_spec = importlib.util.find_spec

    def count(name: str, package: str | None = None) -> Any:
        searched.append(name)
        return find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", count)
    by_steps = []
    for steps in (1, 4):
        searched.clear()
        train(tiny(), tokens(), TrainSettings(steps=steps, batch_size=2, device="cpu"))
        by_steps.append(len(searched))
    assert by_steps[0] == by_steps[1]
