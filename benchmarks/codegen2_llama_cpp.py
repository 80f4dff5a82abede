"""The bundled code model in llama.cpp, beside transformers: the same tokens, the same likelihoods, the same infill.

    pip install --target peers --no-deps gguf llama-cpp-cffi
    PYTHONPATH=peers python benchmarks/codegen2_llama_cpp.py

Writes the model as GGUF (``save_gguf``), loads it with llama.cpp's library, asks for the prompt of one infill with its
special tokens as text, and prints: whether llama.cpp cuts the prompt into the same tokens, the largest difference of a
log-probability over the answer, and both greedy answers. The compiled library of llama-cpp-cffi is called directly.
It needs libstdc++ of GCC 13 or later; with an older one, LD_PRELOAD a library that has the one symbol it misses,
``__cxa_call_terminate``.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paperworks.papers.codegen2 import infill_many, infill_tokens, load_code_model, save_gguf

PREFIX = "import os\n\n\ndef names(folder):\n    found = []\n    for name in os.listdir(folder):"
SUFFIX = "\n    return found\n"
TOKENS = 24


class Peer:
    """llama.cpp with a GGUF file: log-probabilities of the next token."""

    def __init__(self, path: Path, rows: int) -> None:
        folder = next(Path(p) / "llama" for p in sys.path if list(Path(p).glob("llama/_llama_cpp_cpu*.so")))
        file = next(folder.glob("_llama_cpp_cpu*.so"))
        spec = importlib.util.spec_from_file_location("_llama_cpp_cpu", file)
        assert spec is not None
        assert spec.loader is not None
        module: Any = importlib.util.module_from_spec(spec)
        self.ffi, self.lib, self.rows = module.ffi, module.lib, rows
        self.lib.llama_backend_init()
        self.model = self.lib.llama_model_load_from_file(str(path).encode(), self.lib.llama_model_default_params())
        options = self.lib.llama_context_default_params()
        options.n_ctx, options.n_threads, options.n_threads_batch = 256, 1, 1
        self.context = self.lib.llama_init_from_model(self.model, options)
        self.vocabulary = self.lib.llama_model_get_vocab(self.model)

    def tokens(self, text: str) -> list[int]:
        """Tokens of a text in which special tokens stand as text."""
        data, room = text.encode(), self.ffi.new("int32_t[1024]")
        count = self.lib.llama_tokenize(self.vocabulary, data, len(data), room, 1024, False, True)
        return list(room[0:count])

    def next(self, ids: list[int], past: int) -> np.ndarray:
        """Log-probabilities behind ``ids``, of which ``past`` were read before, float64 ``[V]``."""
        fresh = self.ffi.new("int32_t[]", ids[past:])
        if self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(fresh, len(ids) - past)):
            raise RuntimeError("llama_decode failed")
        pointer = self.lib.llama_get_logits_ith(self.context, -1)
        logits = np.frombuffer(self.ffi.buffer(pointer, 4 * self.rows), np.float32).astype(np.float64)
        return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())


def main() -> None:
    """Compare."""
    loaded = load_code_model(device="cpu")
    tokenizer: Any = loaded.tokenizer
    tokens = infill_tokens(tokenizer)
    prompt = f"{PREFIX}<mask_1>{SUFFIX}{tokenizer.eos_token}<sep><mask_1>"
    ids = tokenizer(prompt)["input_ids"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        save_gguf(loaded.model, tokenizer, path)
        peer = Peer(path, loaded.model.config.vocab_size)
        theirs = peer.tokens(prompt)
        print("the same tokens of the prompt:", list(theirs) == ids)
        row, past, difference = list(ids), 0, 0.0
        while len(row) < len(ids) + TOKENS:
            found = peer.next(row, past)
            with torch.inference_mode():
                ours = loaded.model(torch.tensor([row])).logits[0, -1].double().log_softmax(-1).numpy()
            difference = max(difference, float(np.abs(found - ours).max()))
            past = len(row)
            row.append(int(found.argmax()))
            if row[-1] in (tokens.eom, tokens.end):
                break
    print(f"largest difference of a log-probability over {len(row) - len(ids)} tokens: {difference:.2g}")
    print("llama.cpp   :", repr(tokenizer.decode(row[len(ids) :]).removesuffix("<eom>")))
    answer = infill_many(loaded.model, tokenizer, [(PREFIX, SUFFIX)], TOKENS)[0][0].text
    print("transformers:", repr(answer))


if __name__ == "__main__":
    main()
