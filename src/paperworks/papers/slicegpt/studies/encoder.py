"""The post-LN extension on a real sentence encoder, all-MiniLM-L6-v2."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from paperworks import inputs, runs
from paperworks.language import bundled_text, load_tokenizer
from paperworks.papers.slicegpt import quality
from paperworks.papers.slicegpt.estimator import SliceGPT
from paperworks.runs import Finding


@runs.study(claims=["post-ln-extension"], title="MiniLM, a post-LN encoder", minutes=5)
def post_ln(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """all-MiniLM-L6-v2: exact at full width; below it, embeddings against the dense ones and two other bases."""
    folder = Path(inputs.path("minilm"))
    tokenizer = load_tokenizer(folder)
    dense = quality.load_encoder(folder, "float64", "cpu")
    n = 16 if fast else 256
    calibration = quality.encoder_sequences(tokenizer, [bundled_text("train")], max(n, 64), 48, 0)
    test = quality.encoder_sequences(tokenizer, [bundled_text("test")], n, 48, 1)
    target = quality.mean_embeddings(dense, test, progress=run.progress)

    def sliced(d: int, basis: str, dtype: str) -> np.ndarray:
        model = quality.load_encoder(folder, dtype, "cpu")
        method = SliceGPT(1 - d / 384, basis=basis, device="cpu")  # type: ignore[arg-type]
        method.fit(model, calibration, batch_size=16, progress=run.progress)
        return quality.mean_embeddings(method.model_, test, progress=run.progress)

    full = sliced(384, "pca", "float64")
    exact = float(np.abs(full - target).max())
    widths = (304,) if fast else (344, 304, 264, 192)
    agreement = {d: quality.embedding_agreement(target, sliced(d, "pca", "float32")) for d in widths}
    others = {
        basis: quality.embedding_agreement(target, sliced(304, basis, "float32"))["cosine"]
        for basis in ("axis", "random")
    }
    listing = ", ".join(f"{d}: {a['cosine']:.3f} ({a['spearman']:.3f})" for d, a in agreement.items())
    return [
        Finding(
            "post-ln-extension",
            "Largest change of any embedding coordinate at full width",
            "exact",
            exact,
            "<",
            1e-6,
            detail="float64, 384 dimensions",
        ),
        Finding(
            "post-ln-extension",
            "Mean cosine to the dense embeddings at 304 of 384 dimensions",
            "empirical",
            agreement[304]["cosine"],
            ">",
            0.93,
            detail=f"cosine (rank correlation of similarities) by width: {listing}",
        ),
        Finding(
            "post-ln-extension",
            "The same, against the better of axis-aligned and random cuts",
            "empirical",
            agreement[304]["cosine"],
            ">",
            max(others.values()),
            baseline=max(others.values()),
            baseline_name="better of the two",
            detail=", ".join(f"{b}: {c:.3f}" for b, c in others.items()),
        ),
    ]
