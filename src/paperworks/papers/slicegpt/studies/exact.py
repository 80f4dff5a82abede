"""Exact properties: on random models of every family in float64, and on the bundled model's embedding signal."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import LlamaConfig, OPTConfig, PhiConfig

from paperworks import runs
from paperworks.papers.slicegpt.basis import haar, stream_basis
from paperworks.papers.slicegpt.estimator import SliceGPT
from paperworks.papers.slicegpt.random_models import LAYER_NORM, SETTINGS, outputs, random_model, random_tokens
from paperworks.papers.slicegpt.studies.bench import Bench
from paperworks.papers.slicegpt.widths import predicted_parameters
from paperworks.runs import Finding, largest
from paperworks.structure import cuts_of, fold_norms, rotate


@runs.study(
    claims=["invariance", "layernorm-to-rmsnorm", "orientation-free", "pca-optimality"],
    title="Exact properties",
    minutes=0.5,
)
def exact_properties(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Random models of every family in float64, and the bundled model's embedding signal."""
    ids = random_tokens(4, 24)
    folded, rotated, free = {}, {}, {}
    for name in run.progress(list(SETTINGS), "families"):
        model = random_model(name)
        before = outputs(model, ids)
        changed = fold_norms(copy.deepcopy(model))
        folded[name] = float((outputs(changed, ids) - before).abs().max())
        bases = [haar(64, (7, cut)) for cut in range(cuts_of(changed))]
        rotated[name] = float((outputs(rotate(changed, bases), ids) - before).abs().max())
        calibration = random_tokens(64, 24, seed=1)
        pair = []
        for orientation in ("pca", "random"):
            method = SliceGPT(0.25, orientation=orientation, device="cpu")
            method.fit(copy.deepcopy(model), calibration)
            pair.append(outputs(method.model_, ids))
        free[name] = float((pair[0] - pair[1]).abs().max())
    tolerance = 1e-9
    layer_norm = {name: folded[name] for name in LAYER_NORM}
    findings = [
        Finding(
            "invariance",
            "Largest change of any output when every point of the stream is turned by its own random orthogonal matrix",
            "exact",
            largest(rotated.values()),
            "<",
            tolerance,
            detail=f"float64; {len(rotated)} families: {', '.join(rotated)}",
        ),
        Finding(
            "layernorm-to-rmsnorm",
            "Largest change of any output when LayerNorms become weightless RMSNorms",
            "exact",
            largest(layer_norm.values()),
            "<",
            tolerance,
            detail=f"float64; {', '.join(layer_norm)}",
        ),
        Finding(
            "orientation-free",
            "Largest difference between the outputs with sorted and with randomly turned directions",
            "exact",
            largest(free.values()),
            "<",
            1e-6,
            detail="float64, a quarter of the hidden size cut",
        ),
    ]
    bench = Bench(run, fast)
    return findings + _pca_optimality(bench)


def _pca_optimality(bench: Bench) -> list[runs.Finding]:
    """The embedding cut of the bundled model: PCA against its own identity, random bases, and the best coordinates."""
    embedding: Any = bench.dense.get_input_embeddings()
    table = embedding.weight.detach().double()
    x = table[bench.calibration(32).input_ids.flatten()]
    d = x.shape[1] * 3 // 4
    total = float((x**2).sum())

    def lost(basis: torch.Tensor) -> float:
        kept = basis[:, :d]
        return float(((x - x @ kept @ kept.T) ** 2).sum()) / total

    basis, energies = stream_basis(x.T @ x, "pca", (0, 0))
    pca = lost(basis)
    identity = float(energies[d:].sum()) / total
    random = min(lost(haar(x.shape[1], (1, number))) for number in range(20))
    axis = lost(stream_basis(x.T @ x, "axis", (0, 0))[0])
    return [
        Finding(
            "pca-optimality",
            "Energy lost at the embedding cut equals the sum of the discarded eigenvalues",
            "exact",
            pca,
            "==",
            identity,
            tolerance=1e-9 * identity,
            unit="of the energy",
        ),
        Finding(
            "pca-optimality",
            "Energy lost by PCA against the best of all axis-aligned choices",
            "exact",
            pca,
            "<=",
            axis,
            baseline=random,
            baseline_name="best of 20 random bases",
            unit="of the energy",
            detail="the best axis-aligned choice keeps the coordinates of most energy",
        ),
        Finding(
            "pca-optimality",
            "Energy lost by PCA against the best of 20 random bases",
            "exact",
            pca,
            "<=",
            random,
            unit="of the energy",
        ),
    ]


@runs.study(claims=["parameter-count", "official-regression"], title="Closed-form parameter counts", minutes=0.5)
def parameter_counts(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """The closed forms against what is stored, and against the figures of the official code's tests."""
    differences = []
    for name in run.progress(list(SETTINGS), "families"):
        for slicing in (0.0, 0.25, 0.5):
            model = random_model(name, dtype=torch.float32)
            predicted = predicted_parameters(model, slicing)
            method = SliceGPT(slicing, device="cpu")
            method.fit(model, random_tokens(32, 24))
            differences.append(abs(predicted - sum(p.numel() for p in method.model_.parameters())))
    opt = predicted_parameters(OPTConfig(), 0.2)
    phi = predicted_parameters(
        PhiConfig(hidden_size=2560, intermediate_size=10240, num_hidden_layers=32, num_attention_heads=32), 0.2
    )
    llama = predicted_parameters(LlamaConfig(), 0.25) / 1e9
    return [
        Finding(
            "parameter-count",
            "Largest difference between the closed form and the stored parameters, all families",
            "exact",
            largest(differences),
            "==",
            0,
            unit="parameters",
            detail=f"{len(differences)} models, slicing 0, 25 and 50 %",
        ),
        Finding("parameter-count", "OPT-125M sliced by 20 %", "exact", opt, "==", 147_250_880, unit="parameters"),
        Finding("parameter-count", "Phi-2 sliced by 20 %", "exact", phi, "==", 2_391_772_160, unit="parameters"),
        Finding(
            "parameter-count",
            "Llama-2 7B sliced by 25 %",
            "exact",
            llama,
            "==",
            5.70,
            tolerance=0.005,
            unit="billion parameters",
        ),
    ]
