"""The attention, the losses, the caption heads and ProcX on a tiny set."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.papers.sieve_swap.attention import DeformableAttention, resample
from paperworks.papers.sieve_swap.captioner import (
    LstmCaptioner,
    TransformerCaptioner,
    caption_loss,
    encode_texts,
    repeats,
    word_tokenizer,
)
from paperworks.papers.sieve_swap.losses import (
    contrastive_loss,
    count_loss,
    focal,
    match,
    matching_cost,
    overlap,
    to_ends,
    varifocal,
)
from paperworks.papers.sieve_swap.network import Layer, SegmentDetector
from paperworks.papers.sieve_swap.procx import ProcX
from paperworks.papers.sieve_swap.settings import ProcXConfig
from paperworks.papers.sieve_swap.steps_dataset import StepDataset
from paperworks.papers.sieve_swap.studies.exact import attention_differences
from paperworks.papers.sieve_swap.training_rows import VideoRows, collate
from paperworks.training import TrainSettings

SMALL: dict[str, Any] = {
    "dim": 16,
    "heads": 2,
    "points": 2,
    "levels": 2,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "feed_forward": 16,
    "queries": 6,
    "positions": 16,
    "caption_layers": 1,
    "most_tokens": 8,
    "contrastive_dim": 8,
    "segment_points": 3,
    "dropout": 0.0,
}
SETTINGS = TrainSettings(epochs=2, batch_size=2, learning_rate=1e-3, device="cpu")


class Letters:
    """Counts of letters as an encoder."""

    def encode(self, items: Sequence[str]) -> np.ndarray:
        return np.array([[text.count(c) + 0.1 for c in "aeiourst"] for text in items], np.float32)


def tiny_set() -> tuple[StepDataset, dict[str, np.ndarray]]:
    texts = [["Cut the bread.", "Slice the bread."], ["Stir the soup slowly."], ["Bake the cake."]]
    videos = {
        f"v{n}": {
            "duration": 30.0 + n,
            "timestamps": [[2, 8], [10, 18], [20, 28]][: 1 + n % 3],
            "sentences": texts[: 1 + n % 3],
        }
        for n in range(4)
    }
    rng = np.random.default_rng(0)
    return StepDataset.of(videos), {v: rng.normal(size=(20, 12)).astype(np.float32) for v in videos}


def fitted(**options: Any) -> ProcX:
    dataset, features = tiny_set()
    model = ProcX(ProcXConfig(**SMALL | options), settings=SETTINGS, encoder=Letters(), device="cpu")
    return model.fit(dataset, features)


@pytest.mark.parametrize(("heads", "length"), [(1, 4), (4, 9)])
def test_key_aware_attention_becomes_full_attention(heads: int, length: int) -> None:
    full, equal = attention_differences(heads, length, torch.Generator().manual_seed(0))
    assert full < 1e-10
    assert equal < 1e-10


def test_key_aware_attention_equals_sampled_keys_and_values() -> None:
    """The form of the paper: keys and values are sampled for every query, head, level and point."""
    torch.manual_seed(0)
    module = DeformableAttention(8, 2, 2, 3).double()
    torch.nn.init.normal_(module.offsets.weight, std=0.5)
    query, memory = torch.randn(2, 5, 8).double(), torch.randn(2, 14, 8).double()
    lengths, reference = [9, 5], torch.rand(2, 5, 2, 2).double()
    where = module.places(query, reference, lengths)
    keys, values = module.key(memory), module.value(memory)
    out = torch.zeros(2, 5, 2, 4).double()
    for b, q, h in itertools.product(range(2), range(5), range(2)):
        points = []
        for level, start in enumerate((0, 9)):
            for x in where[b, q, h, level].tolist():
                at = x * lengths[level] - 0.5
                low = int(np.floor(at))
                parts = [(low, 1 - (at - low)), (low + 1, at - low)]
                inside = [(i, w) for i, w in parts if 0 <= i < lengths[level]]
                points.append([(start + i, w) for i, w in inside])
        cut = slice(4 * h, 4 * h + 4)
        k, v = (
            torch.stack([sum((w * m[b, i, cut] for i, w in p), torch.zeros(4).double()) for p in points])
            for m in (keys, values)
        )
        weight = torch.softmax(k @ module.query(query)[b, q, cut] / 2, 0)
        out[b, q, h] = weight @ v
    assert torch.allclose(module(query, reference, memory, lengths), module.output(out.reshape(2, 5, 8)))


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    module = DeformableAttention(8, 2, 1, 2)
    query, memory = torch.randn(1, 3, 8), torch.randn(1, 6, 8)
    reference = torch.rand(1, 3, 1, 1)
    padding = torch.tensor([[False] * 4 + [True] * 2])
    other = memory.clone()
    other[:, 4:] = 99.0
    assert torch.equal(module(query, reference, memory, [6], padding), module(query, reference, other, [6], padding))


def test_offsets_begin_on_both_sides() -> None:
    module = DeformableAttention(16, 4, 1, 3)
    bias = module.offsets.bias.view(4, 3)
    assert bias.abs().tolist() == [[1, 2, 3]] * 4
    assert set(bias[:, 0].tolist()) == {1.0, -1.0}
    assert not module.offsets.weight.any()


def test_features_are_resampled_to_their_ends() -> None:
    line = torch.arange(5.0)[:, None]
    assert torch.allclose(resample(line, 9)[:, 0], torch.linspace(0, 4, 9))
    assert resample(line, 3, "nearest")[:, 0].tolist() == [0, 2, 4]
    assert resample(line[:1], 4)[:, 0].tolist() == [0] * 4


def test_generalised_overlap() -> None:
    iou, giou = overlap(torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 3.0]]))
    assert (float(iou), float(giou)) == pytest.approx((0, -1 / 3))
    same = torch.tensor([[0.2, 0.6]])
    assert [float(x) for x in overlap(same, same)] == pytest.approx([1, 1])
    ends = to_ends(torch.tensor([[0.5, 0.0]]))
    assert float(ends[0, 1] - ends[0, 0]) == pytest.approx(1e-4, rel=1e-2)


def test_the_assignment_is_the_cheapest() -> None:
    torch.manual_seed(0)
    config = ProcXConfig(cost_l1=1.0)
    layer = Layer(torch.randn(1, 5), torch.rand(1, 5, 2), torch.zeros(1, 21), torch.zeros(1, 5, 4))
    segments = torch.rand(1, 4, 2)
    cost = matching_cost(layer.logits[0], layer.boxes[0], segments[0, :3], config)
    rows, columns = match(layer, segments, torch.tensor([3]), config)[0]  # the fourth is padding
    best = min(float(cost[list(p), [0, 1, 2]].sum()) for p in itertools.permutations(range(5), 3))
    assert float(cost[rows, columns].sum()) == pytest.approx(best, abs=1e-5)


def test_iou_aware_loss() -> None:
    logits = torch.linspace(-5, 5, 21, dtype=torch.float64)
    ones = torch.ones_like(logits)
    assert torch.allclose(
        varifocal(logits, ones), functional.binary_cross_entropy_with_logits(logits, ones, reduction="none")
    )
    p = logits.sigmoid()
    assert torch.allclose(varifocal(logits, 0 * ones), -0.75 * p**2 * torch.log(1 - p))
    assert torch.allclose(varifocal(logits, 0.3 * ones), -0.3 * (0.3 * torch.log(p) + 0.7 * torch.log(1 - p)))
    assert torch.allclose(focal(logits, ones), -0.25 * (1 - p) ** 2 * torch.log(p))
    for target in (0.0, 0.4, 1.0):
        x = logits.clone().requires_grad_()
        varifocal(x, target * ones).sum().backward()
        assert x.grad is not None
        assert ((x.grad * (p - target)) >= -1e-12).all()


def test_count_loss_forgives_near_numbers() -> None:
    logits = torch.full((1, 21), -4.0)
    near, far = logits.clone(), logits.clone()
    near[0, 6], far[0, 15] = 4.0, 4.0
    assert count_loss(near, torch.tensor([5])) < count_loss(far, torch.tensor([5]))
    assert torch.isfinite(count_loss(logits, torch.tensor([50]))).all()


def test_contrast_is_symmetric_cross_entropy_without_like_texts() -> None:
    torch.manual_seed(0)
    states, texts = (functional.normalize(torch.randn(3, 4), dim=1) for _ in range(2))
    vectors = torch.eye(3)
    logits = states @ texts.T / 0.07
    labels = torch.arange(3)
    expected = (functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)) / 2
    assert torch.allclose(contrastive_loss(states, texts, vectors, 0.07, 0.95), expected)
    vectors[2] = vectors[1]
    masked = logits.clone()
    masked[1, 2] = masked[2, 1] = -torch.inf
    expected = (functional.cross_entropy(masked, labels) + functional.cross_entropy(masked.T, labels)) / 2
    assert torch.allclose(contrastive_loss(states, texts, vectors, 0.07, 0.95), expected)
    assert contrastive_loss(states[:1], texts[:1], vectors[:1], 0.07, 0.95) == 0


@pytest.mark.parametrize("kind", [TransformerCaptioner, LstmCaptioner])
def test_captions_see_no_word_before_its_time_and_no_padding(kind: Any) -> None:
    torch.manual_seed(0)
    config = ProcXConfig(**SMALL)
    head = kind(config, 11).eval()
    states, features = torch.randn(2, 16), torch.randn(2, 3, 16)
    ids = torch.tensor([[1, 5, 6, 2, 0, 0], [1, 7, 2, 0, 0, 0]])
    logits = head(states, features, ids)
    changed = ids.clone()
    changed[:, 3] = 9
    assert torch.allclose(head(states, features, changed)[:, :3], logits[:, :3], atol=1e-6)
    longer = functional.pad(ids, (0, 1))
    assert torch.allclose(
        caption_loss(head, states, features, ids, 0, 2), caption_loss(head, states, features, longer, 0, 2)
    )
    steps = torch.log_softmax(logits, -1)
    chosen = [steps[0, 0, 5], steps[0, 1, 6], steps[0, 2, 2], steps[1, 0, 7], steps[1, 1, 2]]
    assert torch.allclose(caption_loss(head, states, features, ids, 0, 2), -torch.stack(chosen).mean(), atol=1e-6)


def test_runs_of_words_do_not_come_twice() -> None:
    assert repeats([5, 6, 7, 5, 6], 3) == [7]
    assert repeats([5, 6, 7, 5], 2) == [6]
    assert repeats([5, 5], 2) == [5]
    assert repeats([5, 6], 1) == [5, 6]
    assert repeats([], 2) == repeats([5], 3) == []
    _, features = tiny_set()
    for step in fitted(no_repeat=1).predict(features["v0"], 30.0, threshold=0.0):
        words = step["text"].lower().rstrip(".").split()
        assert len(words) == len(set(words))


def test_the_tokenizer_is_of_whole_words() -> None:
    tokenizer = word_tokenizer(["Stir the soup.", "Don't stir the pot!"])
    (ids,) = encode_texts(tokenizer, ["Stir the SOUP, don\u2019t burn"], 10)
    assert tokenizer.convert_ids_to_tokens(ids) == ["[BOS]", "stir", "the", "soup", "don't", "[UNK]", "[EOS]"]


def test_alternatives_change_with_the_epoch_and_nothing_else() -> None:
    dataset, features = tiny_set()
    tokenizer = word_tokenizer(["Cut slice the bread."])
    rows = VideoRows(dataset, features, tokenizer, ProcXConfig(**SMALL), None)
    seen = set()
    for epoch in range(12):
        rows.set_epoch(epoch)
        batch = collate([rows[0], rows[2]])
        seen.add(tuple(batch["tokens"][0, 0].tolist()))
    assert len(seen) == 2
    assert batch["counts"].tolist() == [1, 3]
    assert batch["segments"][1, 1].tolist() == pytest.approx([14 / 32, 8 / 32])


def test_levels_and_durations() -> None:
    config = ProcXConfig(**SMALL | {"levels": 3, "text_width": 5})
    detector = SegmentDetector(config, 12).eval()
    layers, memory = detector(torch.randn(2, 16, 12), torch.tensor([20.0, 400.0]), torch.randn(2, 16, 5))
    assert memory.lengths == (16, 8, 4, 16)
    assert [tuple(one.boxes.shape) for one in layers] == [(2, 6, 2)] * 2
    assert ((layers[-1].boxes > 0) & (layers[-1].boxes < 1)).all()
    assert float(layers[0].logits.detach().sigmoid().mean()) < 0.1  # a prior of 0.01


def test_procx_predicts_and_is_read_back(tmp_path: Path) -> None:
    model = fitted()
    _, features = tiny_set()
    steps = model.predict(features["v0"], 30.0)
    assert steps
    for step in steps:
        assert 0 <= step["start"] < step["end"] <= 30
        assert 0 <= step["score"] <= 1
        assert step["text"]
    assert steps == sorted(steps, key=lambda s: s["start"])
    assert len(model.predict(features["v0"], 30.0, threshold=0.0)) == 6
    model.save_pretrained(tmp_path / "model")
    again = ProcX.from_pretrained(tmp_path / "model", device="cpu")
    assert again.predict(features["v0"], 30.0) == steps
    with pytest.raises(InputError, match="nothing is overwritten"):
        model.save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match=r"procx\.json"):
        ProcX.from_pretrained(tmp_path)


def test_the_same_seed_gives_the_same_model_and_pre_training_goes_first() -> None:
    dataset, features = tiny_set()
    assert fitted().predict(features["v1"], 31.0) == fitted().predict(features["v1"], 31.0)
    model = ProcX(ProcXConfig(**SMALL), settings=SETTINGS, encoder=Letters(), device="cpu")
    model.fit(dataset.subset(["v0", "v1"]), features, pretrain=(dataset, features))
    assert list(model.history_) == ["pretraining", "training"]
    assert model.history_["pretraining"].steps == 4


@pytest.mark.parametrize(
    "options",
    [
        {"captions": "lstm", "caption_every_layer": True},
        {"captions": "none", "contrastive": 0.0, "key_aware": False, "score": "focal"},
        {"rerank": 0.3, "nms": 0.7, "key_aware_encoder": True, "levels": 1, "l1_weight": 1.0, "cost_l1": 1.0},
    ],
)
def test_variants_of_procx_train(options: dict[str, Any]) -> None:
    model = fitted(**options)
    assert all(np.isfinite(model.history_["training"].losses))
    _, features = tiny_set()
    assert model.predict(features["v0"], 30.0)


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
def test_a_language_model_of_a_folder_writes_captions(kind: str, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

    tokenizer = word_tokenizer(["Cut slice stir bake the bread soup cake slowly."])
    words = len(tokenizer)
    torch.manual_seed(0)
    if kind == "gpt2":
        model: Any = GPT2LMHeadModel(GPT2Config(vocab_size=words, n_embd=8, n_layer=1, n_head=2, n_positions=32))
    else:
        sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
        model = T5ForConditionalGeneration(T5Config(vocab_size=words, decoder_start_token_id=1, **sizes))
    model.save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    dataset, features = tiny_set()
    procx = ProcX(
        ProcXConfig(**SMALL), settings=SETTINGS, encoder=Letters(), caption_model=tmp_path / "lm", device="cpu"
    )
    procx.fit(dataset, features).save_pretrained(tmp_path / "model")
    again = ProcX.from_pretrained(tmp_path / "model", device="cpu")
    assert again.predict(features["v2"], 32.0) == procx.predict(features["v2"], 32.0)


def test_a_text_stream_is_one_more_level() -> None:
    from paperworks.papers.sieve_swap.sentences import VideoTranscript, speech_stream

    said = VideoTranscript.of("v", [(0, 5, "Stir the soup slowly."), (8, 10, "Bake the cake.")], 10.0)
    stream = speech_stream(said, Letters(), 10)
    assert stream.shape == (10, 8)
    assert (stream.any(1) == np.array([1, 1, 1, 1, 1, 0, 0, 0, 1, 1], bool)).all()
    dataset, features = tiny_set()
    text = dict.fromkeys(dataset, stream)
    model = ProcX(ProcXConfig(**SMALL | {"text_width": 8}), settings=SETTINGS, encoder=Letters(), device="cpu")
    model.fit(dataset, features, text=text)
    assert model.predict(features["v0"], 30.0, text=stream) != model.predict(features["v0"], 30.0, text=0 * stream)
    with pytest.raises(InputError, match="what is said"):
        model.predict(features["v0"], 30.0)


def test_what_does_not_fit_is_named() -> None:
    dataset, features = tiny_set()
    model = ProcX(ProcXConfig(**SMALL), settings=SETTINGS, encoder=Letters(), device="cpu")
    with pytest.raises(InputError, match="before fit"):
        model.predict(features["v0"], 30.0)
    with pytest.raises(InputError, match="features of v0"):
        model.fit(dataset, {})
    with pytest.raises(InputError, match="not finite"):
        model.fit(dataset, features | {"v1": np.full((4, 12), np.nan, np.float32)})
    with pytest.raises(InputError, match=r"\[T, 12\]"):
        model.fit(dataset, features | {"v1": np.zeros((4, 9), np.float32)})
    with pytest.raises(InputError, match="no video with a step"):
        model.fit(StepDataset({}), features)
    model.fit(dataset, features)
    with pytest.raises(InputError, match="more than 0 seconds"):
        model.predict(features["v0"], 0.0)
    with pytest.raises(InputError, match=r"\[T, 12\]"):
        model.predict(np.zeros((4, 9), np.float32), 30.0)
    for wrong in ({"positions": 2}, {"dim": 10}, {"score": "x"}, {"dropout": 1.0}, {"captions": "gpt"}):
        with pytest.raises(InputError):
            ProcXConfig(**SMALL | wrong)
