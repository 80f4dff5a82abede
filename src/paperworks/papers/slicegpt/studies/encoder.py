"""The post-LN extension on a real sentence encoder, all-MiniLM-L6-v2."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np

from paperworks import inputs, runs
from paperworks.language import bundled_text, load_tokenizer
from paperworks.metrics import mean_interval
from paperworks.papers.slicegpt import quality
from paperworks.papers.slicegpt.estimator import SliceGPT
from paperworks.papers.slicegpt.studies.bench import DRAWS
from paperworks.runs import Finding


@runs.study(claims=["post-ln-extension"], title="MiniLM, a post-LN encoder", minutes=5)
def post_ln(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """all-MiniLM-L6-v2: exact at full width; below it, embeddings against the dense ones and two other bases."""
    folder = Path(inputs.path("minilm"))
    tokenizer = load_tokenizer(folder)
    dense = quality.load_encoder(folder, "float64", "cpu")
    n = 16 if fast else 256
    calibrations = [
        quality.encoder_sequences(tokenizer, [bundled_text("train")], max(n, 64), 48, seed)
        for seed in range(2 if fast else 3)
    ]
    test = quality.encoder_sequences(tokenizer, [bundled_text("test")], n, 48, 1)
    target = quality.mean_embeddings(dense, test, progress=run.progress)

    def sliced(d: int, basis: str, dtype: str, seed: int = 0) -> np.ndarray:
        model = quality.load_encoder(folder, dtype, "cpu")
        method = SliceGPT(1 - d / 384, basis=basis, seed=seed, device="cpu")  # type: ignore[arg-type]
        method.fit(model, calibrations[seed], batch_size=16, progress=run.progress)
        return quality.mean_embeddings(method.model_, test, progress=run.progress)

    full = sliced(384, "pca", "float64")
    exact = float(np.abs(full - target).max())
    widths = () if fast else (344, 264, 192)
    agreement = {d: quality.embedding_agreement(target, sliced(d, "pca", "float32")) for d in widths}
    cosines = {
        basis: [
            quality.embedding_agreement(target, sliced(304, basis, "float32", seed))["cosine"]
            for seed in range(len(calibrations))
        ]
        for basis in ("pca", "axis", "random")
    }
    listing = ", ".join(f"{d}: {a['cosine']:.3f} ({a['spearman']:.3f})" for d, a in agreement.items())
    better = [max(pair) for pair in zip(cosines["axis"], cosines["random"], strict=True)]
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
            mean_interval(cosines["pca"], unit=DRAWS),
            ">",
            0.93,
            detail=f"cosine (rank correlation of similarities) by other width, one draw: {listing}",
        ),
        Finding(
            "post-ln-extension",
            "The same, less the better of axis-aligned and random cuts, paired by draw",
            "empirical",
            mean_interval([p - b for p, b in zip(cosines["pca"], better, strict=True)], unit=DRAWS),
            ">",
            0.0,
            baseline=statistics.mean(better),
            baseline_name="better of the two",
            detail=", ".join(f"{b}: {', '.join(f'{c:.3f}' for c in row)}" for b, row in cosines.items()),
        ),
    ]
