"""A text encoder or a language model whose feed-forward layers lose inner features, from unlabelled text."""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.modhifi.config import Config
from paperworks.papers.modhifi.figures import kept_figure
from paperworks.papers.modhifi.pruner import ModHiFiPruner
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder
from paperworks.structure.trace import save_cut

LONGEST = 128
"""Tokens that calibration reads of a text."""


@dataclass
class TextModel:
    """An encoder of sentence-transformers or transformers, or a causal language model.

    Attributes
    ----------
    module : what is pruned.
    encoder : a ``TextEncoder``, or None for a language model.
    """

    module: nn.Module
    tokenizer: Any
    folder: Path
    encoder: Any = None

    def batches(self, texts: list[str], size: int = 32) -> list[dict[str, torch.Tensor]]:
        """Padded batches of texts for an encoder; windows of ``LONGEST`` tokens for a language model."""
        place = next(self.module.parameters()).device
        if self.encoder is None:
            windows = self.windows(texts)
            return [{"input_ids": part.to(place)} for part in windows.split(size) if len(part)]
        order = sorted(texts, key=len)
        found = []
        for start in range(0, len(order), size):
            made = self.tokenizer(
                order[start : start + size], padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
            )
            found.append({k: v.to(place) for k, v in made.items() if k in ("input_ids", "attention_mask")})
        return found

    def windows(self, texts: list[str]) -> torch.Tensor:
        """Windows of tokens [n, T] of the joined texts."""
        from paperworks.language.windows import token_windows

        longest = int(getattr(self.module.config, "max_position_embeddings", LONGEST))  # type: ignore[union-attr]
        return token_windows(self.tokenizer, texts, min(LONGEST, longest))

    def vectors(self, module: nn.Module, texts: list[str]) -> np.ndarray:
        """Unit vectors of texts with ``module`` in the encoder's place, float64 [n, d]."""
        whole = copy.copy(self.encoder)
        whole.module = module
        found = np.asarray(whole.encode(texts), dtype=np.float64)
        return found / np.linalg.norm(found, axis=1, keepdims=True).clip(1e-12)


def load_text_model(name: str, device: str = "auto") -> TextModel:
    """A model by name (``minilm``, ``bundled-llama``) or folder.

    Raises InputError for a folder without one, or of a kind that is neither an encoder nor a causal language model.
    """
    from paperworks import inputs
    from paperworks.language.models import bundled_model_path, load_model
    from paperworks.nn.loading import read_transformers_config
    from paperworks.nn.saving import read_network_config

    if name == "minilm":
        folder = Path(inputs.path("minilm"))
    else:
        folder = bundled_model_path() if name == "bundled-llama" else Path(name).expanduser()
    causal = False
    if (folder / "config.json").is_file():
        config = read_transformers_config(folder)
        if config.is_encoder_decoder:
            found = f"{folder}, a {config.model_type} of encoder and decoder"
            raise InputError("model", found, "an encoder of texts, or a language model")
    if not (folder / "modules.json").is_file():
        from transformers import AutoModelForCausalLM

        content = read_network_config(folder)
        causal = any("CausalLM" in str(a) or "LMHead" in str(a) for a in content.get("architectures") or ())
        kinds = {getattr(kind, "model_type", "") for kind in AutoModelForCausalLM._model_mapping}
        causal = causal and content.get("model_type") in kinds
    if causal:
        model, tokenizer = load_model(folder, "float32", device)
        model.config.use_cache = False
        return TextModel(model, tokenizer, folder)
    from paperworks.embedding.text_encoders import TextEncoder

    encoder = TextEncoder(folder, device=device, dtype="float32")
    return TextModel(encoder.module, encoder.tokenizer, folder, encoder)


