"""The prompt: in every example, never cut, never learned, the same at inference, and computed once."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from compresso_models import ROWS, byte_tokenizer, tiny
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from paperworks.errors import InputError
from paperworks.language import bundled_text, load_model
from paperworks.papers.compresso import PromptedModel, PromptTemplate, build_examples, definition_rows
from paperworks.papers.compresso.data import read_rows
from paperworks.papers.compresso.forward import prefixed_logits, response_loss, response_perplexity
from paperworks.papers.compresso.prompt import prefix_ids, with_chat_template
from paperworks.training.losses import IGNORED, next_token_loss

TOKENIZER = byte_tokenizer()
SHORT = PromptTemplate.of("You are being pruned, so help.")


def test_every_example_starts_with_the_prompt_and_learns_the_response_only() -> None:
    examples = build_examples(ROWS, TOKENIZER, PromptTemplate(), 4096)
    whole = examples.whole()
    start = PromptTemplate().prefix()
    assert start.startswith("You are a language model that is being optimised by a pruning algorithm,")
    for number, row in enumerate(ROWS):
        ids, mask, labels = (whole[name][number] for name in ("input_ids", "attention_mask", "labels"))
        text = TOKENIZER.decode(ids[mask.bool()])
        given = f"\n\nInput:\n{row['input']}" if row["input"] else ""
        asked = f"\n\nUser Instruction:\n{row['instruction']}{given}\n\nResponse:\n"
        assert text == f"{start}{asked}{row['output']}<eos>"
        assert TOKENIZER.decode(labels[labels != IGNORED]) == f"{row['output']}<eos>"
    assert "Input:" in TOKENIZER.decode(whole["input_ids"][1])
    assert "Input:" not in TOKENIZER.decode(whole["input_ids"][0])


def test_modes() -> None:
    template = PromptTemplate()
    assert template.prefix("none") == template.framing
    assert "has been optimised" in template.prefix("past")
    assert "being" not in template.prefix("past")
    assert PromptTemplate.of("none").prefix() == ""
    assert PromptTemplate.of("plain").prefix() == template.framing
    assert template.prefix("train", "text").endswith(template.text_framing)
    assert 70 < len(template.system.split()) < 135
    with pytest.raises(InputError, match="mode"):
        template.prefix("future")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="prompt"):
        PromptTemplate.of("colaborative")


def test_long_requests_lose_the_users_text_and_nothing_else() -> None:
    rows = [{"instruction": "Tell me all about it. " * 20, "input": "words " * 100, "output": "Short."}]
    most = 180
    examples = build_examples(rows, TOKENIZER, SHORT, most)
    whole = examples.whole()
    assert whole["input_ids"].shape == (1, most)
    text = TOKENIZER.decode(whole["input_ids"][0])
    assert text.startswith(SHORT.prefix())
    assert SHORT.instruction_header in text
    assert text.endswith(f"{SHORT.response_header}Short.<eos>")
    long = build_examples([{"instruction": "Go on.", "output": "word " * 100}], TOKENIZER, SHORT, most)
    assert long.whole()["input_ids"].shape == (1, most)  # a response that is too long is cut at its end
    assert "Response:\nword word" in TOKENIZER.decode(long.input_ids[0])


def test_plain_text_is_continued() -> None:
    text = "abcdefghij" * 40
    examples = build_examples([text], TOKENIZER, SHORT, 200)
    assert examples.kind == "text"
    learned = TOKENIZER.decode(examples.labels[0][examples.labels[0] != IGNORED])
    assert text.startswith(learned)
    shown = TOKENIZER.decode(examples.whole()["input_ids"][0])
    assert shown == SHORT.prefix("train", "text") + SHORT.text_header + learned
    bare = build_examples([{"text": text}], TOKENIZER, PromptTemplate.of("none"), 50)
    assert bare.input_ids.shape == (8, 50)
    assert len(bare.prefix) == 0


@pytest.mark.parametrize(
    ("rows", "template", "length", "field"),
    [
        ([{"instruction": "Go."}], SHORT, 300, r"dataset\[0\].output"),
        ([*ROWS, {"instruction": "Go.", "output": " "}], SHORT, 300, r"dataset\[16\].output"),
        ([{"output": "x"}], SHORT, 300, r"dataset\[0\].instruction"),
        (ROWS, SHORT, 90, "max_length"),
        (ROWS, PromptTemplate(), 100, "max_length"),
        (torch.zeros(4, 8, dtype=torch.int64), SHORT, 300, "prompt"),
        ([{"input_ids": [3, 4], "labels": [IGNORED, IGNORED]}], PromptTemplate.of("none"), 300, r"dataset\[0\]"),
        ([{"input_ids": [3, 4, 5], "labels": [3, 4]}], PromptTemplate.of("none"), 300, r"dataset\[0\]"),
        ([], SHORT, 300, "dataset"),
        (["short"], PromptTemplate.of("none"), 100, "texts"),
    ],
)
def test_bad_rows(rows: Any, template: PromptTemplate, length: int, field: str) -> None:
    with pytest.raises(InputError, match=field):
        build_examples(rows, TOKENIZER, template, length)


def test_tokens_with_labels() -> None:
    rows = [{"input_ids": [5, 6, 7, 8], "labels": [IGNORED, 6, 7, 8]}, {"input_ids": [9, 8]}]
    examples = build_examples(rows, TOKENIZER, PromptTemplate.of("none"), 100)
    assert examples.input_ids.tolist() == [[5, 6, 7, 8], [9, 8, 0, 0]]
    assert examples.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert examples.labels.tolist() == [[IGNORED, 6, 7, 8], [9, 8, IGNORED, IGNORED]]


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2", "opt", "phi"])
def test_prompt_computed_once_gives_the_same_loss_and_gradients(kind: str) -> None:
    model = tiny(kind, positions=400)
    examples = build_examples(ROWS[:4], TOKENIZER, SHORT, 300)
    batch = {name: getattr(examples, name) for name in ("input_ids", "attention_mask", "labels")}
    found = []
    for loss, data in (
        (lambda m, b: response_loss(m, b, examples.prefix), batch),
        (next_token_loss, examples.whole()),
    ):
        model.zero_grad()
        total, targets = loss(model, data)
        (total / targets).backward()
        found.append((float(total.detach()), int(targets), {n: p.grad.clone() for n, p in model.named_parameters()}))
    assert found[0][1] == found[1][1]
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for name, gradient in found[1][2].items():
        torch.testing.assert_close(found[0][2][name], gradient, atol=2e-4 * float(gradient.abs().max()) + 1e-8, rtol=0)
    whole = examples.whole()
    with torch.no_grad():
        plain = model(input_ids=whole["input_ids"], attention_mask=whole["attention_mask"]).logits
        shared = prefixed_logits(model, examples.prefix, examples.input_ids, examples.attention_mask)
    keep = examples.attention_mask.bool()
    scale = float(plain.abs().max())
    assert float((plain[:, len(examples.prefix) :] - shared)[keep].abs().max()) < 1e-5 * scale


def test_gradient_checkpointing_computes_whole_sequences() -> None:
    model = tiny("llama", positions=400)
    examples = build_examples(ROWS[:2], TOKENIZER, SHORT, 300)
    batch = {name: getattr(examples, name) for name in ("input_ids", "attention_mask", "labels")}
    wanted = float(response_loss(model, batch, examples.prefix)[0].detach())
    model.activation_checkpointing_enable()
    model.train()
    assert float(response_loss(model, batch, examples.prefix)[0].detach()) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "opt"])
def test_kept_prompt_and_plain_forward_agree(kind: str) -> None:
    model = tiny(kind, positions=400)
    prompted = PromptedModel(model, TOKENIZER, SHORT)
    asked = torch.stack([prompted.encode("Say number 3.", "in words"), prompted.encode("Say number 4.", "in order")])
    whole = torch.cat([prompted.prefix.expand(2, -1), asked], 1)
    with torch.no_grad():
        plain = model(input_ids=whole).logits[:, len(prompted.prefix) :]
    for _ in range(2):  # the kept keys and values are not used up
        assert float((prompted.logits(asked) - plain).abs().max()) < 1e-5 * float(plain.abs().max())
    answer = prompted.generate("Say number 3.", "in words", max_new_tokens=12)
    expected = model.generate(
        input_ids=whole[:1], attention_mask=torch.ones_like(whole[:1]), max_new_tokens=12, do_sample=False
    )
    assert answer == TOKENIZER.decode(expected[0, whole.shape[1] :], skip_special_tokens=True).strip()
    assert answer == prompted.generate("Say number 3.", "in words", max_new_tokens=12, use_cache=True)


def test_long_requests_at_inference() -> None:
    prompted = PromptedModel(tiny("llama", positions=400), TOKENIZER, SHORT)
    asked = prompted.encode("Say number 3.", "words " * 100, room=20)
    assert len(prompted.prefix) + len(asked) <= 400 - 20
    assert TOKENIZER.decode(asked).endswith(SHORT.response_header)
    with pytest.raises(InputError, match="template"):
        PromptedModel(tiny("llama", positions=32), TOKENIZER, SHORT)


def test_template_is_saved_and_becomes_the_chat_template(tmp_path: Path) -> None:
    model, tokenizer = load_model(None, "float32", "cpu")
    template = PromptTemplate()
    template.save(tmp_path)
    assert PromptTemplate.load(tmp_path) == template
    with pytest.raises(InputError, match="template"):
        PromptTemplate.load(tmp_path / "elsewhere")
    own: Any = with_chat_template(tokenizer, template)
    assert not getattr(tokenizer, "chat_template", None)
    messages = [{"role": "user", "content": "Define the noun."}]
    text = own.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == template.prefix() + template.request("Define the noun.")
    prompted = PromptedModel(model, tokenizer, template)
    ids = torch.cat([prompted.prefix, prompted.encode("Define the noun.")]).tolist()
    assert own(text, add_special_tokens=False)["input_ids"] == ids
    assert prefix_ids(template, tokenizer) == prompted.prefix.tolist()
    answered = own.apply_chat_template([*messages, {"role": "assistant", "content": "a hub"}], tokenize=False)
    assert answered == text + "a hub" + tokenizer.eos_token


def test_training_has_the_tokens_of_the_chat_template_where_line_breaks_join_what_is_before() -> None:
    """Tokenizers as Qwen's and Llama 3's have one token for a full stop and the line breaks behind it."""
    pieces = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pieces), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    text = PromptTemplate().prefix() + PromptTemplate().request("Say it.", "x")
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        [text, text], trainers.BpeTrainer(vocab_size=600, special_tokens=["<end>"], initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", pad_token="<end>")
    for template in (PromptTemplate(), PromptTemplate.of("none")):
        examples = build_examples(ROWS[:2], tokenizer, template, 400)
        whole, own = examples.whole(), with_chat_template(tokenizer, template)
        for number, row in enumerate(ROWS[:2]):
            given = f"{template.input_header}{row['input']}" if row["input"] else ""
            asked = {"role": "user", "content": row["instruction"] + given}
            chat = [asked, {"role": "assistant", "content": row["output"]}]
            text = str(own.apply_chat_template(chat, tokenize=False))
            wanted = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert whole["input_ids"][number][whole["attention_mask"][number].bool()].tolist() == wanted
    broken = build_examples([{"instruction": "\nSay it.", "output": "it"}], tokenizer, PromptTemplate(), 400)
    assert tokenizer.decode(broken.whole()["input_ids"][0]).endswith("Instruction:\n\nSay it.\n\nResponse:\nit<end>")


def test_dictionary_entries_become_rows() -> None:
    text = (
        'hub, centre (noun): a focal point; "the hub of it"\n\nsort (verb): arrange; "Sort them"\n\nA plain line.\n\n'
        "In the beginning: nothing.\n\nodd (adjective): "
    )
    assert definition_rows(text) == [
        {"instruction": "Define the noun.", "input": "hub, centre", "output": "a focal point"},
        {"instruction": "Define the verb.", "input": "sort", "output": "arrange"},
        {"instruction": "Use the verb in a sentence.", "input": "sort", "output": "Sort them"},
    ]
    assert len(definition_rows(bundled_text("train"))) > 6000


def test_files_of_rows(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps(row) for row in ROWS))
    assert read_rows(rows) == ROWS
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(rows.read_bytes()))
    assert read_rows(packed) == ROWS
    plain = tmp_path / "text.jsonl"
    plain.write_text('{"text": "a text"}')
    assert read_rows(plain) == ["a text"]
    rows.write_text('{"instruction": "Go.", "output": "x"}\n{"instruction": "Go."}')
    with pytest.raises(InputError, match="line 2"):
        read_rows(rows)
    rows.write_text('{"instruction": "Go.", "output": "x"}\nno json')
    with pytest.raises(InputError, match="line 2"):
        read_rows(rows)


def test_perplexity_of_responses() -> None:
    model = tiny("llama", positions=400)
    examples = build_examples(ROWS[:5], TOKENIZER, SHORT, 300)
    total, count = next_token_loss(model, examples.whole())
    found = response_perplexity(model, examples, batch_size=2)
    assert found == pytest.approx(float((total / count).detach().exp()), rel=1e-5)
    assert not any(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_mask_of_a_row_counts(side: str) -> None:
    pads = [0, 0, 0]
    ids, mask = ([*pads, 5, 6, 7], [*pads, 1, 1, 1]) if side == "left" else ([5, 6, 7, *pads], [1, 1, 1, *pads])
    found = build_examples([{"input_ids": ids, "attention_mask": mask}], TOKENIZER, PromptTemplate.of("none"), 300)
    assert found.input_ids.tolist() == [[5, 6, 7]]
    assert found.labels.tolist() == [[5, 6, 7]]


def test_padding_behind_a_prompt_may_be_on_either_side() -> None:
    model = tiny("gpt2")
    prefix = torch.tensor([9, 8, 4])
    right = {"input_ids": torch.tensor([[5, 6, 7, 0, 0]]), "attention_mask": torch.tensor([[1, 1, 1, 0, 0]])}
    left = {name: tensor.roll(2, 1) for name, tensor in right.items()}
    whole = {"input_ids": torch.tensor([[5, 6, 7, 3, 3]]), "attention_mask": torch.ones(1, 5, dtype=torch.int64)}
    losses = []
    for batch in (right, left):
        both = {name: torch.cat([batch[name], whole[name]]) for name in batch}
        loss, count = response_loss(model, {**both, "labels": both["input_ids"]}, prefix)
        losses.append((float(loss.detach()), int(count)))
    assert losses[0][1] == losses[1][1] == 2 + 4
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
