"""Networks to start from, none of which has seen the user's records, and how a folder finds its own again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paperworks import inputs
from paperworks.errors import InputError
from paperworks.nn import load_network
from paperworks.nn.loading import check_model_folder, first_line
from paperworks.nn.saving import SavedNetwork, read_network_config
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress

NEW_HEADS = {"classifier", "score", "pre_classifier", "classification_head", "pooler", "head"}
"""Parts of the names of modules that a model which was only pretrained may lack."""


@dataclass(frozen=True)
class Base:
    """A network, and how ``load_base`` makes it again.

    Attributes
    ----------
    module : the network.
    about : plain values; ``kind`` is one of "module" (the caller's own), "saved" (in the folder of the system),
        "sentence-encoder", and "folder" (of transformers).
    head : names of further modules without trained weights, which are drawn anew and trained in every stage.
    """

    module: nn.Module
    about: Mapping[str, Any] = field(default_factory=lambda: {"kind": "module"})
    head: tuple[str, ...] = ()


class Standardize(nn.Module):
    """Numbers ``[n, d]`` less their mean, over their standard deviation; missing ones (NaN) are 0.

    Its statistics are those of one slice: they are kept with the head of every stage, and go with it.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))

    def fit_statistics(self, examples: Mapping[str, torch.Tensor]) -> None:
        """Take the statistics of these examples."""
        values = examples["inputs"].flatten(1).double()
        mean = values.nanmean(0)
        deviation = ((values - mean) ** 2).nanmean(0).sqrt()
        scale = torch.where(deviation > 1e-12, 1 / deviation, torch.zeros_like(deviation))
        with torch.no_grad():
            self.mean.copy_(mean.nan_to_num())
            self.scale.copy_(scale.nan_to_num())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return ((inputs - self.mean) * self.scale).nan_to_num(0.0, 0.0, 0.0).clamp(-10, 10)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


class TableNetwork(SavedNetwork):
    """A residual perceptron for rows of numbers (Gorishniy et al. 2021), behind ``Standardize``.

    ::

        inputs [n, inputs] -> Standardize -> Linear -> layers * ( x + Linear(GELU(Linear(LayerNorm(x)))) )
               -> LayerNorm -> Linear -> logits [n, outputs]

    Its random layers pass on what comes in, so that a stage that trains the top ones alone can learn.
    """

    def __init__(self, *, inputs: int = 8, width: int = 64, layers: int = 6, outputs: int = 2) -> None:
        super().__init__(inputs=inputs, width=width, layers=layers, outputs=outputs)
        self.standardize = Standardize(inputs)
        self.project = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList([_Residual(width) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits ``[n, outputs]`` of numbers ``[n, ...]``; images may have channels and sides."""
        x = self.project(self.standardize(inputs.flatten(1)))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class SentenceClassifier(nn.Module):
    """Mean of an encoder's last hidden states over the tokens of a text, and a linear head."""

    def __init__(self, encoder: nn.Module, width: int, outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(width, outputs)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
        """Logits ``[n, outputs]`` of token ids int64 ``[n, T]``."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **more).last_hidden_state
        mask = attention_mask[..., None].to(hidden.dtype)
        return self.head((hidden * mask).sum(1) / mask.sum(1).clamp(min=1))


def table_base(features: int, outputs: int, *, layers: int = 6, width: int = 64, seed: int = 0) -> Base:
    """A perceptron with random weights of the seed."""
    check_seed("seed", seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = TableNetwork(inputs=features, width=width, layers=layers, outputs=outputs)
    return Base(module, {"kind": "saved"})


def sentence_base(outputs: int) -> Base:
    """The bundled all-MiniLM-L6-v2 (6 layers) with a new head; texts through ``encode_texts``."""
    from transformers import AutoModel

    found = inputs.path("minilm")
    encoder = AutoModel.from_pretrained(found, local_files_only=True, dtype=torch.float32)
    return Base(SentenceClassifier(encoder, encoder.config.hidden_size, outputs), {"kind": "sentence-encoder"})


def folder_base(path: str | Path, kind: str, outputs: int = 0) -> Base:
    """A model of transformers from a folder: "image" or "text" with a new head of so many classes, or "language".

    All weights come from the folder but those of the head. Raises InputError for other folders.
    """
    import transformers

    folder = Path(path).expanduser()
    check_model_folder(folder)
    classes = {
        "image": "AutoModelForImageClassification",
        "text": "AutoModelForSequenceClassification",
        "language": "AutoModelForCausalLM",
    }
    options: dict[str, Any] = {} if kind == "language" else {"num_labels": outputs, "ignore_mismatched_sizes": True}
    try:
        module, found = getattr(transformers, classes[kind]).from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True, **options
        )
    except Exception as error:  # whatever strange files make transformers raise
        raise InputError("model", f"{folder} ({first_line(error)})", f"a model for {kind}s of transformers") from None
    drawn = {name.rpartition(".")[0] for name in found["missing_keys"]}
    others = {name for name, *_ in found["mismatched_keys"] if not NEW_HEADS & set(name.split("."))}
    unknown = sorted(others | {name for name in drawn if kind == "language" or not NEW_HEADS & set(name.split("."))})
    if unknown:
        raise InputError("model", f"{folder}, without weights of {unknown[0]}", "weights of all layers but the head")
    about = {"kind": "folder", "path": str(folder.resolve()), "as": kind}
    return Base(module.eval(), about, tuple(sorted(drawn)))


def load_base(about: Mapping[str, Any], folder: Path, outputs: int, *, progress: Progress = no_progress) -> nn.Module:
    """The network that a manifest describes. Raises InputError where only the caller has it."""
    for _ in progress([None], "loading the base", 1):
        kind = about.get("kind")
        if kind == "saved":
            source = folder / "base"
            if read_network_config(source).get("network") == TableNetwork.__name__:
                return TableNetwork.from_pretrained(source)
            return load_network(source)
        if kind == "sentence-encoder":
            return sentence_base(outputs).module
        if kind == "folder":
            return folder_base(about["path"], about["as"], outputs).module
    raise InputError("base", "nothing, for a network of the caller's own", "the module that fit was given")


def state_digest(module: nn.Module, without: tuple[str, ...] = ()) -> str:
    """SHA-256 over names and bytes of a network's weights but those below the names ``without``."""
    found = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if not name.startswith(without):
            found.update(name.encode())
            found.update(tensor_bytes(value))
    return found.hexdigest()


def tensor_bytes(value: torch.Tensor) -> bytes:
    """The bytes of a tensor of any type, on any device."""
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
