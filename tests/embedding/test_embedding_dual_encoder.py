"""The dual encoder: trained by the common loop, and read back by transformers and sentence-transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from paperworks.embedding import DualEncoder, TextEncoder, clip_loss, dual_encoder_loss
from paperworks.embedding.dual_encoder import split_batch
from paperworks.errors import InputError
from paperworks.training import TrainSettings, train

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}


def _bert():
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(**SMALL, vocab_size=30, max_position_embeddings=12)).eval()


def _vit():
    from transformers import ViTConfig, ViTModel

    return ViTModel(ViTConfig(**SMALL, image_size=8, patch_size=4)).eval()


def _batch(count: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(count, 7, dtype=torch.long)
    mask[0, 4:] = 0
    return {
        "pixel_values": torch.randn(count, 3, 8, 8, generator=generator),
        "input_ids": torch.randint(5, 30, (count, 7), generator=generator),
        "attention_mask": mask,
    }


class _Tower(nn.Module):
    def __init__(self, key: str) -> None:
        super().__init__()
        self.key, self.net = key, nn.Linear(6, 8)

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        return self.net(inputs[self.key])


def test_the_common_loop_trains_it() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(64, 6)
    data = {"pixel_values": hidden, "input_ids": hidden @ torch.randn(6, 6)}
    model = DualEncoder(_Tower("pixel_values"), _Tower("input_ids"), dimensions=4, first_width=8, second_width=8)
    before = float(dual_encoder_loss(model, data)[0].detach()) / 64
    train(model, data, TrainSettings(steps=60, batch_size=32, learning_rate=1e-2, device="cpu"), loss=dual_encoder_loss)
    after = float(dual_encoder_loss(model, data)[0].detach()) / 64
    assert after < 0.5 * before
    first, second, _ = model(**data)
    assert float(((first @ second.T).argmax(1) == torch.arange(64)).float().mean()) > 0.5


def test_loss_is_clips_summed_over_pairs() -> None:
    model = DualEncoder(_vit(), _bert(), dimensions=6)
    total, count = dual_encoder_loss(model, _batch())
    first, second, temperature = model(**_batch())
    assert int(count) == 5
    torch.testing.assert_close(total, 5 * clip_loss(first, second, temperature=temperature))


def test_transformers_reads_it_back(tmp_path: Path) -> None:
    from transformers import VisionTextDualEncoderModel

    model = DualEncoder(_vit(), _bert(), dimensions=6, temperature=0.05)
    model.save_vision_text(tmp_path / "dual")
    again = VisionTextDualEncoderModel.from_pretrained(tmp_path / "dual").eval()
    with torch.inference_mode():
        output = again(**_batch())
        first, second, temperature = model(**_batch())
    torch.testing.assert_close(output.image_embeds, first, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(output.text_embeds, second, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(output.logits_per_image, first @ second.T / temperature, atol=1e-4, rtol=1e-5)
    with pytest.raises(InputError, match="overwritten"):
        model.save_vision_text(tmp_path / "dual")
    with pytest.raises(InputError, match="pooling"):
        DualEncoder(_vit(), _bert(), second_pooling="mean").save_vision_text(tmp_path / "no")
    with pytest.raises(InputError, match="towers"):
        DualEncoder(_bert(), _bert()).save_vision_text(tmp_path / "no")


@pytest.mark.parametrize("shared", [False, True])
def test_parts_are_read_back(tmp_path: Path, shared: bool) -> None:
    text = _bert()
    model = DualEncoder(text if shared else _vit(), text, dimensions=6, first_pooling="mean", second_pooling="cls")
    batch = _batch()
    if shared:
        batch = {f"{side}{k}": v for side in ("", "second_") for k, v in batch.items() if k != "pixel_values"}
    model.save_pretrained(tmp_path / "parts")
    again = DualEncoder.from_pretrained(tmp_path / "parts")
    assert (again.first is again.second) == shared
    for ours, theirs in zip(model.eval()(**batch), again.eval()(**batch), strict=True):
        torch.testing.assert_close(ours, theirs)
    with pytest.raises(InputError, match="save_pretrained"):
        DualEncoder(_Tower("a"), _bert(), first_width=8).save_pretrained(tmp_path / "no")
    with pytest.raises(InputError, match="dual_encoder"):
        DualEncoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_sentence_transformers_reads_it_back(tmp_path: Path, pooling: str) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", *["a", "b", "c", "d", "e", "f"]]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", model_max_length=12
    )
    tower = _bert()
    model = DualEncoder(tower, tower, dimensions=5, first_pooling=pooling)
    model.save_sentence_transformers(tmp_path / "st", tokenizer)
    texts = ["a b c", "f", "d d e a b"]
    ours = TextEncoder(tmp_path / "st", device="cpu").encode(texts)
    with torch.inference_mode():
        rows = [model.encode_first(**tokenizer(t, return_tensors="pt"))[0].numpy() for t in texts]
    np.testing.assert_allclose(ours, rows, atol=1e-6)
    st = pytest.importorskip("sentence_transformers")
    np.testing.assert_allclose(
        st.SentenceTransformer(str(tmp_path / "st"), device="cpu").encode(texts), ours, atol=1e-5
    )
    with pytest.raises(InputError, match="towers"):
        DualEncoder(_vit(), _bert()).save_sentence_transformers(tmp_path / "no", tokenizer)
    with pytest.raises(InputError, match="mean or cls"):
        DualEncoder(tower, tower).save_sentence_transformers(tmp_path / "no", tokenizer)


def test_batches_and_bad_options_are_named() -> None:
    assert [sorted(s) for s in split_batch(_batch())] == [["pixel_values"], ["attention_mask", "input_ids"]]
    with pytest.raises(InputError, match="batch"):
        split_batch({"input_ids": torch.ones(1)})
    for options, field in (
        ({"dimensions": 0}, "dimensions"),
        ({"first_pooling": "max"}, "first_pooling"),
        ({"temperature": 0.0}, "temperature"),
    ):
        with pytest.raises(InputError) as caught:
            DualEncoder(_vit(), _bert(), **options)
        assert caught.value.field == field
    with pytest.raises(InputError, match="first_width"):
        DualEncoder(_Tower("a"), _bert())