def sentences(path: Path | None, count: int) -> tuple[list[str], list[str]]:
    """Texts to calibrate on (``count`` at most) and others to measure on, of a user's file or bundled English."""
    from paperworks.language import bundled_text, read_texts

    if path is None:
        parts = [
            [t.strip() for t in bundled_text(part).split("\n") if len(t.split()) > 4] for part in ("train", "test")
        ]
        return parts[0][:count], parts[1][: max(2, count // 2)]
    texts = [line.strip() for text in read_texts(path, "text") for line in text.split("\n") if line.strip()]
    if len(texts) < 4:
        raise InputError(
            "text", f"{len(texts)} lines in {path.name}", "4 or more: some to calibrate on, some to measure"
        )
    held = max(2, len(texts) // 5)
    return texts[: len(texts) - held][:count], texts[len(texts) - held :][: max(2, count // 2)]


def mean_cosine(model: TextModel, module: nn.Module, texts: list[str], dense: np.ndarray) -> float:
    """Mean cosine of the vectors of texts to those of the dense encoder."""
    return float((model.vectors(module, texts) * dense).sum(1).mean())


def save_text_model(model: TextModel, module: nn.Module, folder: Path) -> str:
    """Write a pruned text model; returns how it is loaded.

    Where all feed-forward layers kept the same width, the folder is one that transformers loads, with its tokenizer.
    Otherwise it is what ``structure.trace.load_cut`` loads.
    """
    widths = inner_widths(module)
    config: Any = copy.deepcopy(module.config)
    # n_inner is None where GPT-2 has four times the width of the stream
    size = next(
        (name for name in ("intermediate_size", "ffn_dim", "hidden_dim", "n_inner") if hasattr(config, name)), None
    )
    if len(set(widths)) == 1 and size is not None:
        setattr(config, size, widths[0])
        before, module.config = module.config, config
        try:
            with new_folder(folder) as aside:
                module.save_pretrained(aside)  # type: ignore[operator]
                model.tokenizer.save_pretrained(aside)
                for extra in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
                    if (model.folder / extra).is_file():
                        shutil.copy(model.folder / extra, aside)
                for sub in ("1_Pooling", "2_Normalize"):
                    if (model.folder / sub).is_dir():
                        shutil.copytree(model.folder / sub, aside / sub)
        finally:
            module.config = before
        return f"transformers ({size} {widths[0]})"
    save_cut(module, folder)
    return "structure.trace.load_cut(folder)"


def inner_widths(module: nn.Module) -> list[int]:
    """Inputs of the layers that read feed-forward features: those whose inputs are not the width of the stream."""
    from paperworks.papers.modhifi.layers import layer_at, readable_layers

    stream = int(module.config.hidden_size)  # type: ignore[union-attr, arg-type]
    names = ("down_proj", "output.dense", "fc2", "c_proj", "dense_4h_to_h", "wo", "Wo", "lin2", "w2", "ffn_output")
    found = []
    for path in readable_layers(module):
        layer = layer_at(module, path)
        if path.endswith(names) and layer.outputs == stream and "attention" not in path and "attn" not in path:
            found.append(layer.inputs)
    return found


def text_pruner(config: Config, **changes: Any) -> ModHiFiPruner:
    """The pruner for a text model: inner features of feed-forward layers, the same share of each by default."""
    from paperworks.papers.modhifi.pruning_run import pruner_of

    options = {"kinds": ("ffn",), "scope": "group" if config.scope == "auto" else config.scope, **changes}
    return pruner_of(config, **options)


def prune_text_model(config: Config, run: runs.Run) -> runs.Report:
    """Prune the text model that ``config.model`` names, and measure it on other text."""
    if config.task == "unlearn":
        raise InputError("task", "unlearn with a text model", "a classifier of images, or task prune")
    run.step(f"loading {config.model}")
    model = load_text_model(config.model, config.device)
    train, held = sentences(config.text, 5 * config.samples)
    batches = model.batches(train)
    run.step(f"pruning feed-forward layers, calibrated on {len(train):,} texts")
    methods: dict[str, dict[str, Any]] = {"ModHiFi-P": {}}
    if config.compare:
        methods |= {
            "without rescaling": {"compensation": "none", "restore_mean": False},
            "magnitude, without rescaling": {"score": "magnitude", "compensation": "none", "restore_mean": False},
            "magnitude, rescaled": {"score": "magnitude"},
        }
    measure = _Measure(model, held, run.progress)
    rows: list[list[Any]] = [["dense", measure(model.module), None, sum(p.numel() for p in model.module.parameters())]]
    first: ModHiFiPruner | None = None
    for name, changes in run.progress(methods.items(), "pruning", len(methods)):
        pruner = text_pruner(config, **changes).fit(model.module, batches)
        first = pruner if first is None else first
        rows.append(
            [name, measure(pruner.model_), *(100 * (1 - c) for c in _left(pruner)), pruner.report_.parameters[1]]
        )
    assert first is not None
    report = first.report_
    how = save_text_model(model, first.model_, run.output("pruned"))
    groups: list[list[Any]] = [[name, report.sizes[name], len(ids)] for name, ids in report.kept.items()]
    gone = 1 - sum(row[2] for row in groups) / sum(row[1] for row in groups)
    layers: list[list[Any]] = [
        [c.path, c.inputs, c.kept, c.fidelity_zeroed, c.fidelity, c.held_out] for c in report.layers
    ]
    return runs.Report(
        headline=f"With {gone:.1%} of the feed-forward features gone and no training, {measure.said} "
        f"{rows[1][1]:.4g} on {len(held):,} other texts (dense {rows[0][1]:.4g}).",
        metrics={"quality": rows[1][1], "dense_quality": rows[0][1], "features_gone": gone},
        labels={"quality": measure.name, "features_gone": "share of features removed"},
        lead=[f"Calibration: {len(train):,} unlabelled texts; no gradient."],
        tables=[
            runs.Table(
                "At the same cost",
                ["", measure.name, "features removed, %", "parameters"],
                rows,
                "Paper, Llama-2-7B at 20 %: perplexity 7.91 (WikiText calibration), SliceGPT 8.13, dense 5.12.",
            ),
            runs.Table("Features that stay", ["group", "before", "after"], groups),
            runs.Table(
                "Layers that read them",
                ["layer", "inputs", "kept", "fidelity, zeroed", "rescaled", "held out"],
                layers,
                "Fidelity is 1 less the error of the layer's output over its energy.",
            ),
        ],
        figures=[runs.Figure("Features that stay", kept_figure(groups), "Of every feed-forward layer.")],
        files=[runs.ReportFile("pruned", f"the smaller model, for {how}")],
        notes=list(report.notes[:3]),
    )


def _left(pruner: ModHiFiPruner) -> list[float]:
    report = pruner.report_
    return [sum(map(len, report.kept.values())) / sum(report.sizes.values())]


class _Measure:
    """Mean cosine to the dense encoder's vectors, or perplexity."""

    def __init__(self, model: TextModel, held: list[str], progress: Progress = no_progress) -> None:
        self.model, self.held, self.progress = model, held, progress
        causal = model.encoder is None
        self.name = "perplexity" if causal else "mean cosine to the dense vectors"
        self.said = "perplexity is" if causal else "the mean cosine to the dense vectors is"
        self.dense = None if causal else model.vectors(model.module, held)

    def __call__(self, module: nn.Module) -> float:
        if self.dense is not None:
            return mean_cosine(self.model, module, self.held, self.dense)
        from paperworks.language import perplexity

        return perplexity(module, self.model.windows(self.held), batch_size=8)
