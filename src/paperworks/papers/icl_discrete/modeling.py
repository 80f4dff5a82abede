"""``InContextModel``: a sequence model that reads labelled points and predicts the next label.

tokens   x_1, (y_1, 0, ..., 0), x_2, (y_2, 0, ..., 0), ..., x_m
outputs  one logit at every x-token, from the pairs before it and the input itself
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from paperworks.errors import InputError, nearest
from paperworks.nn import evaluation_mode
from paperworks.papers.icl_discrete.contexts import Names, check_prompts, check_queries
from paperworks.papers.icl_discrete.networks import ARCHITECTURES, authors_scale, backbone_width, build
from paperworks.parameters import check_seed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

READ_HIDDEN = 256
"""Width of the hidden layers by which a pretrained backbone reads points and gives its answer."""


class InContextConfig(PretrainedConfig):
    """Sizes of an ``InContextModel``.

    ``max_points`` is the longest prompt (labelled points and the query). ``backbone`` is the configuration of the
    pretrained model of architecture "language-model"; ``freeze`` says which of its weights are not trained: "all",
    "attention_and_mlp" (layer norms and learned positions are trained) or "none". ``task`` records what the model was
    trained on.

    ``read_in_scale`` multiplies the embeddings of the tokens. With 1 they have the size of what each block adds, as in
    GPT-2. The authors' code has the square root of the width for "transformer" and "retnet" (``authors_scale``): the
    blocks and the positions then count for little at first, and the model learns more slowly.
    """

    model_type = "in_context_boolean"

    def __init__(
        self,
        architecture: str = "transformer",
        n_dims: int = 8,
        width: int = 64,
        layers: int = 4,
        heads: int = 4,
        max_points: int = 100,
        read_in_scale: float = 1.0,
        backbone: dict[str, Any] | None = None,
        freeze: str = "all",
        task: dict[str, Any] | None = None,
        **rest: Any,
    ) -> None:
        if architecture not in ARCHITECTURES:
            raise InputError(
                "architecture",
                repr(architecture),
                f"one of {', '.join(ARCHITECTURES)}{nearest(architecture, ARCHITECTURES)}",
            )
        sizes = {"n_dims": n_dims, "width": width, "layers": layers, "heads": heads, "max_points": max_points}
        for name, value in sizes.items():
            if value < 1:
                raise InputError(name, value, "1 or more")
        if not (math.isfinite(read_in_scale) and read_in_scale > 0):
            raise InputError("read_in_scale", read_in_scale, "a positive number")
        if freeze not in ("all", "attention_and_mlp", "none"):
            raise InputError("freeze", repr(freeze), "all, attention_and_mlp or none")
        if architecture == "language-model" and not backbone:
            raise InputError("backbone", "nothing", "the configuration of the pretrained model (from_language_model)")
        self.architecture, self.n_dims, self.width, self.layers = architecture, n_dims, width, layers
        self.heads, self.max_points, self.read_in_scale = heads, max_points, read_in_scale
        self.backbone, self.freeze, self.task = backbone, freeze, task
        super().__init__(**rest)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **options: Any) -> Any:
        """The config of a folder. One that says nothing of ``read_in_scale`` was trained with the authors' scale."""
        if "read_in_scale" not in config_dict:
            scale = authors_scale(config_dict.get("architecture", "transformer"), config_dict.get("width", 64))
            config_dict = {**config_dict, "read_in_scale": scale}
        return super().from_dict(config_dict, **options)


