"""The preference loss, tokens and labels, and trainings from folder to folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from papers.spar.tiny import TEMPLATE, write_rows
from paperworks.errors import InputError
from paperworks.language import bundled_model_path, load_tokenizer
from paperworks.papers.spar import (
    preference_loss,
    preference_training_loss,
    read_chats,
    read_pairs,
    train_dpo,
    train_sft,
)
from paperworks.papers.spar.examples import PLAIN_TEMPLATE, chat_example, pad_pairs, pad_rows
from paperworks.papers.spar.loss import pair_batch, response_log_probabilities
from paperworks.papers.spar.training import TuneOptions
from paperworks.runs import Cancelled
from paperworks.training import TrainSettings
from tiny_checkpoint import tiny_inputs

USER = [{"role": "user", "content": "the big cat"}]


def pair(chosen: str, rejected: str) -> dict[str, Any]:
    return {
        "prompt": USER,
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


PAIRS = [pair("goes to the river", "sees a red fox there"), pair("sees it", "goes"), pair("the old dog", "the hill")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tiny_inputs(tmp_path_factory.mktemp("tiny"))[0])


@pytest.fixture
def model(folder: Path) -> Any:
    from paperworks.language import load_model

    return load_model(folder, "float32", "cpu")


def options(**changes: Any) -> TuneOptions:
    settings = TrainSettings(epochs=2, batch_size=2, learning_rate=1e-3, device="cpu")
    return TuneOptions(**{"settings": settings, "chat_template": TEMPLATE, **changes})


def test_a_model_equal_to_its_reference_has_ln_2_and_the_sft_term() -> None:
    chosen, rejected, tokens = torch.tensor([-7.0, -30.0]), torch.tensor([-9.0, -2.0]), torch.tensor([4, 10])
    found = preference_loss(chosen, rejected, chosen, rejected, tokens, sft_weight=0.1)
    expected = [math.log(2) + 0.1 * 7 / 4, math.log(2) + 0.1 * 30 / 10]
    torch.testing.assert_close(found.loss, torch.tensor(expected), atol=1e-6, rtol=0)
    plain = preference_loss(chosen, rejected, chosen, rejected, tokens, sft_weight=0.0)
    assert abs(plain.loss - math.log(2)).max() < 1e-6


def test_swapping_chosen_and_rejected_turns_the_margin_round() -> None:
    gen = torch.Generator().manual_seed(0)
    a, b, ra, rb = torch.randn(4, 50, generator=gen, dtype=torch.float64) * 20
    tokens = torch.ones(50)
    there = preference_loss(a, b, ra, rb, tokens, beta=0.3, sft_weight=0.0)
    back = preference_loss(b, a, rb, ra, tokens, beta=0.3, sft_weight=0.0)
    torch.testing.assert_close(there.margin, -back.margin)
    torch.testing.assert_close(there.loss, torch.log1p(torch.exp(-there.margin)))


def test_log_probabilities_are_of_the_response_only(model: Any) -> None:
    network, tokenizer = model
    tokenizer.chat_template = TEMPLATE
    rows = []
    for one in PAIRS:
        row = {}
        for side in ("chosen", "rejected"):
            made = chat_example(tokenizer, one["prompt"], one[side][0]["content"], 64)
            assert made is not None
            row |= {f"{side}_{name}": ids for name, ids in made.items()}
        rows.append(row)
    found = response_log_probabilities(network, pair_batch(pad_pairs(rows))).tolist()
    for number, (row, side) in enumerate([(r, s) for s in ("chosen", "rejected") for r in rows]):
        ids, labels = row[f"{side}_input_ids"], row[f"{side}_labels"]
        logits = network(input_ids=torch.tensor([ids])).logits[0].detach().double().log_softmax(-1)
        own = sum(float(logits[t - 1, ids[t]]) for t in range(1, len(ids)) if labels[t] != -100)
        assert found[number] == pytest.approx(own, abs=1e-4)
        start = labels.index(next(t for t in labels if t != -100))
        assert tokenizer.decode(ids[:start]).endswith("the big cat")


def test_the_loss_for_training_is_the_mean_of_pairs(model: Any) -> None:
    network, tokenizer = model
    tokenizer.chat_template = TEMPLATE
    rows = [
        {
            f"{side}_{name}": ids
            for side in ("chosen", "rejected")
            for name, ids in (chat_example(tokenizer, one["prompt"], one[side][0]["content"], 64) or {}).items()
        }
        for one in PAIRS
    ]
    values = response_log_probabilities(network, pair_batch(pad_pairs(rows))).tolist()
    for i, row in enumerate(rows):
        row |= {"reference_chosen": values[i], "reference_rejected": values[3 + i]}  # type: ignore[dict-item]
    loss = preference_training_loss(beta=0.1, sft_weight=0.1)
    total, count = loss(network, pad_pairs(rows))
    lengths = [sum(t != -100 for t in row["chosen_labels"]) for row in rows]
    expected = [math.log(2) - 0.1 * v / n for v, n in zip(values[:3], lengths, strict=True)]
    assert int(count) == 3
    assert float(total.detach()) == pytest.approx(sum(expected), abs=1e-4)
    for bad in ({"beta": 0.0}, {"sft_weight": -1.0}):
        with pytest.raises(InputError):
            preference_training_loss(**bad)


def test_chats_of_the_bundled_model_end_where_they_should() -> None:
    tokenizer = load_tokenizer(bundled_model_path())
    tokenizer.chat_template = PLAIN_TEMPLATE
    made = chat_example(tokenizer, [{"role": "user", "content": "lighthouse (noun):"}], "a tower", 64)
    assert made is not None
    kept = [i for i in made["labels"] if i != -100]
    assert tokenizer.decode(kept) == " a tower<|end|>"
    assert made["input_ids"].count(tokenizer.eos_token_id) == 2  # the begin and the end
    cut = chat_example(tokenizer, [{"role": "user", "content": "lighthouse (noun):"}], "a tower " * 50, 20)
    assert cut is not None
    assert len(cut["input_ids"]) == 20
    assert chat_example(tokenizer, [{"role": "user", "content": "word " * 50}], "a", 20) is None


@pytest.mark.parametrize("rank", [0, 4])
def test_dpo_and_sft_leave_folders_that_transformers_loads(folder: Path, tmp_path: Path, rank: int) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    done = train_dpo(folder, PAIRS, tmp_path / "dpo", options=options(lora_rank=rank), device="cpu")
    assert (done.examples, done.left_out, len(done.losses)) == (3, 0, 3)
    assert done.losses[0] > math.log(2)
    assert done.facts["mean margin after"] > 0
    tuned = AutoModelForCausalLM.from_pretrained(done.folder)
    before = AutoModelForCausalLM.from_pretrained(folder)
    changed = [n for n, p in before.named_parameters() if not torch.equal(p, dict(tuned.named_parameters())[n])]
    assert changed
    assert AutoTokenizer.from_pretrained(done.folder).chat_template == TEMPLATE
    chats = [{"messages": [*USER, {"role": "assistant", "content": "goes"}]}] * 4
    path = write_rows(tmp_path / "rft.jsonl", chats)
    fitted = train_sft(done.folder, path, tmp_path / "sft", options=options(lora_rank=rank), device="cpu")
    assert fitted.losses[-1] < fitted.losses[0]
    with pytest.raises(InputError, match="out_dir"):
        train_sft(done.folder, chats, tmp_path / "sft", options=options(), device="cpu")


def test_a_training_that_was_stopped_ends_like_one_that_was_not(folder: Path, tmp_path: Path) -> None:
    whole = train_dpo(folder, PAIRS * 4, tmp_path / "whole", options=options(), device="cpu")

    def stopping(iterable, description, total=None):
        for number, item in enumerate(iterable):
            if description == "training" and number == 3:
                raise Cancelled
            yield item

    kept = tmp_path / "kept"
    common: dict[str, Any] = {"options": options(), "device": "cpu", "checkpoint_dir": kept}
    with pytest.raises(Cancelled):
        train_dpo(folder, PAIRS * 4, tmp_path / "resumed", progress=stopping, **common)
    resumed = train_dpo(folder, PAIRS * 4, tmp_path / "resumed", **common)
    assert resumed.losses == whole.losses
    assert resumed.facts == whole.facts


def test_another_reference_gives_another_first_loss(folder: Path, tmp_path: Path) -> None:
    first = train_dpo(folder, PAIRS, tmp_path / "a", options=options(), sft_weight=0.0, device="cpu")
    assert first.losses[0] == pytest.approx(math.log(2), abs=1e-6)
    other = train_dpo(
        folder, PAIRS, tmp_path / "b", options=options(), sft_weight=0.0, device="cpu", reference_dir=tmp_path / "a"
    )
    assert other.losses[0] != pytest.approx(math.log(2), abs=1e-4)


def test_bad_training_files_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"chat_template: found a tokenizer without one"):
        train_dpo(folder, PAIRS, tmp_path / "x", device="cpu")
    with pytest.raises(InputError, match="pairs: found none"):
        train_dpo(folder, [], tmp_path / "x", device="cpu")
    with pytest.raises(InputError, match="trainer"):
        train_dpo(folder, PAIRS, tmp_path / "x", device="cpu", trainer="mine")  # type: ignore[arg-type]
    for row, match in (({"prompt": "a"}, "chosen and rejected"), ({"chosen": "a", "rejected": "b"}, "no prompt")):
        with pytest.raises(InputError, match=match):
            read_pairs(write_rows(tmp_path / "p.jsonl", [row]))
    for row, match in (({"text": "a"}, "no messages"), ({"messages": USER}, "the user's")):
        with pytest.raises(InputError, match=match):
            read_chats(write_rows(tmp_path / "c.jsonl", [row]))
    for bad in ({"warmup": 2.0}, {"max_length": 1}, {"lora_rank": -1}):
        with pytest.raises(InputError):
            options(**bad)


def test_pairs_are_read_in_trls_forms(tmp_path: Path) -> None:
    answer = [{"role": "assistant", "content": "a"}]
    other = [{"role": "assistant", "content": "b"}]
    expected = {"prompt": USER, "chosen": answer, "rejected": other}
    rows = [
        {"prompt": USER, "chosen": answer, "rejected": other},
        {"prompt": "the big cat", "chosen": "a", "rejected": "b"},
        {"chosen": USER + answer, "rejected": USER + other},
    ]
    assert read_pairs(write_rows(tmp_path / "p.jsonl", rows)) == [expected] * 3


@pytest.mark.over_budget("TRL takes ten seconds to import")
def test_trl_has_the_same_tokens_and_the_same_loss(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    from paperworks.papers.spar.training import load_for_training
    from paperworks.papers.spar.trl_trainer import trl_dpo_trainer

    template = TEMPLATE.replace("{% endfor %}", "{% if m['role'] == 'assistant' %}[PAD]{% endif %}{% endfor %}")
    settings = TrainSettings(steps=1, batch_size=2, learning_rate=1e-3, device="cpu")
    chosen = options(settings=settings, chat_template=template)
    network, tokenizer = load_for_training(folder, "cpu", chosen)
    tokenizer.eos_token = "[PAD]"
    # pairs whose chosen responses are of one length, for which TRL's mean over tokens is the mean over pairs
    rows = [pair("goes to the river", "sees a red fox there"), pair("sees a dog there", "goes")]
    for weight in (0.0, 0.1):
        trainer = trl_dpo_trainer(network, tokenizer, rows, tmp_path / f"trl{weight}", chosen, 0.1, weight, True)
        batch = next(iter(trainer.get_train_dataloader()))
        made = [
            {
                f"{side}_{name}": ids
                for side in ("chosen", "rejected")
                for name, ids in (chat_example(tokenizer, one["prompt"], one[side][0]["content"], 64) or {}).items()
            }
            for one in rows
        ]
        both = pair_batch(pad_pairs(made))
        order = (
            [0, 1]
            if batch["input_ids"][0].tolist()[: len(made[0]["chosen_input_ids"])] == made[0]["chosen_input_ids"]
            else [1, 0]
        )
        mine = pair_batch(pad_pairs([made[i] for i in order]))
        shown = batch["input_ids"] * batch["attention_mask"]
        assert torch.equal(shown, mine["input_ids"] * mine["attention_mask"])
        assert torch.equal(batch["completion_mask"] == 1, mine["labels"] != -100)
        with torch.no_grad():
            reference = response_log_probabilities(network, both)
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
            theirs = float(trainer.compute_loss(trainer.model, batch))
            for i, row in enumerate(made):
                row |= {"reference_chosen": float(reference[i]), "reference_rejected": float(reference[2 + i])}  # type: ignore[dict-item]
            total, count = preference_training_loss(beta=0.1, sft_weight=weight)(network, pad_pairs(made))
        assert float(total / count) == pytest.approx(theirs, abs=1e-5)
        assert abs(theirs - math.log(2)) > 1e-4
    # of chosen responses of other lengths, TRL averages the SFT term over all tokens
    trainer = trl_dpo_trainer(network, tokenizer, PAIRS[:2], tmp_path / "other", chosen, 0.1, 0.1, True)
    batch = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        theirs = float(trainer.compute_loss(trainer.model, batch))
        own = [(chat_example(tokenizer, one["prompt"], one["chosen"][0]["content"], 64) or {}) for one in PAIRS[:2]]
        values = response_log_probabilities(network, pad_rows(own))
    tokens = [sum(t != -100 for t in one["labels"]) for one in own]
    assert tokens[0] != tokens[1]
    assert theirs == pytest.approx(math.log(2) - 0.1 * float(values.sum()) / sum(tokens), abs=1e-5)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "hello"}, "number 0: no messages"),
        ({"messages": "hello"}, "number 0: no messages"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "number 0: one turn only"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}, "last turn is the user's"),
    ],
)
def test_chats_given_as_rows_are_checked_like_those_of_a_file(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        train_sft(None, [row], tmp_path / "out")