class InContextModel(PreTrainedModel):
    """Predicts each label of a prompt from the pairs before it; saved and loaded as a Hugging Face folder."""

    config_class = InContextConfig
    base_model_prefix = "network"
    main_input_name = "xs"
    config: InContextConfig

    def __init__(self, config: InContextConfig) -> None:
        super().__init__(config)
        if config.architecture == "language-model":
            width = backbone_width(cast(dict[str, Any], config.backbone))
            self.read_in: nn.Module = _mlp(config.n_dims, width)
            self.read_out: nn.Module = _mlp(width, 1)
        else:
            width = config.width
            self.read_in, self.read_out = nn.Linear(config.n_dims, width), nn.Linear(width, 1)
        self.network = build(config)
        if config.architecture == "language-model":
            _freeze(self.network, config.freeze)

    def _init_weights(self, module: nn.Module) -> None:
        """Every part initialises itself when it is made."""

    @property
    def all_tied_weights_keys(self) -> dict[str, str]:
        """No weights are shared."""
        return {}

    @all_tied_weights_keys.setter
    def all_tied_weights_keys(self, value: dict[str, str]) -> None:
        del value

    def tokens(self, xs: torch.Tensor, ys: torch.Tensor) -> torch.Tensor:
        """Points and labels in turn, ``[B, 2m - 1, n]``; the last label is nobody's input."""
        labels = torch.zeros_like(xs)
        labels[..., 0] = ys
        return torch.stack([xs, labels], 2).flatten(1, 2)[:, :-1]

    def forward(self, xs: torch.Tensor, ys: torch.Tensor) -> torch.Tensor:
        """Logits ``[B, m]`` of the label +1 at every point.

        Parameters
        ----------
        xs : ``[B, m, n]`` of -1 and +1, any number type.
        ys : ``[B, m]`` of -1 and +1; ``ys[:, j]`` is not looked at for logit j.
        """
        if xs.ndim != 3 or ys.shape != xs.shape[:2]:
            raise InputError("xs, ys", f"shapes {tuple(xs.shape)} and {tuple(ys.shape)}", "[B, m, n] and [B, m]")
        if xs.shape[2] != self.config.n_dims:
            raise InputError("xs", f"{xs.shape[2]} bits per point", f"{self.config.n_dims}, as the model was made for")
        if xs.shape[1] > self.config.max_points:
            raise InputError("xs", f"{xs.shape[1]} points", f"at most {self.config.max_points}, as the model allows")
        states = self.network(self.read_in(self.tokens(xs.to(self.dtype), ys.to(self.dtype))))
        return self.read_out(states[:, ::2])[..., 0]

    @torch.no_grad()
    def scores(self, xs: np.ndarray, ys: np.ndarray, batch_size: int = 128) -> np.ndarray:
        """Logits float64 ``[B, m]`` of numpy prompts (int8 of -1 and +1)."""
        place = self.device
        parts = []
        with evaluation_mode(self):
            for i in range(0, len(xs), batch_size):
                x, y = (torch.from_numpy(np.ascontiguousarray(a[i : i + batch_size])).to(place) for a in (xs, ys))
                parts.append(self(x, y).double().cpu().numpy())
        return np.concatenate(parts)

    def predict(self, context_x: ArrayLike, context_y: ArrayLike, query_x: ArrayLike) -> np.ndarray:
        """Labels of queries after one context, in the names of the context's labels.

        Parameters
        ----------
        context_x : ``[m, n]`` of {0, 1}, {-1, 1} or booleans; context_y : ``[m]`` of the same kinds.
        query_x : ``[q, n]``; each query is asked on its own after the same context.

        Raises InputError naming the row for anything else, an empty context, other sizes, or too many points.
        """
        names = Names.of(context_y)
        context = check_prompts([(context_x, context_y)], n_dims=self.config.n_dims, max_points=self.max_context)[0]
        queries = check_queries(query_x, self.config.n_dims)
        return names.restore(self.context_scores(context[0], context[1], queries) > 0)

    @property
    def max_context(self) -> int:
        """Labelled points that a query can follow."""
        return self.config.max_points - 1

    def context_scores(self, xs: np.ndarray, ys: np.ndarray, queries: np.ndarray) -> np.ndarray:
        """Logits float64 ``[q]`` of queries int8 ``[q, n]`` after one checked context ``[m, n]``, ``[m]``."""
        count = len(queries)
        rows = np.concatenate([np.broadcast_to(xs, (count, *xs.shape)), queries[:, None]], 1)
        labels = np.concatenate([np.broadcast_to(ys, (count, len(ys))), np.ones((count, 1), np.int8)], 1)
        return self.scores(rows, labels)[:, -1]


def from_language_model(
    path: Path | str | None,
    n_dims: int,
    *,
    max_points: int = 100,
    freeze: str = "all",
    random_backbone: bool = False,
    seed: int = 0,
) -> InContextModel:
    """An ``InContextModel`` around a pretrained language model with fresh read-in and read-out networks.

    Parameters
    ----------
    path : a Hugging Face folder of a causal language model on this machine; None is the bundled one.
    random_backbone : the control of the paper: the same backbone with Xavier weights in place of the trained ones.
    """
    check_seed("seed", seed)
    from paperworks.language import load_model

    source, _ = load_model(path, dtype="float32", device="cpu")
    backbone = cast(Any, source).base_model
    limit = getattr(backbone.config, "max_position_embeddings", None)
    if limit is not None and 2 * max_points - 1 > limit:
        raise InputError(
            "max_points", max_points, f"at most {(limit + 1) // 2}: the language model reads {limit} tokens"
        )
    config = InContextConfig(
        "language-model", n_dims, max_points=max_points, backbone=backbone.config.to_dict(), freeze=freeze
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = InContextModel(config)
        inner = cast(Any, model.network).model
        if random_backbone:
            for parameter in inner.parameters():
                if parameter.ndim >= 2:
                    nn.init.xavier_uniform_(parameter)
        else:
            inner.load_state_dict(backbone.state_dict())
    return model


def new_model(config: InContextConfig, seed: int) -> InContextModel:
    """A model with random weights that depend on the seed only."""
    check_seed("seed", seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return InContextModel(config)


def load_in_context_model(path: Path | str) -> InContextModel:
    """Load a folder that ``save_pretrained`` wrote. Raises InputError where it holds something else."""
    import json

    from safetensors import SafetensorError

    folder = Path(path).expanduser()
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("checkpoint", f"{folder}, without a readable config.json ({error})", _FOLDER) from None
    if content.get("model_type") != InContextConfig.model_type:
        raise InputError("checkpoint", f"{folder}, a model of type {content.get('model_type')!r}", _FOLDER)
    try:
        loaded: Any = InContextModel.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError("checkpoint", f"{folder}, which does not load ({reason})", _FOLDER) from None
    model, found = loaded
    wrong = [*found["missing_keys"], *found["unexpected_keys"]]
    if wrong:
        raise InputError("checkpoint", f"{folder}, whose weights differ in {sorted(wrong)[0]!r}", _FOLDER)
    return model.eval()


_FOLDER = "a folder that InContextModel.save_pretrained wrote"


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    hidden = READ_HIDDEN
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


def _freeze(network: nn.Module, freeze: str) -> None:
    for name, parameter in network.named_parameters():
        trained = "norm" in name.lower() or ".ln_" in name or "wpe" in name or "position" in name
        parameter.requires_grad_(freeze == "none" or (freeze == "attention_and_mlp" and trained))
